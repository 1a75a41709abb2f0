"""Being where a goal picture shows the robot."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deepverse_ros.planning.objectives.base import Future, Goal, arrival_cost, goal_distance


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
