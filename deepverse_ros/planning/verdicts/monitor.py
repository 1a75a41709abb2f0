"""Whether the robot is where it was imagined to be, while it follows a plan."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.errors import ShapeError


@dataclass(frozen=True)
class Deviation:
    """How far the tool is from its imagined path.

    metres: from the tool to the imagined path.
    bound: metres that are allowed there.
    step: of the plan, from 0.
    """

    metres: float
    bound: float
    step: int

    @property
    def left(self) -> bool:
        """Whether the path was left; also where the distance is not a number."""
        return not self.metres <= self.bound


class PathMonitor:
    """The imagined way of the tool over time, and how far off it may be.

    The way is straight between the imagined places: the robot is asked for a straight way in joint space, which is
    nearly one of the tool. During a step the wider of the bounds at its two ends holds.
    """

    def __init__(
        self, start: np.ndarray, path: np.ndarray, bounds: np.ndarray, dt: float, tolerance: float = 0.0
    ) -> None:
        """Take in what was imagined.

        Args:
            start: (3,) metres, the tool when the plan begins.
            path: (H, 3) metres, after each step.
            bounds: (H,) metres at the end of each step (Calibration.path_bound).
            dt: seconds of a step.
            tolerance: seconds that the robot may be ahead of the plan or behind it without leaving its path.
        Raises: ShapeError naming the field.
        """
        if path.ndim != 2 or path.shape[1] != 3 or not len(path) or not np.isfinite(path).all():
            raise ShapeError(f"path: expected finite (H >= 1, 3), got {path.shape}")
        if start.shape != (3,) or not np.isfinite(start).all():
            raise ShapeError(f"start: expected three finite numbers (metres), got {start}")
        if bounds.shape != path.shape[:1] or not (bounds >= 0).all():
            raise ShapeError(f"bounds: expected ({len(path)},) of at least 0, got {bounds}")
        if not (dt > 0 and tolerance >= 0):
            raise ShapeError(f"dt must be positive and tolerance at least 0, got {dt} and {tolerance} s")
        self._places = np.vstack([start, path]).astype(float)
        self._bounds = np.maximum(bounds, np.concatenate([bounds[:1], bounds[:-1]]))
        self._dt, self._tolerance = dt, tolerance

    @property
    def duration(self) -> float:
        """Seconds from the beginning of the plan to its end."""
        return self._dt * len(self._bounds)

    def check(self, position: np.ndarray, elapsed: float) -> Deviation:
        """Compare the tool with where it should be now, give or take the tolerance.

        Args: position (3,) metres, observed `elapsed` seconds after the plan began. Before the beginning the start
        counts, after the end the last place.
        """
        steps = len(self._bounds)
        around = (elapsed - self._tolerance, elapsed + self._tolerance)
        earliest, latest = (float(np.clip(t / self._dt, 0, steps)) for t in around)
        first, last = (min(int(t), steps - 1) for t in (earliest, latest))
        found = []
        for step in range(first, last + 1):
            ends = [self._at(step, max(earliest, step)), self._at(step, min(latest, step + 1))]
            found.append(Deviation(_distance(position, *ends), float(self._bounds[step]), step))
        return min(found, key=lambda deviation: deviation.metres - deviation.bound)

    def _at(self, step: int, time: float) -> np.ndarray:
        """(3,) on the way of `step`. Args: time in steps."""
        begin, end = self._places[step : step + 2]
        return begin + (time - step) * (end - begin)


def _distance(point: np.ndarray, begin: np.ndarray, end: np.ndarray) -> float:
    """Metres from a point (3,) to a line from `begin` (3,) to `end` (3,)."""
    way = end - begin
    length = float(way @ way)
    along = float(np.clip((point - begin) @ way / length, 0, 1)) if length > 0 else 0.0
    return float(np.linalg.norm(point - begin - along * way))
