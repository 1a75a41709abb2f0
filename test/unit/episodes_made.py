"""An episode of noise, with everything that an episode has."""

import numpy as np

from deepverse_ros.data.store import Episode


def make_episode(seed=0, frames=3, height=8, width=12, *, kind="random", segmented=False):
    rng = np.random.default_rng(seed)
    return Episode(
        embodiment="arm",
        dt=0.2,
        seed=seed,
        kind=kind,
        rgb=rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8),
        depth=rng.integers(0, 65536, (frames, height, width), dtype=np.uint16),
        actions=rng.normal(size=(frames, 8)).astype(np.float32),
        state={
            "joint_positions": rng.normal(size=(frames, 7)).astype(np.float32),
            "object_positions": np.zeros((frames, 0), np.float32),
        },
        intrinsics=np.eye(3, dtype=np.float32),
        camera_to_world=np.repeat(np.eye(4, dtype=np.float32)[None], frames, axis=0),
        units={"joint_positions": "rad, measured"},
        segmentation=rng.integers(0, 8, (frames, height, width), dtype=np.uint8) if segmented else None,
    )
