"""Keeping away from things, imagined or seen."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.distance_field import DistanceField
from deepverse_ros.planning.objectives.base import Future, read


@dataclass(frozen=True)
class Clearance:
    """Keep away from things: by how much the clearance falls short of a margin, in metres, mean over the steps.

    margin: metres to keep; a plan that keeps it at every step costs nothing. caution: how many predicted standard
    deviations are taken off the clearance first, where the future has "clearance_std".
    """

    margin: float
    caution: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.margin) or not 0 <= self.caution < math.inf:
            raise ShapeError(f"margin must be finite and caution at least 0, got {self.margin} m, {self.caution}")

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        clearance = read(future, "clearance")
        if "clearance_std" in future.readout:
            clearance = clearance - self.caution * future.readout["clearance_std"]
        return (self.margin - clearance).clamp_min(0).mean(dim=1)


@dataclass(frozen=True)
class DistanceFieldClearance:
    """Keep away from what the camera sees: by how much the clearance falls short of a margin, worst step plus mean.

    surroundings, start (A,): of where the plans begin; margin: metres to keep; a plan that keeps it costs nothing.
    """

    surroundings: DistanceField
    start: np.ndarray
    margin: float

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        clearance = torch.from_numpy(self.surroundings.clearance(plans.cpu().numpy(), self.start)).to(plans.device)
        short = (self.margin - clearance).clamp_min(0)
        return short.amax(dim=1) + short.mean(dim=1)
