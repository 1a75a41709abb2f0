"""A ROS domain of its own for every test run, and the folder's helpers on the path."""

import os
import sys
from pathlib import Path

os.environ["ROS_DOMAIN_ID"] = str(50 + os.getpid() % 50)
sys.path.insert(0, str(Path(__file__).parent))
