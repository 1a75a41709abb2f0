"""Pictures and depth as messages. What cameras send is read by image_decoding and depth_decoding."""

import array
import sys

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from deepverse_ros.errors import ShapeError
from deepverse_ros.nodes.messages.encodings import ENCODINGS


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
