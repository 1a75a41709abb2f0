"""Commands to a robot, and the checks that need no imagination: names, numbers, limits, rates, stamps."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.check import Check, at_most
from deepverse_ros.safety.polyline import interpolate
from deepverse_ros.safety.settings import CommandLimits

STREAM_PAUSE = 0.5
"""Seconds after which a target does not go on with the one before."""


@dataclass(frozen=True, eq=False)
class Layout:
    """What the A values of a command mean; all arrays (A,).

    names: such as joint names.
    position: true where the value is a place that the robot stays at, false where it is a rate or an effort that goes
        on until another one comes.
    lower, upper: limits in the value's unit.
    max_rate: largest change per second, inf where it may jump.
    rest: the rate that brings the robot to rest, NaN to keep the last one (steering); unused for positions.
    scaled: whether to slow down means to make a rate smaller (not brakes).
    units: of the values, for people; () where they are not known.

    Raises: ShapeError naming the field.
    """

    names: tuple[str, ...]
    position: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    max_rate: np.ndarray
    rest: np.ndarray
    scaled: np.ndarray
    units: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names):
            raise ShapeError(f"names: at least one, and each once, got {self.names}")
        for name in ("position", "lower", "upper", "max_rate", "rest", "scaled"):
            if getattr(self, name).shape != (len(self.names),):
                raise ShapeError(f"{name}: expected ({len(self.names)},), got {getattr(self, name).shape}")
        if not (self.lower < self.upper).all() or not (self.max_rate > 0).all():
            raise ShapeError("lower must be below upper, and max_rate above 0, in every value")

    @property
    def size(self) -> int:
        """A."""
        return len(self.names)

    def unit(self, value: int) -> str:
        """Of a value by its number; empty where it is not known."""
        return self.units[value] if self.units else ""

    @property
    def stays(self) -> bool:
        """Whether a robot without a further command comes to rest by itself."""
        return bool(self.position.all())

    @classmethod
    def of(
        cls, embodiment: Embodiment, rest: Mapping[str, float | None] | None = None, unscaled: tuple[str, ...] = ()
    ) -> "Layout":
        """The actions of a robot.

        Args: rest: the modalities that are rates, and the value of each that brings it to rest, None to keep the last;
        all others are positions. unscaled: rates that are not made smaller to slow down.
        Raises: ShapeError for a modality that the robot does not have.
        """
        rest = rest or {}
        known = {m.name for m in embodiment.modalities}
        for name in (*rest, *unscaled):
            if name not in known:
                raise ShapeError(f"'{name}' is no modality of '{embodiment.name}'; it has {', '.join(sorted(known))}")
        names: list[str] = []
        units: list[str] = []
        rates, rests, scaled, moving = [], [], [], []
        for m in embodiment.modalities:
            single = [m.name] if m.dim == 1 else [f"{m.name}[{i}]" for i in range(m.dim)]
            names += m.joints or single
            units += [m.units] * m.dim
            value = rest.get(m.name)
            rates += list(m.max_rate or [np.inf] * m.dim)
            rests += [np.nan if value is None else value] * m.dim
            moving += [m.name in rest] * m.dim
            scaled += [m.name not in unscaled] * m.dim
        return cls(
            tuple(names), ~np.array(moving), embodiment.lower.astype(float), embodiment.upper.astype(float),
            np.array(rates, float), np.array(rests, float), np.array(scaled), tuple(units),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Command:
    """What the robot is told; as received it may be wrong in every way, `check` says how.

    values: (K, A) way points.
    times: (K,) seconds from its start at which each is reached, on a straight line from the one before; a single one at
        0 is a set-point, or a rate.
    names: of the values, () for the layout's own order.
    stamp: ROS seconds, 0 for none.
    start: (A,) where the robot is at time 0.
    """

    values: np.ndarray
    times: np.ndarray
    names: tuple[str, ...] = ()
    stamp: float = 0.0
    start: np.ndarray | None = None

    @classmethod
    def setpoint(cls, values: np.ndarray, names: tuple[str, ...] = (), stamp: float = 0.0) -> "Command":
        """One target, or rate (A,), that holds at once."""
        return cls(np.asarray(values, float)[None], np.zeros(1), names, stamp)

    @property
    def duration(self) -> float:
        """Seconds to the last way point; 0 for a set-point or a rate."""
        return float(self.times[-1])

    def at(self, elapsed: np.ndarray | float) -> np.ndarray:
        """(..., A) values `elapsed` (...) seconds after its start; the last ones remain."""
        times, values = self.times, self.values
        if self.start is not None and times[0] > 0:
            times, values = np.concatenate([[0.0], times]), np.concatenate([self.start[None], values])
        return interpolate(elapsed, times, values)

    def remaining(self, elapsed: float, speed: float) -> "Command":
        """What is left after `elapsed` seconds of it, executed at a share `speed` of its pace."""
        left = self.times > elapsed
        if not left.any():
            return replace(self, values=self.values[-1:], times=np.zeros(1), start=self.values[-1])
        return replace(
            self, values=self.values[left], times=(self.times[left] - elapsed) / speed, start=self.at(elapsed)
        )

    def fastest(self) -> np.ndarray:
        """(A,) largest rates on the way, per second; inf for a jump."""
        times, values = self.times, self.values
        if self.start is not None and times[0] > 0:
            times, values = np.concatenate([[0.0], times]), np.concatenate([self.start[None], values])
        if len(times) == 1:
            return np.zeros(values.shape[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = np.abs(np.diff(values, axis=0)) / np.diff(times)[:, None]
        return np.nan_to_num(rates, nan=0.0, posinf=np.inf).max(0, initial=0.0)


def in_layout_order(command: Command, layout: Layout) -> tuple[Command | None, tuple[Check, ...]]:
    """The command in the layout's order as floats, or None where names, shape or numbers are wrong; the checks made."""
    names = command.names or layout.names
    unknown = [n for n in names if n not in layout.names]
    missing = [n for n in layout.names if n not in names]
    problem = (
        f"unknown: {', '.join(unknown)}" if unknown else f"missing: {', '.join(missing)}" if missing else
        f"some stand twice in {', '.join(names)}" if len(names) != layout.size else ""
    )  # fmt: skip
    done: tuple[Check, ...] = (
        Check("names", not problem, len(unknown) + len(missing), 0, problem and f"names of the command, {problem}"),
    )
    if problem:
        return None, done
    try:
        values, times = np.asarray(command.values, float), np.asarray(command.times, float)
        start = None if command.start is None else np.asarray(command.start, float)
    except (TypeError, ValueError) as error:
        return None, (*done, Check("shape", False, text=f"the command is no array of numbers: {error}"))
    points = len(values) if values.ndim else 0
    size = layout.size
    fits = points > 0 and values.shape == (points, size) and times.shape == (points,)
    if not fits or (start is not None and start.shape != (size,)):
        text = f"expected values (K, {size}) with K >= 1, times (K,) and start ({size},), got {values.shape}, "
        text += f"{times.shape} and {None if start is None else start.shape}"
        return None, (*done, Check("shape", False, points, 1, text))
    done += (Check("shape", True, points, 1),)
    finite = [np.isfinite(values).all(1), np.isfinite(times)]
    finite += [] if start is None else [np.isfinite(start)]
    wrong = int(sum((~f).sum() for f in finite)) + (not np.isfinite(command.stamp))
    if wrong:
        step, value = np.argwhere(~np.isfinite(values))[0] if not finite[0].all() else (-1, -1)
        where = (
            f"{names[value]} is {values[step, value]} at way point {step}" if step >= 0 else "a time, stamp or start"
        )
        return None, (*done, Check("finite", False, wrong, 0, f"the command is not finite: {where}"))
    done += (Check("finite", True, 0, 0),)
    order = [names.index(n) for n in layout.names]
    start = None if start is None else start[order]
    return Command(values[:, order], times, layout.names, float(command.stamp), start), done


