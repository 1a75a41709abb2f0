"""What a simulated arm is told to do: trajectories and velocities in, the target of the next moment out."""

import threading
from dataclasses import dataclass

import numpy as np

from deepverse_ros.errors import MessageError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command

WATCHDOG = 0.5
"""Seconds after which a velocity command that was not repeated ends in a hold."""


@dataclass(frozen=True)
class _Trajectory:
    begin: float
    command: Command


@dataclass(frozen=True)
class _Velocity:
    until: float
    values: np.ndarray


class TrajectoryFollower:
    """The running command of one arm; the newest replaces the one before it, and none means: hold.

    Times are seconds of one clock that the caller chooses. Thread-safe.

    Args: start (A,): what to hold at first.
    """

    def __init__(self, embodiment: Embodiment, start: np.ndarray) -> None:
        self.embodiment = embodiment
        self._max_rate = embodiment.max_step / embodiment.dt
        self._lock = threading.Lock()
        self._running: _Trajectory | _Velocity | None = None
        self._target = np.asarray(start, np.float32)
        self._opening: float | None = None

    def hold(self, at: np.ndarray | None = None) -> None:
        """Stay at the last target, or go to `at` (A,)."""
        with self._lock:
            self._running = None
            if at is not None:
                self._target = np.asarray(at, np.float32)

    def follow(self, begin: float, command: Command) -> None:
        """Go through the way points of a command with a start, from `begin` on."""
        with self._lock:
            self._running = _Trajectory(begin, command)

    def grip(self, opening: float | None) -> None:
        """Bring the gripper there (0 closed, 1 open), whatever the arm is told; None: the arm's commands move it."""
        with self._lock:
            self._opening = opening

    def move(self, now: float, velocities: np.ndarray) -> str | None:
        """Move with these velocities (A,), per second, until the watchdog ends it.

        Returns: a warning where a velocity was beyond the embodiment's limit and was clamped; otherwise None.
        """
        values = np.asarray(velocities, np.float32)
        allowed = np.clip(values, -self._max_rate, self._max_rate)
        with self._lock:
            self._running = _Velocity(now + WATCHDOG, allowed)
        beyond = np.flatnonzero(np.abs(values) > self._max_rate * 1.001)
        if not len(beyond):
            return None
        first = beyond[0]
        return f"velocity data[{first}] is {values[first]:.3g}; clamped to {allowed[first]:.3g} per second"

    def target(self, now: float, seconds: float) -> np.ndarray:
        """(A,) where the arm shall be at `now` + `seconds`, within its position limits."""
        with self._lock:
            running = self._running
            if isinstance(running, _Trajectory):
                at = now + seconds - running.begin
                if at >= 0:
                    self._target = running.command.at(at).astype(np.float32)
                if at >= running.command.duration:
                    self._running = None
            elif isinstance(running, _Velocity):
                if now >= running.until:
                    self._running = None
                else:
                    moved = self._target + running.values * seconds
                    self._target = np.clip(moved, self.embodiment.lower, self.embodiment.upper)
            if self._opening is not None and self.embodiment.gripper is not None:
                self._target = self._target.copy()
                self._target[self.embodiment.slices[self.embodiment.gripper.name]] = self._opening
            return self._target


def velocities_from_data(data: np.ndarray, embodiment: Embodiment) -> np.ndarray:
    """A Float64MultiArray's data as (A,) velocities: one per joint [rad/s], and the gripper's [1/s] or none.

    Raises: MessageError naming length or value.
    """
    joints = len(embodiment.joint_names)
    if len(data) not in (joints, embodiment.action_dim):
        raise MessageError(f"velocity data has {len(data)} values; expected {joints} joints (+ the gripper)")
    for index, value in enumerate(data):
        if not np.isfinite(value):
            raise MessageError(f"velocity data[{index}] is {value}")
    out = np.zeros(embodiment.action_dim, np.float32)
    out[: len(data)] = data
    return out
