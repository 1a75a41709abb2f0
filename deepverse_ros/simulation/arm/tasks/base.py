"""What all tasks share: a scene and a goal from a seed, and a rule that says at every moment how it stands."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.motions import MotionGenerator
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.base import GoalPicture

SCENE_SEEDS = 2**32
"""Scenes of tasks have seeds from here on. Every other scene, for training, evaluation or calibration, has a seed of 32
bits (`data.collect.scene_seed`), so none of them is ever the scene of a task. Tasks stand in blocks of so many seeds,
and tasks of different blocks never share a scene: benchmarks use the first block, calibration past obstacles uses the
second."""

MAX_STEPS = 30
MAX_REDRAWS = 100
_SEEN_FRAMES = 3  # for which a robot may stand still at the start, for a model to look at


@dataclass(frozen=True)
class Draw:
    """A start, joints (8,), a goal, and commands (T, 8) that lead from one to the other; None where nothing does."""

    start: np.ndarray
    goal: GoalPicture
    demonstration: np.ndarray | None


class Task(ABC):
    """An episode of up to `MAX_STEPS` steps of `embodiment.dt`; by default the tool shall be where the goal shows it.

    After `reset` the simulation stands at the start, and `goal` and `demonstration` (commands (T, 8) that reach the
    goal, None for a task that cannot be solved) are there. The robot is moved with `step`; pictures and measurements
    come from `simulation`, which several tasks may share, one after the other.

    scene: its seed.
    redraws: scenes that the last reset tried in vain.
    tolerance: metres from the goal that count as reached.
    apart: metres from it at the start, at least.
    """

    name: ClassVar[str]
    tolerance: ClassVar[float] = 0.05
    apart: ClassVar[float] = 0.15

    goal: GoalPicture
    demonstration: np.ndarray | None
    redraws: int
    scene: int

    def __init__(self, simulation: ArmSimulation) -> None:
        self.simulation = simulation
        self.embodiment = simulation.embodiment
        self._kinematics = ArmKinematics(self.embodiment)

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`, 0 or more; the same seed gives the same episode.

        Seeds of one block, n · SCENE_SEEDS up to (n + 1) · SCENE_SEEDS, have scenes that those of no other block have.
        Scenes are drawn until one has room for the task and, where there is a demonstration, it reaches the goal also
        from an arm that first stands still for a few frames. Raises: RuntimeError when no scene does, as in a
        simulation without objects or obstacles.
        """
        for redraw in range(MAX_REDRAWS):
            rng = np.random.default_rng([seed, redraw])
            scene = SCENE_SEEDS * (1 + seed // SCENE_SEEDS) + int(rng.integers(SCENE_SEEDS))
            self.simulation.reset(scene, base_offset=(0.0, 0.0))
            draw = self._draw(rng)
            if draw is None:
                continue
            self.goal, self.demonstration = draw.goal, draw.demonstration
            self.redraws = redraw
            self.scene = scene
            self._begin(scene, draw.start)
            if self.distance() < self.apart:
                continue
            if draw.demonstration is None:
                return
            for action in (*[draw.start] * _SEEN_FRAMES, *draw.demonstration):
                self.step(action)
            if self.reached():
                self._begin(scene, draw.start)
                return
        raise RuntimeError(f"task '{self.name}': no solvable one found for seed {seed} in {MAX_REDRAWS} scenes")

    def step(self, action: np.ndarray) -> None:
        """Move for one model frame towards `action` (8,), as `ArmSimulation.step` does."""
        self.simulation.step(action)

    def distance(self) -> float:
        """Metres between where the thing of the task is now and where the goal shows it."""
        return float(np.linalg.norm(self.simulation.tool_position - self.goal.tool_position))

    def reached(self) -> bool:
        """Whether the goal is reached at this moment."""
        return self.distance() <= self.tolerance and not self.failed()

    def failed(self) -> bool:
        """Whether something has happened that no later step can make good."""
        return False

    # --- for the tasks ------------------------------------------------------------------------------------------

    @abstractmethod
    def _draw(self, rng: np.random.Generator) -> Draw | None:
        """Find a start and a goal in the present scene, which may be disturbed; None where there are none."""

    def _begin(self, scene: int, start: np.ndarray) -> None:
        self.simulation.reset(scene, joints=start)

    def _motions(self, rng: np.random.Generator) -> MotionGenerator:
        return MotionGenerator(self.simulation, self._kinematics, rng)

    def _straight(self, start: np.ndarray, goal: np.ndarray, speed: float) -> np.ndarray:
        """(T, 8) evenly spaced commands from `start` (excluded) to `goal` at `speed` times the largest rate."""
        steps = max(1, int(np.ceil(np.max(np.abs(goal - start) / (speed * self.embodiment.max_step)))))
        return start + (goal - start) * np.arange(1, steps + 1)[:, None] / steps

    def _is_free(self, way: np.ndarray, clearance: float, between: int = 4) -> bool:
        """Whether the way (T, 8) keeps `clearance` metres from everything, at `between` points of every step."""
        finer = np.linspace(0, len(way) - 1, between * (len(way) - 1) + 1)
        at = np.stack([np.interp(finer, np.arange(len(way)), joint) for joint in way.T], axis=1)
        return all(self.simulation.clearance_at(joints) > clearance for joints in at)

    def _picture(self, joints: np.ndarray) -> GoalPicture:
        """The present scene with the arm at `joints` (8,)."""
        seen = self.simulation
        return GoalPicture(*seen.goal_frame(joints), seen.object_positions, seen.intrinsics, seen.camera_to_world)
