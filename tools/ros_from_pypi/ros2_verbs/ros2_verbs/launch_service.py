"""The launch service of one `ros2 launch`: runs until it is idle or its standard input closes."""

import argparse
import os
import sys
import threading
import time

from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource


def end_with_input(service: LaunchService) -> None:
    """Wait until standard input closes, then shut the service down; nodes get SIGINT and time to end."""
    # Not by sys.stdin.buffer: a thread that waits in there makes Python abort when the service ends by itself.
    while os.read(sys.stdin.fileno(), 1):
        pass
    while True:  # a request that comes before the service runs is not kept by it
        service.shutdown()
        time.sleep(0.1)


def main() -> int:
    """Run the launch file of the command line. Returns: the launch service's code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("path")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    pairs = [tuple(argument.split(":=", 1)) for argument in options.arguments]
    include = IncludeLaunchDescription(AnyLaunchDescriptionSource(options.path), launch_arguments=pairs)
    service = LaunchService(argv=options.arguments, debug=options.debug, noninteractive=True)
    service.include_launch_description(LaunchDescription([include]))
    threading.Thread(target=end_with_input, args=(service,), daemon=True).start()
    return service.run()


if __name__ == "__main__":
    sys.exit(main())
