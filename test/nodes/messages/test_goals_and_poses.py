"""Goals, joints and poses from messages, and pictures as messages."""

import array
import sys

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from made_images import message as encode
from sensor_msgs.msg import Image

from deepverse_ros.errors import MessageError, ShapeError
from deepverse_ros.nodes.messages.depth_decoding import depth_from_image
from deepverse_ros.nodes.messages.goal import goal_from_images
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.messages.pose import pose_from_matrix
from deepverse_ros.nodes.messages.time import stamp_seconds


def test_a_goal_has_depth_only_where_an_image_of_its_size_says_so():
    picture = encode(np.full((4, 6, 3), 9, np.uint8), "rgb8")
    rgb, depth = goal_from_images(picture, Image())
    assert rgb.shape == (4, 6, 3)
    assert depth is None
    _, depth = goal_from_images(picture, encode(np.full((4, 6), 1500, np.uint16), "16UC1"))
    np.testing.assert_allclose(depth, np.full((4, 6), 1.5))
    with pytest.raises(MessageError, match="goal depth has 3x2 pixels; the goal image has 6x4"):
        goal_from_images(picture, encode(np.full((2, 3), 1500, np.uint16), "16UC1"))
    with pytest.raises(MessageError, match="depth encoding is 'rgb8'"):
        goal_from_images(picture, picture)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_survives_the_way_there_and_back(encoding):
    depth = np.array([[1.234, np.nan], [0.5, 4.999]], np.float32)
    message = image_from_depth(depth, encoding)
    assert message.encoding == encoding
    np.testing.assert_allclose(depth_from_image(message), depth, atol=5e-4)


def test_images_are_published_through_one_array():
    message = image_from_array(np.zeros((480, 640, 3), np.uint8), "rgb8")
    assert isinstance(message.data, array.array)
    assert (message.step, message.is_bigendian) == (1920, int(sys.byteorder == "big"))
    with pytest.raises(ShapeError, match="not rgb8"):
        image_from_array(np.zeros((4, 4), np.uint8), "rgb8")


def test_poses_and_stamps():
    quarter = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], float)
    pose = pose_from_matrix(quarter)
    assert (pose.position.x, pose.position.y, pose.position.z) == (1, 2, 3)
    assert (pose.orientation.z, pose.orientation.w) == pytest.approx((np.sqrt(0.5), np.sqrt(0.5)))
    assert stamp_seconds(Time(sec=3, nanosec=250_000_000)) == 3.25
