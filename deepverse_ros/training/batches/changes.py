"""Which pixels show a thing, where nobody labelled them: things are moved, and what stands fast is not."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# A surface is another one from this difference on, metres.
_OTHER = 0.015
# Of colours in [0, 1], which only say that a pixel without depth is not known.
_OTHER_COLOUR = 0.15
# How sure it is that what never changed is no thing: things may lie still for long.
_UNCHANGED = 0.1


class Labels(NamedTuple):
    """Of pixels: thing (N, H, W) bool; weight (N, H, W): what each counts, 0 where nobody knows."""

    thing: Tensor
    weight: Tensor


def labels_from_change(rgb: Tensor, depth: Tensor, robot: Tensor) -> Labels:
    """Labels of the first of T frames of a camera that stood still: nearer than in another frame is a thing.

    What is farther off than in another frame was uncovered by one and is none, nor is the robot.

    Args: rgb (N, T, 3, H, W) in [0, 1]; depth (N, T, H, W) metres, NaN unknown; robot (N, T, H, W) bool: where it is.
    """
    near_robot = _grown(robot, 5)
    beside = ~near_robot[:, :1] & ~near_robot[:, 1:]
    further = depth[:, 1:] - depth[:, :1]  # NaN compares as False
    thing = _opened((beside & (further > _OTHER)).any(1))
    uncovered = (beside & (further < -_OTHER)).any(1) & ~thing
    recoloured = ((rgb[:, 1:] - rgb[:, :1]).abs().amax(2) > _OTHER_COLOUR) & ~torch.isfinite(further)
    unsure = (near_robot[:, 0] & ~robot[:, 0]) | recoloured.any(1) | (~beside).all(1)
    weight = torch.where(unsure, 0.0, _UNCHANGED)
    return Labels(thing, torch.where(thing | uncovered | robot[:, 0], 1.0, weight))


def _grown(mask: Tensor, width: int) -> Tensor:
    return F.max_pool2d(mask.float(), width, 1, width // 2) > 0


def _opened(mask: Tensor) -> Tensor:
    """Without what is narrower than 3 pixels: rims of what stands fast flicker."""
    return _grown(~_grown(~mask, 3), 3)
