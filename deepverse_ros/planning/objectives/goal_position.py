"""Being at a place that is given in numbers."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.objectives.base import Future, arrival_cost, distance_to


@dataclass(frozen=True)
class GoalPosition:
    """Be, at the end of the plan, at a place that is given in numbers.

    position: (3,) metres in the frame of the readout.
    readout: what shall be there, (N, H, 3) metres.
    early: weight of the mean distance on the way (favours early arrival).

    The cost is in metres.
    """

    position: np.ndarray
    early: float = 0.05
    readout: str = "tool_position"

    def __post_init__(self) -> None:
        position = np.asarray(self.position, float)
        if position.shape != (3,) or not np.isfinite(position).all():
            raise ShapeError(f"position: expected three finite numbers (metres), got {self.position}")

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        return arrival_cost(distance_to(self.position, future, self.readout), self.early)
