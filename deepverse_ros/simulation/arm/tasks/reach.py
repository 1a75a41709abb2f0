"""The tool to where the goal picture shows it; and pictures of where it can never be."""

from typing import ClassVar

import numpy as np

from deepverse_ros.simulation.arm.goals import PLAN_STEPS, impossible_goal, sample_goal
from deepverse_ros.simulation.arm.tasks.base import Draw, Task
from deepverse_ros.simulation.base import GoalPicture

_FAR_SHARE = 0.25  # of the episodes lead from one side of the table to the other
_SPEED = 0.8  # of the largest rate
_CLEARANCE = 0.04  # metres around start and goal


class Reach(Task):
    """The tool to where the goal shows it, within 5 cm.

    In a quarter of the episodes the base joint must turn further than one plan of 8 steps allows, but no further than
    two; in the others the goal is within one plan. The straight way in joint space is free.
    """

    name: ClassVar[str] = "reach"

    def _draw(self, rng: np.random.Generator) -> Draw | None:
        pair = self._far(rng) if rng.random() < _FAR_SHARE else self._near(rng)
        if pair is None:
            return None
        start, goal = pair
        return Draw(start, self._picture(goal), self._straight(start, goal, _SPEED))

    def _near(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
        """Start and goal, each (8,), within one plan."""
        start = self._free_pose(rng)
        if start is None:
            return None
        try:
            return start, sample_goal(self.simulation, int(rng.integers(2**32)), start)
        except RuntimeError:  # no room for a goal
            return None

    def _far(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
        """Start and goal, each (8,), on two sides of the table and more than one plan apart."""
        side = rng.choice((-1.0, 1.0))
        for _ in range(20):
            start, goal = self._free_pose(rng, side), self._free_pose(rng, -side)
            if start is None or goal is None or abs(goal[0] - start[0]) < PLAN_STEPS * self.embodiment.max_step[0]:
                continue
            if self._is_free(np.concatenate([start[None], self._straight(start, goal, _SPEED)]), 0.01):
                return start, goal
        return None

    def _free_pose(self, rng: np.random.Generator, side: float | None = None) -> np.ndarray | None:
        """Joints (8,), clear and in sight; over the workspace, or turned to the left (1) or right (-1) of it."""
        motions = self._motions(rng)
        for _ in range(20):
            joints = np.append(motions.configuration(), self.embodiment.home[7])
            if side is not None:
                joints[0] = side * rng.uniform(1.0, 1.6)
            seen = self.simulation.sees(motions.tool_position(joints), margin=0.06)
            if seen and self.simulation.clearance_at(joints) > _CLEARANCE:
                return joints
        return None


class Impossible(Task):
    """A picture of an arm that stands elsewhere and holds its tool beyond the true arm's reach: no plan is right."""

    name: ClassVar[str] = "impossible"

    def _draw(self, rng: np.random.Generator) -> Draw | None:
        try:
            goal = impossible_goal(self.simulation, int(rng.integers(2**32)))
        except RuntimeError:  # none in sight of this scene's camera
            return None
        seen = self.simulation
        picture = GoalPicture(
            goal.rgb, goal.depth, goal.tool_position, seen.object_positions, seen.intrinsics, seen.camera_to_world
        )
        return Draw(self.simulation.joints, picture, None)
