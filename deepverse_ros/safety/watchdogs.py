"""The watchdogs: everything that has to be well and in time before a command may pass, each as a check."""

import math
from dataclasses import replace

from deepverse_ros.safety.check import Check, at_most
from deepverse_ros.safety.clock import ClockWatch, Now
from deepverse_ros.safety.command_tracker import ActiveCommand
from deepverse_ros.safety.settings import GateSettings
from deepverse_ros.safety.verdict_store import Received


class Watchdogs:
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
        self._judged_at = 0.0
        self._unstamped = False
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
            self._waits_since = None
            self._beat_stamp = 0.0
        return self._now

    def heartbeat(self, now: Now, stamp: float = 0.0) -> None:
        """The world model is alive. Args: stamp: when it said so, ROS seconds; 0 for none.

        One that was under way for long, or comes again, says nothing about now; nor does one without a stamp where that
        is required.
        """
        age = now.ros - stamp if stamp else 0.0
        self._unstamped = not stamp and self.settings.require_heartbeat_stamp
        if self._unstamped or (stamp and stamp <= self._beat_stamp):
            return
        self._beat_stamp = max(stamp, self._beat_stamp)
        self._beat = max(now.steady - max(age, 0.0), -math.inf if self._beat is None else self._beat)

    def command(self, checks: tuple[Check, ...], now: Now) -> None:
        """A command came, and this is what was checked of it."""
        if self.command_age(now) > self.settings.wait_timeout:
            self._waits_since = None  # what waited before a pause has nothing to do with this one
        self._came = now
        self._command_checks = checks

    def verdict(self, problem: str, now: Now) -> None:
        """A verdict came; problem: what is wrong with it, empty where nothing is."""
        self._judged_at = now.steady
        self._verdict_check = Check("verdict", not problem, text=problem and f"a verdict is wrong: {problem}")

    def command_age(self, now: Now) -> float:
        """Seconds, NaN where none came; so in `heartbeat_age`."""
        return now.steady - self._came.steady if self._came else math.nan

    def heartbeat_age(self, now: Now) -> float:
        return math.nan if self._beat is None else now.steady - self._beat

    def checks(
        self, newest: ActiveCommand | None, cover: Received | None, last: Received | None, excess: float,
        unanswered: str, measured_age: float | None, now: Now,
    ) -> tuple[Check, ...]:  # fmt: skip
        """All checks of this moment.

        Args:
            newest: the command on its way.
            cover: the verdict that answers for it, else last: the newest there is.
            excess: how far the command leaves the best envelope, in half-widths.
            unanswered: why none answers.
            measured_age: seconds since the robot was measured, NaN for never; None where nothing goes by that.
        """
        self._forget_what_is_over(newest, now)
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
            *self._measured_checks(measured_age),
            self._stream_check(newest, now),
            self._verdict_check,
            *self._command_checks,
            *self._answer_checks(cover or last, excess, unanswered, late, now),
        )

    def _forget_what_is_over(self, newest: ActiveCommand | None, now: Now) -> None:
        """What was wrong with a command or verdict that nobody waits for any more says nothing about now."""
        if newest is None and self.command_age(now) > self.settings.pending_timeout:
            self._command_checks = ()
        if not self._verdict_check.ok and now.steady - self._judged_at > self.settings.verdict_timeout:
            self._verdict_check = Check("verdict", True)

    def _measured_checks(self, age: float | None) -> tuple[Check, ...]:
        limit = self.settings.measured_timeout
        if age is None:
            return ()
        if math.isnan(age):
            return (Check("measured_age", False, age, limit, "nobody has said yet where the robot is"),)
        return (at_most("measured_age", age, limit, "seconds since the robot's place was measured"),)

    def _heartbeat_check(self, now: Now) -> Check:
        age = self.heartbeat_age(now)
        limit = self.settings.heartbeat_timeout
        if self._beat is None:
            why = ": its heartbeats have no stamp" if self._unstamped else ""
            return Check("heartbeat_age", False, age, limit, f"the world model has given no sign of life yet{why}")
        return at_most("heartbeat_age", age, limit, "seconds since the world model's last sign of life")

    def _stream_check(self, newest: ActiveCommand | None, now: Now) -> Check:
        age = self.command_age(now)
        limit = self.settings.command_timeout
        under_way = newest is not None and newest.speed > 0 and newest.progress < newest.command.duration
        if limit == 0 or under_way:
            return Check("command_age", True, age, limit or math.nan)
        if self._came is None:
            return Check("command_age", False, age, limit, "no command has come yet")
        return at_most("command_age", age, limit, "seconds since the last command")

    def _answer_checks(
        self, seen: Received | None, excess: float, unanswered: str, late: bool, now: Now
    ) -> tuple[Check, ...]:
        """Whether the command has its verdict; if it should have and has not, what is wrong with the newest one."""
        settings = self.settings
        if seen is None:
            text = "the world model has sent no verdict yet" if late else ""
            return (Check("verdict_age", not late, threshold=settings.verdict_timeout, text=text),)
        image_age = seen.image_age(now)
        image = at_most("image_age", image_age, settings.image_timeout, "seconds since that verdict's image")
        if math.isnan(image_age):
            image = replace(image, text=f"the world model has seen no image: {seen.verdict.finding.text}")
        ages: tuple[Check, ...] = (
            at_most("verdict_age", seen.age(now), seen.timeout(settings), "seconds since the newest verdict"),
            image,
        )
        old = not all(c.ok for c in ages)
        if not late:
            ages = tuple(Check(c.name, True, c.value, c.threshold) for c in ages)
        fits = not late or old
        return (
            *ages,
            Check("envelope", fits, excess, 1.0, "" if fits else f"no verdict answers for this command: {unanswered}"),
        )
