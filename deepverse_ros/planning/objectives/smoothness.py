"""Changing speed gently."""

from dataclasses import dataclass

from torch import Tensor

from deepverse_ros.planning.objectives.base import Future, mean_square_change
from deepverse_ros.robot.embodiment import Embodiment


@dataclass(frozen=True)
class Smoothness:
    """Change speed gently: mean squared second difference of the actions, in units of the largest step squared."""

    embodiment: Embodiment

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        return mean_square_change(plans, self.embodiment, order=2)
