"""What a gripper with a controller of its own is told, by the trajectories that it is a part of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.nodes.control.gripper_output import GripperCourse, without_joint
from deepverse_ros.nodes.messages.time import duration, stamp_from_seconds


def gripper(*points: tuple[float, float]) -> JointTrajectory:
    """(seconds, position) each."""
    rows = [JointTrajectoryPoint(positions=[p], time_from_start=duration(t)) for t, p in points]
    return JointTrajectory(joint_names=["gripper"], points=rows)


def test_it_is_on_its_way_to_the_next_point_and_ends_at_the_last():
    course = GripperCourse()
    assert course.goal(0.0) is course.commanded(0.0) is course.hold(0.0) is None
    course.begin(10.0, gripper((1.0, 0.8), (2.0, 0.8), (3.0, 0.0)))
    assert [course.goal(t) for t in (10.0, 10.9, 11.5, 12.1, 13.0, 99.0)] == [0.8, 0.8, 0.8, 0.0, 0.0, 0.0]
    assert course.commanded(12.5) == pytest.approx(0.4)


def test_a_hold_keeps_what_is_commanded_and_a_new_trajectory_begins_there():
    course = GripperCourse()
    course.begin(10.0, gripper((1.0, 1.0), (2.0, 0.0)))
    assert course.hold(11.25) == pytest.approx(0.75)
    assert course.goal(99.0) == course.commanded(99.0) == pytest.approx(0.75)
    course.begin(20.0, gripper((1.0, 0.25)))
    assert course.commanded(20.5) == pytest.approx(0.5)


def test_a_trajectory_with_a_stamp_begins_then():
    course, later = GripperCourse(), gripper((1.0, 0.0))
    course.begin(1.0, gripper((1.0, 1.0)))
    later.header.stamp = stamp_from_seconds(5.0)
    course.begin(2.0, later)
    assert [course.commanded(t) for t in (2.0, 5.0, 5.5, 6.0)] == pytest.approx([1.0, 1.0, 0.5, 0.0])


@given(st.permutations(["a", "b", "gripper"]), st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_both_parts_together_are_the_whole(names, values):
    point = JointTrajectoryPoint(positions=values, velocities=values, time_from_start=duration(1.0))
    whole = JointTrajectory(joint_names=names, points=[point])
    arm, part = without_joint(whole, "gripper")
    both = dict(zip(arm.joint_names, arm.points[0].positions, strict=True))
    both |= dict(zip(part.joint_names, part.points[0].velocities, strict=True))
    assert both == dict(zip(names, values, strict=True))
    assert arm.points[0].time_from_start == part.points[0].time_from_start == point.time_from_start


def test_what_has_no_gripper_or_does_not_fit_is_left_as_it_is():
    arm = JointTrajectory(joint_names=["a"], points=[JointTrajectoryPoint(positions=[0.0])])
    assert without_joint(arm, "gripper") == (arm, None)
    wrong = JointTrajectory(joint_names=["a", "gripper"], points=[JointTrajectoryPoint(positions=[0.0])])
    assert without_joint(wrong, "gripper") == (wrong, None)
    assert without_joint(JointTrajectory(joint_names=["a", "gripper"]), "gripper")[0].joint_names == ["a"]
