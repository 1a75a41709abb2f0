"""The default launch reaches the goal of README.md's action command in every scene (`make seeds`: 0 to 20)."""

import os
import re
import time
from pathlib import Path

import pytest
from arm_launch import launched, until
from readme import commands, only, run, said

# With 10 an obstacle stands at the far edge of what the arm works on.
SEEDS = os.environ.get("DEEPVERSE_SEEDS", "10").split()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_goal_is_reached(seed: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with launched(log, "arm_mpc.launch.py", [f"seed:={seed}", "rviz:=false"]):
        until(lambda: "planner is active" in said(log), 90.0, "the launch")
        began = time.monotonic()
        answer = run(only(commands("With ROS 2"), "ros2", "action", "send_goal"), 120.0)
        seconds = time.monotonic() - began
    result = dict(re.findall(r"^(reached|text|final_distance|plans_\w+): (.*)$", answer, re.M))
    print(f"seed {seed}: {seconds:.1f} s, {result}")
    assert result["reached"] == "true", f"{answer}\n{said(log)}"
