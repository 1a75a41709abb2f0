#!/usr/bin/env bash
# What every command in the runtime image begins with: ROS 2, the package and its Python environment.
set -e
source /opt/deepverse_ros/install/setup.bash
exec "$@"
