"""Bounds come from plans that were chosen and executed, and stand in the checkpoint where a verdict finds them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from untrained import untrained_checkpoint

from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.verdicts.calibration import Calibration
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks.base import SCENE_SEEDS
from deepverse_ros.training.calibration import Errors, avoiding_errors, calibrate, executed_errors


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
    # Short plans tell about steps 1 to 8, the long one about 9 to 16.
    short = np.arange(16) < 8
    known = np.stack([short, ~short, short])
    np.testing.assert_array_equal(np.isfinite(errors.goal_z), known)
    np.testing.assert_array_equal(np.isfinite(errors.path_z), known | [[False], [True], [False]])
    np.testing.assert_array_equal(np.isfinite(errors.clearance_z), np.isfinite(errors.path_z))
    assert errors.goal_z[0, 7] != errors.goal_z[2, 7]
    assert (errors.path_z[np.isfinite(errors.path_z)] > 0).all(), "the tool is never read exactly where it was imagined"
    again = executed_errors(model, 3)
    np.testing.assert_allclose(again.goal_z, errors.goal_z, rtol=1e-4)
    np.testing.assert_allclose(again.path_z, errors.path_z, rtol=1e-3)


def test_plans_past_obstacles_tell_how_far_the_seen_clearance_is_from_the_true_one(
    model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, reset = set(), ArmSimulation.reset

    def noted(simulation: ArmSimulation, seed: int, *args: Any, **kwargs: Any) -> None:
        scenes.add(seed)
        reset(simulation, seed, *args, **kwargs)

    monkeypatch.setattr(ArmSimulation, "reset", noted)
    seen = []
    errors = avoiding_errors(model, 2, lambda done, total: seen.append((done, total)))
    assert errors is not None
    assert seen == [(1, 2), (2, 2)]
    np.testing.assert_array_equal(np.isfinite(errors), np.stack([np.arange(16) < 8, np.ones(16, bool)]))
    assert (np.abs(errors) < 0.2).all(where=np.isfinite(errors))
    # Beside the one that every simulation begins with; a benchmark's tasks have scenes below 2 · SCENE_SEEDS.
    assert len(scenes) > 2
    assert min(scenes - {0}) >= 2 * SCENE_SEEDS
    np.testing.assert_allclose(avoiding_errors(model, 1), errors[:1], atol=1e-4)


def test_the_bounds_are_quantiles_of_what_was_executed(checkpoint: Path) -> None:
    rng = np.random.default_rng(0)
    goal_z, clearance_z = np.sort(rng.uniform(0, 4, (99, 8)), axis=0), rng.normal(size=(99, 8))
    clearance_m = rng.normal(size=(49, 8))
    errors = Errors(goal_z, clearance_z, path_z := rng.uniform(0, 9, (99, 8)), clearance_m)
    before = load_file(checkpoint / "model.safetensors")
    values = calibrate(checkpoint, 0.9, None, errors, "cpu")
    # The ceil((99 + 1) * 0.9)-th smallest
    np.testing.assert_allclose(values["goal_error_z"], errors.goal_z[89])
    # At all steps together
    np.testing.assert_allclose(values["clearance_error_z"], 8 * [np.sort(clearance_z.max(1))[89]])
    np.testing.assert_allclose(values["path_error_z"], 8 * [np.sort(path_z.max(1))[89]])
    np.testing.assert_allclose(values["clearance_error_m"], 8 * [np.sort(clearance_m.max(1))[44]])
    assert values["executed_plans"] == 99
    stored = json.loads((checkpoint / "config.json").read_text())["calibration"]
    assert stored == values
    loaded = Calibration.from_model(WorldModel.load(checkpoint, "cpu").calibration)
    assert loaded is not None
    assert loaded.bound(7, 0.03, 0.04) == pytest.approx(0.05 * errors.goal_z[89, 7])
    np.testing.assert_allclose(loaded.path_bound(np.full(8, 0.01)), 0.01 * np.array(values["path_error_z"]))
    after = load_file(checkpoint / "model.safetensors")
    assert all((before[name] == after[name]).all() for name in before)


def test_short_and_long_plans_together_give_one_bound_per_step_and_one_for_all_steps(checkpoint: Path) -> None:
    rng = np.random.default_rng(1)
    goal_z, path_z = rng.uniform(0, 4, (40, 16)), rng.uniform(0, 9, (40, 16))
    goal_z[::2, 8:] = path_z[::2, 8:] = goal_z[1::2, :8] = np.nan
    values = calibrate(checkpoint, 0.9, None, Errors(goal_z, np.full((40, 16), np.nan), path_z), "cpu")
    # The ceil((20 + 1) * 0.9)-th smallest of the plans that have this step
    np.testing.assert_allclose(values["goal_error_z"][:8], np.sort(goal_z[::2, :8], 0)[18])
    np.testing.assert_allclose(values["goal_error_z"][8:], np.sort(goal_z[1::2, 8:], 0)[18])
    np.testing.assert_allclose(values["path_error_z"], 16 * [np.sort(np.nanmax(path_z, 1))[36]])


def test_how_plans_of_each_length_ended_is_kept(checkpoint: Path) -> None:
    rng = np.random.default_rng(2)
    goal_z, spread = rng.uniform(-1, 4, (40, 16)), rng.uniform(0.01, 0.02, (40, 16))
    goal_z[::2, 8:] = goal_z[1::2, :8] = np.nan
    errors = Errors(goal_z, np.full((40, 16), np.nan), np.full((40, 16), np.nan), spread=spread)
    values = calibrate(checkpoint, 0.9, None, errors, "cpu")
    assert [ends["steps"] for ends in values["ends"]] == [8, 16]
    for ends, rows in zip(values["ends"], (slice(0, None, 2), slice(1, None, 2)), strict=True):
        last = ends["steps"] - 1
        np.testing.assert_allclose(ends["further"], (goal_z * spread)[rows, last], atol=1e-5)
        np.testing.assert_allclose(ends["spread"], spread[rows, last], atol=1e-5)
    loaded = Calibration.from_model(WorldModel.load(checkpoint, "cpu").calibration)
    assert loaded.margin(7, 0.01, 0.0, 0.08) != loaded.bound(7, 0.01, 0.0)
    assert loaded.margin(6, 0.01, 0.0, 0.08) == loaded.bound(6, 0.01, 0.0), "no plan was so long"


def test_what_nobody_measured_gets_no_bound(checkpoint: Path) -> None:
    errors = Errors(np.ones((20, 8)), np.full((20, 8), np.nan), np.full((20, 8), np.nan))
    values = calibrate(checkpoint, 0.9, None, errors, "cpu")
    assert values["clearance_error_z"] is values["path_error_z"] is values["clearance_error_m"] is None
    loaded = Calibration.from_model(WorldModel.load(checkpoint, "cpu").calibration)
    assert loaded is not None
    assert np.isinf(loaded.path_bound(np.full(8, 0.01))).all()
