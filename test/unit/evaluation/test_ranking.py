"""Rank correlation of two ways to score plans: cheap ones whose correlation is known, and a real model's fine level."""

import numpy as np
import pytest
import torch
from scipy import stats

from deepverse_ros.data.collect import EpisodeGenerator
from deepverse_ros.errors import EpisodeError
from deepverse_ros.evaluation.prediction.ranking import rank_correlation
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.kinematics import ArmKinematics

ARM = Embodiment.load("arm")
SIZE = 64


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return WorldModel(WorldModelConfig.small_test(ARM, SIZE)).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def episodes():
    generator = EpisodeGenerator(ARM, (SIZE, SIZE))
    yield [generator.record(30_000_000, index, 14) for index in range(3)]
    generator.close()


def travel(belief, plans, objective):
    """How far the joints go."""
    return torch.from_numpy(np.abs(plans[:, -1] - plans[:, 0]).sum(axis=1))


def height(belief, plans, objective):
    """How high the tool ends, by the true kinematics."""
    arm = ArmKinematics(ARM)
    return torch.tensor([arm.tool_position(plan[-1])[2] for plan in plans])


def test_the_same_order_the_opposite_one_and_one_without_order(model, episodes):
    same = rank_correlation(model, episodes, lambda *a: 3 * travel(*a) ** 2, travel, plans=64)
    assert same["median"] == same["mean"] == same["min"] == pytest.approx(1)
    assert same["n_scenes"] == len(same["per_scene"]) == 3
    assert same["n_plans"] == 64
    opposite = rank_correlation(model, episodes, lambda *a: -travel(*a), travel, plans=64)
    assert opposite["median"] == pytest.approx(-1)
    none = rank_correlation(model, episodes, lambda *a: torch.ones(64), travel, plans=64)
    assert (none["median"], none["per_scene"]) == (None, [None] * 3)


def test_plans_are_the_planners_first_round_and_the_goal_is_the_window_s_end(model, episodes):
    seen = []

    def record(belief, plans, objective):
        seen.append((plans, objective.goal))
        return height(belief, plans, objective)

    out = rank_correlation(model, episodes, record, travel, plans=32, seed=4)
    rng = np.random.default_rng(4)
    for (plans, goal), episode, value in zip(seen, episodes, out["per_scene"], strict=True):
        start = int(rng.integers(3))  # 14 frames hold windows of 12 from frames 0, 1 and 2
        assert plans.shape == (32, 8, 8)
        first = np.concatenate([episode.state["joint_positions"][start + 3], episode.state["gripper_state"][start + 3]])
        assert (np.abs(plans[:, 0] - first) <= ARM.max_step + 1e-4).all()
        assert len(np.unique(plans[:, -1], axis=0)) == 32
        depth = np.where(episode.depth[start + 11] > 0, episode.depth[start + 11] / np.float32(1000), np.nan)
        assert np.array_equal(goal.tool_position, model.encode_goal(episode.rgb[start + 11], depth).tool_position)
        expected = stats.spearmanr(height(None, plans, None), travel(None, plans, None)).statistic
        assert value == pytest.approx(expected, abs=1e-4)


def test_the_fine_level_is_the_objective_of_what_is_imagined(model, episodes):
    def again(belief, plans, objective):
        return objective(model.imagine(belief, plans), torch.from_numpy(plans))

    assert rank_correlation(model, episodes, again, plans=16)["min"] == pytest.approx(1)


def test_episodes_that_are_too_short_are_refused(model):
    with pytest.raises(EpisodeError, match="12 frames"):
        rank_correlation(model, [], travel)
