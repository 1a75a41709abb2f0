"""Images, camera models, joints and poses between ROS messages and numpy.

Every function raises MessageError with the message's field and value where a message cannot be used. The decoding of
images is this package's own: it reads padded rows, both byte orders and 16-bit depth the same way on every release.
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

# What needs no torch lies apart, and is found here too.
from deepverse_ros.nodes.joints import JointLayout, joint_state  # noqa: F401
from deepverse_ros.nodes.messages import MessageError, stamp_seconds  # noqa: F401

# encoding: (type of one channel, channels)
_ENCODINGS: dict[str, tuple[type, int]] = {
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "8UC1": (np.uint8, 1),
    "8UC3": (np.uint8, 3),
    "mono16": (np.uint16, 1),
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
}
_COLOUR = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")
_DEPTH = ("16UC1", "mono16", "32FC1")


def check_image(message: Image) -> None:
    """Raises: MessageError for an unknown encoding, an empty image, or data that do not fit height, width and step."""
    if message.encoding not in _ENCODINGS:
        raise MessageError(f"image encoding is '{message.encoding}'; known: {', '.join(_ENCODINGS)}")
    kind, channels = _ENCODINGS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise MessageError(f"image size is {width}x{height} pixels; it must not be empty")
    row = width * channels * np.dtype(kind).itemsize
    if step < row:
        raise MessageError(f"image step is {step} bytes; {width} pixels of {message.encoding} need {row}")
    if len(message.data) != height * step:
        raise MessageError(
            f"image data has {len(message.data)} bytes; height {height} x step {step} is {height * step}"
        )


def check_picture(message: Image) -> None:
    """Raises: MessageError as `check_image`, and for an encoding that is not a picture."""
    if message.encoding not in _COLOUR:
        raise MessageError(f"image encoding is '{message.encoding}'; a colour image is one of: {', '.join(_COLOUR)}")
    check_image(message)


def image_to_array(message: Image) -> np.ndarray:
    """The pixels as they are: (H, W) or (H, W, C), native byte order, own memory. Raises: as `check_image`."""
    check_image(message)
    kind, channels = _ENCODINGS[message.encoding]
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    height, width = message.height, message.width
    row = width * channels * dtype.itemsize
    rows = np.frombuffer(message.data, np.uint8).reshape(height, message.step)[:, :row]
    pixels = np.array(rows, order="C").view(dtype).reshape(height, width, channels)
    pixels = pixels.astype(kind, copy=False)
    return pixels[..., 0] if channels == 1 else pixels


def rgb_from_image(message: Image) -> np.ndarray:
    """A colour or grey image as (H, W, 3) uint8 RGB.

    Raises: as `check_picture`.
    """
    check_picture(message)
    pixels = image_to_array(message)
    if message.encoding == "mono8":
        return np.repeat(pixels[..., None], 3, axis=-1)
    if message.encoding.startswith("bgr"):
        return np.ascontiguousarray(pixels[..., 2::-1])
    return np.ascontiguousarray(pixels[..., :3])


def depth_from_image(message: Image) -> np.ndarray:
    """A depth image as (H, W) float32 metres along the optical axis; NaN where it is zero, negative or not finite.

    16UC1 and mono16 hold millimetres, 32FC1 metres.

    Raises: MessageError as `image_to_array`, for another encoding, and when no pixel is known.
    """
    if message.encoding not in _DEPTH:
        raise MessageError(f"depth encoding is '{message.encoding}'; a depth image is one of: {', '.join(_DEPTH)}")
    pixels = image_to_array(message)
    depth = pixels.astype(np.float32) * np.float32(0.001) if pixels.dtype == np.uint16 else pixels
    with np.errstate(invalid="ignore"):
        depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    if np.isnan(depth).all():
        raise MessageError(f"depth image ({message.width}x{message.height} {message.encoding}) has no known pixel")
    return depth


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
    kind, channels = _ENCODINGS[encoding]
    if pixels.dtype != kind or (pixels.shape[2] if pixels.ndim == 3 else 1) != channels:
        raise ShapeError(f"pixels {pixels.dtype}{pixels.shape} are not {encoding}")
    height, width = pixels.shape[:2]
    message = Image(
        header=header or Header(),
        height=height,
        width=width,
        encoding=encoding,
        step=width * channels * pixels.itemsize,
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


def intrinsics_from_info(message: CameraInfo) -> Intrinsics:
    """Raises: MessageError when the camera is not calibrated (k is zero) or has no size."""
    try:
        return Intrinsics.from_matrix(np.reshape(message.k, (3, 3)), message.width, message.height)
    except ShapeError as error:
        raise MessageError(f"camera_info: {error}") from error


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
