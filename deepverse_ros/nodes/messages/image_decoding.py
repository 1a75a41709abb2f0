"""Pictures in every encoding and compression that cameras send, as RGB, and made smaller on the way.

A camera sends up to a hundred times the pixels that a model takes in: they are averaged in the camera's own encoding,
before anything else is done with them.
"""

import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages.encodings import ENCODINGS, Encoding, Family, check_image, pixels, planes

Picture: TypeAlias = Image | CompressedImage
LARGEST = 100_000_000
"""Pixels of the largest picture that is decompressed."""
BAND = 64
"""Rows of a picture that are made smaller at a time."""
_JPEG = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_DEMOSAIC = {  # OpenCV names a pattern by the second pixel of its second row
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_BT601 = np.array([[1.164384, 0.0, 1.596027], [1.164384, -0.391762, -0.812968], [1.164384, 2.017232, 0.0]])
_TO_RGB = np.hstack([_BT601, _BT601 @ [[-16.0], [-128.0], [-128.0]]])
"""(3, 4) from Y, U, V and 1 to R, G, B: ITU-R BT.601 with Y from 16 to 235, as OpenCV and cv_bridge take it."""


def reduction(height: int, width: int, model: tuple[int, int] | None) -> int:
    """By which power of two a picture is made smaller for a model of (height, width): twice its size remains."""
    k = 1
    while model is not None and height // (2 * k) >= 2 * model[0] and width // (2 * k) >= 2 * model[1]:
        k *= 2
    return k


def picture_size(message: Picture) -> tuple[int, int]:
    """(height, width) by the header alone; nothing is decoded. Raises: MessageError where it cannot be a picture."""
    if isinstance(message, Image):
        check_image(message)
        return message.height, message.width
    return compressed_size(message.data)


def rgb_from_image(message: Picture, reduce: int = 1) -> np.ndarray:
    """A picture as (H // reduce, W // reduce, 3) uint8 RGB, own memory.

    16-bit values are divided by 257, floats are 0 (black) to 1 (white), YUV is BT.601 with Y from 16 to 235, alpha is
    left out. Encodings without colour names (8UC3, 16UC4, 32FC3, …) are OpenCV's: blue first; two channels are grey and
    alpha.

    Args: reduce: 1, or a power of two: each pixel is the mean of so many rows and columns.
    Raises: MessageError as `picture_size`, and where the data are damaged.
    """
    if isinstance(message, CompressedImage):
        return _decompressed(message, reduce)
    check_image(message)
    encoding = ENCODINGS[message.encoding]
    if reduce == 1 and (bridge := ros_cv_bridge()) is not None and _bridged(message, encoding):
        return np.ascontiguousarray(bridge.imgmsg_to_cv2(message, "rgb8"))
    return rgb_by_opencv(message, reduce)


def rgb_by_opencv(message: Image, reduce: int = 1) -> np.ndarray:
    """As `rgb_from_image`, without cv_bridge."""
    check_image(message)
    encoding = ENCODINGS[message.encoding]
    decode = {
        Family.INTERLEAVED: _interleaved,
        Family.BAYER: _bayer,
        Family.PACKED: _packed,
        Family.PLANAR: _planar,
    }[encoding.family]
    return decode(message, encoding, reduce)


# One function a family ---------------------------------------------------------------------------------------------
def _interleaved(message: Image, encoding: Encoding, k: int) -> np.ndarray:
    values = _bytes(_shrunk(_native(pixels(message)), k))
    if encoding.channels < 3:
        return cv2.cvtColor(np.ascontiguousarray(values[..., 0]), cv2.COLOR_GRAY2RGB)
    if encoding.channels == 4:
        return cv2.cvtColor(values, cv2.COLOR_BGRA2RGB if encoding.blue_first else cv2.COLOR_RGBA2RGB)
    return cv2.cvtColor(values, cv2.COLOR_BGR2RGB) if encoding.blue_first else np.array(values, order="C")


def _bayer(message: Image, encoding: Encoding, k: int) -> np.ndarray:
    raw = _native(pixels(message)[..., 0])
    if k == 1:
        return _bytes(cv2.cvtColor(np.ascontiguousarray(raw), _DEMOSAIC[encoding.order]))
    # A cell of two by two has all colours: two images of two channels each, the upper and the lower rows of the cells.
    height, width = raw.shape[0] // k * k, raw.shape[1] // k * k
    down, right = raw.strides
    shape, strides = (height // 2, width // 2, 2), (2 * down, 2 * right, right)
    halves = (np.lib.stride_tricks.as_strided(raw[row:], shape, strides, writeable=False) for row in (0, 1))
    cell = np.concatenate([_shrunk(half, k // 2) for half in halves], -1)
    red, blue = encoding.order.index("r"), encoding.order.index("b")
    green = _mean(*(cell[..., i] for i in range(4) if i not in (red, blue)))
    return _bytes(np.stack([cell[..., red], green, cell[..., blue]], -1))


def _packed(message: Image, encoding: Encoding, k: int) -> np.ndarray:
    pairs = pixels(message)
    if k == 1:
        uyvy = encoding.order == "uyvy"
        return cv2.cvtColor(np.ascontiguousarray(pairs), cv2.COLOR_YUV2RGB_UYVY if uyvy else cv2.COLOR_YUV2RGB_YUY2)
    pairs = pairs[:, : pairs.shape[1] // k * k]

    def shrink(band: np.ndarray) -> np.ndarray:
        y, colours = cv2.split(band)[:: -1 if encoding.order == "uyvy" else 1]
        # The colours have half as many columns as rows: of every second row, they are as many.
        colours = colours.reshape(len(band), band.shape[1] // 2, 2)[::2]
        return np.concatenate([_shrunk(y, k)[..., None], _shrunk(colours, k // 2)], -1)

    return cv2.transform(_banded(pairs, k, shrink), _TO_RGB)


def _planar(message: Image, encoding: Encoding, k: int) -> np.ndarray:
    y, colours = planes(message)
    y, small = _shrunk(y, k), k if encoding.order == "nv24" else k // 2
    if small:
        colours = colours[: y.shape[0] * small, : y.shape[1] * small]
        colours = _shrunk(colours, small)
    else:
        size = (2 * colours.shape[1], 2 * colours.shape[0])
        colours = cv2.resize(colours, size, interpolation=cv2.INTER_NEAREST)[: y.shape[0], : y.shape[1]]
    return _yuv(y, colours[..., ::-1] if encoding.order == "nv21" else colours)


def _yuv(y: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return cv2.transform(cv2.merge([y, *(np.ascontiguousarray(colours[..., i]) for i in (0, 1))]), _TO_RGB)


def _mean(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return ((one.astype(np.uint32) + other + 1) >> 1).astype(one.dtype)


def _native(values: np.ndarray) -> np.ndarray:
    """In this machine's byte order: OpenCV reads the other one as if it were this."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _shrunk(values: np.ndarray, k: int) -> np.ndarray:
    """(H // k, W // k, …): means of k by k pixels."""
    values = values[: values.shape[0] // k * k, : values.shape[1] // k * k]
    if k == 1:
        return values
    if values.dtype == np.uint8:
        return _banded(values, k, lambda band: _halved(band, k))
    height, width = values.shape[0] // k, values.shape[1] // k
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, *values.shape[2:])


def _halved(values: np.ndarray, k: int) -> np.ndarray:
    """Bytes as `_shrunk`, by halves: for one, three and four channels OpenCV has vector code for those."""
    if values.ndim == 3 and values.shape[2] == 2:
        return np.stack([_halved(plane, k) for plane in cv2.split(values)], -1)
    shape = values.shape[2:]
    while k > 1:
        k //= 2
        height, width = values.shape[0] // 2, values.shape[1] // 2
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, *shape)
    return values


def _banded(values: np.ndarray, k: int, shrink: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`shrink` of bands of rows, one below the other: what lies between stays in the cache.

    The rows that k does not divide are left out.
    """
    rows = values.shape[0] // k * k
    band = max(1, BAND // k) * k
    return np.concatenate([shrink(values[at : min(at + band, rows)]) for at in range(0, rows, band)])


def _bytes(values: np.ndarray) -> np.ndarray:
    """Values of any encoding as 0 to 255. Raises: MessageError for floats that are not of 0 to 1."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return cv2.convertScaleAbs(values, alpha=1 / 257).reshape(values.shape)
    known = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
    if (mean := float(known.mean())) > 1.0:
        raise MessageError(f"a picture of floats has a mean of {mean:.3g}; its values must lie between 0 and 1")
    return np.rint(np.clip(known, 0.0, 1.0) * 255.0).astype(np.uint8)


# Compressed ----------------------------------------------------------------------------------------------------------
def compressed_size(data: Any) -> tuple[int, int]:
    """(height, width) of a JPEG's or PNG's bytes, by its header. Raises: MessageError for other data, or too many."""
    head = bytes(data[:24])
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 24:
        width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif head[:2] == b"\xff\xd8":
        height, width = _jpeg_size(memoryview(data).cast("B"))
    else:
        raise MessageError(f"compressed image begins with {head[:4].hex() or 'nothing'}; it is neither JPEG nor PNG")
    if not 0 < height * width <= LARGEST:
        raise MessageError(
            f"compressed image is {width}x{height} pixels; it must not be empty, nor over {LARGEST} pixels"
        )
    return height, width


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        alone = marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01
        at += (1 if marker == 0xFF else 2) if alone else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise MessageError(f"compressed image is a JPEG of {len(data)} bytes without a size")


def _decompressed(message: CompressedImage, k: int) -> np.ndarray:
    height, width = compressed_size(message.data)
    data = np.frombuffer(message.data, np.uint8)
    done = min(k, 8) if data[0] == 0xFF else 1  # a JPEG is made smaller while it is decoded, at a third of the time
    # The camera's picture as it lies on the sensor is what camera_info speaks of, not what is turned for a viewer.
    bgr = cv2.imdecode(data, _JPEG[done] | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        raise MessageError(f"compressed image ({len(data)} bytes, format '{message.format}') is damaged")
    bgr = _shrunk(bgr[: height // k * k // done, : width // k * k // done], k // done)
    # image_transport says so where red and blue went into the file the other way round.
    return bgr if "compressed rgb" in message.format else cv2.cvtColor(np.ascontiguousarray(bgr), cv2.COLOR_BGR2RGB)


# cv_bridge -----------------------------------------------------------------------------------------------------------
@functools.cache
def ros_cv_bridge() -> Any | None:
    """ROS's own CvBridge; None where there is none. PyPI's package of that name decodes padded rows wrongly."""
    try:
        from ament_index_python.packages import get_package_prefix

        prefix = get_package_prefix("cv_bridge")
        found = importlib.util.find_spec("cv_bridge")
        if found is None or not str(found.origin).startswith(prefix):
            return None
        from cv_bridge import CvBridge

        return CvBridge()
    except (ImportError, LookupError, AttributeError):  # AttributeError: built for another numpy
        return None


def _bridged(message: Image, encoding: Encoding) -> bool:
    """Whether cv_bridge reads it: it takes no colours without names, and rows that are whole pixels only."""
    size = np.dtype(encoding.kind).itemsize
    named = encoding.order != "" and encoding.family is not Family.PLANAR
    native = size == 1 or bool(message.is_bigendian) == (sys.byteorder == "big")
    return named and native and message.step % (encoding.channels * size) == 0
