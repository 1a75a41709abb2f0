"""A ROS domain apart from that of the tests in one process, and the folder's helpers on the path."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# A node that a test of this process has just destroyed may be in the graph a little longer, under the same name.
DOMAIN = str(1 + (int(os.environ["ROS_DOMAIN_ID"]) + 49) % 100)


def pytest_runtest_setup(item: pytest.Item) -> None:
    os.environ["ROS_DOMAIN_ID"] = DOMAIN
