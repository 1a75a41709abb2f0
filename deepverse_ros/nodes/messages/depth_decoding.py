"""Depth images in every encoding and compression that cameras send, as metres."""

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages import rvl
from deepverse_ros.nodes.messages.encodings import check_image, pixels
from deepverse_ros.nodes.messages.image_decoding import LARGEST, Picture, compressed_size

ENCODINGS = ("16UC1", "mono16", "32FC1", "64FC1")
MILLIMETRE = 0.001
_CONFIG = 12
"""Bytes before the picture in compressedDepth: a number that says nothing, and the two of the inverse depth."""


def check_depth(message: Picture) -> None:
    """Raises: MessageError for what cannot be a depth image by its header; nothing is decoded."""
    if isinstance(message, Image):
        if message.encoding not in ENCODINGS:
            raise MessageError(
                f"depth encoding is '{message.encoding}'; a depth image is one of: {', '.join(ENCODINGS)}"
            )
        check_image(message)


def depth_from_image(
    message: Picture, scale: float = MILLIMETRE, picture: tuple[int, int] | None = None, reduce: int = 1
) -> np.ndarray:
    """A depth image as (h, w) float32 metres along the optical axis; NaN where it is zero, negative or not finite.

    Args: scale: metres of one unit of a 16-bit image; floats are metres. picture: (height, width) of the colour image
    that it belongs to, None: its own; of another size but the same aspect it is resampled (nearest: a mean over an edge
    would be a distance at which nothing is). reduce: as of `rgb_from_image`.
    Raises: MessageError for another encoding or aspect, damaged data, and when no pixel is known.
    """
    check_depth(message)
    raw = pixels(message)[..., 0] if isinstance(message, Image) else _decompressed(message)
    height, width = raw.shape if picture is None else picture
    raw = _resampled(raw, height, width, reduce)
    if raw.dtype.kind == "u":
        depth = raw.astype(np.float32) * np.float32(scale)
    else:
        with np.errstate(over="ignore"):
            depth = raw.astype(np.float32)
    with np.errstate(invalid="ignore"):
        depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    if np.isnan(depth).all():
        named = message.encoding if isinstance(message, Image) else message.format
        raise MessageError(f"depth image ({raw.shape[1]}x{raw.shape[0]} {named}) has no known pixel")
    return depth


def _resampled(raw: np.ndarray, height: int, width: int, k: int) -> np.ndarray:
    """(height // k, width // k): the values in the middle of what became one pixel of the picture."""
    own_height, own_width = raw.shape
    if abs(own_width * height - width * own_height) > max(width, own_width):  # more than one row
        raise MessageError(
            f"depth image is {own_width}x{own_height} pixels; the colour image is {width}x{height}, which is another "
            "aspect: publish depth that is registered to the colour image"
        )
    rows, columns = (
        np.minimum(((np.arange(n // k) + 0.5) * k * own / n).astype(int), own - 1)
        for n, own in ((height, own_height), (width, own_width))
    )
    if (own_height, own_width) == (height, width):
        return raw[k // 2 :: k, k // 2 :: k][: height // k, : width // k]
    return raw[rows[:, None], columns]


def _decompressed(message: CompressedImage) -> np.ndarray:
    """(H, W) uint16 units or float32 metres. Raises: MessageError."""
    encoding, _, transport = message.format.partition(";")
    data, config = np.frombuffer(message.data, np.uint8), None
    if "compressedDepth" in transport or data[_CONFIG : _CONFIG + 4].tobytes() == b"\x89PNG":
        config, data = data[:_CONFIG], data[_CONFIG:]
    if encoding.strip() not in ("", *ENCODINGS) and config is not None:
        raise MessageError(f"depth format is '{message.format}'; a depth image is one of: {', '.join(ENCODINGS)}")
    raw = _rvl(data) if "rvl" in transport else _png(data, message.format)
    if config is None or encoding.strip() != "32FC1":
        return raw
    a, b = config[4:].view("<f4")
    with np.errstate(divide="ignore"):
        return np.where(raw > 0, a / (raw - b), np.nan).astype(np.float32)


def _png(data: np.ndarray, format_: str) -> np.ndarray:
    if data[:2].tobytes() == b"\xff\xd8":
        raise MessageError("compressed depth is a JPEG, which blurs distances: publish PNG or compressedDepth")
    compressed_size(data)
    raw = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if raw is None or raw.ndim != 2 or raw.dtype != np.uint16:
        what = "damaged" if raw is None else f"{raw.dtype}{raw.shape}"
        raise MessageError(f"compressed depth (format '{format_}') is {what}; it must be a grey PNG of 16 bits")
    return raw


def _rvl(data: np.ndarray) -> np.ndarray:
    width, height = (int(n) for n in data[:8].view("<u4")) if len(data) >= 8 else (0, 0)
    if not 0 < width * height <= min(LARGEST, 40 * len(data) + 10**6):
        raise MessageError(f"compressed depth (RVL, {len(data)} bytes) says it is {width}x{height} pixels")
    return rvl.decode(data[8:], width * height).reshape(height, width)
