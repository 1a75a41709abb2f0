"""What README.md tells who has a ROS 2 to type does what it says there: the default launch, and an arm that moves."""

import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from arm_launch import launched, until
from readme import commands, only, part, run, said

TITLE = "With ROS 2"
LAUNCH = ("ros2", "launch", "deepverse_ros")
ARM = "arm_mpc.launch.py"


@pytest.fixture(autouse=True)
def _no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


def test_the_default_launch_reaches_the_goal_of_the_action_command(tmp_path: Path) -> None:
    found = commands(TITLE)
    start = next(c for c in found if c.startswith("ros2 launch"))
    assert shlex.split(start) == [*LAUNCH, ARM], "the first launch is the default one"
    log = tmp_path / "log"
    with launched(log, ARM, []):
        until(lambda: "planner is active" in said(log), 90.0, "the launch")
        verdict = subprocess.Popen(shlex.split(only(found, "ros2", "topic", "echo")), stdout=subprocess.PIPE, text=True)
        rate = subprocess.Popen(shlex.split(only(found, "ros2", "topic", "hz")), stdout=subprocess.PIPE, text=True)
        try:
            answer = run(only(found, "ros2", "action", "send_goal"), 90.0)
            assert "reached: true" in answer, answer + said(log)
            assert "SUCCEEDED" in answer
            # The first one that it heard: on the plan, or on leaving its imagined path, as one plan in ten does.
            heard = verdict.communicate(timeout=20.0)[0]
            assert "plan_id: goal-1." in heard, heard
            assert rate.stdout is not None
            line = next(line for line in rate.stdout if "average rate" in line)
            assert float(re.findall(r"[\d.]+", line)[0]) > 0.5
            rate.send_signal(signal.SIGINT)
            rate.wait(20.0)
        finally:
            for process in (verdict, rate):
                process.kill()
                process.wait(10.0)


def test_every_other_command_of_this_part_can_be_given_as_it_stands() -> None:
    """What needs a robot or recordings is not run: its files and arguments must exist."""
    others = [c for c in commands(TITLE) if c.startswith("ros2 launch") and shlex.split(c) != [*LAUNCH, ARM]]
    assert others
    shown: dict[str, set[str]] = {}
    asked = re.search(r"`(ros2 launch [^`]*--show-args)`", part(TITLE))
    assert asked
    for command in (*others, asked[1]):
        _, _, package, file, *given = shlex.split(command)
        assert package == "deepverse_ros"
        if file not in shown:
            text = run(f"ros2 launch {package} {file} --show-args", 60.0)
            shown[file] = set(re.findall(r"^\s+'(\w+)':", text, re.M))
        names = {argument.split(":=")[0] for argument in given if argument != "--show-args"}
        assert names <= shown[file], f"{command}: no argument {names - shown[file]}"
    known = ("make build && source install/setup.bash", "ros2 launch", "ros2 topic", "ros2 action send_goal")
    unknown = [c for c in commands(TITLE) if not c.startswith(known)]
    assert not unknown, "commands that no test of this file runs"
