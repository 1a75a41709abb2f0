"""One object to where the goal picture shows it."""

from itertools import pairwise
from typing import ClassVar

import numpy as np

from deepverse_ros.simulation.arm.simulation import ArmSimulation, intrinsics
from deepverse_ros.simulation.arm.tasks.base import Draw, Task
from deepverse_ros.simulation.base import GoalPicture

_DOWN = np.array([0.0, 0.0, -1.0])
_CLOSED = 0.0
_STRIDE = 0.022  # metres a step, so that the object does not slide on when the hand stops
_PIXELS = 256  # of the picture in which it is seen whether something is in front of the object
_TRIES = 12  # pushes that are tried in a scene


class Push(Task):
    """Object number `object` to within 6 cm of where the goal shows it, at least 8 cm away at the start.

    The goal is the last picture of a push that was carried out, with the arm where it ended. The arm starts with its
    gripper closed, low and behind the object or up to 8 cm above that. Start and goal show the object: the arm is not
    in front of it.
    """

    name: ClassVar[str] = "push"
    tolerance: ClassVar[float] = 0.06
    apart: ClassVar[float] = 0.08

    def __init__(self, simulation: ArmSimulation) -> None:
        super().__init__(simulation)
        self.object = 0

    def distance(self) -> float:
        """Metres between the object's centre and where the goal shows it."""
        away = self.simulation.object_positions[self.object] - self.goal.object_positions[self.object]
        return float(np.linalg.norm(away))

    def _draw(self, rng: np.random.Generator) -> Draw | None:
        """The first of a few random pushes that moves its object, and nothing else, well and in sight."""
        objects = self.simulation.object_positions
        for _ in range(_TRIES if len(objects) else 0):
            self.object = int(rng.integers(len(objects)))
            way = self._sweep(rng, objects[self.object])
            # The first point only begins the way; the last is held until the object rests.
            if way is None or self.simulation.clearance_at(way[0]) < 0.005:
                continue
            commands = np.concatenate([way[1:], way[-1:], way[-1:]])
            self.simulation.set_joints(way[0])
            if not self._is_shown():
                continue
            if self._carry_out(commands, objects):
                picture = GoalPicture(
                    *self.simulation.render(), self.simulation.tool_position, self.simulation.object_positions,
                    self.simulation.intrinsics, self.simulation.camera_to_world,
                )  # fmt: skip
                return Draw(way[0], picture, commands)
            if np.abs(self.simulation.object_positions - objects).max() > 0.001:
                return None  # the scene is no longer what it was
        return None

    def _sweep(self, rng: np.random.Generator, centre: np.ndarray) -> np.ndarray | None:
        """(T + 1, 8): straight down to the side of `centre` (3,) and straight through it; None where out of reach."""
        heading = rng.uniform(-np.pi, np.pi)
        along = np.array([np.cos(heading), np.sin(heading), 0.0])
        height, lift = rng.uniform(0.03, 0.045), rng.uniform(0.0, 0.08)
        behind = np.array([*centre[:2], height]) - rng.uniform(0.09, 0.12) * along
        corners = [behind + np.array([0, 0, lift]), behind, behind + rng.uniform(0.20, 0.30) * along]
        points = corners[:1]
        for a, b in pairwise(corners):
            steps = int(np.ceil(np.linalg.norm(b - a) / _STRIDE))
            points += [a + (b - a) * (k + 1) / steps for k in range(steps)]
        joints = np.asarray(self.embodiment.home)[:7].copy()
        joints[0], joints[6] = np.arctan2(behind[1], behind[0]), rng.uniform(-1.0, 1.0)
        way: list[np.ndarray] = []
        for point in points:
            found = self._kinematics.inverse(point, _DOWN, joints)
            if found is None or (way and np.any(np.abs(found - joints) > self.embodiment.max_step[:7])):
                return None
            joints = found
            way.append(np.append(joints, _CLOSED))
        return np.stack(way)

    def _carry_out(self, commands: np.ndarray, before: np.ndarray) -> bool:
        """Whether the commands (T, 8) slide the object over the table to where it is shown, and move nothing else.

        before (K, 3): where the objects stood.
        """
        for action in commands:
            self.simulation.step(action)
            if {other for _, other in self.simulation.contacts()} - {f"object_{self.object}"}:
                return False
        after = self.simulation.object_positions
        moved = np.linalg.norm(after - before, axis=1)
        upright = abs(after[self.object, 2] - before[self.object, 2]) < 0.005
        others = np.delete(moved, self.object)
        return bool(moved[self.object] >= self.apart and np.all(others < 0.01) and upright and self._is_shown())

    def _is_shown(self) -> bool:
        """Whether the camera sees the object's middle, nothing in front of it."""
        simulation = self.simulation
        point = simulation.object_positions[self.object]
        if not simulation.sees(point, margin=0.05):
            return False
        at = simulation.scene.camera_axes.T @ (point - simulation.scene.camera_position)
        u, v, _ = np.rint(intrinsics(_PIXELS, _PIXELS, simulation.scene.camera_fovy) @ at / at[2]).astype(int)
        _, depth = simulation.render(_PIXELS, _PIXELS)
        return bool(depth[v, u] > at[2] - 0.06)
