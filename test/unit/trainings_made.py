"""A training that takes seconds: episodes of one moving square, and a config for them."""

from pathlib import Path

import numpy as np
from rich.console import Console

from deepverse_ros.data.store import Episode
from deepverse_ros.training.config import TrainingConfig

SIZE, FRAMES = 32, 14
QUIET = Console(quiet=True)


def episode(seed: int, embodiment: str = "arm", frames: int = FRAMES) -> Episode:
    """A bright square that moves where the first joint says, at 2 m before a wall at 3 m."""
    rng = np.random.default_rng(seed)
    joints = np.cumsum(rng.normal(0, 0.25, (frames + 1, 8)), 0).clip(-1, 1).astype(np.float32)
    joints[:, 7] = 0.5
    rgb = np.full((frames, SIZE, SIZE, 3), 60, np.uint8)
    depth = np.full((frames, SIZE, SIZE), 3000, np.uint16)
    for t, x in enumerate(((joints[:frames, 0] + 1) / 2 * (SIZE - 10)).astype(int)):
        rgb[t, 10:20, x : x + 10], depth[t, 10:20, x : x + 10] = (250, 200, 40), 2000
    state = {
        "joint_positions": joints[:frames, :7],
        "gripper_state": joints[:frames, 7:],
        "tool_position": np.stack([joints[:frames, 0], 0 * joints[:frames, 0], 0 * joints[:frames, 0]], 1),
    }
    pose = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    k = np.array([[30, 0, 15.5], [0, 30, 15.5], [0, 0, 1]], np.float32)
    return Episode(embodiment, 0.2, seed, "random", rgb, depth, joints[1:], state, k, pose)


def config(data: Path, steps: int = 6, batch: int = 2, **changes: object) -> TrainingConfig:
    stage = {"steps": steps, "batch": batch, "learning_rate": 4e-3, "warmup": 2, "validate_every": 1000}
    values = {
        "embodiment": "arm",
        "height": SIZE,
        "width": SIZE,
        "save_every": 4,
        "network": {
            "codec": {"channels": [8, 8, 16], "latent_dim": 8},
            "dynamics": {"width": 16, "layers": 2, "heads": 2},
            "coarse": {"token_dim": 4, "hidden": 16},
        },
        "data": {"directory": str(data), "frames": FRAMES, "validation": 3},
        "codec": stage | {"targets": 2},
        "dynamics": stage,
        "decoder": stage | {"targets": 2, "imagined": 0.5},
        "outcome": stage,
        "picture": stage,
        "coarse": stage,
    }
    return TrainingConfig.model_validate(values | changes)
