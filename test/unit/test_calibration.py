"""Bounds come from plans that were chosen and executed, and stand in the checkpoint where a verdict finds them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from untrained import untrained_checkpoint

from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.verdict import Calibration
from deepverse_ros.training.calibration import Errors, calibrate, executed_errors


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> WorldModel:
    return WorldModel.load(checkpoint, "cpu")


def test_every_plan_is_executed_in_a_scene_of_its_own_and_again_the_same(model: WorldModel) -> None:
    seen = []
    errors = executed_errors(model, 3, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert errors.tool_m.shape == errors.goal_z.shape == (3, 8)
    assert np.isfinite(errors.goal_z).all()
    assert (np.diff(errors.tool_m[:, -1]) != 0).all()
    np.testing.assert_allclose(executed_errors(model, 3).goal_z, errors.goal_z, rtol=1e-4)


def test_the_bounds_are_quantiles_of_what_was_executed(checkpoint: Path) -> None:
    rng = np.random.default_rng(0)
    goal_z, clearance_z = np.sort(rng.uniform(0, 4, (99, 8)), axis=0), rng.normal(size=(99, 8))
    errors = Errors(rng.uniform(0, 0.1, (99, 8)), goal_z, clearance_z)
    before = load_file(checkpoint / "model.safetensors")
    values = calibrate(checkpoint, 0.9, None, errors, "cpu")
    # The ceil((99 + 1) * 0.9)-th smallest
    np.testing.assert_allclose(values["goal_error_z"], errors.goal_z[89])
    # At all steps together
    np.testing.assert_allclose(values["clearance_error_z"], 8 * [np.sort(clearance_z.max(1))[89]])
    assert values["executed_plans"] == 99
    stored = json.loads((checkpoint / "config.json").read_text())["calibration"]
    assert stored == values
    loaded = Calibration.from_model(WorldModel.load(checkpoint, "cpu").calibration)
    assert loaded is not None
    assert loaded.bound(7, 0.03, 0.04) == pytest.approx(0.05 * errors.goal_z[89, 7])
    after = load_file(checkpoint / "model.safetensors")
    assert all((before[name] == after[name]).all() for name in before)
