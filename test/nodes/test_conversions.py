"""Images, joints, camera models and poses: every encoding, both byte orders, padded rows, and bad messages."""

import array
import importlib.util
import sys

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import ShapeError
from deepverse_ros.geometry import Intrinsics
from deepverse_ros.nodes import conversions
from deepverse_ros.nodes.conversions import JointLayout, MessageError

ENCODINGS = {
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
}


def encode(pixels: np.ndarray, encoding: str, padding: int = 0, big: bool = False) -> Image:
    """An Image built byte by byte, not by the code under test."""
    height, width = pixels.shape[:2]
    data, step = bytearray(), 0
    for row in pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")):
        line = row.tobytes() + b"\xaa" * padding
        step = len(line)
        data += line
    return Image(
        height=height, width=width, encoding=encoding, step=step, is_bigendian=int(big), data=array.array("B", data)
    )


@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 5),
    big=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_layout_decodes_to_its_pixels(encoding, height, width, padding, big, seed):
    kind, channels = ENCODINGS[encoding]
    shape = (height, width) if channels == 1 else (height, width, channels)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, np.iinfo(kind).max, shape, kind) if kind != np.float32 else rng.random(shape, np.float32)
    decoded = conversions.image_to_array(encode(pixels, encoding, padding, big))
    assert decoded.dtype == kind
    np.testing.assert_array_equal(decoded, pixels)


def ros_cv_bridge() -> list:
    """ROS's own cv_bridge where there is one (PyPI's package of that name decodes 16UC1 and padded rows wrongly)."""
    spec = importlib.util.find_spec("cv_bridge")
    if spec is None or "site-packages" in str(spec.origin):
        return []
    from cv_bridge import CvBridge

    return [lambda message: CvBridge().imgmsg_to_cv2(message, desired_encoding="passthrough")]


@pytest.mark.parametrize("decode", [conversions.image_to_array, *ros_cv_bridge()])
@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_decodes_as_the_encoding_says(decode, encoding):
    kind, channels = ENCODINGS[encoding]
    pixels = np.arange(4 * 6 * channels).reshape((4, 6) if channels == 1 else (4, 6, channels)).astype(kind)
    np.testing.assert_array_equal(decode(encode(pixels, encoding, padding=0 if channels == 1 else 4)), pixels)


def test_colours_come_out_in_the_order_red_green_blue():
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    opaque = np.full((2, 2, 1), 255, np.uint8)
    for encoding, pixels in {
        "rgb8": red,
        "bgr8": red[..., ::-1],
        "rgba8": np.concatenate([red, opaque], -1),
        "bgra8": np.concatenate([red[..., ::-1], opaque], -1),
    }.items():
        np.testing.assert_array_equal(conversions.rgb_from_image(encode(pixels, encoding)), red)
    grey = conversions.rgb_from_image(encode(np.full((2, 2), 7, np.uint8), "mono8"))
    np.testing.assert_array_equal(grey, np.full((2, 2, 3), 7))


def test_depth_is_in_metres_and_unknown_is_nan():
    millimetres = encode(np.array([[0, 1500], [65535, 1]], np.uint16), "16UC1")
    np.testing.assert_allclose(conversions.depth_from_image(millimetres), [[np.nan, 1.5], [65.535, 0.001]])
    metres = encode(np.array([[np.nan, 1.5], [-1.0, np.inf], [0.0, 2.0]], np.float32), "32FC1")
    np.testing.assert_allclose(conversions.depth_from_image(metres), [[np.nan, 1.5], [np.nan, np.nan], [np.nan, 2.0]])


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
    np.testing.assert_allclose(conversions.depth_from_image(message), depth, atol=5e-4)


def test_images_are_published_through_one_array():
    message = conversions.image_from_array(np.zeros((480, 640, 3), np.uint8), "rgb8")
    assert isinstance(message.data, array.array)
    assert (message.step, message.is_bigendian) == (1920, int(sys.byteorder == "big"))
    with pytest.raises(ShapeError, match="not rgb8"):
        conversions.image_from_array(np.zeros((4, 4), np.uint8), "rgb8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "yuv422"}, "encoding is 'yuv422'"),
        ({"encoding": "16UC1"}, "encoding is '16UC1'"),
        ({"width": 0}, "size is 0x4"),
        ({"height": 0}, "size is 4x0"),
        ({"step": 3}, "step is 3 bytes"),
        ({"height": 5}, "data has 48 bytes"),
    ],
)
def test_a_bad_picture_is_refused_with_field_and_value(change, said):
    message = encode(np.zeros((4, 4, 3), np.uint8), "rgb8")
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(MessageError, match=said):
        conversions.rgb_from_image(message)


def test_a_bad_depth_image_is_refused_with_field_and_value():
    with pytest.raises(MessageError, match="depth encoding is 'rgb8'"):
        conversions.depth_from_image(encode(np.zeros((2, 2, 3), np.uint8), "rgb8"))
    with pytest.raises(MessageError, match="no known pixel"):
        conversions.depth_from_image(encode(np.full((2, 2), np.nan, np.float32), "32FC1"))


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


def test_camera_models_survive_the_way_there_and_back():
    camera = Intrinsics(100.0, 110.0, 63.5, 47.5, 128, 96)
    assert conversions.intrinsics_from_info(conversions.info_from_intrinsics(camera, Header())) == camera
    with pytest.raises(MessageError, match="camera_info"):
        conversions.intrinsics_from_info(CameraInfo(width=128, height=96))


def test_poses_and_stamps():
    quarter = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], float)
    pose = conversions.pose_from_matrix(quarter)
    assert (pose.position.x, pose.position.y, pose.position.z) == (1, 2, 3)
    assert (pose.orientation.z, pose.orientation.w) == pytest.approx((np.sqrt(0.5), np.sqrt(0.5)))
    assert conversions.stamp_seconds(Time(sec=3, nanosec=250_000_000)) == 3.25
