"""Set-points that follow each other, as a servo or a teleoperation sends them: where the next ones will be.

Each is replaced within milliseconds, and a judgement takes longer than that. So what is judged is a tube, ahead of the
set-points: all places around the way that they may take until there is a newer judgement.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.commands import STREAM_PAUSE, Command, Layout
from deepverse_ros.safety.finding import Finding

LEAST = 4
"""Set-points that make a stream."""
LONGEST = 0.5
"""Seconds in which a set-point of a stream is to be reached, at most."""
LATELY = 0.6
"""Share of a velocity that it had lately which a stream may take up at once, also backwards."""
TURN = 0.25
"""Share of its largest velocity of late by which that of a value may change at once."""
FASTER = 1.3
"""A stream may be faster by so much than it was lately."""
OTHERS_MAY_MOVE_IT = 1.0
"""Seconds after which a robot that was told nothing may not be where it was told to be."""
_REMEMBERED = 0.4  # seconds of set-points that say how they move
_LATELY, _EACH = 2.0, 0.2  # seconds for which velocities are remembered, and from one to the next
_BENDS = 6, 0.15  # set-points and seconds of them from which on their acceleration is known
_JUMP = 2.0  # largest rates: a set-point that is farther away does not go on with the one before
_SOONEST = 0.02  # seconds: those that come quicker count as so far apart


@dataclass(frozen=True, eq=False)
class Tube:
    """All places within half_width (A,) of the straight way from begin (A,) to end (A,)."""

    begin: np.ndarray
    end: np.ndarray
    half_width: np.ndarray

    def along(self, count: int) -> np.ndarray:
        """(count, A) places of equal distance, both ends among them."""
        return np.linspace(self.begin, self.end, count)

    @classmethod
    def around(cls, places: Sequence[np.ndarray], margin: np.ndarray, unit: np.ndarray) -> "Tube":
        """The tube along the two places (A,) that are farthest apart, and so wide that it holds all, and margin (A,).

        Args: unit (A,): what counts as equally far in each value.
        """
        points = np.stack(list(places))
        apart = np.linalg.norm((points[:, None] - points[None]) / unit, axis=-1)
        first, last = np.unravel_index(int(np.argmax(apart)), apart.shape)
        begin = points[first]
        way = points[last] - points[first]
        length = float(((way / unit) ** 2).sum())
        share = ((points - begin) / unit) @ (way / unit) / length if length > 0 else np.zeros(len(points))
        off = np.abs(points - begin - np.clip(share, 0.0, 1.0)[:, None] * way).max(0)
        return cls(begin, begin + way, off + margin)


@dataclass(frozen=True, eq=False)
class Stream:
    """The newest set-point of a stream, and how it moves.

    at: ROS seconds of its coming.
    value, velocity, acceleration: (A,) per second.
    lately: (K, A) velocities that it had in the last seconds.
    places: (K, A) where the robot is on its way from, and to, by what has passed.
    lasts: seconds for which a judgement has to answer for the set-points.
    """

    at: float
    value: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    lately: np.ndarray
    places: np.ndarray
    lasts: float = 0.0

    def leads_to(self, ahead: np.ndarray) -> np.ndarray:
        """(T, A) set-points `ahead` (T,) seconds after the newest, as it moves now, and at rest after `lasts`."""
        return self.value + np.minimum(ahead, self.lasts)[:, None] * self.velocity

    def tube(self, share: float, wide: float, margin: np.ndarray, least: np.ndarray, layout: Layout) -> Tube:
        """Where they may be for a share of `lasts`, and where the robot may be until then.

        They go on as they do, or at a changing pace, or take up a velocity that they had lately, or turn round.

        Args: wide: times the margins: `margin` (A,), and that a value may be off by TURN times its largest velocity of
        late. least (A,): half-width, at least.
        """
        places = [*self.places, self.value]
        seconds = share * self.lasts
        for t in (seconds / 2, seconds):
            gain = np.clip(t * self.acceleration, -layout.max_rate, layout.max_rate)
            places += [self.value + t * self.velocity, self.value + t * (self.velocity + gain / 2)]
        places += [self.value + seconds * LATELY * sign * velocity for velocity in self.lately for sign in (-1, 1)]
        inside = [np.clip(place, layout.lower, layout.upper) for place in places]
        margin = wide * (margin + TURN * seconds * np.abs(self.lately).max(0))
        return Tube.around(inside, np.maximum(margin, least), layout.upper - layout.lower)

    def way_ahead(self, half_width: np.ndarray, layout: Layout) -> Tube:
        """The tube from where the robot is told to be to where they lead as they move now. Args: half_width (A,)."""
        places = np.concatenate([self.places, self.leads_to(np.array([0.0, self.lasts]))])
        inside = list(np.clip(places, layout.lower, layout.upper))
        return Tube.around(inside, half_width, layout.upper - layout.lower)

    def hindered(self, finding: Finding, layout: Layout) -> bool:
        """Whether it would be slower by what was found."""
        most = np.array([finding.max_rate.get(n, finding.max_rate.get("*", np.inf)) for n in layout.names])
        fast = np.minimum(finding.scale * layout.max_rate, most)
        return finding.action == Action.STOP or bool((FASTER * np.abs(self.lately).max(0) > fast).any())


class SetpointStream:
    """Recognises a stream: single targets of positions, several a second, each near the one before."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._recent: deque[tuple[float, np.ndarray]] = deque(maxlen=256)
        self._velocities: deque[tuple[float, np.ndarray]] = deque()
        self._count = 0

    def forget(self) -> None:
        self._recent.clear()
        self._velocities.clear()
        self._count = 0

    def add(self, command: Command, now: float) -> Stream | None:
        """Take a command that came at `now` (ROS seconds). Returns: the stream that it goes on with, if any."""
        single = self._layout.stays and len(command.times) == 1 and command.duration <= LONGEST
        if not single or not self._goes_on(command.values[0], now):
            self.forget()
        if not single:
            return None
        self._recent.append((now, command.values[0]))
        self._count += 1
        while now - self._recent[0][0] > _REMEMBERED and len(self._recent) > LEAST:
            self._recent.popleft()
        return self._stream() if self._count >= LEAST else None

    def _goes_on(self, value: np.ndarray, now: float) -> bool:
        if not self._recent:
            return False
        since = now - self._recent[-1][0]
        reach = _JUMP * self._layout.max_rate * max(since, _SOONEST)
        return 0 <= since <= STREAM_PAUSE and bool((np.abs(value - self._recent[-1][1]) <= reach).all())

    def _stream(self) -> Stream:
        now, value = self._recent[-1]
        times = np.array([at - now for at, _ in self._recent])
        values = np.stack([v for _, v in self._recent]) - value
        span = float(np.ptp(times))
        velocity = acceleration = np.zeros_like(value)
        if span > 0:
            bends = len(times) >= _BENDS[0] and span >= _BENDS[1]
            basis = np.stack([times, times**2 / 2][: 1 + bends], 1)
            fit = np.linalg.lstsq(basis, values, rcond=None)[0]
            velocity = np.clip(fit[0], -self._layout.max_rate, self._layout.max_rate)
            acceleration = fit[1] if bends else acceleration
        if not self._velocities or now - self._velocities[-1][0] >= _EACH:
            self._velocities.append((now, velocity))
        while now - self._velocities[0][0] > _LATELY:
            self._velocities.popleft()
        lately = np.stack([v for _, v in self._velocities])
        return Stream(now, value, velocity, acceleration, lately, value[None])


class Told:
    """Where the robot is on its way from and to, by the commands that passed."""

    def __init__(self) -> None:
        self._last: tuple[Command, float] | None = None

    def forget(self) -> None:
        self._last = None

    def passed(self, command: Command, now: float) -> None:
        """Args: now: ROS seconds."""
        start = self._at(now)
        self._last = replace(command, start=command.start if start is None else start), now

    def _at(self, now: float) -> np.ndarray | None:
        return None if self._last is None else self._last[0].at(now - self._last[1])

    def places(self, now: float, measured: np.ndarray | None) -> np.ndarray | None:
        """(K, A) where it is told to be now and at the end; as measured where nothing passed, None where unknown."""
        here = self._at(now)
        seen = [] if measured is None else [measured.astype(float)]
        if here is None or self._last is None:
            return np.stack(seen) if seen else None
        command, since = self._last
        # Others may have moved a robot that was told nothing for a while.
        places = [here, command.values[-1], *(seen if now - since > command.duration + OTHERS_MAY_MOVE_IT else [])]
        return np.stack(places)
