"""Real recordings of a Franka arm (DROID): an annotation file and one video per camera."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from deepverse_ros.errors import EpisodeError, ResourceError

STATES_PER_FRAME = 3
"""Joint states were recorded at 15 Hz, pictures at 5 Hz."""
JOINTS = 7


def data_directory() -> Path:
    """Where real recordings lie: $DEEPVERSE_REAL_DATA, or ../shared/data beside the checkout."""
    if override := os.environ.get("DEEPVERSE_REAL_DATA"):
        return Path(override).expanduser()
    return Path(__file__).resolve().parents[3] / "shared" / "data"


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
    try:
        values = json.loads(annotation.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EpisodeError(f"{annotation}: not a readable annotation: {error}") from error
    video = _video_path(annotation, values, camera)
    rgb, rate = _read_video(video)
    joints = _series(annotation, values, "observation.state.joint_position", JOINTS)
    # DROID writes 0 for open and 1 for closed.
    gripper = 1.0 - _series(annotation, values, "observation.state.gripper_position", None)
    states = min(len(joints), len(gripper))
    expected = (STATES_PER_FRAME * (len(rgb) - 1) + 1, STATES_PER_FRAME * len(rgb))
    if not expected[0] <= states <= expected[1]:
        raise EpisodeError(
            f"{annotation}: {states} joint states do not belong to the {len(rgb)} frames of {video}; "
            f"expected {expected[0]} to {expected[1]}"
        )
    texts = values.get("texts") or [""]
    return Recording(
        name=f"{annotation.parent.name}/{annotation.stem}",
        rgb=rgb,
        joints=joints[:states],
        gripper=np.clip(gripper[:states], 0.0, 1.0),
        dt=1.0 / rate,
        text=str(texts[0]),
    )


def _video_path(annotation: Path, values: dict[str, Any], camera: int) -> Path:
    videos = values.get("videos")
    if not isinstance(videos, list) or not 0 <= camera < len(videos):
        count = len(videos) if isinstance(videos, list) else 0
        raise EpisodeError(f"{annotation}: camera {camera} is not among its {count} videos")
    path = annotation.parents[2] / str(videos[camera].get("video_path", ""))
    if not path.is_file():
        raise ResourceError(f"{path}: not found; {annotation} names it as the video of camera {camera}")
    return path


def _read_video(path: Path) -> tuple[np.ndarray, float]:
    """All frames (T, H, W, 3) uint8, and frames per second."""
    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.FFmpegError, OSError, IndexError) as error:
        raise EpisodeError(f"{path}: not a readable video: {error}") from error
    if not frames or not rate:
        raise EpisodeError(f"{path}: holds no frames")
    return np.stack(frames), float(rate)


def _series(annotation: Path, values: dict[str, Any], name: str, width: int | None) -> np.ndarray:
    """One list of the annotation as (S, width) or (S,) float32."""
    try:
        out = np.asarray(values[name], np.float32)
    except KeyError as error:
        raise EpisodeError(f"{annotation}: has no '{name}'") from error
    except (TypeError, ValueError) as error:
        raise EpisodeError(f"{annotation}: '{name}' is not a list of numbers: {error}") from error
    if out.shape[1:] != (() if width is None else (width,)) or out.ndim == 0:
        raise EpisodeError(f"{annotation}: '{name}' has shape {out.shape}; expected (S, {width or ''})")
    if not np.isfinite(out).all():
        raise EpisodeError(f"{annotation}: '{name}' holds a value that is not finite")
    return out
