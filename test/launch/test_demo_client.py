"""`ros2 run deepverse_ros demo_client` from start to end with an untrained model: figures, pictures, exit status, end.

Such a model reaches nothing, so the demo must say so and fail; what a trained one reaches is `make demo`.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from arm_launch import quick_planner
from PIL import Image
from untrained import untrained_checkpoint

GOAL_KEYS = {"reached", "distance_m", "plans_accepted", "plans_rejected"}


def run_demo(out: Path, *arguments: str, seed: str = "4") -> subprocess.CompletedProcess:
    command = ["ros2", "run", "deepverse_ros", "demo_client", "--out", str(out), "--device", "cpu", *arguments]
    environment = {**os.environ, "SEED": seed, "COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment, check=False)


def processes_of(out: Path) -> list[str]:
    """Command lines of processes that were started with this demo's checkpoint or files."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(out) in line]


def test_the_demo_measures_shows_and_ends_everything(tmp_path: Path) -> None:
    parameters = quick_planner(max_plans=2)
    done = run_demo(
        tmp_path,
        "--goals=2",
        f"--checkpoint={untrained_checkpoint(tmp_path / 'model')}",
        f"planner_params:={parameters}",
        "prefilter:=off",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary) == {"goals", "impossible_goal", "imagine_ms_p50", "plan_ms_p50", "predicted_frames_hz"}
    assert len(summary["goals"]) == 2
    for goal in summary["goals"]:
        assert set(goal) >= GOAL_KEYS
        assert goal["plans_accepted"] + goal["plans_rejected"] == 2, (goal, (tmp_path / "launch.log").read_text())
        assert goal["plans_accepted"] >= 1
        assert goal["reasons"]["ACCEPTED"] == 2
        assert goal["reached"] == (goal["distance_m"] <= 0.05)
        assert 0.0 < goal["distance_m"] < 3.0
    assert set(summary["impossible_goal"]) >= {"plans_accepted", "plans_rejected"}
    assert summary["imagine_ms_p50"] > 0
    assert summary["plan_ms_p50"] > 0
    assert summary["predicted_frames_hz"] > 0
    # The untrained model accepts everything, so the impossible goal is what must be complained about.
    assert "a plan for the impossible goal was accepted" in done.stdout.replace("\n", " ")
    assert "Goals by imagination" in done.stdout
    picture = Image.open(tmp_path / "goal_1.png")
    assert np.asarray(picture).std() > 20
    film = Image.open(tmp_path / "goal_1.gif")
    assert film.n_frames == 8
    log = (tmp_path / "launch.log").read_text()
    assert "escalating" not in log
    assert "Traceback" not in log
    assert not processes_of(parameters)


def test_rejected_plans_are_shown_and_counted(tmp_path: Path) -> None:
    parameters = quick_planner(goal_tolerance=0.001)
    done = run_demo(
        tmp_path,
        "--goals=1",
        f"--checkpoint={untrained_checkpoint(tmp_path / 'model')}",
        f"planner_params:={parameters}",
        "prefilter:=off",
    )
    assert done.returncode == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["impossible_goal"]["plans_accepted"] == 0
    assert summary["impossible_goal"]["plans_rejected"] >= 1
    assert summary["goals"][0]["plans_accepted"] == 0
    assert "0 of 1 goals were reached" in done.stdout.replace("\n", " ")
    assert (tmp_path / "impossible_goal.png").stat().st_size > 1000
    assert not processes_of(parameters)


@pytest.mark.parametrize("arguments", [("--checkpoint=models/nowhere",)])
def test_a_demo_that_cannot_start_says_why(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run_demo(tmp_path, *arguments)
    assert done.returncode == 1
    assert "models/nowhere" in done.stdout
    assert not (tmp_path / "summary.json").exists()
