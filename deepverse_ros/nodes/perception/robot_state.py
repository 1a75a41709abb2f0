"""Where a robot is, by joint states or by odometry, whichever it measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from rclpy.callback_groups import CallbackGroup

from deepverse_ros.nodes.runtime.diagnostics import RateMeter


@dataclass(frozen=True, eq=False)
class RobotState:
    """What a robot measures of itself at one moment, as an action that would keep it there.

    values: (A,) float32, in the action's units.
    turns: (A,) float64, whole turns (rad) that the robot counts more than `values`: a continuous joint at 6.4 rad,
        where limits are ±pi, has the value 0.117 and a turn of 2 pi. What is sent to the robot needs them again, or it
        would go all the way back.
    speed: (A,) of values, per second, 0 where it is not known.
    """

    values: np.ndarray
    turns: np.ndarray
    speed: np.ndarray

    @classmethod
    def at_rest(cls, values: np.ndarray) -> "RobotState":
        """Args: values: (A,)."""
        return cls(values, np.zeros(len(values)), np.zeros(len(values)))


class StateInput(Protocol):
    """What a node hears of the robot's own state; kept for as long as the model looks back.

    topic: that it comes on, for people. rate: of its messages.
    """

    topic: str
    rate: RateMeter

    def start(self, group: CallbackGroup) -> None: ...

    def stop(self) -> None: ...

    def forget(self) -> None:
        """As if nothing had come yet."""

    def now(self) -> RobotState | None:
        """Where the robot is; None where that is unknown, or was measured too long ago."""

    def at(self, stamp: float, tolerance: float) -> np.ndarray | None:
        """(A,) float32: where it was at `stamp` (ROS seconds), by what was measured within `tolerance` of it."""

    def action_at(self, stamp: float, tolerance: float) -> np.ndarray | None:
        """(A,) float32: the action that led to where it was at `stamp`; None where that is not known."""

    def problem(self) -> str:
        """What is unknown, and why; empty where nothing is that actions depend on."""

    def age(self) -> float:
        """Seconds since what is silent for longest was measured; infinite where it never was, 0 where nothing is."""

    def record_command(self, stamp: float, values: np.ndarray) -> None:
        """The robot is told this from now on: (A,); stamp: ROS seconds. What is not measured is where it was told."""

    def proprioception(self, stamps: Sequence[float], tolerance: float) -> np.ndarray | None:
        """(1, T, K) float32: the rest of what it measures of itself, NaN where it did not; None for all."""
