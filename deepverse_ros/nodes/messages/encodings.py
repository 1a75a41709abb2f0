"""What the encodings of sensor_msgs/Image mean, and a message's bytes as arrays without a copy."""

import difflib
import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from sensor_msgs.msg import Image

from deepverse_ros.errors import MessageError


class Family(Enum):
    """How colours lie in the bytes."""

    INTERLEAVED = "the channels of one pixel beside each other"
    BAYER = "one colour a pixel, in cells of two by two"
    PACKED = "YUV 4:2:2, two pixels in four bytes"
    PLANAR = "YUV, all of Y first, then U and V beside each other"


@dataclass(frozen=True)
class Encoding:
    """kind: numpy type of one value. channels: values a pixel. order: of the colours, "" where they have no names."""

    kind: type
    channels: int
    family: Family = Family.INTERLEAVED
    order: str = ""

    @property
    def blue_first(self) -> bool:
        """Also without names: the driver then handed on a picture of OpenCV's as it was, which has blue first."""
        return self.order in ("bgr", "")


_UNSIGNED = {8: np.uint8, 16: np.uint16}
_BAYER = ("rggb", "bggr", "gbrg", "grbg")
ENCODINGS: dict[str, Encoding] = {
    **{f"mono{bits}": Encoding(kind, 1, order="grey") for bits, kind in _UNSIGNED.items()},
    **{
        f"{order}{alpha}{bits}": Encoding(kind, 3 + len(alpha), order=order)
        for order in ("rgb", "bgr")
        for alpha in ("", "a")
        for bits, kind in _UNSIGNED.items()
    },
    **{
        f"{name}{channels}": Encoding(kind, channels)
        for name, kind in (("8UC", np.uint8), ("16UC", np.uint16), ("32FC", np.float32), ("64FC", np.float64))
        for channels in (1, 2, 3, 4)
    },
    **{
        f"bayer_{order}{bits}": Encoding(kind, 1, Family.BAYER, order)
        for order in _BAYER
        for bits, kind in _UNSIGNED.items()
    },
    **{name: Encoding(np.uint8, 2, Family.PACKED, "uyvy") for name in ("uyvy", "yuv422")},
    **{name: Encoding(np.uint8, 2, Family.PACKED, "yuyv") for name in ("yuyv", "yuv422_yuy2")},
    **{name: Encoding(np.uint8, 1, Family.PLANAR, name) for name in ("nv12", "nv21", "nv24")},
}
"""Every encoding of sensor_msgs/image_encodings.hpp that is a picture. What has a sign there is none."""


def known_encoding(message: Image) -> Encoding:
    """Raises: MessageError for an encoding that is none of ENCODINGS."""
    try:
        return ENCODINGS[message.encoding]
    except KeyError:
        near = difflib.get_close_matches(message.encoding.lower(), ENCODINGS, 1)
        hint = f"did you mean '{near[0]}'?" if near else "such as rgb8, mono8, yuyv, nv12, bayer_rggb8"
        raise MessageError(
            f"image encoding is '{message.encoding}', which is no picture of sensor_msgs/image_encodings: {hint}"
        ) from None


def check_image(message: Image) -> None:
    """Raises: MessageError for an unknown encoding, an empty image, or data that do not fit height, width and step."""
    encoding = known_encoding(message)
    height, width, step, given = message.height, message.width, message.step, len(message.data)
    if height == 0 or width == 0:
        raise MessageError(f"image size is {width}x{height} pixels; it must not be empty")
    if encoding.family is Family.PLANAR:
        if _planar_step(message) is None:
            raise MessageError(
                f"image data has {given} bytes and step is {step}; {width}x{height} pixels of {message.encoding} "
                f"without padding have {_planar_bytes(encoding.order, height, width)}"
            )
        return
    if encoding.family is Family.PACKED and width % 2:
        raise MessageError(f"image width is {width}; {message.encoding} shares colours between two pixels: even only")
    if encoding.family is Family.BAYER and min(height, width) < 4:
        raise MessageError(f"image size is {width}x{height} pixels; {message.encoding} needs 4x4 at least")
    row = width * encoding.channels * np.dtype(encoding.kind).itemsize
    if step < row:
        raise MessageError(f"image step is {step} bytes; {width} pixels of {message.encoding} need {row}")
    if given != height * step:
        raise MessageError(f"image data has {given} bytes; height {height} x step {step} is {height * step}")


def pixels(message: Image) -> np.ndarray:
    """(H, W, C) of the message's own bytes and byte order: read only while the message lives, and never written.

    Raises: MessageError as `check_image`, and for a planar encoding, see `planes`.
    """
    check_image(message)
    encoding = ENCODINGS[message.encoding]
    if encoding.family is Family.PLANAR:
        raise MessageError(f"image encoding is '{message.encoding}'; it has planes, not pixels")
    dtype = np.dtype(encoding.kind).newbyteorder(">" if message.is_bigendian else "<")
    shape = (message.height, message.width, encoding.channels)
    strides = (message.step, encoding.channels * dtype.itemsize, dtype.itemsize)
    return np.ndarray(shape, dtype, buffer=message.data, strides=strides)


def planes(message: Image) -> tuple[np.ndarray, np.ndarray]:
    """Of a planar encoding: Y (H, W) and its two colours (H', W', 2), of nv21 V first, as `pixels`.

    Raises: MessageError as `check_image`.
    """
    check_image(message)
    order, height, width, step = message.encoding, message.height, message.width, _planar_step(message)
    assert step is not None
    rows, columns = _colours(order, height, width)
    # NV24 has twice as many bytes in a row of colours as in one of Y.
    line = 2 * step if order == "nv24" else step
    y: np.ndarray = np.ndarray((height, width), np.uint8, buffer=message.data, strides=(step, 1))
    shape, strides = (rows, columns, 2), (line, 2, 1)
    colours: np.ndarray = np.ndarray(shape, np.uint8, buffer=message.data, offset=height * step, strides=strides)
    return y, colours


def _colours(order: str, height: int, width: int) -> tuple[int, int]:
    return (height, width) if order == "nv24" else (math.ceil(height / 2), math.ceil(width / 2))


def _planar_bytes(order: str, height: int, width: int) -> int:
    rows, columns = _colours(order, height, width)
    return height * width + rows * columns * 2


def _planar_step(message: Image) -> int | None:
    """Bytes from one row of Y to the next; None where the data do not fit.

    Drivers differ in what they call the step of planes: where nothing is padded, the sizes alone tell.
    """
    order, height, width, step, given = (
        message.encoding, message.height, message.width, message.step, len(message.data),
    )  # fmt: skip
    rows, columns = _colours(order, height, width)
    line = 2 if order == "nv24" else 1
    if given == _planar_bytes(order, height, width) and (order == "nv24" or width % 2 == 0):
        return width
    return step if step * line >= 2 * columns and step >= width and given == step * (height + rows * line) else None
