"""`deepverse calibrate MODEL [DATA]`, really run: with a few plans, an untrained model and a few recorded episodes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner
from untrained import untrained_checkpoint

from deepverse_ros.cli import app
from deepverse_ros.data.collect import collect
from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.errors import DeepverseError
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.calibration import held_out_episodes, held_out_errors

ARGUMENTS = ("--plans", "20", "--level", "0.8", "--device", "cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five episodes, which are enough for a level of 80 %."""
    folder = tmp_path_factory.mktemp("episodes")
    collect(Embodiment.load("arm"), 5, 3, folder, workers=1, frames=13, size=(64, 64))
    return folder


def calibrated(checkpoint: Path, *data: Path) -> tuple[dict[str, Any], str]:
    done = CliRunner().invoke(app, ["calibrate", str(checkpoint), *map(str, data), *ARGUMENTS], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return json.loads((checkpoint / "config.json").read_text())["calibration"], done.output


def test_bounds_come_from_plans_and_with_data_also_from_recorded_episodes(checkpoint: Path, episodes: Path) -> None:
    both, said = calibrated(checkpoint, episodes)
    assert (both["level"], both["executed_plans"], both["windows"]) == (0.8, 20, 5)
    assert "in 5 recorded episodes" in said
    model = WorldModel.load(checkpoint, "cpu")
    metres, _ = held_out_errors(model, held_out_episodes(model, episodes, 0.8))
    np.testing.assert_allclose(both["tool_error_q"], metres.max(0), rtol=1e-4)  # the 5th of 5: ceil(6 * 0.8)
    # Without data what was measured on data stays, and the plans are the same ones.
    without, said = calibrated(checkpoint)
    assert "recorded" not in said
    assert without["tool_error_q"] == both["tool_error_q"]
    assert without["executed_plans"] == 20
    np.testing.assert_allclose(without["goal_error_z"], both["goal_error_z"], rtol=1e-3)


def test_data_that_cannot_be_used_are_named_before_any_plan_is_made(
    checkpoint: Path, episodes: Path, tmp_path: Path
) -> None:
    before = (checkpoint / "config.json").read_text()
    (tmp_path / "empty").mkdir()
    drone = replace(EpisodeStore(episodes).read(0), embodiment="drone")
    EpisodeStore(tmp_path / "drone").write(0, drone)
    collect(Embodiment.load("arm"), 2, 0, tmp_path / "short", workers=1, frames=4, size=(64, 64))
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(episodes.iterdir())[:3]:
        (few / path.name).write_bytes(path.read_bytes())
    for folder, named in (
        ("absent", "absent: no such folder of episodes"),
        ("empty", "empty: no readable episode"),
        ("drone", "holds episodes of 'drone', the model is for 'arm'"),
        ("short", "short: no readable episode with 12 frames"),
        ("few", "few: 3 usable episodes are too few for a bound at 80%"),
    ):
        done = CliRunner().invoke(app, ["calibrate", str(checkpoint), str(tmp_path / folder), *ARGUMENTS])
        assert isinstance(done.exception, DeepverseError), folder
        assert named in str(done.exception)
    assert (checkpoint / "config.json").read_text() == before
