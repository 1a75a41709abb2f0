"""Messages of pictures in every encoding, built byte by byte and not by the code under test."""

import array
from collections.abc import Callable

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

BAYER = ("rggb", "bggr", "gbrg", "grbg")


def message(rows: np.ndarray, encoding: str, padding: int = 0, big: bool = False, height: int | None = None) -> Image:
    """Args: rows (H, …) of one dtype; padding: bytes after each row; height: where not every row is one of pixels."""
    data, step = bytearray(), 0
    for row in rows.astype(rows.dtype.newbyteorder(">" if big else "<")):
        line = row.tobytes() + b"\xaa" * padding
        step = len(line)
        data += line
    return Image(
        height=height or len(rows), width=rows.shape[1], encoding=encoding, step=step, is_bigendian=int(big),
        data=array.array("B", data),
    )  # fmt: skip


def compressed(data: bytes | np.ndarray, format_: str) -> CompressedImage:
    return CompressedImage(format=format_, data=array.array("B", bytes(data)))


def smooth(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB whose colours change slowly, and all differ."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.stack([40 + 150 * x, 200 - 120 * y, 60 + 60 * x + 60 * y], -1).astype(np.uint8)


def yuv(rgb: np.ndarray) -> np.ndarray:
    """BT.601, Y from 16 to 235."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    y = 16 + 0.256788 * r + 0.504129 * g + 0.097906 * b
    u = 128 - 0.148223 * r - 0.290993 * g + 0.439216 * b
    v = 128 + 0.439216 * r - 0.367788 * g - 0.071427 * b
    return np.rint(np.stack([y, u, v], -1)).astype(np.uint8)


def _alpha(rgb: np.ndarray) -> np.ndarray:
    return np.concatenate([rgb, np.full_like(rgb[..., :1], 90)], -1)


def _grey(rgb: np.ndarray) -> np.ndarray:
    return rgb[..., 1]


def _bayer(rgb: np.ndarray, pattern: str) -> np.ndarray:
    out = np.empty(rgb.shape[:2], np.uint8)
    for i, colour in enumerate(pattern):
        out[i // 2 :: 2, i % 2 :: 2] = rgb[i // 2 :: 2, i % 2 :: 2, "rgb".index(colour)]
    return out


def _packed(rgb: np.ndarray, order: str) -> np.ndarray:
    y, u, v = np.moveaxis(yuv(rgb), -1, 0)
    parts = {"y": [y[:, 1::2], y[:, ::2]], "u": [u[:, ::2]], "v": [v[:, ::2]]}
    return np.stack([parts[letter].pop() for letter in order], -1).reshape(*y.shape, 2)


def planar(rgb: np.ndarray, order: str, padding: int = 0) -> Image:
    y, u, v = np.moveaxis(yuv(rgb), -1, 0)
    if order != "nv24":
        u, v = u[::2, ::2], v[::2, ::2]
    colours = np.stack([v, u] if order == "nv21" else [u, v], -1)
    height, width = y.shape
    step = colours.shape[1] * (1 if order == "nv24" else 2) + padding
    y = np.pad(y, ((0, 0), (0, step - width)))
    colours = colours.reshape(len(colours), -1)
    colours = np.pad(colours, ((0, 0), (0, (2 * step if order == "nv24" else step) - colours.shape[1])))
    data = array.array("B", y.tobytes() + colours.tobytes())
    return Image(height=height, width=width, encoding=order, step=step, data=data)


def _wide(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.uint16) * 257


def _float(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.float32) / 255


Make = Callable[[np.ndarray], np.ndarray]
ROWS: dict[str, Make] = {
    "rgb8": lambda p: p,
    "bgr8": lambda p: p[..., ::-1],
    "rgba8": _alpha,
    "bgra8": lambda p: _alpha(p[..., ::-1]),
    "rgb16": _wide,
    "bgr16": lambda p: _wide(p[..., ::-1]),
    "rgba16": lambda p: _wide(_alpha(p)),
    "bgra16": lambda p: _wide(_alpha(p[..., ::-1])),
    "mono8": _grey,
    "mono16": lambda p: _wide(_grey(p)),
    "8UC1": _grey,
    "8UC2": lambda p: np.stack([_grey(p), np.full_like(_grey(p), 9)], -1),
    "8UC3": lambda p: p[..., ::-1],
    "8UC4": lambda p: _alpha(p[..., ::-1]),
    "16UC1": lambda p: _wide(_grey(p)),
    "16UC2": lambda p: _wide(np.stack([_grey(p), np.full_like(_grey(p), 9)], -1)),
    "16UC3": lambda p: _wide(p[..., ::-1]),
    "16UC4": lambda p: _wide(_alpha(p[..., ::-1])),
    **{
        f"{bits}FC{n}": (lambda p, n=n, kind=kind: ROWS[f"8UC{n}"](p).astype(kind) / kind(255))
        for bits, kind in ((32, np.float32), (64, np.float64))
        for n in (1, 2, 3, 4)
    },
    **{f"bayer_{order}8": (lambda p, order=order: _bayer(p, order)) for order in BAYER},
    **{f"bayer_{order}16": (lambda p, order=order: _wide(_bayer(p, order))) for order in BAYER},
    **{name: (lambda p: _packed(p, "uyvy")) for name in ("uyvy", "yuv422")},
    **{name: (lambda p: _packed(p, "yuyv")) for name in ("yuyv", "yuv422_yuy2")},
}
"""Rows of a message from (H, W, 3) uint8 RGB."""
PLANAR = ("nv12", "nv21", "nv24")
"""Those whose messages `planar` makes."""


def image(rgb: np.ndarray, encoding: str, padding: int = 0, big: bool = False) -> Image:
    """`rgb` (H, W, 3) uint8 as a message of any encoding."""
    if encoding in PLANAR:
        return planar(rgb, encoding, padding)
    return message(ROWS[encoding](rgb), encoding, padding, big)


def expected(rgb: np.ndarray, encoding: str) -> tuple[np.ndarray, int]:
    """What a message of `rgb` must be decoded to, and by how many levels it may be off."""
    if encoding in PLANAR or encoding.startswith("yu") or encoding == "uyvy":
        return rgb, 6  # colours of a neighbour, and roundings
    if encoding.startswith("bayer"):
        return rgb, 8  # two of the three are a neighbour's
    grey = encoding.startswith("mono") or encoding[-2:] in ("C1", "C2")
    return (np.repeat(_grey(rgb)[..., None], 3, -1), 0) if grey else (rgb, 0)
