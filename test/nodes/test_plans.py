"""Plans and trajectories: there and back, resampling, and everything that a bad one can have wrong."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.nodes import plans
from deepverse_ros.nodes.conversions import JointLayout, MessageError
from deepverse_ros.nodes.robot_commands import WATCHDOG, ArmCommands, velocities_from_data

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


def test_a_plan_as_trajectory_is_the_same_plan_again():
    plan = random_plan(1, 8)
    layout = JointLayout(ARM, "gripper_joint", gripper_closed=0.04, gripper_open=0.0)
    trajectory = plans.trajectory_from_plan(plan, layout, Header())
    assert trajectory.points[-1].time_from_start.sec == 1
    assert trajectory.points[0].positions[7] == pytest.approx(0.04 * (1 - plan[0, 7]))
    np.testing.assert_allclose(plans.plan_from_trajectory(trajectory, layout, HOME, 8), plan, atol=1e-5)


def test_a_trajectory_is_resampled_from_where_it_is_now():
    goal = HOME + np.float32(0.2)
    trajectory = plans.trajectory_from_plan(np.stack([goal]), LAYOUT, Header())
    trajectory.points[0].time_from_start = plans.duration(0.8)
    del trajectory.points[0].positions[7], trajectory.joint_names[7]
    resampled = plans.plan_from_trajectory(trajectory, LAYOUT, HOME, 4, elapsed=0.2)
    np.testing.assert_allclose(resampled[:, 0] - HOME[0], [0.1, 0.15, 0.2, 0.2], atol=1e-5)
    np.testing.assert_allclose(resampled[:, 7], HOME[7])


def trajectory(names: list[str], *points: tuple[float, list[float]]) -> JointTrajectory:
    return JointTrajectory(
        joint_names=names,
        points=[JointTrajectoryPoint(time_from_start=plans.duration(t), positions=p) for t, p in points],
    )


NAMES = list(ARM.joint_names)


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
        plans.knots_from_trajectory(copy.deepcopy(message), LAYOUT, HOME)


def test_joints_of_a_trajectory_may_stand_in_any_order():
    names = NAMES[::-1]
    times, targets = plans.knots_from_trajectory(
        trajectory(names, (0.5, [0.1 * (i + 1) for i in range(7)])), LAYOUT, HOME
    )
    np.testing.assert_allclose(targets[0, :7], [0.1 * (7 - i) for i in range(7)], atol=1e-6)
    assert times.tolist() == [0.5]


def test_an_arm_follows_its_trajectory_and_then_stays():
    commands = ArmCommands(ARM, HOME)
    goal = HOME.copy()
    goal[0] += 0.4
    commands.follow(10.0, HOME, np.array([1.0]), goal[None])
    offsets = [float(commands.target(t, 0.1)[0] - HOME[0]) for t in (10.0, 10.4, 10.9, 11.0, 20.0)]
    np.testing.assert_allclose(offsets, [0.04, 0.2, 0.4, 0.4, 0.4], atol=1e-5)


def test_a_velocity_ends_when_it_is_not_repeated_and_a_too_fast_one_is_clamped():
    commands = ArmCommands(ARM, HOME)
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
