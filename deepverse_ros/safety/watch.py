"""The watchdogs: everything that has to be well and in time before a command may pass, each as a check."""

import math

from deepverse_ros.safety.check import Check, at_most
from deepverse_ros.safety.clock import ClockWatch, Now
from deepverse_ros.safety.motion import Following
from deepverse_ros.safety.settings import GateSettings
from deepverse_ros.safety.verdict_store import Received


class Watch:
    """Keeps when things were last heard of, and what was wrong with the newest of them."""

    def __init__(self, settings: GateSettings) -> None:
        self._clock = ClockWatch()
        self._clock_check = Check("clock", True)
        self._now = Now(0.0, 0.0)
        self._beat: float | None = None  # on the steady clock
        self._beat_stamp = 0.0
        self._came: Now | None = None
        self._waits_since: Now | None = None
        self._command_checks: tuple[Check, ...] = ()
        self._verdict_check = Check("verdict", True)
        self.settings = settings

    @property
    def clock_ok(self) -> bool:
        return self._clock_check.ok

    @property
    def commanded(self) -> bool:
        """Whether any command ever came."""
        return self._came is not None

    def look(self, now: Now) -> Now:
        """To begin with at every event. Returns: `now`, or the last good time where that is no number."""
        self._clock_check = self._clock.look(now, self.settings.clock_jump, self.settings.clock_freeze)
        if now.finite:
            self._now = now
        if not self.clock_ok:
            self._waits_since, self._beat_stamp = None, 0.0
        return self._now

    def heartbeat(self, now: Now, stamp: float = 0.0) -> None:
        """The world model is alive. Args: stamp: when it said so, ROS seconds; 0 for none.

        One that was under way for long, comes again, or is ahead of the clock says nothing about now.
        """
        age = now.ros - stamp if stamp else 0.0
        if stamp and not (stamp > self._beat_stamp and age >= -self.settings.future_tolerance):
            return
        self._beat_stamp = max(stamp, self._beat_stamp)
        self._beat = max(now.steady - max(age, 0.0), -math.inf if self._beat is None else self._beat)

    def command(self, checks: tuple[Check, ...], now: Now) -> None:
        """A command came, and this is what was checked of it."""
        if self.command_age(now) > self.settings.wait_timeout:
            self._waits_since = None  # what waited before a pause has nothing to do with this one
        self._came, self._command_checks = now, checks

    def verdict(self, problem: str) -> None:
        """A verdict came; problem: what is wrong with it, empty where nothing is."""
        self._verdict_check = Check("verdict", not problem, text=problem and f"a verdict is wrong: {problem}")

    def command_age(self, now: Now) -> float:
        """Seconds, NaN where none came; so in `heartbeat_age`."""
        return now.steady - self._came.steady if self._came else math.nan

    def heartbeat_age(self, now: Now) -> float:
        return math.nan if self._beat is None else now.steady - self._beat

    def checks(
        self, newest: Following | None, cover: Received | None, last: Received | None, excess: float, now: Now
    ) -> tuple[Check, ...]:
        """All checks of this moment.

        Args: newest: the command on its way. cover: the verdict that answers for it, else last: the newest there is.
        excess: how far the command leaves the best envelope, in half-widths.
        """
        if newest is None or cover is not None:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now
        waited = now.steady - self._waits_since.steady if self._waits_since else 0.0
        # A command that is being executed may not be without a verdict; one that waits may for a while.
        lost = newest is not None and cover is None and newest.speed > 0
        late = lost or waited > self.settings.wait_timeout
        return (
            self._clock_check,
            self._heartbeat_check(now),
            self._stream_check(newest, now),
            self._verdict_check,
            *self._command_checks,
            *self._answer_checks(cover or last, excess, late, now),
        )

    def _heartbeat_check(self, now: Now) -> Check:
        age, limit = self.heartbeat_age(now), self.settings.heartbeat_timeout
        if self._beat is None:
            return Check("heartbeat_age", False, age, limit, "the world model has given no sign of life yet")
        return at_most("heartbeat_age", age, limit, "seconds since the world model's last sign of life")

    def _stream_check(self, newest: Following | None, now: Now) -> Check:
        age, limit = self.command_age(now), self.settings.command_timeout
        under_way = newest is not None and newest.speed > 0 and newest.progress < newest.command.duration
        if limit == 0 or under_way:
            return Check("command_age", True, age, limit or math.nan)
        if self._came is None:
            return Check("command_age", False, age, limit, "no command has come yet")
        return at_most("command_age", age, limit, "seconds since the last command")

    def _answer_checks(self, seen: Received | None, excess: float, late: bool, now: Now) -> tuple[Check, ...]:
        """Whether the command has its verdict; if it should have and has not, what is wrong with the newest one."""
        settings = self.settings
        if seen is None:
            return (
                Check("verdict_age", not late, threshold=settings.verdict_timeout, text="no verdict" if late else ""),
            )
        ages: tuple[Check, ...] = (
            at_most("verdict_age", seen.age(now), seen.timeout(settings), "seconds since the newest verdict"),
            at_most("image_age", seen.image_age(now), settings.image_timeout, "seconds since that verdict's image"),
        )
        old = not all(c.ok for c in ages)
        if not late:
            ages = tuple(Check(c.name, True, c.value, c.threshold) for c in ages)
        fits = not late or old
        text = "" if fits else f"no verdict answers for the command, which is {excess:.3g} half-widths off the nearest"
        return (*ages, Check("envelope", fits, excess, 1.0, text))
