"""Staying where the world model knows what happens."""

from dataclasses import dataclass

from torch import Tensor

from deepverse_ros.planning.objectives.base import Future


@dataclass(frozen=True)
class Certainty:
    """Stay where the world model knows what happens: the mean predicted standard deviation, in metres."""

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        return future.uncertainty.mean(dim=1)
