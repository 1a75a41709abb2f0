"""Real recordings of a Franka arm (DROID): an annotation file and one video per camera."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from deepverse_ros import files
from deepverse_ros.errors import EpisodeError, ResourceError

STATES_PER_FRAME = 3
"""Joint states were recorded at 15 Hz, pictures at 5 Hz."""
JOINTS = 7
EMBODIMENT = "arm"
"""Whose joints and gripper those of a recording are taken for, where nobody says otherwise."""
_MOST_VALUE = 100.0
"""Radians, of a joint."""
_MOST_ANNOTATION, _MOST_VIDEO, _MOST_PIXELS = 16 << 20, 1 << 30, 1 << 30
"""Bytes; of pixels: of all frames of a video."""


def data_directory() -> Path:
    """Where real recordings lie: $DEEPVERSE_REAL_DATA, or ../shared/data beside the checkout."""
    if override := os.environ.get("DEEPVERSE_REAL_DATA"):
        return Path(override).expanduser()
    return Path(__file__).resolve().parents[4] / "shared" / "data"


@dataclass(frozen=True)
class Recording:
    """One episode as one camera saw it.

    rgb (T, H, W, 3) uint8, `dt` seconds apart. joints (S, 7) rad and gripper (S,), 0 closed to 1 open, measured every
    `state_dt` seconds; state 3 t belongs to frame t, and S is 3 T - 2 to 3 T. text: what the robot was asked to do.
    """

    name: str
    rgb: np.ndarray
    joints: np.ndarray
    gripper: np.ndarray
    dt: float
    text: str = ""

    @property
    def state_dt(self) -> float:
        return self.dt / STATES_PER_FRAME


def find_annotation(path: str | Path) -> Path:
    """The annotation file of an episode.

    Args: path: the annotation itself (`…/annotation/val/899.json`), the folder of its videos (`…/videos/val/899`), or
    its name (`val/899`) below `data_directory()/droid`.
    Raises: ResourceError naming what was looked for.
    """
    given = Path(path).expanduser()
    root = data_directory() / "droid"
    candidates = [given] if given.suffix == ".json" else []
    if "videos" in given.parts[-3:-2]:
        candidates.append(given.parents[2] / "annotation" / given.parent.name / f"{given.name}.json")
    candidates.append(root / "annotation" / f"{path}.json")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(str(c) for c in candidates)
    raise ResourceError(
        f"recording '{path}': not found; looked for {looked}. Give an annotation file, the folder of its videos, or a "
        "name such as val/899 with DEEPVERSE_REAL_DATA set to the folder that holds droid/"
    )


def read_recording(path: str | Path, camera: int = 0) -> Recording:
    """Read one episode as camera number `camera` (0 to 2) saw it.

    Raises: ResourceError for a missing file; EpisodeError naming the file where it is damaged or inconsistent.
    """
    annotation = find_annotation(path)
    values = files.read_json(annotation, _MOST_ANNOTATION, EpisodeError)
    video = _video_path(annotation, values, camera)
    joints = _series(annotation, values, "observation.state.joint_position", JOINTS)
    # DROID writes 0 for open and 1 for closed.
    gripper = 1.0 - _series(annotation, values, "observation.state.gripper_position", None)
    states = min(len(joints), len(gripper))
    rgb, rate = _read_video(video)
    expected = (STATES_PER_FRAME * (len(rgb) - 1) + 1, STATES_PER_FRAME * len(rgb))
    if not expected[0] <= states <= expected[1]:
        raise EpisodeError(
            f"{annotation}: {states} joint states do not belong to the {len(rgb)} frames of {video}; "
            f"expected {expected[0]} to {expected[1]}"
        )
    texts = values.get("texts") or [""]
    if not isinstance(texts, list) or not isinstance(texts[0], str):
        raise EpisodeError(f"{annotation}: texts: expected a list of texts, got {files.shown(texts)}")
    return Recording(
        name=f"{annotation.parent.name}/{annotation.stem}",
        rgb=rgb,
        joints=joints[:states],
        gripper=np.clip(gripper[:states], 0.0, 1.0),
        dt=1.0 / rate,
        text=texts[0],
    )


def _video_path(annotation: Path, values: dict[str, Any], camera: int) -> Path:
    videos = values.get("videos")
    if not isinstance(videos, list) or not 0 <= camera < len(videos):
        count = len(videos) if isinstance(videos, list) else 0
        raise EpisodeError(f"{annotation}: camera {camera} is not among its {count} videos")
    named = videos[camera].get("video_path") if isinstance(videos[camera], dict) else None
    if not isinstance(named, str) or not named or Path(named).is_absolute() or ".." in Path(named).parts:
        raise EpisodeError(
            f"{annotation}: videos.{camera}.video_path: expected a path below its folder, got {files.shown(named)}"
        )
    path = Path(*annotation.resolve().parts[:-3]) / named
    try:
        files.require_regular(path, _MOST_VIDEO, EpisodeError)
    except ResourceError as error:
        raise ResourceError(f"{path}: not found; {annotation} names it as the video of camera {camera}") from error
    return path


def _read_video(path: Path) -> tuple[np.ndarray, float]:
    """All frames (T, H, W, 3) uint8, and frames per second."""
    frames: list[np.ndarray] = []
    try:
        # Another format, such as a list of further files, is not guessed at.
        with av.open(str(path), format="mp4") as container:
            stream = container.streams.video[0]
            size = (stream.height, stream.width)
            rate = float(stream.average_rate or 0)
            for frame in _bounded(path, container.decode(stream), size):
                frames.append(frame.to_ndarray(format="rgb24"))
    except EpisodeError:
        raise
    except Exception as error:  # of a damaged one its library raises what it likes, AttributeError among it
        raise EpisodeError(f"{path}: not a readable video: {error}") from error
    if not frames or not 0.01 <= rate <= 1000:
        raise EpisodeError(f"{path}: holds {len(frames)} frames, {rate:g} a second")
    return np.stack(frames), rate


def _bounded(path: Path, frames: Iterator[Any], size: tuple[int, int]) -> Iterator[Any]:
    """The frames, as long as they have one size and not too many pixels. Raises: EpisodeError."""
    left = _MOST_PIXELS
    for frame in frames:
        left -= frame.height * frame.width * 3
        if (frame.height, frame.width) != size or left < 0:
            raise EpisodeError(
                f"{path}: a frame of {frame.width}x{frame.height} pixels: the video has {size[1]}x{size[0]}, and all "
                f"frames together may have {_MOST_PIXELS} bytes"
            )
        yield frame


def _series(annotation: Path, values: dict[str, Any], name: str, width: int | None) -> np.ndarray:
    """One list of the annotation as (S, width) or (S,) float32."""
    try:
        out = np.asarray(values[name], np.float32)
    except KeyError as error:
        raise EpisodeError(f"{annotation}: has no '{name}'") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise EpisodeError(f"{annotation}: '{name}' is not a list of numbers: {error}") from error
    if out.shape[1:] != (() if width is None else (width,)) or out.ndim == 0:
        raise EpisodeError(f"{annotation}: '{name}' has shape {out.shape}; expected (S, {width or ''})")
    if not np.isfinite(out).all():
        raise EpisodeError(f"{annotation}: '{name}' holds a value that is not finite")
    if out.size and np.abs(out).max() > _MOST_VALUE:
        raise EpisodeError(f"{annotation}: '{name}' holds {np.abs(out).max():g}; expected at most {_MOST_VALUE:g}")
    return out
