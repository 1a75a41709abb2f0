"""The simulated arm moves, stops and is limited as a real one would."""

import numpy as np
import pytest

from deepverse_ros.errors import ShapeError
from deepverse_ros.simulation.arm.goals import GOAL_MARGIN, impossible_goal, sample_goal
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.model import SHOULDER_HEIGHT, TOOL_LENGTH
from deepverse_ros.simulation.arm.motions import (
    AWAY_FRAMES,
    REVISIT,
    REVISIT_FRAMES,
    WORKSPACE_LOWER,
    WORKSPACE_UPPER,
    MotionGenerator,
)
from deepverse_ros.simulation.arm.simulation import ArmSimulation

REACH = 0.42 + 0.40 + 0.081 + TOOL_LENGTH  # metres from the shoulder to the tool, stretched out: data sheet and hand


@pytest.fixture(scope="module")
def simulation():
    with ArmSimulation(seed=0) as sim:
        yield sim


@pytest.fixture(scope="module")
def kinematics(simulation):
    return ArmKinematics(simulation.embodiment)


def home(simulation):
    return np.asarray(simulation.embodiment.home)


def test_arm_ends_each_step_where_it_was_told(simulation):
    """At every speed up to the largest, in free space, also right after a reversal."""
    rng = np.random.default_rng(0)
    most = simulation.embodiment.max_step
    errors = []
    for seed in range(3):
        simulation.reset(seed, joints=home(simulation))
        target = home(simulation)
        for _ in range(16):
            target = np.clip(
                target + rng.choice([-1, 0.3, 1], 8) * most, home(simulation) - 0.4, home(simulation) + 0.4
            )
            target = np.clip(target, simulation.embodiment.lower, simulation.embodiment.upper)
            simulation.step(target)
            if not simulation.contacts():
                errors.append(np.abs(simulation.joints - target))
    assert len(errors) > 30
    assert np.max(errors) < 0.02


def test_reference_moves_no_faster_than_the_embodiment_allows(simulation):
    simulation.reset(1, joints=home(simulation))
    simulation.step(home(simulation) + np.array([1.0, -0.4, 0.8, 0.6, 1.0, -0.8, 1.0, -1.0]))
    moved = np.abs(simulation.joints - home(simulation))
    assert np.all(moved < simulation.embodiment.max_step + 0.02)
    assert moved[0] == pytest.approx(simulation.embodiment.max_step[0], abs=0.02)


def test_targets_beyond_the_joint_limits_end_at_the_limits(simulation):
    simulation.reset(1, joints=home(simulation))
    beyond = home(simulation)
    beyond[[0, 6]] = 9.0, -9.0
    for _ in range(16):
        simulation.step(beyond)
    assert simulation.joints[0] == pytest.approx(simulation.embodiment.upper[0], abs=0.02)
    assert simulation.joints[6] == pytest.approx(simulation.embodiment.lower[6], abs=0.02)


def test_the_gripper_opens_and_closes(simulation):
    simulation.reset(1, joints=home(simulation))
    closed = home(simulation)
    closed[7] = 0.0
    simulation.step(closed)
    assert 0.4 < simulation.joints[7] < 0.6, "half way after one step at 2.5 per second"
    simulation.step(closed)
    simulation.step(closed)
    assert simulation.joints[7] < 0.02


def test_short_advances_add_up_to_a_step(simulation):
    target = home(simulation) + np.array([0.2, 0.1, 0.0, -0.1, 0.0, 0.2, 0.3, -0.2])
    simulation.reset(2, joints=home(simulation))
    simulation.step(target)
    whole = simulation.joints
    simulation.reset(2, joints=home(simulation))
    for k in range(1, 9):
        simulation.advance(0.025, home(simulation) + (target - home(simulation)) * k / 8)
    assert simulation.time == pytest.approx(0.2, abs=1e-6)
    np.testing.assert_allclose(simulation.joints, whole, atol=0.01)


def test_the_table_stops_the_arm(simulation, kinematics):
    simulation.reset(3, joints=home(simulation))
    below = kinematics.inverse(np.array([0.55, 0.0, -0.15]), np.array([0.0, 0.0, -1.0]), home(simulation))
    assert below is not None
    for _ in range(10):
        simulation.step(np.append(below, 1.0))
    assert simulation.tool_position[2] > -0.01
    assert simulation.clearance <= 0.001
    assert any(other == "table" for _, other in simulation.contacts())
    for _ in range(8):
        simulation.step(home(simulation))
    assert not simulation.contacts()
    np.testing.assert_allclose(simulation.joints, home(simulation), atol=0.02)


