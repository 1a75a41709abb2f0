"""Stretches of an episode that a model is measured on: what it is shown, and what really came."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.evaluation.prediction.metrics import changed_pixels
from deepverse_ros.model.observation import Observation


@dataclass(frozen=True)
class Windows:
    """Stretches of C seen and H future frames from one episode, at the model's resolution.

    seen: Observation of (B, C) frames.
    rgb: (B, H, 3, h, w) in [0, 1].
    depth: (B, H, h, w) metres, NaN unknown.
    past: (B, C-1, A) measured joints and gripper after each seen frame.
    plans: (B, H, A) commanded.
    tool: (B, 1+H, 3) metres in the base frame, from the last seen frame on.
    states: (B, H, K) what the robot measured of itself in the future frames.

    What only a simulator tells; None where nobody knows:
    segmentation_seen: (B, C, h, w) uint8 of the seen frames: 0 what stands fast, 1 the robot, 2 + k thing k.
    segmentation: (B, H, h, w) of the future frames.
    things: (B, 1+H, K, 3) metres in the base frame, of K things from the last seen frame on.
    poses: (B, 1+H, 8, 7) the same, x y z and a quaternion x y z w, of 8 things, NaN where there is none.
    touched: (B, H, K) bool: the robot touched it in the step that leads to a future frame.
    base: (B, 3) metres, where the robot's base really stands.
    """

    seen: Observation
    rgb: Tensor
    depth: Tensor
    past: np.ndarray
    plans: np.ndarray
    tool: np.ndarray
    states: np.ndarray
    segmentation_seen: Tensor | None = None
    segmentation: Tensor | None = None
    things: np.ndarray | None = None
    poses: np.ndarray | None = None
    touched: np.ndarray | None = None
    base: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.plans)

    def only(self, index: int) -> "Windows":
        """A single window."""
        i = slice(index, index + 1)
        seen = replace(self.seen, rgb=self.seen.rgb[i], depth=None if self.seen.depth is None else self.seen.depth[i])
        rest: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "seen"}
        one: dict[str, Any] = {name: value if value is None else value[i] for name, value in rest.items()}
        return Windows(seen, **one)

    @property
    def last_rgb(self) -> Tensor:
        """(B, 3, h, w) of the last seen frame."""
        return self.seen.rgb[:, -1]

    @property
    def last_depth(self) -> Tensor:
        """(B, h, w) metres, of the last seen frame."""
        assert self.seen.depth is not None
        return self.seen.depth[:, -1]

    @property
    def in_sight(self) -> np.ndarray | None:
        """(B, K) bool: things that some seen frame shows; None where nobody knows."""
        if self.segmentation_seen is None or self.things is None:
            return None
        labels = torch.arange(2, 2 + self.things.shape[2], dtype=torch.uint8)
        shown = self.segmentation_seen.flatten(1)[:, :, None] == labels
        return shown.any(1).numpy()

    @property
    def in_picture(self) -> np.ndarray | None:
        """(B, K) bool: things whose middle is within the picture at the last step; None where nobody knows."""
        camera, pose = self.seen.intrinsics, self.seen.camera_to_world
        if self.things is None or camera is None or pose is None:
            return None
        place = np.concatenate([self.things[:, -1], np.ones_like(self.things[:, -1, :, :1])], -1)
        newest = pose if pose.ndim == 2 else pose[..., -1, :, :]
        to_camera = np.linalg.inv(newest.double().numpy())[..., None, :, :]
        away = (to_camera @ place[..., None])[..., :3, 0]
        across, down, depth = np.moveaxis(away @ camera.double().numpy().T, -1, 0)
        height, width = self.rgb.shape[-2:]
        across, down = (v / np.where(depth > 0, depth, np.nan) for v in (across, down))
        return (np.abs(across - (width - 1) / 2) <= width / 2) & (np.abs(down - (height - 1) / 2) <= height / 2)

    @cached_property
    def moving(self) -> Tensor:
        """(B, H, h, w) bool, see `changed_pixels`."""
        return changed_pixels(self.rgb, self.depth, self.last_rgb, self.last_depth)
