"""Goals, joints and poses from messages, and pictures as messages."""

import array
import sys

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from made_images import message as encode
from sensor_msgs.msg import Image, JointState

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import ShapeError
from deepverse_ros.nodes import conversions
from deepverse_ros.nodes.conversions import JointLayout, MessageError
from deepverse_ros.nodes.depth_decoding import depth_from_image


def test_a_goal_has_depth_only_where_an_image_of_its_size_says_so():
    picture = encode(np.full((4, 6, 3), 9, np.uint8), "rgb8")
    rgb, depth = conversions.goal_from_images(picture, Image())
    assert rgb.shape == (4, 6, 3)
    assert depth is None
    _, depth = conversions.goal_from_images(picture, encode(np.full((4, 6), 1500, np.uint16), "16UC1"))
    np.testing.assert_allclose(depth, np.full((4, 6), 1.5))
    with pytest.raises(conversions.MessageError, match="goal depth has 3x2 pixels; the goal image has 6x4"):
        conversions.goal_from_images(picture, encode(np.full((2, 3), 1500, np.uint16), "16UC1"))
    with pytest.raises(conversions.MessageError, match="depth encoding is 'rgb8'"):
        conversions.goal_from_images(picture, picture)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_survives_the_way_there_and_back(encoding):
    depth = np.array([[1.234, np.nan], [0.5, 4.999]], np.float32)
    message = conversions.image_from_depth(depth, encoding)
    assert message.encoding == encoding
    np.testing.assert_allclose(depth_from_image(message), depth, atol=5e-4)


def test_images_are_published_through_one_array():
    message = conversions.image_from_array(np.zeros((480, 640, 3), np.uint8), "rgb8")
    assert isinstance(message.data, array.array)
    assert (message.step, message.is_bigendian) == (1920, int(sys.byteorder == "big"))
    with pytest.raises(ShapeError, match="not rgb8"):
        conversions.image_from_array(np.zeros((4, 4), np.uint8), "rgb8")


@pytest.fixture
def layout(arm: Embodiment) -> JointLayout:
    return JointLayout(arm, "gripper_joint", gripper_closed=0.8, gripper_open=0.0)


def joints(layout: JointLayout, **changes: float) -> JointState:
    positions = dict.fromkeys(layout.names(), 0.1) | changes
    return JointState(name=list(positions), position=list(positions.values()))


def test_joints_are_found_by_name_in_any_order_and_the_gripper_is_scaled(layout):
    message = joints(layout, joint_3=0.3, gripper_joint=0.2, spare=9.0)
    order = np.random.default_rng(0).permutation(len(message.name))
    message = JointState(name=[message.name[i] for i in order], position=[message.position[i] for i in order])
    np.testing.assert_allclose(layout.vector(message), [0.1, 0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.75], atol=1e-6)
    assert layout.gripper_position(0.75) == pytest.approx(0.2)


def test_a_bad_joint_state_is_refused_with_its_joint(layout):
    incomplete = joints(layout)
    incomplete.name[2] = "elbow"
    with pytest.raises(MessageError, match="no joint 'joint_3'; it has: joint_1, joint_2, elbow"):
        layout.vector(incomplete)
    with pytest.raises(MessageError, match="'joint_5' is nan"):
        layout.vector(joints(layout, joint_5=float("nan")))
    with pytest.raises(MessageError, match="position has 1 values; name has 2"):
        layout.vector(JointState(name=["a", "b"], position=[0.0]))


def test_poses_and_stamps():
    quarter = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], float)
    pose = conversions.pose_from_matrix(quarter)
    assert (pose.position.x, pose.position.y, pose.position.z) == (1, 2, 3)
    assert (pose.orientation.z, pose.orientation.w) == pytest.approx((np.sqrt(0.5), np.sqrt(0.5)))
    assert conversions.stamp_seconds(Time(sec=3, nanosec=250_000_000)) == 3.25