def test_an_obstacle_stays_and_an_object_is_pushed(simulation, kinematics):
    down = np.array([0.0, 0.0, -1.0])
    pushed = 0
    for seed in range(4):
        simulation.reset(seed, joints=home(simulation))
        first = simulation.object_positions
        x, y, _ = first[0]
        start = kinematics.inverse(np.array([x, y - 0.12, 0.04]), down, home(simulation))
        end = kinematics.inverse(np.array([x, y + 0.10, 0.04]), down, start if start is not None else home(simulation))
        if start is None or end is None:
            continue
        simulation.set_joints(np.append(start, 0.0))
        for s in np.linspace(0.1, 1, 10):
            simulation.step(np.append(start + (end - start) * s, 0.0))
        pushed += simulation.object_positions[0, 1] - first[0, 1] > 0.03
    assert pushed >= 2


def test_objects_rest_on_the_table(simulation):
    simulation.reset(5, joints=home(simulation))
    before = simulation.object_positions
    for _ in range(5):
        simulation.step(home(simulation))
    np.testing.assert_allclose(simulation.object_positions, before, atol=0.003)


def test_clearance_is_the_height_of_the_fingertips_over_an_empty_table(kinematics):
    with ArmSimulation(seed=0, n_objects=0, n_obstacles=0) as empty:
        joints = kinematics.inverse(np.array([0.55, 0.1, 0.20]), np.array([0.0, 0.0, -1.0]), home(empty))
        # The fingertips end 1.6 cm below the tool point.
        assert empty.clearance_at(np.append(joints, 1.0)) == pytest.approx(0.184, abs=0.006)
        assert empty.state()["object_positions"].shape == (0,)


def test_the_same_seed_gives_the_same_world_and_another_another(simulation):
    def trace(seed):
        simulation.reset(seed)
        rng = np.random.default_rng(9)
        for _ in range(4):
            simulation.step(simulation.joints + rng.uniform(-0.2, 0.2, 8))
        return *simulation.render(), *simulation.state().values()

    first, second, other = trace(11), trace(11), trace(12)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.mean(first[0] != other[0]) > 0.5


def test_a_state_names_what_an_episode_needs(simulation):
    simulation.reset(0)
    state = simulation.state()
    shapes = {name: value.shape for name, value in state.items()}
    assert shapes == {
        "joint_positions": (7,),
        "gripper_state": (1,),
        "tool_position": (3,),
        "clearance": (1,),
        "object_positions": (3 * len(simulation.scene.objects),),
        "object_poses": (7 * len(simulation.scene.objects),),
        "object_touched": (len(simulation.scene.objects),),
        "base_position": (3,),
    }
    assert all(value.dtype == np.float32 for value in state.values())


@pytest.mark.parametrize("bad", [np.zeros(7), np.full(8, np.nan), np.zeros((1, 8)), np.full(8, np.inf)])
def test_a_wrong_command_is_refused_and_moves_nothing(simulation, bad):
    simulation.reset(0)
    before = simulation.joints
    with pytest.raises(ShapeError, match="expected 8 finite values"):
        simulation.step(bad)
    np.testing.assert_array_equal(simulation.joints, before)


def test_forward_kinematics_agree_with_the_simulation_and_the_data_sheet(simulation, kinematics):
    rng = np.random.default_rng(4)
    for _ in range(5):
        joints = home(simulation) + np.append(rng.uniform(-0.3, 0.3, 7), 0.0)
        simulation.set_joints(joints)
        np.testing.assert_allclose(kinematics.tool_position(joints), simulation.tool_position, atol=1e-6)
    np.testing.assert_allclose(kinematics.tool_position(np.zeros(8)), (0, 0, SHOULDER_HEIGHT + REACH), atol=1e-3)
    sideways = np.array([np.pi / 2, np.pi / 2, 0, 0, 0, 0, 0, 1])
    np.testing.assert_allclose(kinematics.tool_position(sideways), (0, REACH, SHOULDER_HEIGHT), atol=1e-3)


