"""Stretches of an episode that a model is measured on: what it is shown, and what really came."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
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
    """

    seen: Observation
    rgb: Tensor
    depth: Tensor
    past: np.ndarray
    plans: np.ndarray
    tool: np.ndarray
    states: np.ndarray

    def __len__(self) -> int:
        return len(self.plans)

    def only(self, index: int) -> "Windows":
        """A single window."""
        i = slice(index, index + 1)
        seen = replace(self.seen, rgb=self.seen.rgb[i], depth=None if self.seen.depth is None else self.seen.depth[i])
        return Windows(seen, self.rgb[i], self.depth[i], self.past[i], self.plans[i], self.tool[i], self.states[i])

    @property
    def last_rgb(self) -> Tensor:
        """(B, 3, h, w) of the last seen frame."""
        return self.seen.rgb[:, -1]

    @property
    def last_depth(self) -> Tensor:
        """(B, h, w) metres, of the last seen frame."""
        assert self.seen.depth is not None
        return self.seen.depth[:, -1]

    @cached_property
    def moving(self) -> Tensor:
        """(B, H, h, w) bool, see `changed_pixels`."""
        return changed_pixels(self.rgb, self.depth, self.last_rgb, self.last_depth)
