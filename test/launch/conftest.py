"""A ROS domain apart from that of the tests in one process, and the folder's helpers on the path."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = [] if find_spec("launch_pytest") else ["test_under_launch_pytest.py"]
# A node that a test of this process has just destroyed may be in the graph a little longer, under the same name.
DOMAIN = str(1 + (int(os.environ["ROS_DOMAIN_ID"]) + 49) % 100)


def pytest_runtest_setup(item: pytest.Item) -> None:
    os.environ["ROS_DOMAIN_ID"] = DOMAIN


@pytest.fixture(scope="session", autouse=True)
def no_daemon_is_left() -> Iterator[None]:
    """`ros2 param` and the like start one for the domain, which would stay for two hours."""
    yield
    subprocess.run(["ros2", "daemon", "stop"], env={**os.environ, "ROS_DOMAIN_ID": DOMAIN}, timeout=60, check=False)
