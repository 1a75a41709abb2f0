"""Two plans from the same start to the same end: one moves a thing, one moves nothing."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.pairs import KINDS
from deepverse_ros.simulation.base import SEEN, RobotSimulation

STEPS = 8


@pytest.fixture(scope="module")
def arm() -> Iterator[RobotSimulation]:
    with closing(robots.of(Embodiment.load("arm")).simulate(width=16, height=16)) as simulation:
        yield simulation


def begin(arm: RobotSimulation, seed: int):
    return arm.begin_pair(seed, np.random.default_rng([5, seed]), STEPS)


def moved(arm: RobotSimulation, plan: np.ndarray) -> np.ndarray:
    """(K,) metres that each thing is moved by a plan."""
    before = arm.object_positions
    for action in plan:
        arm.step(action)
    return np.linalg.norm(arm.object_positions - before, axis=1)


def test_plans_share_start_and_end_and_can_be_followed(arm: RobotSimulation) -> None:
    kinematics = ArmKinematics(arm.embodiment)
    kinds = Counter()
    for seed in range(30):
        pair = begin(arm, seed)
        if pair is None:
            continue
        kinds[pair.kind] += 1
        assert arm.clearance > 0
        assert pair.approach.shape == (SEEN, 8)
        assert pair.moves.shape == pair.leaves.shape == (STEPS, 8)
        ends = [kinematics.tool_position(plan[-1]) for plan in (pair.moves, pair.leaves)]
        assert np.linalg.norm(ends[0] - ends[1]) < 0.01
        for plan in (pair.moves, pair.leaves):
            whole = np.concatenate([arm.joints[None], pair.approach, plan])
            assert (np.abs(np.diff(whole, axis=0)) <= arm.embodiment.max_step + 1e-5).all()
            np.testing.assert_allclose(arm.embodiment.limit_plan(plan, pair.approach[-1]), plan, atol=1e-5)
    assert set(kinds) == set(KINDS)


def test_truth_confirms_most_pairs(arm: RobotSimulation) -> None:
    confirmed, seeds = 0, 30
    for seed in range(seeds):
        pair = begin(arm, seed)
        if pair is None:
            continue
        for action in pair.approach:
            arm.step(action)
        start = arm.snapshot()
        with_contact = moved(arm, pair.moves)[pair.thing]
        arm.restore(start)
        without = moved(arm, pair.leaves)
        assert not arm.touched.any()
        confirmed += bool(with_contact >= 0.06 and without.max() < 0.01)
    assert confirmed > 0.6 * seeds


def test_the_same_seeds_give_the_same_pair(arm: RobotSimulation) -> None:
    one, same = begin(arm, 1), begin(arm, 1)
    assert one is not None
    assert same is not None
    np.testing.assert_array_equal(one.moves, same.moves)
    np.testing.assert_array_equal(one.leaves, same.leaves)
    other = arm.begin_pair(1, np.random.default_rng(0), STEPS)
    assert other is None or not np.array_equal(one.moves, other.moves)


def test_no_pair_where_plans_are_too_short(arm: RobotSimulation) -> None:
    assert arm.begin_pair(1, np.random.default_rng(0), 2) is None


def test_what_follows_a_restored_moment_is_what_followed_it(arm: RobotSimulation) -> None:
    pair = next(p for p in (begin(arm, seed) for seed in range(9)) if p is not None)
    for action in (*pair.approach, *pair.moves[:3]):
        arm.step(action)
    moment, results = arm.snapshot(), []
    for _ in range(2):
        arm.restore(moment)
        for action in pair.moves[3:]:
            arm.step(action)
        results.append(np.concatenate([arm.object_positions.ravel(), arm.joints]))
    np.testing.assert_array_equal(*results)
    arm.restore(moment)
    assert not np.array_equal(np.concatenate([arm.object_positions.ravel(), arm.joints]), results[0])