def test_inverse_kinematics_reach_the_point_they_claim(kinematics, simulation):
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(40):
        position = rng.uniform(WORKSPACE_LOWER, WORKSPACE_UPPER)
        start = home(simulation)
        start[0] = np.arctan2(position[1], position[0])
        joints = kinematics.inverse(position, np.array([0.0, 0.0, -1.0]), start)
        if joints is not None:
            found += 1
            at, rotation = kinematics.tool_pose(joints)
            assert np.linalg.norm(at - position) < 3e-3
            assert rotation[2, 2] < -0.99
    assert found >= 32
    assert kinematics.inverse(np.array([1.6, 0.0, 0.3]), np.array([1.0, 0.0, 0.0]), home(simulation)) is None


def test_a_sampled_goal_is_reached_within_one_plan(simulation):
    """Driving straight to the goal, within the rate limits, from the home pose: 8 steps later the tool is there."""
    embodiment = simulation.embodiment
    tools = []
    for seed in range(8):
        simulation.reset(seed, joints=home(simulation))
        goal = sample_goal(simulation, seed)
        _, _, tool = simulation.goal_frame(goal)
        assert np.all(tool >= WORKSPACE_LOWER - 0.01)
        assert np.all(tool <= WORKSPACE_UPPER + 0.01)
        assert simulation.clearance_at(goal) > 0.03
        ways = home(simulation) + (goal - home(simulation)) * np.linspace(0.125, 1, 8)[:, None]
        for action in embodiment.limit_plan(ways, simulation.joints):
            simulation.step(action)
        assert np.linalg.norm(simulation.tool_position - tool) < 0.01
        tools.append(tool)
    assert np.all(np.std(tools, axis=0) > 0.05), "goals must differ"


def test_goals_follow_from_the_seed(simulation):
    simulation.reset(0)
    np.testing.assert_array_equal(sample_goal(simulation, 3), sample_goal(simulation, 3))
    assert np.abs(sample_goal(simulation, 3) - sample_goal(simulation, 4)).max() > 0.05


def test_a_sampled_goal_shows_its_tool():
    """Although the camera stands so near that it sees a part of the working space."""
    found = 0
    with ArmSimulation(width=32, height=32) as sim:
        for seed in range(8):
            sim.reset(seed)
            try:
                _, _, tool = sim.goal_frame(sample_goal(sim, seed, sim.joints))
            except RuntimeError:
                continue
            found += 1
            assert sim.sees(tool, GOAL_MARGIN)
    assert found >= 6


def test_an_impossible_goal_is_in_sight_and_no_free_pose_comes_near_it(simulation, kinematics):
    """Whoever gets the tool within 5 cm of it, from above, aside or across, is in the obstacle or in the table."""
    found, tried = 0, 0
    for seed in range(60):
        simulation.reset(seed)
        real = simulation.render()[0]
        try:
            rgb, _, tool = impossible_goal(simulation, seed)
        except RuntimeError:
            continue
        found += 1
        assert simulation.sees(tool, GOAL_MARGIN - 0.02)
        assert np.mean(rgb != real) > 0.01
        np.testing.assert_array_equal(simulation.render()[0], real)
        rng = np.random.default_rng(seed)
        for _ in range(40):
            position = tool + rng.uniform(-0.05, 0.05, 3)
            approach = rng.normal(size=3) * (1.0, 1.0, 0.6) - (0.0, 0.0, 0.6)
            start = home(simulation) + np.append(rng.normal(0, 0.4, 7), 0.0)
            joints = kinematics.inverse(position, approach / np.linalg.norm(approach), start)
            if joints is None or np.linalg.norm(position - tool) > 0.05:
                continue
            tried += 1
            assert all(simulation.clearance_at(np.append(joints, opening)) < 0 for opening in (0.0, 0.5, 1.0))
    assert found >= 5
    assert tried >= 60


def test_without_a_wide_obstacle_in_sight_there_is_no_impossible_goal():
    none = pytest.raises(RuntimeError, match="no impossible goal found in this scene with seed 3")
    with ArmSimulation(seed=0, width=32, height=32, n_obstacles=0) as bare, none:
        impossible_goal(bare, 3)


def test_a_shifted_arm_stands_and_works_elsewhere(kinematics):
    with ArmSimulation(seed=0, base_offset=(0.1, -0.3)) as shifted:
        joints = shifted.joints
        expected = kinematics.tool_position(joints) + np.array([0.1, -0.3, 0])
        np.testing.assert_allclose(shifted.tool_position, expected, atol=1e-6)
        shifted.reset(0, base_offset=(0.0, 0.0))
        np.testing.assert_array_equal(shifted.base_position, np.zeros(3))


