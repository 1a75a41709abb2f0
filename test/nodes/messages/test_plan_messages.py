"""Plans and trajectories: there and back, resampling, and everything that a bad one can have wrong."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_trajectories import trajectory_from_plan
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages import plan as plans
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.time import duration
from deepverse_ros.nodes.simulation.trajectory_follower import WATCHDOG, TrajectoryFollower, velocities_from_data
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command

ARM = Embodiment.load("arm")
LAYOUT = JointLayout(ARM)
HOME = np.asarray(ARM.home, np.float32)


def random_plan(seed: int, horizon: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(ARM.lower, ARM.upper, (horizon, ARM.action_dim)).astype(np.float32)


@given(seed=st.integers(0, 2**16), horizon=st.integers(1, plans.MAX_HORIZON))
def test_a_plan_survives_the_way_there_and_back(seed, horizon):
    plan = random_plan(seed, horizon)
    message = plans.plan_to_msg(plan, ARM, Header(frame_id="base_link"), "p1")
    np.testing.assert_array_equal(plans.plan_from_msg(message, ARM), plan)
    assert (message.id, message.modality_names, list(message.modality_dims)) == (
        "p1",
        ["joint_positions", "gripper_state"],
        [7, 1],
    )


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("embodiment", "drone", "embodiment is 'drone'; this robot is 'arm'"),
        ("dt", 0.1, "dt is 0.1 s; arm needs 0.2 s"),
        ("modality_names", ["joint_positions"], "modality_names is"),
        ("modality_dims", [6, 1], r"modality_dims is \[6, 1\]"),
        ("horizon", 0, "horizon is 0; allowed: 1 to 32"),
        ("horizon", 33, "horizon is 33"),
        ("horizon", 7, "values has 64 numbers; horizon 7 x 8 is 56"),
    ],
)
def test_a_wrong_plan_is_refused_with_field_and_value(field, value, said):
    message = plans.plan_to_msg(random_plan(0, 8), ARM, Header())
    setattr(message, field, value)
    with pytest.raises(MessageError, match=said):
        plans.plan_from_msg(message, ARM)


@pytest.mark.parametrize(("value", "said"), [(np.nan, "is nan rad"), (3.2, "is 3.2 rad; allowed: -2.967 to 2.967")])
def test_a_plan_beyond_limits_is_refused_with_step_and_joint(value, said):
    plan = random_plan(0, 8)
    plan[5, 2] = value
    with pytest.raises(MessageError, match=rf"step 5: joint_positions\[2\] {said}"):
        plans.plan_from_msg(plans.plan_to_msg(plan, ARM, Header()), ARM)


@given(
    seed=st.integers(0, 2**16),
    horizon=st.integers(1, 60),
    dt=st.floats(0.005, 0.6).filter(lambda dt: abs(dt - ARM.dt) > 1e-3),
)
def test_a_plan_of_another_dt_is_resampled_on_the_line_through_its_targets(seed, horizon, dt):
    plan = random_plan(seed, horizon)
    message = plans.plan_to_msg(plan, ARM, Header(), "p1")
    message.dt = dt
    if horizon * dt > plans.MAX_HORIZON * ARM.dt + 1e-5:
        with pytest.raises(
            MessageError, match=r"the plan lasts .* at most 32 steps of 0.2 s \(6.4 s\) can be imagined"
        ):
            plans.plan_from_msg(message, ARM, HOME)
        return
    resampled = plans.plan_from_msg(message, ARM, HOME)
    assert ARM.dt * (len(resampled) - 1) < horizon * dt <= ARM.dt * len(resampled) + 1e-5
    np.testing.assert_allclose(resampled[-1], plan[-1], atol=1e-3)
    way = np.vstack([HOME, plan])
    for step, action in enumerate(resampled):
        at = min((step + 1) * ARM.dt / dt, horizon)
        before = min(int(at), horizon - 1)
        expected = way[before] + (at - before) * (way[before + 1] - way[before])
        np.testing.assert_allclose(action, expected, atol=1e-3)


def test_a_plan_of_the_right_dt_is_not_touched_wherever_the_robot_is():
    plan = random_plan(3, 8)
    np.testing.assert_array_equal(plans.plan_from_msg(plans.plan_to_msg(plan, ARM, Header()), ARM, HOME), plan)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("dt", 0.0, "dt is 0.0 s; it must be positive"),
        ("dt", -0.1, "dt is -0.1 s; it must be positive"),
        ("dt", np.nan, "dt is nan s; it must be positive"),
        ("dt", np.inf, "dt is inf s; it must be positive"),
        ("horizon", 0, "horizon is 0"),
    ],
)
def test_a_plan_that_cannot_be_resampled_is_refused_with_field_and_value(field, value, said):
    message = plans.plan_to_msg(random_plan(0, 8), ARM, Header())
    message.dt = 0.1
    setattr(message, field, value)
    with pytest.raises(MessageError, match=said):
        plans.plan_from_msg(message, ARM, HOME)


def test_a_target_beyond_limits_is_refused_also_where_resampling_would_skip_it():
    plan = np.tile(HOME, (8, 1))
    plan[2, 0] = 4.0
    message = plans.plan_to_msg(plan, ARM, Header())
    message.dt = 0.05
    with pytest.raises(MessageError, match=r"step 2: joint_positions\[0\] is 4 rad"):
        plans.plan_from_msg(message, ARM, HOME)


def test_a_plan_as_trajectory_is_the_same_plan_again():
    plan = random_plan(1, 8)
    layout = JointLayout(ARM, "gripper_joint", gripper_closed=0.04, gripper_open=0.0)
    trajectory = trajectory_from_plan(plan, layout, Header())
    assert trajectory.points[-1].time_from_start.sec == 1
    assert trajectory.points[0].positions[7] == pytest.approx(0.04 * (1 - plan[0, 7]))
    np.testing.assert_allclose(plans.plan_from_trajectory(trajectory, layout, HOME), plan, atol=1e-5)


def test_a_trajectory_is_resampled_from_where_the_robot_is():
    goal = HOME + np.float32(0.2)
    trajectory = trajectory_from_plan(np.stack([goal]), LAYOUT, Header())
    trajectory.points[0].time_from_start = duration(0.8)
    del trajectory.points[0].positions[7], trajectory.joint_names[7]
    start = HOME.copy()
    start[[0, 7]] += np.float32([0.1, -0.5])
    resampled = plans.plan_from_trajectory(trajectory, LAYOUT, start)
    np.testing.assert_allclose(resampled[:, 0] - HOME[0], [0.125, 0.15, 0.175, 0.2], atol=1e-5)
    np.testing.assert_allclose(resampled[:, 7], HOME[7] - 0.5)


def trajectory(names: list[str], *points: tuple[float, list[float]]) -> JointTrajectory:
    return JointTrajectory(
        joint_names=names,
        points=[JointTrajectoryPoint(time_from_start=duration(t), positions=p) for t, p in points],
    )


NAMES = list(ARM.joint_names)


def test_a_first_point_at_time_0_states_the_start_and_is_no_target():
    away = [float(v) for v in HOME[:7] + 0.1]
    there = [float(v) for v in HOME[:7] + 0.2]
    message = trajectory(NAMES, (0.0, away), (0.4, there))
    command = plans.command_from_trajectory(message, LAYOUT, HOME)
    assert command.times.tolist() == [0.4]
    resampled = plans.plan_from_trajectory(message, LAYOUT, HOME)
    np.testing.assert_allclose(resampled[:, 0] - HOME[0], [0.1, 0.2], atol=1e-5)
    message.points[0].positions[0] = 9.0
    with pytest.raises(MessageError, match=r"step 0: joint_positions\[0\] is 9 rad"):
        plans.command_from_trajectory(message, LAYOUT, HOME)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (trajectory(NAMES), "trajectory points is empty"),
        (trajectory(NAMES, (6.5, [0.0] * 7)), r"the plan lasts 6.5 s; at most 32 steps of 0.2 s \(6.4 s\)"),
    ],
)
def test_a_trajectory_that_is_too_short_or_too_long_to_be_judged_is_refused(message, said):
    with pytest.raises(MessageError, match=said):
        plans.plan_from_trajectory(copy.deepcopy(message), LAYOUT, HOME)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (trajectory([*NAMES[:6], "wrist"], (1.0, [0.0] * 7)), "unknown joint 'wrist'"),
        (trajectory(NAMES[:6], (1.0, [0.0] * 6)), "must have 'joint_7' once"),
        (trajectory(NAMES, (1.0, [0.0] * 6)), "point 0: positions has 6 values; joint_names has 7"),
        (trajectory(NAMES, (1.0, [0.0] * 7), (0.5, [0.0] * 7)), "time_from_start must be positive and increase"),
        (trajectory(NAMES, (0.0, [0.0] * 7)), "time_from_start must be positive"),
        (trajectory(NAMES, (1.0, [float("nan")] * 7)), r"joint_positions\[0\] is nan"),
        (trajectory(NAMES, (1.0, [0.0, 5.0, *[0.0] * 5])), r"joint_positions\[1\] is 5 rad"),
    ],
)
def test_a_wrong_trajectory_is_refused_with_field_and_value(message, said):
    with pytest.raises(MessageError, match=said):
        plans.command_from_trajectory(copy.deepcopy(message), LAYOUT, HOME)


def test_joints_of_a_trajectory_may_stand_in_any_order():
    names = NAMES[::-1]
    message = trajectory(names, (0.5, [0.1 * (i + 1) for i in range(7)]))
    command = plans.command_from_trajectory(message, LAYOUT, HOME)
    np.testing.assert_allclose(command.values[0, :7], [0.1 * (7 - i) for i in range(7)], atol=1e-6)
    assert command.times.tolist() == [0.5]
    assert plans.command_from_trajectory(trajectory(names), LAYOUT, HOME) is None


def test_an_arm_follows_its_trajectory_and_then_stays():
    commands = TrajectoryFollower(ARM, HOME)
    goal = HOME.copy()
    goal[0] += 0.4
    commands.follow(10.0, Command(goal[None], np.array([1.0]), start=HOME))
    offsets = [float(commands.target(t, 0.1)[0] - HOME[0]) for t in (10.0, 10.4, 10.9, 11.0, 20.0)]
    np.testing.assert_allclose(offsets, [0.04, 0.2, 0.4, 0.4, 0.4], atol=1e-5)


def test_a_velocity_ends_when_it_is_not_repeated_and_a_too_fast_one_is_clamped():
    commands = TrajectoryFollower(ARM, HOME)
    assert commands.move(0.0, velocities_from_data(np.array([0.5, *[0.0] * 6]), ARM)) is None
    positions = [float(commands.target(t, 0.1)[0]) for t in np.arange(0.0, 1.0, 0.1)]
    assert positions[-1] == pytest.approx(HOME[0] + 0.5 * WATCHDOG, abs=0.051)
    assert positions[-1] == positions[-3]
    warning = commands.move(2.0, velocities_from_data(np.array([9.0, *[0.0] * 7]), ARM))
    assert "data[0] is 9; clamped to 1.48" in warning


@pytest.mark.parametrize(
    ("data", "said"), [([0.0] * 6, "6 values; expected 7"), ([0.0, np.inf, *[0.0] * 5], r"data\[1\] is inf")]
)
def test_a_wrong_velocity_is_refused_with_field_and_value(data, said):
    with pytest.raises(MessageError, match=said):
        velocities_from_data(np.array(data), ARM)
