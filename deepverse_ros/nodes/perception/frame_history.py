"""Which past frames the model sees: the newest one and those one model step (dt), two steps, … before it."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class TimedRing(Generic[T]):
    """Values by their stamps, in order, not older than `span` seconds before the newest. Not thread-safe.

    Args:
        jump: a stamp that is so many seconds older than the newest means that the clock jumped back: what was before
            belongs to another time, and is forgotten.
        most: not more than so many of them, the newest; None: whatever comes within `span`.
    """

    def __init__(self, span: float, jump: float = math.inf, most: int | None = None) -> None:
        self.span, self.jump, self.most = span, jump, most
        self._stamps: list[float] = []
        self._values: list[T] = []

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def newest(self) -> tuple[float, T] | None:
        return (self._stamps[-1], self._values[-1]) if self._stamps else None

    def newest_where(self, condition: Callable[[T], bool]) -> tuple[float, T] | None:
        """The newest stamp and value for which `condition` is true; None without one."""
        for at in range(len(self._stamps) - 1, -1, -1):
            if condition(self._values[at]):
                return self._stamps[at], self._values[at]
        return None

    def add(self, stamp: float, value: T) -> None:
        """Insert in order of stamps; an equal stamp replaces its value."""
        if self._stamps and stamp < self._stamps[-1] - self.jump:
            self.clear()
        at = bisect_left(self._stamps, stamp)
        if at < len(self._stamps) and self._stamps[at] == stamp:
            self._values[at] = value
        else:
            self._stamps.insert(at, stamp)
            self._values.insert(at, value)
        keep = bisect_left(self._stamps, self._stamps[-1] - self.span)
        if self.most is not None:
            keep = max(keep, len(self._stamps) - self.most)
        del self._stamps[:keep], self._values[:keep]

    def thin(self, most: int, spare: int) -> None:
        """Leave out what its neighbours are closest to until `most` are left: what stays is spread over the span.

        Args: spare: so many of the newest stay in any case; at least 1, below `most` - 1.
        """
        while len(self._stamps) > most:
            at = min(range(1, len(self._stamps) - spare), key=lambda i: self._stamps[i + 1] - self._stamps[i - 1])
            del self._stamps[at], self._values[at]

    def last(self, stamp: float) -> tuple[float, T] | None:
        """The newest stamp and value that are not after `stamp`; None without one."""
        at = bisect_right(self._stamps, stamp) - 1
        return (self._stamps[at], self._values[at]) if at >= 0 else None

    def next(self, stamp: float) -> tuple[float, T] | None:
        """The oldest stamp and value that are after `stamp`; None without one."""
        at = bisect_right(self._stamps, stamp)
        return (self._stamps[at], self._values[at]) if at < len(self._stamps) else None

    def nearest(self, stamp: float, tolerance: float) -> tuple[float, T] | None:
        """The stamp and value closest to `stamp`, within `tolerance` seconds; None without one."""
        at = bisect_left(self._stamps, stamp)
        best = min(
            (i for i in (at - 1, at) if 0 <= i < len(self._stamps)),
            key=lambda i: abs(self._stamps[i] - stamp),
            default=None,
        )
        if best is None or abs(self._stamps[best] - stamp) > tolerance:
            return None
        return self._stamps[best], self._values[best]

    def clear(self) -> None:
        self._stamps.clear()
        self._values.clear()


@dataclass(frozen=True)
class Window(Generic[T]):
    """Frames for the model, oldest first: `stamps` in seconds and as many `frames`."""

    stamps: tuple[float, ...]
    frames: tuple[T, ...]


class FrameHistory(Generic[T]):
    """Past camera frames at any rate, from which a window at the model's rate is taken.

    Of a camera that is faster than a window needs, or whose pictures are large, some frames between the newest ones and
    the oldest are left out: at most MOST_PER_STEP of a step are kept, and as few as LEAST_PER_STEP where all together
    would have more than MOST_PIXELS. With a window of 4, up to 2 megapixels at 30 Hz none is.

    Args:
        dt: seconds between two frames of the model.
        context: at most so many frames in a window.
        tolerance: a frame may be so many seconds off its ideal time; below dt / 2, so that none is taken twice.
    """

    MOST_PER_STEP = 16
    LEAST_PER_STEP = 3
    """As many as keep one within the default tolerance of each ideal time."""
    MOST_PIXELS = 64_000_000

    def __init__(self, dt: float, context: int, tolerance: float | None = None) -> None:
        self.dt = dt
        self.context = context
        self.tolerance = 0.4 * dt if tolerance is None else tolerance
        if not 0 < self.tolerance < dt / 2:
            raise ValueError(f"tolerance is {self.tolerance} s; it must lie between 0 and half of dt ({dt} s)")
        # One dt more than a window spans, for one that ends before the newest frame.
        self._ring: TimedRing[T] = TimedRing(context * dt + self.tolerance + 1e-6)
        self._shape: tuple[int, ...] | None = None
        self._began = math.inf

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def complete(self) -> bool:
        """Whether it began as long ago as a window does; one that is shorter then is that of a slow camera."""
        newest = self._ring.newest
        return newest is not None and newest[0] - self._began >= (self.context - 1) * self.dt - self.tolerance

    def add(self, stamp: float, frame: T, shape: tuple[int, ...]) -> str | None:
        """Take in one frame of `shape` (height, width).

        A frame that is at most one dt older than the newest merely came late and is put in its place. One that is
        older, or of another shape, ends this history and begins a new one.

        Returns: the reason why the history was cleared, or None.
        """
        cleared = None
        newest = self._ring.newest
        if newest is not None and stamp < newest[0] - self.dt:
            cleared = f"image stamp jumped back by {newest[0] - stamp:.3f} s to {stamp:.3f} s; the history was cleared"
        elif self._shape is not None and shape != self._shape:
            old, new = "x".join(map(str, self._shape[::-1])), "x".join(map(str, shape[::-1]))
            cleared = f"image size changed from {old} to {new} pixels; the history was cleared"
        if cleared:
            self.clear()
        self._began = min(self._began, stamp)
        self._shape = shape
        self._ring.add(stamp, frame)
        # The newest ones stay as they are: a window may end at any of them, and depth may still come for them.
        self._ring.thin(self._most(shape), self.LEAST_PER_STEP)
        return cleared

    def _most(self, shape: tuple[int, ...]) -> int:
        """How many frames of this shape are kept."""
        steps = self.context + 1
        fit = self.MOST_PIXELS // max(1, math.prod(shape))
        return max(self.LEAST_PER_STEP * steps, min(fit, self.MOST_PER_STEP * steps))

    def window(self, complete: Callable[[T], bool] | None = None) -> Window[T] | None:
        """The newest frame and, one dt apart, those before it, up to the first that is missing.

        Args: complete: the window ends at the newest frame for which this is true; at the newest of all without one.
        Returns: 1 to `context` frames, oldest first; None while there is no frame at all.
        """
        newest = (self._ring.newest_where(complete) if complete else None) or self._ring.newest
        if newest is None:
            return None
        picked = [newest]
        for k in range(1, self.context):
            found = self._ring.nearest(newest[0] - k * self.dt, self.tolerance)
            if found is None:
                break
            picked.append(found)
        picked.reverse()
        return Window(tuple(stamp for stamp, _ in picked), tuple(frame for _, frame in picked))

    def clear(self) -> None:
        self._ring.clear()
        self._shape, self._began = None, math.inf
