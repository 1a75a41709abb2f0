"""How well something that stops a robot does it: soon, for as long as there is danger, and at no other time."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deepverse_ros.errors import ShapeError


class Signal:
    """Yes or no over time; a value holds until the next one, and before the first it is no.

    Raises: ShapeError where the two do not belong together or times fall.
    """

    def __init__(self, times: Sequence[float] | np.ndarray, values: Sequence[bool] | np.ndarray) -> None:
        """Args: times: (N,) seconds. values: (N,)."""
        self.times, self.values = np.asarray(times, float), np.asarray(values, bool)
        if self.times.shape != self.values.shape or self.times.ndim != 1:
            raise ShapeError(f"times are {self.times.shape} and values {self.values.shape}; expected (N,) twice")
        if not (np.diff(self.times) >= 0).all():
            raise ShapeError("times of a signal must not fall")

    @classmethod
    def of(cls, samples: Iterable[tuple[float, bool]]) -> "Signal":
        """From (seconds, value) pairs in any order."""
        pairs = sorted(samples, key=lambda pair: pair[0])
        return cls([t for t, _ in pairs], [v for _, v in pairs])

    def at(self, when: float) -> bool:
        index = int(np.searchsorted(self.times, when, side="right"))
        return bool(index and self.values[index - 1])

    def spans(self, value: bool, begin: float, end: float) -> list[tuple[float, float]]:
        """Seconds between `begin` and `end` in which it has this value, as (from, to)."""
        inside = self.times[(self.times > begin) & (self.times < end)]
        edges = [begin, *inside.tolist(), end]
        out: list[tuple[float, float]] = []
        for low, high in pairwise(edges):
            if high <= low or self.at(low) != value:
                continue
            joined = bool(out) and out[-1][1] == low
            out.append((out.pop()[0] if joined else low, high))
        return out


@dataclass(frozen=True)
class StopMetrics:
    """The worst of all dangers; NaN where there was none that counts.

    dangers: how many there were while the robot was commanded to move.
    time_to_stop: seconds from a danger's begin to rest; inf: never.
    hold_share: share of the danger's time after this in which the robot is at rest.
    resume_time: seconds from a danger's end until it moves again; inf: not before the next danger or the end.
    false_stops: times that it came to rest without danger, although commanded to move.
    """

    dangers: int
    time_to_stop: float
    hold_share: float
    resume_time: float
    false_stops: int


def stop_metrics(commanded: Signal, passed: Signal, danger: Signal, shortest: float = 0.1) -> StopMetrics:
    """The four figures of one recording, from the first command to the last sample of any signal.

    Args:
        commanded: somebody wants the robot to move.
        passed: it is told to move.
        danger: it should not be.
        shortest: seconds of rest that are a stop at all; less is a late message.
    """
    if not len(commanded.times):
        return StopMetrics(0, math.nan, math.nan, math.nan, 0)
    begin = float(commanded.times[0])
    end = max(float(s.times[-1]) for s in (commanded, passed, danger) if len(s.times))
    dangers = danger.spans(True, begin, end)
    stops, holds, resumes, false_stops = [], [], [], 0
    for number, (low, high) in enumerate(dangers):
        until = dangers[number + 1][0] if number + 1 < len(dangers) else end
        if not commanded.spans(True, low, high):
            continue
        rests = passed.spans(False, low, high)
        stops.append(rests[0][0] - low if rests else math.inf)
        holds.append(sum(b - a for a, b in rests) / (high - rests[0][0]) if rests else 0.0)
        wanted = commanded.spans(True, high, until)
        if wanted:
            moves = [a for a, _ in passed.spans(True, wanted[0][0], until)]
            resumes.append(moves[0] - wanted[0][0] if moves else math.inf)
    for low, high in passed.spans(False, begin, end):
        came = passed.at(math.nextafter(low, -math.inf))  # rest before anything moved is no stop
        wanted_span = sum(min(b, high) - a for a, b in commanded.spans(True, low, high))
        false_stops += came and not danger.at(low) and wanted_span >= shortest
    return StopMetrics(
        len(stops),
        max(stops, default=math.nan),
        min(holds, default=math.nan),
        max(resumes, default=math.nan),
        false_stops,
    )
