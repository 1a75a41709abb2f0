"""What a plan is for: a cost per plan, read from the future that the world model imagines for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.distance_field import DistanceField
from deepverse_ros.robot.embodiment import Embodiment


class Future(Protocol):
    """The imagined outcome of N plans over H steps, as `deepverse_ros.model` gives it.

    readout: "tool_position" (N, H, 3) metres in the base frame; "clearance" (N, H) metres between the robot and the
    nearest thing; on the fine level also "clearance_std" (N, H) metres, its predicted standard deviation.
    uncertainty: (N, H) metres, the predicted standard deviation of the tool position. embedding: (N, H, E), the frames
    as the coarse level knows them.
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

    embedding (E,) of the image, None where only a place is given; tool_position (3,) metres in the base frame.
    """

    @property
    def embedding(self) -> Tensor | None: ...

    @property
    def tool_position(self) -> np.ndarray: ...

    @property
    def tool_std(self) -> float: ...

    @property
    def ood_score(self) -> float: ...

    @property
    def out_of_distribution(self) -> bool: ...


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


@dataclass(frozen=True)
class GoalPosition:
    """Be, at the end of the plan, at a place that is given in numbers.

    position: (3,) metres in the frame of the readout. readout: what shall be there, (N, H, 3) metres. early: weight of
    the mean distance on the way (favours early arrival). The cost is in metres.
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


@dataclass(frozen=True)
class GoalImage:
    """Be, at the end of the plan, where the goal image shows the robot. Only for a goal that has an image.

    The cost is in metres: the tool's distance at the last step, plus `early` times its mean distance on the way
    (favours early arrival), plus `latent` times the distance of the last imagined frame to the goal frame (favours
    the same posture and scene; 0 for equal frames, about 1 for unrelated ones).
    """

    goal: Goal
    early: float = 0.05
    latent: float = 0.01

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        cost = arrival_cost(goal_distance(future, self.goal), self.early)
        if self.latent:
            cost = cost + self.latent * self._frame_distance(future)
        return cost

    def _frame_distance(self, future: Future) -> Tensor:
        """(N,) mean squared difference of the last frame's embedding, relative to the goal's own variance."""
        last = future.embedding[:, -1].float()
        assert self.goal.embedding is not None
        goal = torch.as_tensor(self.goal.embedding).to(last)
        return (last - goal).square().mean(dim=1) / goal.var().clamp_min(1e-6)


@dataclass(frozen=True)
class Certainty:
    """Stay where the world model knows what happens: the mean predicted standard deviation, in metres."""

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        return future.uncertainty.mean(dim=1)


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


@dataclass(frozen=True)
class Effort:
    """Move little: mean squared step from the first action on, in units of the largest step squared."""

    embodiment: Embodiment

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        return _mean_square_change(plans, self.embodiment, order=1)


@dataclass(frozen=True)
class Smoothness:
    """Change speed gently: mean squared second difference of the actions, in units of the largest step squared."""

    embodiment: Embodiment

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        return _mean_square_change(plans, self.embodiment, order=2)


@dataclass(frozen=True)
class Straightness:
    """Lead the tool straight to its end, as one pushes things: how much longer than that its way is, in metres.

    The way begins after the first step, as a plan says nothing about where the tool was before.
    """

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        tool = future.readout["tool_position"]
        return tool.diff(dim=1).norm(dim=-1).sum(dim=1) - (tool[:, -1] - tool[:, 0]).norm(dim=-1)


def _mean_square_change(plans: Tensor, embodiment: Embodiment, order: int) -> Tensor:
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
