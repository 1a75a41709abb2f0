"""What a plan is for: a cost per plan, read from the future that the world model imagines for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.embodiment import Embodiment


class Future(Protocol):
    """The imagined outcome of N plans over H steps, as `deepverse_ros.model` gives it.

    readout: "tool_position" (N, H, 3) metres in the base frame. uncertainty: (N, H) metres, the predicted standard
    deviation of the tool position. latents: (N, H, ...).
    """

    @property
    def readout(self) -> Mapping[str, Tensor]: ...

    @property
    def uncertainty(self) -> Tensor: ...

    @property
    def latents(self) -> Tensor: ...

    def select(self, indices: Any) -> "Future": ...


class Goal(Protocol):
    """A goal image as the world model reads it; tool_position (3,) metres in the base frame."""

    @property
    def latent(self) -> Tensor: ...

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


def goal_distance(future: Future, goal: Goal) -> Tensor:
    """(N, H) metres between the imagined tool and where the goal image shows it."""
    tool = future.readout["tool_position"]
    target = torch.as_tensor(np.asarray(goal.tool_position), dtype=tool.dtype, device=tool.device)
    return (tool - target).norm(dim=-1)


@dataclass(frozen=True)
class GoalImage:
    """Be, at the end of the plan, where the goal image shows the robot.

    The cost is in metres: the tool's distance at the last step, plus `early` times its mean distance on the way
    (favours early arrival), plus `latent` times the distance of the last imagined frame to the goal frame (favours
    the same posture and scene; 0 for equal frames, about 1 for unrelated ones).
    """

    goal: Goal
    early: float = 0.05
    latent: float = 0.01

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        distance = goal_distance(future, self.goal)
        cost = distance[:, -1] + self.early * distance.mean(dim=1)
        if self.latent:
            cost = cost + self.latent * self._frame_distance(future)
        return cost

    def _frame_distance(self, future: Future) -> Tensor:
        """(N,) mean squared latent difference of the last frame, relative to the goal latent's own variance."""
        last = future.latents[:, -1].flatten(1).float()
        goal = torch.as_tensor(self.goal.latent).to(last).reshape(1, -1)
        return (last - goal).square().mean(dim=1) / goal.var().clamp_min(1e-6)


@dataclass(frozen=True)
class Certainty:
    """Stay where the world model knows what happens: the mean predicted standard deviation, in metres."""

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        return future.uncertainty.mean(dim=1)


@dataclass(frozen=True)
class Smoothness:
    """Change speed gently: mean squared second difference of the actions, in units of the largest step squared."""

    embodiment: Embodiment

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        if plans.shape[1] < 3:
            return plans.new_zeros(plans.shape[0])
        scale = torch.as_tensor(self.embodiment.max_step).to(plans)
        return (plans.diff(n=2, dim=1) / scale).square().mean(dim=(1, 2))


@dataclass(frozen=True)
class WeightedSum:
    """Several objectives, each with its weight."""

    terms: Sequence[tuple[float, Objective]]

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        cost = plans.new_zeros(plans.shape[0])
        for weight, objective in self.terms:
            cost = cost + weight * objective(future, plans).to(cost)
        return cost
