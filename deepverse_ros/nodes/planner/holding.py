"""Where a robot that shall stop can come to rest, whether it is seen or not."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.model.inputs import MAX_HORIZON
from deepverse_ros.nodes.perception.robot_state import RobotState
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command

OVER = 1.0
"""Seconds after its end until what was sent moves nothing any more."""


@dataclass(frozen=True, eq=False)
class SentPlan:
    """What the robot was told last: plan (H, A), one row each `dt` seconds, from `start`.

    at: time.monotonic() when it was sent.
    """

    plan: np.ndarray
    start: RobotState
    dt: float
    at: float

    @property
    def duration(self) -> float:
        return self.dt * len(self.plan)

    def state(self, elapsed: float) -> RobotState:
        """Where a robot that does it is after so many seconds of it."""
        way = Command(self.plan, self.dt * np.arange(1, len(self.plan) + 1), start=self.start.values)
        here = way.at(elapsed).astype(np.float32)
        next_ = way.at(elapsed + self.dt)
        return RobotState(here, self.start.turns, (next_ - here) / self.dt)


def resting_place(state: RobotState, embodiment: Embodiment) -> np.ndarray:
    """(A,) float32, within the limits: where the robot stands when it brakes evenly for one step of the model.

    Where it is now would be behind it by then.
    """
    fastest = embodiment.max_step / embodiment.dt
    braking = 0.5 * embodiment.dt * np.clip(state.speed, -fastest, fastest)
    return np.clip(state.values + braking, embodiment.lower, embodiment.upper).astype(np.float32)


def steps_to(target: np.ndarray, places: list[np.ndarray], embodiment: Embodiment) -> int:
    """Steps in which the robot gets from each of `places` (A,) to `target` (A,) at its rates, at most MAX_HORIZON."""
    steps = max(float((np.abs(target - place) / embodiment.max_step).max()) for place in places)
    return int(np.clip(np.ceil(steps - 1e-3), 1, MAX_HORIZON))
