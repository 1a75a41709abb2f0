"""What an objective reads, a cost per plan from its imagined future, and what objectives have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.errors import ShapeError
from deepverse_ros.robot.embodiment import Embodiment


class Future(Protocol):
    """The imagined outcome of N plans over H steps, as `deepverse_ros.model` gives it.

    readout: "tool_position" (N, H, 3) metres in the base frame; "clearance" (N, H) metres between the robot and the
        nearest thing; on the fine level also "clearance_std" (N, H) metres, its predicted standard deviation.
    uncertainty: (N, H) metres, the predicted standard deviation of the tool position.
    embedding: (N, H, E) the frames as the coarse level knows them.
    """

    @property
    def readout(self) -> Mapping[str, Tensor]: ...

    @property
    def uncertainty(self) -> Tensor: ...

    @property
    def embedding(self) -> Tensor: ...

    def select(self, indices: Any) -> "Future": ...


@dataclass(frozen=True)
class BiasCorrectedFuture:
    """A future whose tool is `shift` (H, 3) metres from where it was imagined."""

    future: Future
    shift: Tensor

    @property
    def readout(self) -> Mapping[str, Tensor]:
        readout = self.future.readout
        return {**readout, "tool_position": readout["tool_position"] + self.shift}

    @property
    def uncertainty(self) -> Tensor:
        return self.future.uncertainty

    @property
    def embedding(self) -> Tensor:
        return self.future.embedding

    def select(self, indices: Any) -> "BiasCorrectedFuture":
        return BiasCorrectedFuture(self.future.select(indices), self.shift)


class Goal(Protocol):
    """A goal image as the world model reads it, or a place of the tool alone.

    embedding (E,) of the image, None where only a place is given; tool_position (3,) metres in the base frame; frame
    (5, H, W) as the model sees the image, None where the scene in it does not matter.
    """

    @property
    def embedding(self) -> Tensor | None: ...

    @property
    def tool_position(self) -> np.ndarray: ...

    @property
    def tool_std(self) -> float: ...

    @property
    def frame(self) -> Tensor | None: ...

    @property
    def ood_score(self) -> float: ...

    @property
    def out_of_distribution(self) -> bool: ...

    @property
    def doubt(self) -> str: ...


class Objective(Protocol):
    """A cost per plan; lower is better."""

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        """Args: future of N plans; plans (N, H, A) physical units. Returns: (N,) cost."""
        ...


def read(future: Future, name: str) -> Tensor:
    """One readout of a future. Raises: ShapeError naming those that there are."""
    if name not in future.readout:
        raise ShapeError(f"readout '{name}': this future has only {', '.join(sorted(future.readout))}")
    return future.readout[name]


def distance_to(position: np.ndarray, future: Future, readout: str = "tool_position") -> Tensor:
    """(N, H) metres between a position (3,) and where a readout (N, H, 3) is imagined."""
    there = read(future, readout)
    return (there - torch.as_tensor(np.asarray(position), dtype=there.dtype, device=there.device)).norm(dim=-1)


def goal_distance(future: Future, goal: Goal) -> Tensor:
    """(N, H) metres between the imagined tool and where the goal wants it."""
    return distance_to(goal.tool_position, future)


def arrival_cost(distance: Tensor, early: float) -> Tensor:
    """(N,) of distances (N, H): the last one, plus `early` times the mean on the way."""
    return distance[:, -1] + early * distance.mean(dim=1)


def mean_square_change(plans: Tensor, embodiment: Embodiment, order: int) -> Tensor:
    """(N,) mean squared difference of an order in units of the largest step; 0 for plans too short to have one."""
    if plans.shape[1] <= order:
        return plans.new_zeros(plans.shape[0])
    scale = torch.as_tensor(embodiment.max_step).to(plans)
    return (plans.diff(n=order, dim=1) / scale).square().mean(dim=(1, 2))


@dataclass(frozen=True)
class WeightedSum:
    """Several objectives, each with its weight."""

    terms: Sequence[tuple[float, Objective]]

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        cost = plans.new_zeros(plans.shape[0])
        for weight, objective in self.terms:
            cost = cost + weight * objective(future, plans).to(cost)
        return cost
