"""`ros2 launch`: start a launch file, and leave nothing behind however it ends.

The launch service runs in a process group of its own. This process holds the writing end of its standard input:
Ctrl-C, SIGTERM, SIGHUP and even a kill -9 of this process close it, and the service then ends every node with SIGINT,
waiting for each. What still lives in the group afterwards is terminated.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from ros2cli.command import CommandExtension

GRACE_SECONDS = 3.0


class LaunchCommand(CommandExtension):
    """Run a launch file."""

    def add_arguments(self, parser: Any, cli_name: str, *, argv: Any = None) -> None:
        parser.add_argument("-d", "--debug", action="store_true", help="debug output of the launch system")
        parser.add_argument("-s", "--show-args", "--show-arguments", action="store_true", help="list the arguments")
        parser.add_argument("package_or_path", help="a package, or the path of a launch file")
        parser.add_argument("arguments", nargs="*", help="the launch file's name in the package, then NAME:=VALUE ...")

    def main(self, *, parser: Any, args: Any) -> Any:
        path, arguments = resolve(args.package_or_path, args.arguments)
        if args.show_args:
            return show_arguments(path)
        return supervise(path, arguments, args.debug)


def resolve(package_or_path: str, rest: list[str]) -> tuple[Path, list[str]]:
    """Find the launch file and check its arguments.

    Returns: the file's path, and the NAME:=VALUE arguments.
    Raises: RuntimeError naming what is wrong.
    """
    path = Path(package_or_path)
    arguments = list(rest)
    if not path.is_file():
        if not arguments or ":=" in arguments[0]:
            raise RuntimeError(f"'{package_or_path}' is no file; a package needs the name of its launch file")
        try:
            share = Path(get_package_share_directory(package_or_path))
        except PackageNotFoundError:
            raise RuntimeError(f"'{package_or_path}' is neither a file nor an installed package") from None
        name = arguments.pop(0)
        found = sorted(p for p in share.rglob("*") if p.name == name)
        if len(found) != 1:
            have = sorted({p.name for p in share.rglob("*launch.*") if p.is_file()})
            raise RuntimeError(f"{len(found)} files named '{name}' in {share}; launch files there: {have}")
        path = found[0]
    for argument in arguments:
        if argument.find(":=") < 1:
            raise RuntimeError(f"launch argument '{argument}': expected NAME:=VALUE")
    return path, arguments


def show_arguments(path: Path) -> int:
    """Print the arguments that a launch file declares."""
    from launch import LaunchContext
    from launch.launch_description_sources import AnyLaunchDescriptionSource

    description = AnyLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())
    print("Arguments (pass arguments as '<name>:=<value>'):")
    for argument in description.get_launch_arguments():
        default = argument.default_value
        shown = "".join(part.describe() for part in default) if default is not None else "none: required"
        choices = f" One of {argument.choices}." if argument.choices else ""
        print(f"\n    '{argument.name}':\n        {argument.description}{choices}\n        (default: {shown})")
    return 0


def supervise(path: Path, arguments: list[str], debug: bool) -> int:
    """Run the launch service until it ends or this process is asked to end.

    Returns: the service's return code; 0 when the end was asked for and went well.
    """
    flags = ["--debug"] if debug else []
    command = [sys.executable, "-m", "ros2_verbs.launch_service", *flags, str(path), *arguments]
    asked = []
    # Before the start: a signal that comes early is answered as soon as the service exists.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, _: asked.append(number))
    service = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)
    assert service.stdin is not None
    code = None
    while code is None:
        if asked and not service.stdin.closed:
            print(f"\n[ros2 launch] {signal.Signals(asked[0]).name}: ending all nodes", file=sys.stderr, flush=True)
            service.stdin.close()
        try:
            code = service.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
    end_group(service.pid)
    return code if code >= 0 else 128 - code


def end_group(group: int) -> None:
    """Terminate what is left of a process group, then kill it after a grace time."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, signum)
            end = time.monotonic() + GRACE_SECONDS
            while time.monotonic() < end:
                os.killpg(group, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return
