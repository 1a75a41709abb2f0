"""What the robot was told last, and how the next command is put: as it is, slower, repeated, or a halt."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command, Layout
from deepverse_ros.safety.settings import CommandLimits

OTHERS_MAY_MOVE_IT = 1.0
"""Seconds without a command after which a robot at rest may be anywhere: its last target counts no more."""
MEASURED_SLACK = 0.05
"""Share of its range by which a measured value may be beyond its limits, and is believed."""


@dataclass(eq=False)
class ActiveCommand:
    """A command on its way.

    command: in the layout's order, from where the robot is.
    original: as it came.
    paused: since when, at the latest, it has not been executed.
    progress: seconds of its own time that were executed.
    speed: share of its pace at which it is executed now, 0 while it is not.
    place: (A,) how far a set-point is gone to, in steps; None where it is not.
    admitted: numbers of the verdicts that last let it pass; those have said at which speed, so they answer for the
        slower way too.
    """

    command: Command
    original: Command
    paused: Now
    progress: float = 0.0
    speed: float = 0.0
    place: np.ndarray | None = None
    admitted: tuple[int, ...] = ()

    @property
    def timed(self) -> bool:
        return self.command.duration > 0

    def path(self) -> tuple[np.ndarray, np.ndarray]:
        """Where it leads from here: times (K,) seconds from now, and values (K, A), as `Envelope.excess` takes it.

        A set-point holds at once, and is gone to from its first row.
        """
        command = self.command
        speed = self.speed or 1.0
        here = command.start if self.place is None else self.place
        if not self.timed and here is not None:
            return np.zeros(2), np.stack([here, command.values[-1]])
        later = command.times > self.progress
        times = np.concatenate([[0.0], (command.times[later] - self.progress) / speed])
        return times, np.concatenate([command.at(self.progress)[None], command.values[later]])


class CommandTracker:
    """Keeps what was sent, and puts the next: never faster than the largest rates allow from what was sent last.

    safe: the last command that was passed on; it is being executed while its speed is above 0. rests: nothing that
    went through here moves the robot any more, so nothing need be halted.
    """

    def __init__(self, layout: Layout, limits: CommandLimits) -> None:
        self.layout = layout
        self.limits = limits
        self.safe: ActiveCommand | None = None
        self.rests = layout.stays
        self._sent: np.ndarray | None = None  # the last values that were sent at once, not on a way
        self._sent_at: float | None = None
        self._passed: np.ndarray | None = None  # those of them that a command made, and no halt or fallback
        self._lost: ActiveCommand | None = None  # what the robot was told when trust in it was lost, and goes on with
        self._lost_until = -math.inf  # and how long that counts, on the steady clock
        self._time_left = 0.0  # seconds of motion that a step may still use up
        self._filled_at: float | None = None
        self._pace = 0.0  # the speed at which the safe command was passed on
        self._advanced: float | None = None
        self._held: np.ndarray | None = None
        self._measured: tuple[np.ndarray, float] | None = None  # and when on the steady clock
        self._measured_stamp = 0.0

    @property
    def moving(self) -> bool:
        """Whether the robot executes a command, and not a halt."""
        return self.safe is not None and self.safe.speed > 0

    def forget(self) -> None:
        """The robot does something else than what was put last; of rates, what it was told before that still holds."""
        self.safe = self._sent_at = self._held = None
        self.rests = False
        self._sent = None if self.layout.position.any() else self._told_last()

    def remember(self, now: Now) -> None:
        """What the robot is told now is what a halt may go by, where nothing better is known later."""
        if self.safe is not None and self.safe.timed and self._held is None:
            self._keep(replace(self.safe), now)
        elif self._sent is not None:
            sent = Command.setpoint(self._sent)
            self._keep(ActiveCommand(sent, sent, now), now)

    def lose(self, now: Now) -> None:
        """As `forget`, but nobody else sent anything: a halt may go by what was sent."""
        self.remember(now)
        at = self._sent_at
        self.forget()
        self._sent_at = at

    def went_by(self, following: ActiveCommand | None, now: Now) -> None:
        """The robot was told this without the gate; None for what nobody could read: it may be anywhere by now."""
        self._keep(None if following is None else replace(following, progress=0.0, speed=1.0), now)

    def _keep(self, following: ActiveCommand | None, now: Now) -> None:
        self._lost = following
        if following is not None:
            left = (following.command.duration - following.progress) / (following.speed or 1.0)
            self._lost_until = now.steady + left + OTHERS_MAY_MOVE_IT

    def come_to_rest(self) -> None:
        """Nothing was under way for long: others may have moved the robot since, and it stays where it is."""
        self.forget()
        self._lost = None
        self.rests = self.layout.stays

    def forget_stamps(self) -> None:
        """The clock jumped: what is stamped from now on may be older than what came before."""
        self._measured_stamp = 0.0

    def measure(self, values: np.ndarray, now: Now, stamp: float = 0.0) -> bool:
        """Take in where the robot is: (A,), of rates whatever; stamp: ROS seconds, 0 for none.

        Returns: False, and nothing changes, unless it is finite, within the limits, and newer than the one before.
        """
        layout = self.layout
        values = np.asarray(values, float)
        if values.shape != (layout.size,) or not np.isfinite(values).all():
            return False
        slack = MEASURED_SLACK * (layout.upper - layout.lower)
        beyond = (values < layout.lower - slack) | (values > layout.upper + slack)
        if (beyond & layout.position).any() or 0 < stamp <= self._measured_stamp:
            return False
        age = max(now.ros - stamp, 0.0) if stamp > 0 else 0.0
        self._measured = (values, now.steady - age)
        self._measured_stamp = max(stamp, self._measured_stamp)
        return True

    def measured_age(self, now: Now) -> float:
        """Seconds, NaN where nothing was measured yet."""
        return math.nan if self._measured is None else now.steady - self._measured[1]

    def measured(self, now: Now, timeout: float) -> np.ndarray | None:
        """(A,), or None where it is older than `timeout` seconds."""
        if self._measured is None or not self.measured_age(now) <= timeout:
            return None
        return self._measured[0]

    def advance(self, now: Now) -> None:
        """Time has gone on; to be called with every event."""
        passed = now.steady - self._advanced if self._advanced is not None else 0.0
        self._advanced = now.steady
        for following in (self.safe, self._lost):
            if following is not None and following.speed > 0:
                done = following.progress + max(passed, 0.0) * following.speed
                following.progress = min(done, following.command.duration)

    def target(self) -> np.ndarray | None:
        """(A,) where the robot was told to be now; None where nothing was sent."""
        if self.safe is not None and self.safe.timed and self._held is None:
            return self.safe.command.at(self.safe.progress)
        return self._sent

    def follow(self, following: ActiveCommand, now: Now, scale: float, max_rate: Mapping[str, float]) -> Command | None:
        """Pass a command on at a share `scale` of its speed, and no faster than `max_rate` of each value.

        Returns: what is to be sent; the very command where nothing is changed; None where it has been sent already.
        """
        caps = np.array([max_rate.get(n, max_rate.get("*", np.inf)) for n in self.layout.names])
        out = self._timed(following, scale, caps) if following.timed else self._at_once(
            following, now, scale, caps
        )  # fmt: skip
        if self.safe is not following and self.safe is not None:
            self.safe.speed = 0.0
        self.safe = following
        self._held = None
        self._pace = following.speed
        self.rests = False
        if out is not None:
            self._sent_at = now.steady
        return out

    def _timed(self, following: ActiveCommand, scale: float, caps: np.ndarray) -> Command | None:
        """Trajectories are executed slower, on the same way."""
        command = following.command
        fastest = command.fastest()
        capped = np.divide(caps, fastest, out=np.ones_like(caps), where=fastest > caps)
        speed = min(scale, float(capped.min()))
        if following.speed == speed:
            return None
        whole = following.progress == 0 and speed == 1
        following.speed = speed
        return command if whole else command.remaining(following.progress, speed)

    def _at_once(self, following: ActiveCommand, now: Now, scale: float, caps: np.ndarray) -> Command | None:
        """Rates are made smaller; what is wanted is gone to in steps that its largest rate allows."""
        layout = self.layout
        wanted = following.command.values[-1]
        out = wanted.copy()
        rates = layout.scaled & ~layout.position
        share = np.divide(caps, np.abs(wanted), out=np.ones_like(caps), where=(np.abs(wanted) > caps) & rates)
        out[rates] *= min(scale, float(share.min()))
        here = self.target()
        if here is None:  # at rest; a command of positions without a start is refused
            rest = np.clip(np.nan_to_num(layout.rest), layout.lower, layout.upper)
            start = following.command.start
            here = rest if start is None else np.where(layout.position, start, rest)
        out = self._step(here, out, scale, caps, now)
        if following.speed > 0 and self._sent is not None and np.array_equal(out, self._sent, equal_nan=True):
            following.speed = scale
            return None
        following.speed = scale
        following.place = out
        self._sent = out
        self._passed = out
        return following.command if np.array_equal(out, wanted) else self._command(out, now)

    def _step(self, here: np.ndarray, wanted: np.ndarray, scale: float, caps: np.ndarray, now: Now) -> np.ndarray:
        """(A,) towards `wanted`, as far as the time since the last step allows; a rate comes to rest at once.

        Positions, and rates that may be made smaller, take the same share of their way, so that it stays straight.
        """
        layout = self.layout
        period = self.limits.period
        passed = period if self._filled_at is None else max(now.steady - self._filled_at, 0.0)
        since = math.inf if self._sent_at is None else now.steady - self._sent_at
        # Time that was not used up is kept for a while: commands and ticks come in any order, also both at once.
        self._time_left = min(self._time_left + passed, float(np.clip(since, period, 2 * period)))
        self._filled_at = now.steady
        nearest = np.clip(layout.rest, np.minimum(here, wanted), np.maximum(here, wanted))
        here = np.where(layout.position | np.isnan(layout.rest), here, nearest)
        rate = np.where(layout.position, np.minimum(scale * layout.max_rate, caps), layout.max_rate)
        needed = np.abs(wanted - here) / (rate * (1 + self.limits.rate_slack))
        together = layout.position | layout.scaled
        needed = np.where(together, np.max(needed, initial=0.0, where=together), needed)
        share = np.divide(self._time_left, needed, out=np.ones(layout.size), where=needed > self._time_left)
        self._time_left -= min(float(needed.max()), self._time_left)
        return np.where(share < 1, here + (wanted - here) * share, wanted)

    def halt(self, now: Now, measured: np.ndarray | None, reach: np.ndarray, here: bool = False) -> Command | None:
        """Bring the robot to rest: rates to rest; positions stay at the last target, or, `here`, where the robot is.

        The place is the same in every call until a command passes again, within the limits, and gone to by steps that
        the largest rates allow from what was sent last, and in the time that they need from where the robot is.
        Args: measured: (A,), None where it is not known. reach: (A,) how far the robot can be from where it was told to
        be. Returns: None where nothing is known, or the robot rests anyway: a wrong measurement moves no such robot.
        """
        if self.rests:
            return None
        layout = self.layout
        target = self.target()
        told = self._told(now) if target is None else target
        # Nobody measures a rate: one that is kept is what it was told last, however long ago. One that is not known is
        # none: to brake matters more than to hold the wheel.
        last = self._told_last() if told is None else told
        kept = np.zeros(layout.size) if last is None else last
        far = self._apart(measured, told) > reach
        if far.any() and target is None:
            self._lost = told = None  # others have moved it since
        if self._held is None:
            # So far from its target it cannot be: what is measured is wrong.
            stops = None if far.any() and target is not None else measured
            places = (stops, told) if here else (target, measured, told)
            place = next((p for p in places if p is not None), None)
            self._held = None if place is None else np.clip(place, layout.lower, layout.upper)
        if self.safe is not None:
            if self.safe.speed > 0:
                self.safe.paused = now
            self.safe.speed = 0.0
        if self._held is None and layout.position.any():
            return None
        values = np.where(np.isnan(layout.rest), kept, layout.rest)
        if self._held is not None:
            place = np.where(layout.position, self._held, kept)
            if told is not None:
                place = self._step(
                    np.where(layout.position, told, kept), place, 1.0, np.full(layout.size, np.inf), now
                )  # fmt: skip
            values = np.where(layout.position, place, values)
        values = np.clip(values, layout.lower, layout.upper)
        return self._send(values, now, float((self._apart(measured, values) / layout.max_rate).max()))

    def _told(self, now: Now) -> np.ndarray | None:
        """(A,) where the robot was told to be when trust in it was lost, unless others may have moved it since."""
        return None if now.steady > self._lost_until else self._told_last()

    def _told_last(self) -> np.ndarray | None:
        """(A,) the same, however long ago."""
        return None if self._lost is None else self._lost.command.at(self._lost.progress)

    def _apart(self, measured: np.ndarray | None, place: np.ndarray | None) -> np.ndarray:
        """(A,) of positions, 0 where one is not known."""
        if measured is None or place is None:
            return np.zeros(self.layout.size)
        return np.where(self.layout.position, np.abs(measured - place), 0.0)

    def begin_anew(self, waiting: ActiveCommand) -> None:
        """A trajectory that waits goes on from where the robot is held, which may be off the way; slower if need be."""
        held = self._sent
        layout = self.layout
        if self._held is None or held is None or not waiting.timed or waiting.speed > 0:
            return
        left = waiting.command.at(waiting.progress)
        place = np.where(layout.position, held, left)
        if np.allclose(place, left, rtol=0, atol=1e-9):
            return
        rest = replace(waiting.command.remaining(waiting.progress, 1.0), start=place)
        stretch = max(1.0, float((rest.fastest() / (layout.max_rate * (1 + self.limits.rate_slack))).max()))
        waiting.command = waiting.original = replace(rest, times=rest.times * stretch)
        waiting.progress = 0.0

    def repeat(self, now: Now, factor: float) -> Command | None:
        """The last safe command again, at a share `factor` above 0 of the pace at which it was passed on."""
        safe = self.safe
        layout = self.layout
        if safe is None or safe.speed <= 0:
            return None
        if safe.timed:
            safe.speed = self._pace * factor
            self._sent_at = now.steady
            return safe.command.remaining(safe.progress, safe.speed)
        last = safe.command.values[-1] if self._passed is None else self._passed
        return self._send(np.where(layout.scaled & ~layout.position, last * factor, last), now)

    def _send(self, values: np.ndarray, now: Now, seconds: float = 0.0) -> Command:
        self._sent = values
        self._sent_at = now.steady
        return self._command(values, now, seconds)

    def _command(self, values: np.ndarray, now: Now, seconds: float = 0.0) -> Command:
        return Command(values[None], np.array([seconds]), self.layout.names, now.ros)
