"""Goals from messages, and images, camera models and poses as messages.

Every function raises MessageError with the message's field and value where a message cannot be used. What cameras send
is read by image_decoding, depth_decoding and camera_model.
"""

import array
import sys
from collections.abc import Sequence

import numpy as np
import torch
from geometry_msgs.msg import Point, PointStamped, Pose, Quaternion
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from deepverse_ros.errors import ShapeError
from deepverse_ros.geometry import Intrinsics, quaternion_from_matrix
from deepverse_ros.nodes.depth_decoding import depth_from_image
from deepverse_ros.nodes.encodings import ENCODINGS
from deepverse_ros.nodes.image_decoding import rgb_from_image

# What needs no torch lies apart, and is found here too.
from deepverse_ros.nodes.joints import JointLayout, joint_state  # noqa: F401
from deepverse_ros.nodes.messages import MessageError, stamp_seconds  # noqa: F401


def goal_from_images(picture: Image, depth: Image) -> tuple[np.ndarray, np.ndarray | None]:
    """A goal's rgb (H, W, 3) uint8 and its depth (H, W) float32 metres, None where the depth image is 0x0.

    Raises: MessageError as `rgb_from_image` and `depth_from_image`, and where the two differ in size.
    """
    rgb = rgb_from_image(picture)
    if depth.width == 0 and depth.height == 0:
        return rgb, None
    metres = depth_from_image(depth)
    if metres.shape != rgb.shape[:2]:
        raise MessageError(
            f"goal depth has {depth.width}x{depth.height} pixels; the goal image has {picture.width}x{picture.height}"
        )
    return rgb, metres


def position_from_point(message: PointStamped, base_frame: str) -> np.ndarray:
    """A place (3,) float32 metres in the base frame. Raises: MessageError for another frame, NaN or infinity."""
    if message.header.frame_id != base_frame:
        raise MessageError(f"frame_id is '{message.header.frame_id}'; this robot's base frame is '{base_frame}'")
    with np.errstate(over="ignore"):
        place = np.array([message.point.x, message.point.y, message.point.z]).astype(np.float32)
    if not np.isfinite(place).all():
        raise MessageError(f"point is {place.tolist()}; it must be finite (metres)")
    return place


def image_from_array(pixels: np.ndarray, encoding: str, header: Header | None = None) -> Image:
    """An Image message of (H, W) or (H, W, C) pixels, whose type must be the encoding's.

    The data go in as one array.array: a numpy assignment would convert byte by byte in Python.
    """
    known = ENCODINGS[encoding]
    if pixels.dtype != known.kind or (pixels.shape[2] if pixels.ndim == 3 else 1) != known.channels:
        raise ShapeError(f"pixels {pixels.dtype}{pixels.shape} are not {encoding}")
    height, width = pixels.shape[:2]
    message = Image(
        header=header or Header(),
        height=height,
        width=width,
        encoding=encoding,
        step=width * known.channels * pixels.itemsize,
        is_bigendian=int(sys.byteorder == "big"),
    )
    message.data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    return message


def image_from_depth(depth: np.ndarray, encoding: str, header: Header | None = None) -> Image:
    """A depth image of (H, W) metres, NaN unknown: 32FC1 [m, NaN unknown] or 16UC1 [mm, 0 unknown]."""
    if encoding == "16UC1":
        millimetres = np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0) * 1000.0
        return image_from_array(np.clip(np.rint(millimetres), 0, 65535).astype(np.uint16), encoding, header)
    return image_from_array(depth.astype(np.float32, copy=False), encoding, header)


def info_from_intrinsics(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    k = intrinsics.matrix.astype(np.float64)
    return CameraInfo(
        header=header,
        width=intrinsics.width,
        height=intrinsics.height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel().tolist(),
    )


def pose_from_matrix(matrix: np.ndarray) -> Pose:
    """A rigid transform (4, 4) as a Pose."""
    x, y, z, w = quaternion_from_matrix(torch.as_tensor(np.asarray(matrix, np.float64)[:3, :3])).tolist()
    return Pose(position=point(matrix[:3, 3]), orientation=Quaternion(x=x, y=y, z=z, w=w))


def point(position: Sequence[float] | np.ndarray) -> Point:
    """A position (3,) in metres as a Point."""
    return Point(x=float(position[0]), y=float(position[1]), z=float(position[2]))