def check(
    command: Command, layout: Layout, limits: CommandLimits, ros: float, reference: np.ndarray | None = None,
    previous: Command | None = None, since: float = 0.0,
) -> tuple[Command | None, tuple[Check, ...]]:  # fmt: skip
    """Check a command as it came.

    Args:
        ros: the ROS clock now, seconds.
        reference: (A,) where the robot is, or was told to be last; None where nobody knows.
        previous: the last good command, arranged, and how many seconds `since` it; None where a set-point may be
            anywhere.
    Returns: the command in the layout's order as floats and with a start, None where any check is not fine; every check
    that was made.
    """
    own, done = in_layout_order(command, layout)
    if own is None:
        return None, done
    if reference is not None:  # what the sender takes for the start may be out of date
        own = replace(own, start=reference)
        own = _in_time(own, layout, limits, previous, since)
    known = own.start is not None or not layout.position.any()
    done += (Check("start", known, text="" if known else "it is not known where the robot is, so nothing may move it"),)
    done += (*_times(own, limits), _stamp(own, limits, ros), _position(own, layout, limits))
    if all(c.ok for c in done):
        done += (_rate(own, layout, limits, previous, since),)
    return (own if all(c.ok for c in done) else None), done


def _in_time(
    command: Command, layout: Layout, limits: CommandLimits, previous: Command | None, since: float
) -> Command:  # fmt: skip
    """A target that follows another one by less than the largest rates, but is farther from where the robot was held.

    Whoever sends it does not know that the robot was held, and says when it could be there had it not been: it gets
    there as soon as the largest rates allow.
    """
    start = command.start
    last = previous
    if start is None or last is None or since > STREAM_PAUSE or not len(command.times) == len(last.times) == 1:
        return command
    apart = np.abs(command.values[0] - last.values[0]) / max(since, limits.period)
    if command.duration <= 0 or (apart > layout.max_rate * (1 + limits.rate_slack)).any():
        return command
    needed = float((np.abs(command.values[0] - start) / layout.max_rate).max())
    return replace(command, times=np.maximum(command.times, needed))


