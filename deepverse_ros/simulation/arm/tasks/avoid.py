"""The tool past an obstacle to where the goal picture shows it, touching nothing."""

from typing import ClassVar

import numpy as np

from deepverse_ros.simulation.arm.motions import WORKSPACE_LOWER, WORKSPACE_UPPER
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks.base import Draw, Task

_LOOK = 0.005  # seconds between two looks for contacts: the simulation's own time step
_NEAR = 0.01  # metres: contacts are looked up, which takes longer, only when something is this near
_SPEED = 0.8  # of the largest rate
_MOST_STEPS = 16
_CLEARANCE = 0.04  # metres around start and goal
_WAY_CLEARANCE = 0.02  # metres around the way that proves that there is one
_PAIRS, _VIAS = 20, 30  # pairs of start and goal that are tried in a scene; points to go by for each pair


class Avoid(Task):
    """The tool to where the goal shows it, within 5 cm, without touching anything on the way.

    Start and goal lie on two sides of an obstacle; whoever drives straight from one to the other in joint space touches
    it. A way around it that keeps 2 cm from everything takes at most 16 steps. After every simulated time step (5 ms)
    of `step` it is seen whether the arm touches the table, an obstacle or an object.
    """

    name: ClassVar[str] = "avoid"

    def __init__(self, simulation: ArmSimulation) -> None:
        super().__init__(simulation)
        self.touched: set[str] = set()  # names of what the arm has touched since the reset
        self._commanded = simulation.joints

    def _begin(self, scene: int, start: np.ndarray) -> None:
        super()._begin(scene, start)
        self._stand()

    def _stand(self) -> None:
        self.touched = set()
        self._commanded = self.simulation.joints

    def step(self, action: np.ndarray) -> None:
        """Move for one model frame towards `action` (8,), with a look for contacts every 5 ms."""
        start = self._commanded
        end = self.embodiment.limit_plan(np.asarray(action)[None], start)[0]
        looks = round(self.embodiment.dt / _LOOK)
        for k in range(1, looks + 1):
            self.simulation.advance(_LOOK, start + (end - start) * k / looks)
            if self.simulation.clearance < _NEAR:
                self.touched |= {other for _, other in self.simulation.contacts()}
        self._commanded = end

    def failed(self) -> bool:
        """Whether the arm touches anything, or has done so since the reset."""
        return bool(self.touched) or self.simulation.clearance <= 0

    def _draw(self, rng: np.random.Generator) -> Draw | None:
        obstacles = self.simulation.scene.obstacles
        for _ in range(_PAIRS if obstacles else 0):
            item = obstacles[rng.integers(len(obstacles))]
            start, goal = self._two_sides(rng, np.asarray(item.position), item.footprint)
            if min(self.simulation.clearance_at(joints) for joints in (start, goal)) < _CLEARANCE:
                continue
            straight = self._straight(start, goal, _SPEED)
            if self._is_free(straight, 0.0):
                continue
            around = self._around(rng, start, goal)
            if around is not None:
                picture = self._picture(goal)  # before the straight drive disturbs the scene
                return Draw(start, picture, around) if self._hits_an_obstacle(start, straight) else None
        return None

    def _two_sides(self, rng: np.random.Generator, centre: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Two configurations, each (8,), with the tool on opposite sides of an obstacle and not above its top.

        centre (3,), radius: of the obstacle, metres.
        """
        motions = self._motions(rng)
        heading = rng.uniform(-np.pi, np.pi)
        out = []
        for side in (-1.0, 1.0):
            x, y = centre[:2] + side * (radius + rng.uniform(0.08, 0.20)) * np.array([np.cos(heading), np.sin(heading)])
            point = np.array([x, y, rng.uniform(0.5, 1.0) * 2 * centre[2]])
            lower, upper = (np.clip(point + d, WORKSPACE_LOWER, WORKSPACE_UPPER) for d in (-0.03, 0.03))
            out.append(np.append(motions.configuration(lower, upper), self.embodiment.home[7]))
        return out[0], out[1]

    def _hits_an_obstacle(self, start: np.ndarray, commands: np.ndarray) -> bool:
        """Whether the arm touches an obstacle when it really drives the commands (T, 8) from `start`."""
        self.simulation.set_joints(start)
        self._stand()
        for action in commands:
            self.step(action)
            if any(name.startswith("obstacle") for name in self.touched):
                return True
        return False

    def _around(self, rng: np.random.Generator, start: np.ndarray, goal: np.ndarray) -> np.ndarray | None:
        """Commands (T, 8) over one more configuration that keep away from everything; None where none were found."""
        motions = self._motions(rng)
        high = np.array([WORKSPACE_LOWER[0], WORKSPACE_LOWER[1], 0.25])
        for _ in range(_VIAS):
            via = np.append(motions.configuration(high), self.embodiment.home[7])
            way = np.concatenate([self._straight(start, via, _SPEED), self._straight(via, goal, _SPEED)])
            if len(way) <= _MOST_STEPS and self._is_free(np.concatenate([start[None], way]), _WAY_CLEARANCE):
                return way
        return None
