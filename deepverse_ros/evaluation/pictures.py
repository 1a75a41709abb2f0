"""Imagined frames above real ones, as a PNG strip or a GIF."""

from pathlib import Path

import numpy as np
from PIL import Image

from deepverse_ros.errors import ShapeError


def pair(imagined: np.ndarray, real: np.ndarray, gap: int = 2) -> np.ndarray:
    """Put imagined frames above real ones. Args: uint8 (T, H, W, 3) each. Returns: uint8 (T, 2H + gap, W, 3)."""
    if imagined.shape != real.shape or imagined.dtype != np.uint8 or real.dtype != np.uint8:
        raise ShapeError(
            f"pictures: expected two uint8 (T, H, W, 3) of one shape, got {imagined.dtype} {imagined.shape} and "
            f"{real.dtype} {real.shape}"
        )
    frames, _, width, _ = imagined.shape
    return np.concatenate([imagined, np.full((frames, gap, width, 3), 255, np.uint8), real], axis=1)


def strip(frames: np.ndarray, gap: int = 2) -> np.ndarray:
    """Frames side by side. Args: uint8 (T, H, W, 3). Returns: uint8 (H, T·W + (T-1)·gap, 3)."""
    count, height, width, _ = frames.shape
    out = np.full((height, count * (width + gap) - gap, 3), 255, np.uint8)
    for i, frame in enumerate(frames):
        out[:, i * (width + gap) : i * (width + gap) + width] = frame
    return out


def save(path: Path, frames: np.ndarray, dt: float) -> None:
    """Write frames uint8 (T, H, W, 3) as a strip (PNG) or as a film with `dt` seconds a frame (GIF), by the ending.

    Raises: ShapeError for another ending.
    """
    kind = path.suffix.lower()
    if kind not in (".png", ".gif"):
        raise ShapeError(f"{path}: pictures are written as .png or .gif")
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == ".png":
        Image.fromarray(strip(frames)).save(path)
        return
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(dt * 1000), loop=0)
