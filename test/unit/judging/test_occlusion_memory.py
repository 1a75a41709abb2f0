"""Things that the robot hides: they are where they were seen, or where the hand has taken them since."""

import numpy as np
import pytest
from test_push_prediction import BODY, PIXEL, along_x, block, joints_of

from deepverse_ros.judging.occlusion_memory import OccludedPoints, hidden

NOTHING = np.zeros((0, 3))


def poses(joints: np.ndarray):
    return BODY.forward_kinematics({"joint_positions": joints[:, :7], "gripper_state": joints[:, 7:]})


def everything(points: np.ndarray) -> np.ndarray:
    return np.ones(len(points), bool)


def nothing(points: np.ndarray) -> np.ndarray:
    return np.zeros(len(points), bool)


def test_a_thing_that_the_robot_hides_is_where_it_has_taken_it():
    way = joints_of(along_x(0.45, 0.65, 10))
    things = OccludedPoints(BODY, poses)
    seen = block(0.55, 0.0)
    assert len(things.see(seen, PIXEL, everything, way[0], 1.0)) == len(seen)
    for k in range(1, 11):
        known = things.see(NOTHING, PIXEL, everything, way[k], 1.0 + 0.2 * k)
    assert len(known) == len(seen)
    assert known.mean(0)[0] - 0.03 - 0.65 == pytest.approx(0.04, abs=0.03)
    # Where the camera sees that nothing is there, nothing is.
    assert len(things.see(NOTHING, PIXEL, nothing, way[10], 3.2)) == 0
    assert len(things.see(NOTHING, PIXEL, everything, way[10], 3.4)) == 0


def test_it_is_forgotten_after_a_pause_and_in_another_scene():
    here = joints_of(along_x(0.45, 0.65, 1))[0]
    things, seen = OccludedPoints(BODY, poses), block(0.75, 0.2)
    things.see(seen, PIXEL, nothing, here, 1.0)
    assert len(things.see(NOTHING, PIXEL, everything, here, 1.4)) == len(seen)
    assert len(things.see(NOTHING, PIXEL, everything, here, 9.0)) == 0
    things.see(seen, PIXEL, nothing, here, 10.0)
    things.forget()
    assert len(things.see(NOTHING, PIXEL, everything, here, 10.2)) == 0


def test_hidden_is_what_lies_behind_a_pixel_of_the_robot():
    intrinsics = np.array([[10.0, 0, 4.5], [0, 10.0, 4.5], [0, 0, 1]])
    own, depth = np.zeros((10, 10), bool), np.full((10, 10), 2.0)
    own[:, :5], depth[:, :5] = True, 1.0
    camera = np.eye(4)
    camera[:3, 3] = (5.0, 0.0, 0.0)
    left, right, front = (-0.4, 0.0, 1.5), (0.4, 0.0, 1.5), (-0.2, 0.0, 0.8)
    beside, behind = (-3.0, 0.0, 1.5), (0.0, 0.0, -1.0)
    points = np.array([left, right, front, beside, behind]) + camera[:3, 3]
    assert list(hidden(points, own, depth, intrinsics, camera)) == [True, False, False, False, False]
    assert hidden(NOTHING, own, depth, intrinsics, camera).shape == (0,)
