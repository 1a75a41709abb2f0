"""Velocities as positions: what is sent is what a controller would have integrated."""

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.command_formats import TrajectoryFormat
from deepverse_ros.nodes.messages.plan import command_from_trajectory
from deepverse_ros.nodes.messages.time import duration
from deepverse_ros.nodes.messages.velocity_points import integrated
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Layout

ARM = Embodiment.load("arm")
PLACES = {"a": 0.5, "b": -1.0}


def trajectory(*rows: tuple[float, list[float], list[float]]) -> JointTrajectory:
    """Rows: seconds, positions, velocities."""
    points = [
        JointTrajectoryPoint(positions=positions, velocities=velocities, time_from_start=duration(seconds))
        for seconds, positions, velocities in rows
    ]
    return JointTrajectory(joint_names=["a", "b"], points=points)


@given(
    st.lists(st.lists(st.floats(-2, 2), min_size=2, max_size=2), min_size=1, max_size=6),
    st.lists(st.floats(0.01, 2), min_size=7, max_size=7),
)
def test_positions_are_the_integral_of_velocities_that_are_linear_in_between(velocities, steps):
    velocities = [*velocities, [0.0, 0.0]]
    times = np.round(np.cumsum(steps[: len(velocities)]), 6)
    message = trajectory(*[(t, [], v) for t, v in zip(times, velocities, strict=True)])
    out = integrated(message, PLACES)
    fine = np.linspace(0, times[-1], 4001)
    for column, place in enumerate(PLACES.values()):
        rates = np.interp(fine, [0.0, *times], [0.0, *(v[column] for v in velocities)])
        moved = np.concatenate([[0.0], np.cumsum(0.5 * (rates[1:] + rates[:-1]) * np.diff(fine))])
        got = [p.positions[column] for p in out.points]
        np.testing.assert_allclose(got, place + np.interp(times, fine, moved), atol=2e-3)
    assert [p.time_from_start for p in out.points] == [p.time_from_start for p in message.points]


def test_a_first_point_at_the_beginning_says_how_fast_it_begins():
    out = integrated(trajectory((0.0, [], [1.0, 0.0]), (2.0, [], [0.0, 0.0])), PLACES)
    assert [list(p.positions) for p in out.points] == [[0.5, -1.0], [1.5, -1.0]]


def test_points_with_positions_are_left_as_they_are():
    message = trajectory((1.0, [0.1, 0.2], [0.3, 0.4]))
    assert integrated(message, None) is message
    assert integrated(JointTrajectory(joint_names=["a"]), None).points == []


@pytest.mark.parametrize(
    ("rows", "places", "said"),
    [
        (
            [(1.0, [0.0, 0.0], []), (2.0, [], [0.0, 0.0])],
            PLACES,
            "point 1 has velocities and no positions, and",
        ),
        (
            [(1.0, [], [0.0, 0.0]), (2.0, [0.0, 0.0], [])],
            PLACES,
            "point 0 has velocities and no positions, and",
        ),
        ([(1.0, [], [0.1]), (2.0, [], [0.0, 0.0])], PLACES, "point 0 has 1 velocities; joint_names has 2 entries"),
        ([(1.0, [], [0.0, 0.2])], PLACES, "the last point's velocity of 'b' is 0.2, without a position to end at"),
        ([(1.0, [], [0.0, float("nan")])], PLACES, "the last point's velocity of 'b' is nan"),
        ([(1.0, [], [0.0, 0.0])], None, "where 'a' is now is not known: give positions"),
        ([(1.0, [], [0.0, 0.0])], {"a": 0.0}, "where 'b' is now is not known: give positions"),
    ],
)
def test_what_cannot_be_integrated_is_refused_with_field_and_fix(rows, places, said):
    with pytest.raises(MessageError, match=said.replace("(", r"\(")):
        integrated(trajectory(*rows), places)


def test_planner_and_prefilter_take_them_alike_and_the_prefilter_judges_what_it_sends():
    joints = JointLayout(ARM, gripper_closed=0.0, gripper_open=0.04)
    layout = Layout.of(ARM)
    home = np.array(ARM.home)
    rows = [(0.5, [], [0.2] * 7), (1.0, [], [0.0] * 7)]
    message = JointTrajectory(joint_names=list(ARM.joint_names), points=trajectory(*rows).points)
    wanted = home[:7] + np.array([[0.05], [0.1]])
    command = command_from_trajectory(message, joints, home)
    np.testing.assert_allclose(command.values[:, :7], wanted, atol=1e-6)
    np.testing.assert_allclose(command.values[:, 7], home[7])
    form = TrajectoryFormat(layout, joints)
    incoming = form.read(message, home)
    assert incoming.problem == ""
    np.testing.assert_allclose(incoming.command.values[:, :7], wanted)
    sent = form.write(incoming.command, Time())
    np.testing.assert_allclose([p.positions for p in sent.points], wanted)
    np.testing.assert_allclose(command.times, [0.5, 1.0])
    assert "where 'joint_1' is now is not known: give positions" in form.read(message, None).problem