def _times(command: Command, limits: CommandLimits) -> tuple[Check, ...]:
    steps = np.diff(command.times)
    least = float(steps.min()) if len(steps) else float(command.times[0])
    ok = bool(command.times[0] >= 0 and (steps > 0).all())
    text = "" if ok else f"times of the way points must rise from 0 or later, the least step is {least:.3g} s"
    points = at_most("points", len(command.times), limits.max_points, "the command has many way points")
    return points, Check("times", ok, least, 0.0, text)


def _stamp(command: Command, limits: CommandLimits, ros: float) -> Check:
    if command.stamp == 0.0:
        text = "the command has no stamp" if limits.require_stamp else ""
        return Check("command_stamp", not limits.require_stamp, threshold=limits.max_age, text=text)
    age = ros - command.stamp
    if age < -limits.max_lead:
        text = f"the command is stamped {-age:.3g} s ahead of the clock, at most {limits.max_lead:.3g}"
        return Check("command_stamp", False, age, -limits.max_lead, text)
    return at_most("command_stamp", age, limits.max_age, "the command is old, in seconds")


def _position(command: Command, layout: Layout, limits: CommandLimits) -> Check:
    """The share of its range by which the worst value is beyond its limits."""
    span = layout.upper - layout.lower
    over = np.maximum(command.values - layout.upper, layout.lower - command.values) / span
    step, value = np.unravel_index(int(np.argmax(over)), over.shape)
    worst = max(float(over[step, value]), 0.0)
    ok = worst <= limits.position_slack
    low, high = layout.lower[value], layout.upper[value]
    text = f"{layout.names[value]} is {command.values[step, value]:.3g}, allowed are {low:.3g} to {high:.3g}"
    return Check("limits", ok, worst, limits.position_slack, "" if ok else text)


def _rate(command: Command, layout: Layout, limits: CommandLimits, previous: Command | None, since: float) -> Check:
    """The worst rate as a multiple of its limit: between way points, or against the command before."""
    rates = command.fastest()
    if command.duration > 0 and command.times[0] == 0 and command.start is not None:
        rates = np.maximum(rates, np.abs(command.values[0] - command.start) / limits.jump_time)
    if previous is not None and command.duration == 0 and previous.duration == 0:
        before, after = previous.values[-1], command.values[0]
        # Towards rest a rate may change as fast as it likes: nothing that stops the robot is refused.
        slower = (np.abs(after - layout.rest) <= np.abs(before - layout.rest)) & (
            (after - layout.rest) * (before - layout.rest) >= 0
        )
        change = np.where(slower & ~layout.position, 0.0, np.abs(after - before))
        rates = np.maximum(rates, change / max(since, limits.period))
    multiple = np.where(np.isinf(layout.max_rate), 0.0, rates / layout.max_rate)
    value = int(np.argmax(multiple))
    text = f"{layout.names[value]} changes by {rates[value]:.3g} per second, at most {layout.max_rate[value]:.3g}"
    ok = bool(multiple[value] <= 1 + limits.rate_slack)
    return Check("rate", ok, float(multiple[value]), 1 + limits.rate_slack, "" if ok else text)
