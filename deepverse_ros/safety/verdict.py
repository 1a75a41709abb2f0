"""A verdict on a command: what was found in its future, which other commands it answers for, and until when."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.polyline import interpolate

_SHIFTS = 3  # shifts that are tried: none, the best for the slopes there, and the best for the slopes where that leads
_MOMENT = 1e-3  # seconds over which slopes are taken
MOST_TIMES = 2000
"""Longest envelope: every command that comes is held against all of them."""
LONGEST = 60.0
"""Seconds that an envelope lasts at most; no model imagines further."""
LARGEST = 1e9
"""Of a command's values, in whatever unit."""


@dataclass(frozen=True, eq=False)
class Envelope:
    """Commands whose future was imagined together: all that stay within `half_width` of `center`, early or late.

    start: ROS seconds of time 0.
    times: (H,) rising seconds from it; what comes after the last one was not imagined.
    center: (H, A) the imagined command at those times, on straight lines between.
    half_width: (A,) in each value's unit.
    time_slack: seconds by which a command may run as a whole ahead of the imagined one, or behind it.
    tube: of set-points that follow each other: a command may be anywhere along the centre, a straight way between two
        rows, at any time until the last one, and so may be where the robot goes to it from.
    """

    start: float
    times: np.ndarray
    center: np.ndarray
    half_width: np.ndarray
    time_slack: float = 0.0
    tube: bool = False

    def problem(self, size: int) -> str:
        """What is wrong with it, for commands of `size` values; empty where nothing is.

        Sizes come first: nothing is computed of what is too long.
        """
        steps = len(self.times) if self.times.ndim == 1 else 0
        if steps > MOST_TIMES:
            return f"envelope.times has {steps} values, at most {MOST_TIMES}"
        if not steps or self.center.shape != (steps, size) or self.half_width.shape != (size,):
            return (
                f"envelope: expected times (H,), center (H, {size}) and half_width ({size},), got {self.times.shape}, "
                f"{self.center.shape} and {self.half_width.shape}"
            )
        for name in ("start", "times", "center", "half_width", "time_slack"):
            if not np.isfinite(getattr(self, name)).all():
                return f"envelope.{name} is not finite"
        for name in ("half_width", "time_slack"):
            if (np.asarray(getattr(self, name)) < 0).any():
                return f"envelope.{name} is below 0: {getattr(self, name)}"
        return self._wrong_course()

    def _wrong_course(self) -> str:
        if self.tube and len(self.times) != 2:
            return (
                f"envelope.tube is true, so center must have 2 rows, the ends of a straight way, got {len(self.times)}"
            )
        if self.times[0] < 0 or (np.diff(self.times) <= 0).any():
            return f"envelope.times must rise from 0 or later, got {self.times}"
        if self.times[-1] > LONGEST:
            return f"envelope.times ends at {self.times[-1]:.3g} s, at most {LONGEST:g}"
        largest = float(np.abs(self.center).max())
        return f"envelope.center has {largest:.3g}, at most {LARGEST:g}" if largest > LARGEST else ""

    def ahead(self, offset: float) -> float:
        """Seconds that are left of it `offset` seconds after its start."""
        return float(self.times[-1]) - offset

    def excess(self, times: np.ndarray, values: np.ndarray, offset: float) -> float:
        """How far a path leaves the envelope, in half-widths: it is covered up to 1.

        Args: times (K,) rising seconds from now, the first 0, and values (K, A) of the path, on straight lines
        between; the last ones remain. offset: seconds from the envelope's start to now.
        Returns: the largest over all values and the time that the envelope has left, at the best of the shifts within
        `time_slack` that are tried, so never less than at the best of all; inf where no time is left.
        """
        if self.ahead(offset) <= 0:
            return np.inf
        width = np.maximum(self.half_width, 1e-9)
        least = np.inf
        shift = 0.0
        for _ in range(_SHIFTS if self.time_slack > 0 else 1):
            at, apart = self._apart(times, values, offset + shift)
            if not len(at):
                break
            least = min(least, float((np.abs(apart) / width).max()))
            if least <= 1:
                break
            # The next one is that of least squares: each moment says by how much later the command would be here.
            later, sooner = self._center(at + offset + shift + _MOMENT), self._center(at + offset + shift - _MOMENT)
            slope = (later - sooner) / (2 * _MOMENT * width)
            if not slope.any():
                break
            step = float((apart / width * slope).sum() / (slope**2).sum())
            shift = float(np.clip(shift + step, -self.time_slack, self.time_slack))
        return least

    def farthest(self, times: np.ndarray, values: np.ndarray, offset: float) -> tuple[int, float]:
        """Where such a path leaves the envelope most: the value's number, and how far it is from the centre there."""
        _, apart = self._apart(times, values, offset)
        _, value = np.unravel_index(int((np.abs(apart) / np.maximum(self.half_width, 1e-9)).argmax()), apart.shape)
        return int(value), float(np.abs(apart[:, value]).max())

    def _apart(self, times: np.ndarray, values: np.ndarray, offset: float) -> tuple[np.ndarray, np.ndarray]:
        """Seconds from now (T,) at which a path may be farthest from the centre, and how far it is then, (T, A)."""
        if self.tube:  # a straight way with a width is convex: what begins and ends in it does not leave it
            return times, values - self._nearest(values)
        # Both are straight between their way points, so they are farthest apart at one of them.
        last = self.ahead(offset)
        at = np.concatenate([times, self.times - offset, [0.0, last]])
        at = at[(at >= 0) & (at <= last)]
        return at, interpolate(at, times, values) - self._center(at + offset)

    def _nearest(self, values: np.ndarray) -> np.ndarray:
        """(K, A) places along the centre from which values (K, A) are within the half-widths, where there are such."""
        begin = self.center[0]
        way = self.center[1] - self.center[0]
        width = np.maximum(self.half_width, 1e-9)
        moves = way != 0
        apart, reach = (values - begin)[:, moves] / way[moves], width[moves] / np.abs(way[moves])
        first = np.max(apart - reach, axis=1, initial=0.0)  # shares of the way from which each value is within its own
        last = np.min(apart + reach, axis=1, initial=1.0)
        return begin + np.clip((first + last) / 2, 0.0, 1.0)[:, None] * way

    def _center(self, at: np.ndarray) -> np.ndarray:
        """(T, A) the imagined command `at` seconds (T,) after the start."""
        return interpolate(at, self.times, self.center)


@dataclass(frozen=True, eq=False)
class Verdict:
    """The world model's answer to one command.

    stamp: ROS seconds of the judgement.
    image_stamp: of the image that it rests on.
    valid_for: seconds after `stamp` for which it may be used; the gate may allow less.
    plan_id: of the command, for people.
    """

    stamp: float
    image_stamp: float
    valid_for: float
    envelope: Envelope
    finding: Finding
    plan_id: str = ""

    def problem(self, size: int) -> str:
        """What is wrong with it, for commands of `size` values; empty where nothing is."""
        f = self.finding
        numbers = {"stamp": self.stamp, "image_stamp": self.image_stamp, "valid_for": self.valid_for,
                   "finding.scale": f.scale}  # fmt: skip
        for name, number in numbers.items():
            if not np.isfinite(number):
                return f"{name} is {number}"
        if self.valid_for <= 0:
            return f"valid_for is {self.valid_for}, must be above 0"
        if not 0 <= f.scale <= 1 or not all(r > 0 for r in f.max_rate.values()):
            return f"finding: scale must be within 0 and 1, max_rate above 0, got {f.scale} and {dict(f.max_rate)}"
        return self.envelope.problem(size)
