"""Labelled films: rows of frames that belong together, as one picture (PNG) and as a film (GIF)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepverse_ros.errors import ShapeError

MARGIN = 64
HEADING = 16
GAP = 2
INK, PAPER = (36, 41, 47), (255, 255, 255)
RINGS = ("red", "lime", "dodgerblue", "gold", "magenta", "cyan", "darkorange", "white")


def montage(
    rows: Mapping[str, np.ndarray], headings: list[str], aside: np.ndarray | None = None, title: str = ""
) -> Image.Image:
    """Rows of frames under one another, one column a step.

    Args:
        rows: label → uint8 (T, H, W, 3), all of one T; each is brought to the size of the first.
        headings: T texts above the columns.
        aside: (h, w, 3) uint8, a picture to the right of the first row, such as the goal.
    Raises: ShapeError naming the row that does not fit.
    """
    first = next(iter(rows.values()))
    count, height, width = first.shape[:3]
    for label, frames in rows.items():
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[0] != count:
            raise ShapeError(f"row '{label}': expected uint8 ({count}, H, W, 3), got {frames.dtype} {frames.shape}")
    if len(headings) != count:
        raise ShapeError(f"headings: expected {count}, one per frame, got {len(headings)}")
    top = HEADING * (2 if title else 1)
    columns = count + (aside is not None)
    size = (MARGIN + columns * (width + GAP), top + len(rows) * (height + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    if title:
        draw.text((4, 2), title, INK, font)
    for step, heading in enumerate(headings):
        draw.text((MARGIN + step * (width + GAP) + 2, top - HEADING + 2), heading, INK, font)
    for row, (label, frames) in enumerate(rows.items()):
        y = top + row * (height + GAP)
        draw.text((4, y + height // 2 - 6), label, INK, font)
        for step, frame in enumerate(frames):
            sheet.paste(_fit(frame, width, height), (MARGIN + step * (width + GAP), y))
    if aside is not None:
        x = MARGIN + count * (width + GAP)
        draw.text((x + 2, top - HEADING + 2), "goal", INK, font)
        sheet.paste(_fit(aside, width, height), (x, top))
    return sheet


def film(
    path: Path,
    rows: Mapping[str, np.ndarray],
    headings: list[str],
    seconds: float,
    aside: np.ndarray | None = None,
    title: str = "",
) -> None:
    """Write the rows frame by frame as a GIF with `seconds` a frame; the last one stays for a second longer."""
    sheets = [
        montage({label: frames[t : t + 1] for label, frames in rows.items()}, headings[t : t + 1], aside, title)
        for t in range(len(headings))
    ]
    durations = [round(seconds * 1e3)] * len(sheets)
    durations[-1] += 1000
    path.parent.mkdir(parents=True, exist_ok=True)
    sheets[0].save(path, save_all=True, append_images=sheets[1:], duration=durations, loop=0)


def ringed(frames: np.ndarray, pixels: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Frames with a ring around each place, of one colour a column.

    Args: frames uint8 (T, H, W, 3); pixels (T, K, 2) across and down, NaN none; radii (T, K) pixels.
    Returns: uint8 (T, H, W, 3).
    """
    out = []
    for frame, places, sizes in zip(frames, pixels, radii, strict=True):
        picture = Image.fromarray(frame)
        draw = ImageDraw.Draw(picture)
        for k, ((u, v), size) in enumerate(zip(places, sizes, strict=True)):
            if np.isfinite([u, v, size]).all():
                draw.ellipse((u - size, v - size, u + size, v + size), outline=RINGS[k % len(RINGS)])
        out.append(np.asarray(picture))
    return np.stack(out)


def _fit(frame: np.ndarray, width: int, height: int) -> Image.Image:
    picture = Image.fromarray(frame)
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.BILINEAR)
