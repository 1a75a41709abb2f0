"""Joint states of any number of publishers: merged by name, each joint with an age of its own."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_trajectories import trajectory_from_plan
from std_msgs.msg import Header

from deepverse_ros.nodes.messages.action_layout import PARAMETERS, JointLayout
from deepverse_ros.nodes.messages.command_formats import ArrayFormat, TrajectoryFormat
from deepverse_ros.nodes.messages.plan import command_from_trajectory
from deepverse_ros.nodes.perception.measured_joints import TURN, MeasuredJoints
from deepverse_ros.nodes.runtime.parameters import ParameterError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command, Layout, in_layout_order

ARM = Embodiment.load("arm")
JOINTS = list(ARM.joint_names)
ALL = [*JOINTS, "gripper_joint"]
PLACE = [0.1, 0.2, 0.3, -0.4, 0.5, 0.6, 0.7, 0.8]
TIMEOUT = 0.5
T = 1_700_000_000.0  # ROS seconds at steady 0


class Robot:
    """Publishers of joint states, and what is known by them. Times are steady seconds."""

    def __init__(self, layout: JointLayout | None = None) -> None:
        self.measured = MeasuredJoints(layout or JointLayout(ARM))

    def says(self, at, names=ALL, positions=PLACE, stamp=None):
        return self.measured.add(names, positions, T + at if stamp is None else stamp, at)

    def is_at(self, at):
        state = self.measured.state(T + at, at, TIMEOUT)
        return None if state is None else state.values.tolist()

    def problem(self, at):
        return self.measured.problem(T + at, at, TIMEOUT)


def with_limits(lower: float, upper: float) -> JointLayout:
    """An arm whose last joint goes round."""
    values = ARM.model_dump()
    values["modalities"][0]["lower"] = (*ARM.modalities[0].lower[:6], lower)
    values["modalities"][0]["upper"] = (*ARM.modalities[0].upper[:6], upper)
    return JointLayout(Embodiment.model_validate(values))


def layout_of(**given) -> JointLayout:
    values = {p.name: p.default for p in PARAMETERS} | given
    return JointLayout.of(ARM, type("P", (), values)())


# Merged by name -------------------------------------------------------------------------------------------------------
def test_parts_of_the_robot_may_come_from_publishers_of_their_own_in_any_order():
    robot = Robot()
    robot.says(0.0, JOINTS[::-1], PLACE[6::-1])
    assert robot.is_at(0.01) is None
    assert robot.problem(0.01) == "nothing has been heard of gripper_joint"
    robot.says(0.02, ["gripper_joint"], [0.8])
    assert robot.is_at(0.03) == pytest.approx(PLACE)
    robot.says(0.05, ["joint_2"], [0.25])
    assert robot.is_at(0.06)[1] == pytest.approx(0.25)
    assert robot.measured.at(T + 0.03, 0.1) == pytest.approx([*PLACE[:1], 0.25, *PLACE[2:]])


@pytest.mark.parametrize(
    ("names", "positions"),
    [
        (["wheel_left", "wheel_right"], [1.0, 2.0]),
        (["wheel_left", "wheel_right"], []),
        (ALL, []),
        ([], []),
        ([], [1.0]),
        (["joint_1", "joint_2"], [9.0]),
        (["joint_1", "joint_1"], [9.0, 8.0]),
        (["joint_1"], [math.nan]),
        (["joint_1"], [math.inf]),
        (["joint_1", *(f"x{i}" for i in range(1000))], [9.0] * 1001),
    ],
)
def test_a_foreign_or_broken_publisher_neither_blinds_nor_refreshes(names, positions):
    robot = Robot()
    robot.says(0.0)
    for k in range(1, 40):
        robot.says(0.05 * k)
        robot.says(0.05 * k + 0.01, names, positions)
        assert robot.is_at(0.05 * k + 0.02) == pytest.approx(PLACE)
    for k in range(40, 60):
        robot.says(0.05 * k, names, positions)
    assert robot.is_at(3.0) is None


def test_what_is_wrong_with_a_message_is_said():
    assert Robot().says(0.0, ["joint_1", "joint_2"], [9.0]) == "position has 1 values; name has 2 entries"
    assert Robot().says(0.0, ["joint_1", "joint_1"], [9.0, 1.0]) == "name has a joint twice: joint_1, joint_1"
    assert Robot().says(0.0, ["base_joint"], [9.0]) == ""


def test_nan_at_the_start_is_one_joint_that_is_unknown():
    robot = Robot()
    robot.says(0.0, ALL, [*PLACE[:7], math.nan])
    assert robot.problem(0.1) == "gripper_joint is nan"
    robot.says(0.1)
    assert robot.is_at(0.15) == pytest.approx(PLACE)


# Ages -----------------------------------------------------------------------------------------------------------------
def test_a_joint_that_falls_silent_is_named_with_its_age():
    robot = Robot()
    for k in range(30):
        robot.says(0.05 * k, JOINTS, PLACE[:7])
        robot.says(0.05 * k, ["gripper_joint"], PLACE[7:]) if k < 7 else None
    assert robot.is_at(1.5) is None
    assert robot.problem(1.5) == "gripper_joint has been silent for 1.2 s"
    assert robot.problem(3.0) == "joint_1, joint_2, … and gripper_joint (8 joints) have been silent for 2.7 s"
    robot.says(3.0)
    assert robot.is_at(3.05) == pytest.approx(PLACE)


def test_who_repeats_an_old_stamp_is_old():
    robot = Robot()
    for k in range(100):
        robot.says(0.05 * k, stamp=T)
    assert robot.is_at(0.4) == pytest.approx(PLACE)
    assert robot.is_at(0.6) is None
    assert robot.is_at(5.0) is None
    robot.says(5.05)
    assert robot.is_at(5.1) == pytest.approx(PLACE)


def test_what_comes_late_is_as_old_as_its_stamp():
    robot = Robot()
    for k in range(20):
        robot.says(0.05 * k, stamp=T + 0.05 * k - 3.0)
    assert robot.is_at(0.96) is None
    assert "come with stamps that are 3.0 s old" in robot.problem(0.96)


def test_stamps_since_a_drivers_own_start_say_only_what_came_first():
    robot = Robot()
    for k in range(20):
        robot.says(0.05 * k, stamp=7.0 + 0.05 * k)
    assert robot.is_at(1.0) == pytest.approx(PLACE)
    assert robot.measured.at(7.5, 0.01) == pytest.approx(PLACE)
    for k in range(20, 60):
        robot.says(0.05 * k, stamp=7.95)
    assert robot.problem(3.0).endswith("have been silent for 2.0 s")


@pytest.mark.parametrize("wrong", [T + 3600.0, T + 1.7, T - 0.7, T - 3600.0, 1.0])
@pytest.mark.parametrize("often", [1, 30])
def test_a_wrong_stamp_blinds_nobody(wrong, often):
    robot = Robot()
    for k in range(60):
        robot.says(0.05 * k, positions=[0.01 * k, *PLACE[1:]])
        if 20 <= k < 20 + often:
            robot.says(0.05 * k + 0.01, stamp=wrong + 0.05 * k)
        assert robot.is_at(0.05 * k + 0.02) is not None
        if k > 4:
            assert robot.measured.at(T + 0.05 * (k - 4), 0.01)[0] == pytest.approx(0.01 * (k - 4), abs=1e-5)


@pytest.mark.parametrize("jump", [-3600.0, -2.0, 2.0, 3600.0])
def test_when_the_clock_jumps_joints_are_known_again_with_the_second_message(jump):
    robot = Robot()
    for k in range(20):
        robot.says(0.05 * k)
    for k in range(20, 22):
        robot.says(0.05 * k, stamp=T + jump + 0.05 * k, positions=[1.0, *PLACE[1:]])
    state = robot.measured.state(T + jump + 1.1, 1.1, TIMEOUT)
    assert state is not None
    assert state.values[0] == 1.0
    assert robot.measured.at(T + jump + 1.05, 0.1) is not None
    assert robot.measured.at(T + 0.5, 0.1) is None, "what was before belongs to another time"


def test_the_speed_of_each_joint_is_known():
    robot = Robot()
    for k in range(10):
        robot.says(0.05 * k, positions=[0.1 * k, *PLACE[1:]])
    speed = robot.measured.state(T + 0.46, 0.46, TIMEOUT).speed
    assert speed[0] == pytest.approx(2.0)
    assert speed[1:] == pytest.approx(0.0, abs=1e-6)


# Names ----------------------------------------------------------------------------------------------------------------
def test_names_may_have_a_prefix_or_be_others():
    layout = layout_of(joint_prefix="left_", joint_map=["shoulder=joint_1", "gripper = gripper_joint"])
    names = ["shoulder", *(f"left_{n}" for n in JOINTS[1:]), "gripper"]
    assert layout.names() == names
    robot = Robot(layout)
    robot.says(0.0, names, PLACE)
    robot.says(0.01, [f"right_{n}" for n in ALL], [9.0] * 8)
    robot.says(0.02, ALL, [9.0] * 8)
    assert robot.is_at(0.03) == pytest.approx(PLACE)
    plan = np.array([PLACE, ARM.home], np.float32)
    sent = trajectory_from_plan(plan, layout, Header())
    assert sent.joint_names == names
    np.testing.assert_allclose(command_from_trajectory(sent, layout, plan[0]).values, plan, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"joint_map": ["shoulder"]}, "expected 'robot_name=our_name'"),
        ({"joint_map": ["a=joint_9"]}, "has 'a=joint_9'"),
        ({"joint_map": ["a=joint_1", "b=joint_1"]}, "names 'joint_1' twice"),
        ({"joint_map": ["joint_2=joint_1"]}, "two joints would be 'joint_2'"),
        ({"gripper_open": 0.0}, "the same as gripper_closed"),
    ],
)
def test_names_that_cannot_be_are_refused(given, text):
    with pytest.raises(ParameterError, match=text):
        layout_of(**given)


def test_the_gripper_is_scaled_by_its_closed_and_open_position():
    layout = layout_of(gripper_closed=0.8, gripper_open=0.0)
    robot = Robot(layout)
    robot.says(0.0, positions=[*PLACE[:7], 0.2])
    assert robot.is_at(0.1)[7] == pytest.approx(0.75)
    assert layout.gripper_position(0.75) == pytest.approx(0.2)
    robot.says(0.1, positions=[*PLACE[:7], 0.9])
    assert robot.is_at(0.2)[7] == 0.0


# Turns ----------------------------------------------------------------------------------------------------------------
@given(st.floats(-3.1, 3.1), st.integers(-3, 3))
def test_a_joint_that_went_round_is_where_it_is_and_is_sent_near_that(angle, turns):
    layout = with_limits(-math.pi, math.pi)
    robot = Robot(layout)
    measured = [*PLACE[:6], angle + turns * TURN, PLACE[7]]
    robot.says(0.0, positions=measured)
    state = robot.measured.state(T, 0.0, TIMEOUT)
    assert state.values[6] == pytest.approx(angle, abs=1e-4)
    sent = trajectory_from_plan(state.values[None], layout, Header(), state.turns)
    assert sent.points[0].positions[:7] == pytest.approx(measured[:7], abs=1e-4)
    back = command_from_trajectory(sent, layout, state.values, state.turns).values
    assert back[0] == pytest.approx(state.values, abs=1e-5)


def test_a_turn_is_counted_only_where_it_lies_within_the_limits_and_stays_what_it_was():
    robot = Robot(with_limits(-2.9, 2.9))
    robot.says(0.0, positions=[*PLACE[:6], 3.0, 1.0])  # less a turn it is -3.28
    assert robot.is_at(0.0)[6] == pytest.approx(3.0)
    robot = Robot(with_limits(-TURN, TURN))
    robot.says(0.0, positions=[*PLACE[:6], 6.1, 1.0])
    assert robot.is_at(0.0)[6] == pytest.approx(6.1)
    robot = Robot(with_limits(-math.pi, math.pi))
    for k in range(20):  # a little beyond the limit and back, it is not taken to be on the other side
        robot.says(0.05 * k, positions=[*PLACE[:6], 3.14 + 0.01 * (-1) ** (k + 1), 1.0])
        assert robot.is_at(0.05 * k)[6] == pytest.approx(3.14, abs=0.02)
    for k in range(20, 60):
        robot.says(0.05 * k, positions=[*PLACE[:6], 3.1 + 0.05 * (k - 20), 1.0])
    assert robot.is_at(3.0)[6] == pytest.approx(3.1 + 0.05 * 39 - TURN, abs=1e-4)


@pytest.mark.parametrize("wrong", [6e5, 9.0, -4.0, 40.0])
def test_a_damaged_position_makes_no_turns_by_which_the_robot_would_be_sent(wrong):
    robot = Robot(with_limits(-2.9, 2.9))
    robot.says(0.0)
    robot.says(0.02, positions=[*PLACE[:6], wrong, 1.0])
    assert not robot.measured.state(T + 0.02, 0.02, TIMEOUT).turns.any()
    robot = Robot(with_limits(-2.9, 2.9))
    robot.says(0.0, positions=[*PLACE[:6], 1e6, 1.0])
    assert not robot.measured.state(T, 0.0, TIMEOUT).turns.any()


def test_who_counts_its_turns_anew_is_where_it_was():
    robot = Robot(with_limits(-math.pi, math.pi))
    robot.says(0.0, positions=[*PLACE[:6], TURN + 0.5, 1.0])
    robot.says(0.02, positions=[*PLACE[:6], 0.51, 1.0])
    assert robot.is_at(0.02)[6] == pytest.approx(0.51)
    assert not robot.measured.state(T + 0.02, 0.02, TIMEOUT).turns.any()


@pytest.mark.parametrize("kind", [TrajectoryFormat, ArrayFormat])
def test_commands_through_the_prefilter_have_the_robots_names_and_turns(kind):
    plain = with_limits(-math.pi, math.pi)
    joints = JointLayout(plain.embodiment, prefix="left_")
    turns = np.array([0.0] * 6 + [TURN, 0.0])
    form = kind(Layout.of(plain.embodiment), joints)
    form.turns = turns
    command = Command(np.array([PLACE]), np.array([0.2]), form.layout.names)
    message = form.write(command, Header().stamp)
    told = message.points[0].positions if kind is TrajectoryFormat else message.data
    assert list(told) == pytest.approx([*PLACE[:6], 0.7 + TURN, 0.8])
    incoming = form.read(message, None)
    assert not incoming.problem
    assert incoming.command.values[0] == pytest.approx(PLACE)


def test_a_trajectory_of_another_robot_is_none_of_ours():
    form = TrajectoryFormat(Layout.of(ARM), JointLayout(ARM, prefix="left_"))
    incoming = form.read(trajectory_from_plan(np.array([PLACE]), JointLayout(ARM), Header()), None)
    assert in_layout_order(incoming.command, form.layout)[0] is None
