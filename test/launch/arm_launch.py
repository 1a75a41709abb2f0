"""What the tests that start arm_mpc.launch.py share: an untrained model that is quick to run, and quick parameters."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from untrained import untrained_checkpoint

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch" / "arm_mpc.launch.py"

QUICK_PLANNER = {
    "seed": 5,  # none of its four plans meets anything in the scene of these tests
    "samples": 4,
    "iterations": 1,
    "max_replans": 0,
    "max_plans": 1,
    "verified": 1,
    "goal_tolerance": 2.0,
    "max_uncertainty": 2.0,
    "max_goal_uncertainty": 2.0,
    "min_goal_agreement": 0.0,
    "reached_tolerance": 0.001,
    # A busy machine: pictures come late, and the simulated arm is slower than its plan.
    "stale_timeout": 5.0,
    "observation_timeout": 60.0,
    "settle_timeout": 20.0,
}


def quick_planner(**changes: object) -> Path:
    """A parameter file with which planning takes no time."""
    path = Path(tempfile.mkdtemp(prefix="deepverse_planner_")) / "planner.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": {**QUICK_PLANNER, **changes}}}))
    return path


def arguments(**changes: str) -> dict[str, str]:
    return {
        "checkpoint": str(untrained_checkpoint(Path(tempfile.mkdtemp(prefix="deepverse_untrained_")))),
        "planner_params": str(quick_planner()),
        "device": "cpu",
        "rviz": "false",
        "prefilter": "off",  # what an untrained model imagines passes no zone
        **changes,
    }


def include(**changes: str) -> LaunchDescription:
    """arm_mpc.launch.py as a user starts it, with the quick model."""
    source = PythonLaunchDescriptionSource(str(LAUNCH_FILE))
    return LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments(**changes).items())])


@contextmanager
def launched(
    log: Path, launch_file: str | Path, arguments: list[str], timeout: float = 60.0
) -> Iterator[subprocess.Popen]:
    """`ros2 launch` as a user starts it, its words in `log`; Ctrl-C at the end, after which it must end cleanly.

    Args: launch_file: the name of one of this package's, or the path of another.
    """
    which = [str(launch_file)] if isinstance(launch_file, Path) else ["deepverse_ros", launch_file]
    with log.open("w") as output:
        process = subprocess.Popen(
            ["ros2", "launch", *which, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def until(condition: Callable[[], object], timeout: float, what: str) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {timeout} s"
        time.sleep(0.05)
