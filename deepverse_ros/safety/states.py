"""The gate's states: what closes it at once, and what has to last before it opens again."""

import math
from dataclasses import dataclass

from deepverse_ros.safety.assessment import Assessment, Kind
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.settings import GateSettings
from deepverse_ros.safety.status import State
from deepverse_ros.safety.verdict_store import Received

RECENT = 2.0
"""Seconds for which the status still says what was wrong and is no longer: later it has nothing to do with now."""


@dataclass
class _Streak:
    """Verdicts in a row that say the same."""

    count: int = 0
    since: float | None = None

    def add(self, new: bool, now: Now) -> None:
        self.count += new
        self.since = now.steady if self.since is None else self.since

    def reset(self) -> None:
        self.count = 0
        self.since = None

    def lasts(self, seconds: float, now: Now) -> bool:
        return self.since is not None and now.steady - self.since >= seconds


class States:
    """Where the gate stands.

    latched: only the operator ends this stop.
    slow: share of the speed and largest rates of the last verdict that slowed a command.
    fallback_since: seconds of the steady clock.
    """

    def __init__(self, settings: GateSettings) -> None:
        self.settings = settings
        self.state = State.FALLBACK
        self.latched = False
        self.slow: tuple[float, dict[str, float]] = (1.0, {})
        self.fallback_since = 0.0
        self._stopped = False
        self._fell_for = "nothing has come yet"
        self._fell_at = -math.inf
        self._counted = 0
        self._bad, self._good = _Streak(), _Streak()

    def advance(self, situation: Assessment, now: Now) -> None:
        """To the next state."""
        kind, cover = situation.kind, situation.cover
        new = cover is not None and cover.number > self._counted
        if cover is not None and new:
            self._counted = cover.number
        if kind != Kind.BAD:
            self._bad.reset()
        if kind not in (Kind.CLEAR, Kind.IDLE):
            self._good.reset()
        if kind == Kind.FAULT:
            self.fall(situation.reason, now)
        elif kind == Kind.LEADS_OUT:
            self.state = State.RECOVER
        elif kind == Kind.BAD:
            self._tighten(new, now)
        elif cover is not None:
            self._relax(cover, new, now)
        elif kind == Kind.IDLE:
            self._good.add(False, now)
            if self.state == State.FALLBACK and self._good.lasts(self.settings.release_time, now):
                self.state = State.STOP if self._stopped else State.PASS

    def fall(self, why: str, now: Now) -> None:
        """Into the fallback; a stop from before is not forgotten."""
        if self.state != State.FALLBACK:
            self.fallback_since = now.steady
        self._good.reset()
        self.state = State.FALLBACK
        self._fell_for = why
        self._fell_at = now.steady

    def release(self, situation: Assessment) -> tuple[bool, str]:
        """The operator ends a stop. Returns: whether it was done, and a sentence."""
        if self.state in (State.PASS, State.SLOW):
            return False, "nothing is stopped"
        # A pause of the commands is what an operator would make first.
        if situation.kind == Kind.FAULT and situation.fault != "command_age":
            return False, f"not released: {situation.reason}"
        if situation.kind == Kind.BAD and situation.cover and not situation.cover.verdict.finding.leads_out:
            return False, f"not released: {situation.reason}"
        self._stopped = self.latched = False
        if situation.kind != Kind.FAULT:
            self.state = State.RECOVER
        self._good.reset()
        return True, "released: clear commands pass at reduced speed"

    def reason(self, situation: Assessment, now: Now) -> str:
        """One sentence on this moment; empty where commands pass as they come."""
        fine = situation.kind in (Kind.CLEAR, Kind.IDLE)
        reason = situation.reason
        if self.state == State.PASS:
            return "" if fine else reason
        if fine and self.latched:
            reason = "stopped until the operator releases it"
        elif fine and self.state != State.SLOW:
            wanted = f"{self.settings.release_count} verdicts over {self.settings.release_time:g} s"
            reason = f"better again, {self._good.count} of {wanted}"
        since = now.steady - self._fell_at
        if self.state == State.FALLBACK and situation.kind != Kind.FAULT and since <= RECENT:
            reason += f" ({since:.1f} s ago: {self._fell_for})"
        return reason

    def _tighten(self, new: bool, now: Now) -> None:
        """A bad verdict holds."""
        settings = self.settings
        self._bad.add(new, now)
        enough = self._bad.count >= settings.trigger_count and self._bad.lasts(settings.trigger_time, now)
        if self.state != State.STOP and (enough or self.state == State.RECOVER):
            self.state = State.STOP
            self._stopped = True
            self.latched = self.latched or settings.latch_stop

    def _relax(self, cover: Received, new: bool, now: Now) -> None:
        """A verdict holds that lets the command pass, be it slower."""
        settings = self.settings
        if cover.slow:
            self.slow = (cover.verdict.finding.scale, dict(cover.verdict.finding.max_rate))
        if self.state in (State.PASS, State.SLOW) and cover.slow:
            self.state = State.SLOW
            self._good.reset()
            return
        self._good.add(new, now)
        released = self._good.count >= settings.release_count and self._good.lasts(settings.release_time, now)
        if not released or self.state == State.PASS:
            return
        if self.latched:
            self.state = State.STOP
        else:
            self.state = State.SLOW if cover.slow else State.PASS
            self._stopped = False
