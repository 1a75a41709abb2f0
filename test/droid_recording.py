"""A small recording as DROID lays it out, for tests."""

import json
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np


def write_recording(
    root: Path, name: str, frames: np.ndarray, joints: Sequence[Sequence[float]], gripper: Sequence[float]
) -> Path:
    """Write episode `name` of the validation part, 5 frames a second. Returns: its annotation.

    Args: frames (T, H, W, 3) uint8; joints (S, 7) rad and gripper (S,), as they stand in the file.
    """
    video = root / "videos" / "val" / name / "0.mp4"
    video.parent.mkdir(parents=True)
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    annotation = root / "annotation" / "val" / f"{name}.json"
    annotation.parent.mkdir(parents=True)
    values = {
        "texts": ["wave"],
        "videos": [{"video_path": f"videos/val/{name}/0.mp4"}],
        "observation.state.joint_position": [list(row) for row in joints],
        "observation.state.gripper_position": list(gripper),
    }
    annotation.write_text(json.dumps(values))
    return annotation
