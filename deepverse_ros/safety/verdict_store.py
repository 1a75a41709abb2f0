"""The verdicts that are fresh enough to be used, and which of them answers for a command."""

import math
from dataclasses import dataclass, replace

from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.command_tracker import ActiveCommand
from deepverse_ros.safety.settings import GateSettings
from deepverse_ros.safety.verdict import Envelope, Verdict

_MOST = 64  # verdicts kept: more than come within the longest sensible timeout


@dataclass(frozen=True, eq=False)
class Received:
    """A verdict, when it came, and its number in the order of coming.

    numbers: its own, and those of the others on the same image that answer for the same command.
    """

    verdict: Verdict
    at: Now
    number: int
    numbers: tuple[int, ...]

    def age(self, now: Now) -> float:
        """Seconds since the judgement."""
        return now.age(self.verdict.stamp, self.at)

    def image_age(self, now: Now) -> float:
        """Seconds since the image that it rests on, NaN where it rests on none."""
        stamp = self.verdict.image_stamp
        return now.age(stamp, self.at) if stamp > 0 else math.nan

    def timeout(self, settings: GateSettings) -> float:
        """Seconds for which it may be used."""
        return min(self.verdict.valid_for, settings.verdict_timeout)

    def fresh(self, now: Now, settings: GateSettings) -> bool:
        return self.age(now) <= self.timeout(settings) and self.image_age(now) <= settings.image_timeout

    @property
    def clear(self) -> bool:
        """Whether it lets a command pass, be it slower."""
        return self.verdict.finding.action != Action.STOP

    @property
    def slow(self) -> bool:
        """Whether it lets a command pass at less than its full speed."""
        finding = self.verdict.finding
        return self.clear and (finding.action != Action.CLEAR or finding.scale < 1 or bool(finding.max_rate))


@dataclass(frozen=True)
class Nearest:
    """The envelope that a command leaves least: by `apart`, in its unit, in the value of number `value`."""

    value: int
    apart: float


class VerdictStore:
    """Verdicts in the order of their images, the newest image first, and of each image the gravest first.

    Where there are too many, those go that matter least: however many come, none hides a graver one.
    """

    def __init__(self) -> None:
        self._fresh: list[Received] = []
        self._number = 0
        self.newest: Received | None = None
        """The one with the newest image of all that came, fresh or not."""

    def forget(self) -> None:
        """The clock jumped: what is stamped belongs to another time."""
        self._fresh = []
        self.newest = None

    def add(self, verdict: Verdict, now: Now, settings: GateSettings) -> bool:
        """Keep a verdict without a problem. Returns: whether it is fresh."""
        self._number += 1
        received = Received(verdict, now, self._number, (self._number,))
        if self.newest is None or _order(received) >= _order(self.newest):
            self.newest = received
        if not received.fresh(now, settings):
            return False
        self._fresh = [r for r in self._fresh if r.fresh(now, settings)]
        self._fresh = sorted([*self._fresh, received], key=_weight, reverse=True)[:_MOST]
        return True

    def covering(
        self, following: ActiveCommand, now: Now, settings: GateSettings
    ) -> tuple[Received | None, float, Nearest | None]:
        """The verdict that answers for a command from here on.

        Among those that cover it the newest image decides, and of several on one image the gravest, at the least speed
        and the least largest rates of all of them.
        Returns: None where there is none; how far the command leaves the best envelope, in half-widths, inf where there
        is no envelope with time left; and, unless one covers it or there is none, which that is.
        """
        self._fresh = [r for r in self._fresh if r.fresh(now, settings)]
        times, values = following.path()
        waits = following.timed and following.speed == 0
        found: list[Received] = []
        least = math.inf
        nearest: tuple[Envelope, float] | None = None
        for received in self._fresh:
            envelope = received.verdict.envelope
            if found and received.verdict.image_stamp < found[0].verdict.image_stamp:
                break
            offset = now.ros - envelope.start
            if offset < -settings.future_tolerance or envelope.ahead(offset) < settings.min_lookahead:
                continue
            if waits and not envelope.tube:
                # A way that has not begun yet begins when it passes: its time 0 is the envelope's.
                if offset > max(settings.begin_delay, envelope.time_slack):
                    continue
                offset = 0.0
            offset = max(offset, 0.0)
            excess = envelope.excess(times, values, offset)
            if following.speed > 0 and received.number in following.admitted:
                excess = min(excess, 1.0)
            if excess <= 1 + 1e-6:
                found.append(received)
            if excess < least:
                least = excess
                nearest = (envelope, offset)
        if found or nearest is None:
            return _together(found) if found else None, least, None
        return None, least, Nearest(*nearest[0].farthest(times, values, nearest[1]))


def _together(found: list[Received]) -> Received:
    """Verdicts on one image and one command as one."""
    gravest = max(found, key=_weight)
    if len(found) == 1:
        return gravest
    findings = [r.verdict.finding for r in found]
    max_rate: dict[str, float] = {}
    for name in {name for f in findings for name in f.max_rate}:
        # Where a finding does not name a value, its '*' holds.
        max_rate[name] = min(f.max_rate.get(name, f.max_rate.get("*", math.inf)) for f in findings)
    finding = replace(gravest.verdict.finding, scale=min(f.scale for f in findings), max_rate=max_rate)
    numbers = tuple(r.number for r in found)
    return replace(gravest, verdict=replace(gravest.verdict, finding=finding), numbers=numbers)


def _order(received: Received) -> tuple[float, float]:
    return received.verdict.image_stamp, received.verdict.stamp


def _weight(received: Received) -> tuple[float, int, bool, float, float]:
    """The newer its image and the graver it is, the larger."""
    finding, stamp = received.verdict.finding, received.verdict.stamp
    return received.verdict.image_stamp, finding.action, not finding.leads_out, -finding.scale, stamp
