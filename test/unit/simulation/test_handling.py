"""In episodes the arm mostly touches things, on purpose and in many ways."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.arm.handling import BY_CHANCE, CHANCE_SPEED, SHARES, Handling
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.motions import REVISIT_FRAMES
from deepverse_ros.simulation.arm.robot import DrawnArmSimulation
from deepverse_ros.simulation.base import REVISIT

FRAMES = 24


@pytest.fixture(scope="module")
def arm() -> Iterator[DrawnArmSimulation]:
    with closing(robots.of(Embodiment.load("arm")).simulate(width=16, height=16)) as simulation:
        assert isinstance(simulation, DrawnArmSimulation)
        yield simulation


def performed(arm: DrawnArmSimulation, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the things (T, K, 3) in metres, and what was touched (K,) bool."""
    positions, touched = [arm.object_positions], np.zeros(len(arm.object_positions), bool)
    for action in actions[:-1]:
        arm.step(action)
        positions.append(arm.object_positions)
        touched |= arm.touched
    return np.stack(positions), touched


def begun(arm: DrawnArmSimulation, kind: str, seed: int) -> np.ndarray | None:
    """Commands of one kind; None in a scene that leaves no room for it."""
    arm.reset(seed)
    handling = Handling(arm, ArmKinematics(arm.embodiment), np.random.default_rng(seed))
    script = handling.begin(kind, FRAMES)
    return script.actions if script.kind == kind else None


def lifts(arm: DrawnArmSimulation, kind: str, seeds: range) -> list[float]:
    """How high a thing is lifted in each episode of one kind, metres."""
    out = []
    for seed in seeds:
        actions = begun(arm, kind, seed)
        if actions is not None:
            heights = performed(arm, actions)[0][:, :, 2]
            out.append(float((heights - heights[0]).max()))
    return out


def test_most_episodes_touch_a_thing_within_the_limits_of_the_arm(arm: DrawnArmSimulation) -> None:
    touching, kinds = [], Counter()
    for seed in range(40):
        script = arm.begin_episode(seed, np.random.default_rng([1, seed]), FRAMES, False)
        assert arm.clearance > 0
        assert script.actions.shape == (FRAMES, 8)
        steps = np.abs(np.diff(script.actions, axis=0, prepend=arm.joints[None]))
        assert (steps <= arm.embodiment.max_step + 1e-5).all()
        assert (script.actions >= arm.embodiment.lower).all()
        assert (script.actions <= arm.embodiment.upper).all()
        kinds[script.kind] += 1
        touching.append(performed(arm, script.actions)[1].any())
    assert np.mean(touching) >= 0.5
    assert len(kinds) >= 7
    assert set(kinds) <= set(SHARES)


def test_shares_are_of_all_and_contacts_by_chance_the_fewest() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert sum(SHARES[kind] for kind in BY_CHANCE) < 0.2


def test_commands_follow_from_the_seeds(arm: DrawnArmSimulation) -> None:
    same, again, other = (arm.begin_episode(7, np.random.default_rng([3, draw]), FRAMES, False) for draw in (1, 1, 2))
    np.testing.assert_array_equal(same.actions, again.actions)
    assert same.kind == again.kind
    assert not np.array_equal(same.actions, other.actions)


def test_pushes_move_things(arm: DrawnArmSimulation) -> None:
    moved = []
    for seed in range(20):
        actions = begun(arm, "push", seed)
        if actions is not None:
            positions = performed(arm, actions)[0]
            moved.append(np.linalg.norm(positions[-1] - positions[0], axis=1).max())
    assert len(moved) >= 15
    assert np.mean(np.array(moved) > 0.02) > 0.7


@pytest.fixture(scope="module")
def held(arm: DrawnArmSimulation) -> list[float]:
    return lifts(arm, "hold", range(20))


def test_grasps_that_hold_lift_and_those_that_miss_do_not(arm: DrawnArmSimulation, held: list[float]) -> None:
    missed = lifts(arm, "miss", range(20))
    assert len(held) >= 15
    assert np.mean(np.array(held) > 0.05) > 0.6
    assert len(missed) >= 15
    assert np.mean(np.array(missed) > 0.05) < 0.3


def test_grasps_that_slip_lift_less_often_than_those_that_hold(arm: DrawnArmSimulation, held: list[float]) -> None:
    slipped = lifts(arm, "slip", range(20))
    assert np.mean(np.array(slipped) > 0.05) < np.mean(np.array(held) > 0.05) - 0.2


def test_what_is_dropped_lies_below_where_it_was(arm: DrawnArmSimulation) -> None:
    fell = []
    for seed in range(12):
        actions = begun(arm, "drop", seed)
        if actions is not None:
            heights = performed(arm, actions)[0][:, :, 2]
            k = int((heights - heights[0]).max(axis=0).argmax())
            fell.append(heights[:, k].max() - heights[-1, k] > 0.03)
    assert np.mean(fell) > 0.6


def test_blocked_arms_stay_behind_their_commands(arm: DrawnArmSimulation) -> None:
    behind = []
    for seed in range(12):
        actions = begun(arm, "blocked", seed)
        assert actions is not None
        lags = []
        for action in actions[:-1]:
            arm.step(action)
            lags.append(np.abs(arm.joints - action)[:7].max())
        behind.append(max(lags))
    assert np.mean(np.array(behind) > 0.04) > 0.5


def test_contacts_by_chance_are_slow(arm: DrawnArmSimulation) -> None:
    """The tool's way within a frame near something; where it was told to go is what counts, so contacts count too."""
    kinematics = ArmKinematics(arm.embodiment)
    fastest, steps = 0.0, 0
    for kind in BY_CHANCE:
        for seed in range(10):
            actions = begun(arm, kind, seed)
            assert actions is not None
            clear = [arm.clearance_at(action) for action in actions]
            tools = np.array([kinematics.tool_position(action) for action in actions])
            speeds = np.linalg.norm(np.diff(tools, axis=0), axis=1) / arm.embodiment.dt
            close = np.minimum(clear[1:], clear[:-1]) < 0.02
            steps += close.sum()
            fastest = max(fastest, speeds[close].max(initial=0.0))
    assert steps > 10
    assert fastest < 1.1 * CHANCE_SPEED


def test_without_things_the_arm_presses_on_what_stands_fast(arm: DrawnArmSimulation) -> None:
    for seed in range(80):
        arm.reset(seed)
        if not len(arm.object_positions):
            script = Handling(arm, ArmKinematics(arm.embodiment), np.random.default_rng(0)).begin("push", FRAMES)
            assert script.kind == "blocked"
            return
    pytest.fail("no scene without things")


def test_a_revisit_in_a_near_scene_ends_where_it_began(arm: DrawnArmSimulation) -> None:
    script = arm.begin_episode(3, np.random.default_rng(4), REVISIT_FRAMES, True)
    assert script.kind == REVISIT
    np.testing.assert_allclose(script.actions[-1][:7], arm.joints[:7], atol=1e-3)