@pytest.mark.parametrize("kind", ["random", "reach", "collide"])
def test_every_kind_of_motion_stays_within_the_limits_and_moves(simulation, kinematics, kind):
    embodiment = simulation.embodiment
    for seed in range(3):
        simulation.reset(seed)
        plan = MotionGenerator(simulation, kinematics, np.random.default_rng(seed)).generate(kind, 24)
        assert plan.shape == (24, 8)
        steps = np.diff(np.concatenate([simulation.joints[None], plan]), axis=0)
        assert np.all(np.abs(steps) <= embodiment.max_step + 1e-5)
        assert np.all(plan >= embodiment.lower)
        assert np.all(plan <= embodiment.upper)
        assert np.ptp(plan[:, :7], axis=0).max() > 0.2


def test_collisions_collide(simulation, kinematics):
    """What the kind is named after happens in most of its episodes."""
    touched = 0
    for seed in range(4):
        simulation.reset(seed)
        clearances = []
        for action in MotionGenerator(simulation, kinematics, np.random.default_rng(seed)).generate("collide", 24):
            simulation.step(action)
            clearances.append(simulation.clearance)
        touched += min(clearances) <= 0.001
    assert touched >= 3


def begin_a_revisit(simulation, kinematics, seed):
    """A generator, and the arm where it chose to begin."""
    simulation.reset(seed)
    motions = MotionGenerator(simulation, kinematics, np.random.default_rng(seed))
    simulation.set_joints(np.append(motions.aside(), 1.0))
    return motions


def test_a_revisit_goes_far_away_stays_there_and_comes_back(simulation, kinematics):
    """Within the limits, without touching anything."""
    embodiment, sides = simulation.embodiment, set()
    for seed in range(6):
        plan = begin_a_revisit(simulation, kinematics, seed).generate(REVISIT, REVISIT_FRAMES)
        start, tool, objects = simulation.joints, simulation.tool_position, simulation.object_positions
        assert np.all(np.abs(np.diff(np.concatenate([start[None], plan]), axis=0)) <= embodiment.max_step + 1e-5)
        assert np.all((plan >= embodiment.lower) & (plan <= embodiment.upper))
        away, seen = [], []
        for action in plan:
            simulation.step(action)
            assert simulation.clearance > 0.005
            away.append(abs(simulation.joints[0] - start[0]) > np.deg2rad(59))
            seen.append(simulation.tool_position)
        gone = np.flatnonzero(away)
        assert len(gone) >= AWAY_FRAMES
        assert np.all(np.diff(gone) == 1)  # in one piece
        still = np.array(seen)[gone][np.linalg.norm(np.array(seen)[gone] - seen[gone[len(gone) // 2]], axis=1) < 0.01]
        assert len(still) >= AWAY_FRAMES
        assert gone[0] >= 4  # what is hidden later was seen in a whole context
        assert np.linalg.norm(still - tool, axis=1).min() > 0.4
        assert np.linalg.norm(seen[-1] - tool) < 0.05
        np.testing.assert_allclose(simulation.object_positions, objects, atol=1e-3)
        sides.add(np.sign(start[0]))
    assert sides == {-1.0, 1.0}


def test_a_revisit_follows_from_its_seed(simulation, kinematics):
    first, again, other = (
        begin_a_revisit(simulation, kinematics, seed).generate(REVISIT, REVISIT_FRAMES) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_a_revisit_needs_time(simulation, kinematics):
    motions = begin_a_revisit(simulation, kinematics, 0)
    with pytest.raises(ValueError, match="a revisit takes at least"):
        motions.generate(REVISIT, AWAY_FRAMES + 4)


def test_a_revisit_without_objects_still_goes_away(kinematics):
    with ArmSimulation(seed=0, n_objects=0, n_obstacles=0) as bare:
        bare.set_joints(np.append(MotionGenerator(bare, kinematics, np.random.default_rng(0)).aside(), 1.0))
        plan = MotionGenerator(bare, kinematics, np.random.default_rng(0)).generate(REVISIT, REVISIT_FRAMES)
        assert np.sum(np.abs(plan[:, 0] - bare.joints[0]) > np.deg2rad(60)) >= AWAY_FRAMES
        for action in plan:
            bare.step(action)
            assert bare.clearance > 0.05
