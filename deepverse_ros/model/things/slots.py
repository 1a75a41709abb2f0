"""What is known of things: those of a belief, what becomes of them, and what is read of them in a frame.

A thing keeps its slot from the belief to the last imagined frame. Places are metres in the embodiment's base frame.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

MOST = 8
"""Slots: the most things of a frame."""
SURFACE = 32
"""Points that stand for a thing's surface."""


_Some = TypeVar("_Some", bound="_Batch")


class _Batch:
    """Tensors that share their first axis."""

    def __getitem__(self: _Some, index: slice | Tensor) -> _Some:
        return self._map(lambda t: t[index])

    def expand(self: _Some, count: int) -> _Some:
        """The same for `count` plans, as views, where the batch is 1."""
        return self._map(lambda t: t.expand(count, *t.shape[1:]))

    def to(self: _Some, device: torch.device) -> _Some:
        return self._map(lambda t: t.to(device))

    def _map(self: _Some, change: Callable[[Tensor], Tensor]) -> _Some:
        return type(self)(**{f.name: change(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Slots(_Batch):
    """The things of B beliefs at their newest frame.

    there: (B, 8) bool.
    seen: (B, 8) bool, in the newest frame; what is there and not seen is remembered from before.
    position: (B, 8, 3) of the middle of what it takes up; 0 where nothing is there.
    std: (B, 8) metres of `position`, per axis.
    surface: (B, 8, 32, 3) points of its surface, relative to `position`, along the base frame's axes.
    last: (B, 8, 6) what it did from the frame before to the newest one: metres, then a rotation vector in rad.
    pixels: (B, H, W) uint8 of the newest frame: 1 + k where thing k is, 0 elsewhere.
    """

    there: Tensor
    seen: Tensor
    position: Tensor
    std: Tensor
    surface: Tensor
    last: Tensor
    pixels: Tensor


@dataclass(frozen=True)
class Motion(_Batch):
    """What becomes of things over H steps of N plans.

    position: (N, H, 8, 3) of the middle.
    rotation: (N, H, 8, 3, 3) how it is turned since the newest seen frame, about the middle, base frame's axes.
    std: (N, H, 8) metres of `position`, per axis.
    touched: (N, H, 8) from 0 to 1: that the robot has touched it by then.
    """

    position: Tensor
    rotation: Tensor
    std: Tensor
    touched: Tensor


@dataclass(frozen=True)
class Things(_Batch):
    """What is read of things in frames, (..., 8) each; a slot is the same thing in all frames of a future.

    there: from 0 to 1.
    position: (..., 8, 3) metres, base frame.
    std: metres, per axis.
    moved: from 0 to 1: that it is more than `MOVED` from where it was in the newest seen frame.
    touched: from 0 to 1: that the robot has touched it.
    """

    there: Tensor
    position: Tensor
    std: Tensor
    moved: Tensor
    touched: Tensor


MOVED = 0.03
"""Metres from which on a thing counts as moved."""


def nothing(batch: int, height: int, width: int, device: torch.device | str = "cpu") -> Slots:
    """Slots of `batch` beliefs in which there is no thing. Args: height, width: pixels of the newest frame."""
    there = torch.zeros(batch, MOST, dtype=torch.bool, device=device)
    return Slots(
        there=there,
        seen=there.clone(),
        position=torch.zeros(batch, MOST, 3, device=device),
        std=torch.zeros(batch, MOST, device=device),
        surface=torch.zeros(batch, MOST, SURFACE, 3, device=device),
        last=torch.zeros(batch, MOST, 6, device=device),
        pixels=torch.zeros(batch, height, width, dtype=torch.uint8, device=device),
    )
