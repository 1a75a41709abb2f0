"""The tool to where the goal picture shows it; and pictures of where it cannot be."""

from typing import ClassVar

import numpy as np

from deepverse_ros.simulation.arm.goals import GOAL_MARGIN, PLAN_STEPS, impossible_goal, sample_goal
from deepverse_ros.simulation.arm.tasks.base import Draw, Task
from deepverse_ros.simulation.base import GoalPicture

_FAR_SHARE = 0.25  # of the episodes begin more than one plan away
_SPEED = 0.8  # of the largest rate
_CLEARANCE = 0.04  # metres around start and goal


class Reach(Task):
    """The tool to where the goal shows it, within 5 cm.

    In a quarter of the episodes the arm begins turned aside, often out of the camera's sight, and its base joint must
    turn further than one plan of 8 steps allows, but no further than two; in the others the goal is within one plan.
    The straight way in joint space is free.
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
        """Start and goal, each (8,), more than one plan apart; the start may be out of the camera's sight."""
        for _ in range(20):
            start, goal = self._free_pose(rng, aside=True), self._free_pose(rng)
            if start is None or goal is None:
                continue
            turn = abs(goal[0] - start[0]) / self.embodiment.max_step[0]
            free = np.concatenate([start[None], self._straight(start, goal, _SPEED)])
            if PLAN_STEPS < turn < 2 * PLAN_STEPS and self._is_free(free, 0.01):
                return start, goal
        return None

    def _free_pose(self, rng: np.random.Generator, aside: bool = False) -> np.ndarray | None:
        """Joints (8,), clear: over the workspace and in sight, or turned to one side of it."""
        motions = self._motions(rng)
        for _ in range(20):
            joints = np.append(motions.configuration(), self.embodiment.home[7])
            if aside:
                joints[0] = rng.choice((-1.0, 1.0)) * rng.uniform(1.5, 2.2)
            seen = aside or self.simulation.sees(motions.tool_position(joints), GOAL_MARGIN)
            if seen and self.simulation.clearance_at(joints) > _CLEARANCE:
                return joints
        return None


class Impossible(Task):
    """A picture of the arm with its tool inside an obstacle, which the picture does not show: no plan gets there."""

    name: ClassVar[str] = "impossible"

    def _draw(self, rng: np.random.Generator) -> Draw | None:
        seen = self.simulation
        try:
            picture = impossible_goal(seen, int(rng.integers(2**32)))
        except RuntimeError:  # no such obstacle in sight of this scene's camera
            return None
        goal = GoalPicture(*picture, seen.object_positions, seen.intrinsics, seen.camera_to_world)
        return Draw(seen.joints, goal, None)
