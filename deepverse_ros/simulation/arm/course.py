"""Commands of an arm whose hand goes from waypoint to waypoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.postures import Postures
from deepverse_ros.simulation.arm.simulation import ArmSimulation

FREE = 0.012  # metres that a free way keeps from everything
_USED_RATE = 0.92  # of the joints' largest rates
_FLYING = (0.45, 0.85)  # of the joints' largest rates, on free ways


@dataclass(frozen=True)
class Waypoint:
    """pose (5,) of the hand, see `Postures`; speed of the tool on the way there, m/s; frames that it stays there."""

    pose: np.ndarray
    speed: float = 0.3
    stay: int = 0


class Course:
    """Commands, made motion by motion. at (8,): where they lead so far."""

    def __init__(
        self, simulation: ArmSimulation, kinematics: ArmKinematics, postures: Postures, rng: np.random.Generator
    ) -> None:
        """Begins where the arm is now."""
        self._simulation = simulation
        self._kinematics = kinematics
        self._postures = postures
        self._rng = rng
        self._rate = simulation.embodiment.max_step.astype(float)
        self._dt = simulation.embodiment.dt
        self._rows: list[np.ndarray] = []
        self.at = simulation.joints
        items = (*simulation.scene.objects, *simulation.scene.obstacles)
        self._raised = max((i.position[2] + i.extents[2] for i in items), default=0.0) + 0.06

    def __len__(self) -> int:
        return len(self._rows)

    def commands(self, frames: int) -> np.ndarray:
        """(frames, 8); the arm stays where a shorter course ends."""
        rows = self._rows[:frames] + [self.at] * (frames - len(self._rows))
        return np.array(rows)

    def follow(self, waypoints: Sequence[Waypoint]) -> bool:
        """Fly to the first waypoint, then straight from each to the next.

        Returns: whether that goes; otherwise the course is as it was.
        """
        first = self._postures.joints(waypoints[0].pose[None])[0]
        if not np.isfinite(first).all():
            return False
        lines = self._lines(waypoints, first[6])
        way = None if lines is None else self._free_way(first, waypoints[0].pose)
        if lines is None or way is None:
            return False
        self._rows += [*way, *([first] * waypoints[0].stay), *lines]
        self.at = self._rows[-1]
        return True

    def _lines(self, waypoints: Sequence[Waypoint], wrist: float) -> list[np.ndarray] | None:
        """The rows of all waypoints but the first."""
        rows: list[np.ndarray] = []
        for start, end in pairwise(waypoints):
            length = np.linalg.norm((end.pose - start.pose)[:3])
            steps = max(1, int(np.ceil(length / (end.speed * self._dt))))
            for _ in range(3):
                poses = start.pose + (end.pose - start.pose) * (np.arange(steps + 1) / steps)[:, None]
                joints = self._postures.joints(poses, wrist)
                if not np.isfinite(joints).all():
                    return None
                ratio = np.max(np.abs(np.diff(joints, axis=0)) / (self._rate * _USED_RATE))
                if ratio <= 1:
                    break
                steps = int(np.ceil(steps * ratio))
            wrist = joints[-1, 6]
            rows += [*joints[1:], *([joints[-1]] * end.stay)]
        return rows

    def _free_way(self, goal: np.ndarray, pose: np.ndarray) -> list[np.ndarray] | None:
        """From where the course is to `goal` (8,) at `pose`, touching nothing that is where it was at the beginning.

        Straight in the joints, or raised above everything; None where neither is free. Later motions of a course, which
        cannot know how things lie, always go raised.
        """
        speed = self._rng.uniform(*_FLYING)
        above_goal = self._above(pose, goal[6])
        tool = self._kinematics.tool_position(self.at)
        above_here = self._above(np.array([*tool, 0.0, self.at[7]]), self.at[6], keep_wrist=True)
        ways = [[goal]] if not self._rows else []
        if above_here is not None and above_goal is not None:
            ways += [[above_goal, goal], [above_here, above_goal, goal]]
        for corners in ways:
            way: list[np.ndarray] = []
            for start, end in zip([self.at, *corners], corners, strict=False):
                way += straight(start, end, self._rate * speed)
            if all(self._simulation.clearance_at(q) > FREE for q in way):
                return way
        return None

    def _above(self, pose: np.ndarray, wrist: float, keep_wrist: bool = False) -> np.ndarray | None:
        raised = np.append(pose[:2], (max(pose[2], self._raised), *pose[3:]))
        joints = self._postures.joints(raised[None], wrist)[0]
        if keep_wrist:
            joints[6] = wrist
        return joints if np.isfinite(joints).all() else None


def straight(start: np.ndarray, end: np.ndarray, rate: np.ndarray) -> list[np.ndarray]:
    """Evenly spaced rows (D,) from `start` (excluded) to `end`, none farther from the one before than `rate` (D,)."""
    steps = max(1, int(np.ceil(np.max(np.abs(end - start) / rate) - 1e-6)))
    return [start + (end - start) * (k + 1) / steps for k in range(steps)]
