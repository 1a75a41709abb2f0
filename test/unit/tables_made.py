"""Pictures of boxes on a table, without a simulator: a camera looks down at them from near."""

import numpy as np
import torch

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.batches.dataset import Episodes

SIZE = 64
INTRINSICS = np.array([[75, 0, 31.5], [0, 75, 31.5], [0, 0, 1]], np.float32)
CAMERA = np.array([[0, 0.6, -0.8, 1.1], [1, 0, 0, 0], [0, -0.8, -0.6, 0.55], [0, 0, 0, 1]], np.float32)
"""camera_to_world: from the front, down at (0.5, 0, 0)."""


def picture(middles: np.ndarray, halves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes along the axes on the table z = 0. Args: middles, halves (K, 3) metres.

    Returns: depth (H, W) metres; label (H, W) uint8, 1 + k where box k is.
    """
    v, u = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    local = np.stack([(u - INTRINSICS[0, 2]) / 75, (v - INTRINSICS[1, 2]) / 75, np.ones_like(u)], -1)
    rays, origin = local @ CAMERA[:3, :3].T, CAMERA[:3, 3]
    depth, label = -origin[2] / rays[..., 2], np.zeros((SIZE, SIZE), np.uint8)
    for k, (middle, half) in enumerate(zip(middles, halves, strict=True)):
        with np.errstate(divide="ignore"):
            one, other = ((middle + sign * half - origin) / rays for sign in (-1, 1))
        enter, leave = np.minimum(one, other).max(-1), np.maximum(one, other).min(-1)
        hit = (enter < leave) & (enter > 0) & (enter < depth)
        depth, label = np.where(hit, enter, depth), np.where(hit, k + 1, label).astype(np.uint8)
    return depth, label


def boxes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` boxes that stand apart: middles and half sides (count, 3) metres."""
    halves = rng.uniform(0.02, 0.04, (count, 3))
    while True:
        middles = np.stack([rng.uniform(0.35, 0.7, count), rng.uniform(-0.22, 0.22, count), halves[:, 2]], 1)
        away = np.linalg.norm(middles[:, None] - middles, axis=-1) + np.eye(count)
        if away.min() > 0.12:
            return middles, halves


def episodes(count: int, frames: int = 3, seed: int = 0) -> Episodes:
    """Episodes of an arm that nobody sees, in which 1 to 3 boxes jump about; their true labels are known."""
    rng = np.random.default_rng(seed)
    arm = Embodiment.load("arm")
    rgb = np.zeros((count, frames, SIZE, SIZE, 3), np.uint8)
    depth = np.zeros((count, frames, SIZE, SIZE), np.uint16)
    labels = np.zeros((count, frames, SIZE, SIZE), np.uint8)
    poses = torch.full((count, frames, 8, 7), torch.nan)
    for e in range(count):
        table, colours = rng.integers(60, 200, 3), rng.integers(0, 255, (9, 3))
        for t in range(frames):
            middles, halves = boxes(rng, int(rng.integers(1, 4)))
            metres, label = picture(middles, halves)
            depth[e, t], labels[e, t] = np.rint(metres * 1000), label
            rgb[e, t] = np.where(label[..., None] > 0, colours[label], table)
            poses[e, t, : len(middles)] = torch.tensor([0, 0, 0, 0, 0, 0, 1.0])
            poses[e, t, : len(middles), :3] = torch.from_numpy(middles).float()
    unknown = torch.full((count, frames, 8), torch.nan)  # nobody knows where the arm is: it is not drawn
    return Episodes(
        embodiment=arm,
        rgb=rgb,
        depth=depth,
        commanded=unknown,
        measured=unknown,
        states=unknown,
        tool=torch.zeros(count, frames, 3),
        clearance=torch.full((count, frames), torch.nan),
        intrinsics=torch.from_numpy(INTRINSICS).expand(count, 3, 3),
        camera_to_world=torch.from_numpy(CAMERA).expand(count, frames, 4, 4),
        base=torch.zeros(count, 3),
        segmentation=np.where(labels > 0, labels + 1, 0).astype(np.uint8),
        poses=poses,
    )
