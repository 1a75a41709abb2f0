"""Goals from messages: what a goal's pictures show, or the place where the tool shall be."""

import numpy as np
from geometry_msgs.msg import PointStamped
from sensor_msgs.msg import Image

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages.depth_decoding import depth_from_image
from deepverse_ros.nodes.messages.image_decoding import rgb_from_image


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
