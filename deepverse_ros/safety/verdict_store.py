"""The verdicts that are fresh enough to be used, and which of them answers for a command."""

import math
from dataclasses import dataclass

from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.finding import Action
from deepverse_ros.safety.motion import Following
from deepverse_ros.safety.settings import GateSettings
from deepverse_ros.safety.verdict import Verdict

_MOST = 64  # verdicts kept: more than come within the longest sensible timeout


@dataclass(frozen=True, eq=False)
class Received:
    """A verdict, when it came, and its number in the order of coming."""

    verdict: Verdict
    at: Now
    number: int

    def age(self, now: Now) -> float:
        """Seconds since the judgement."""
        return now.age(self.verdict.stamp, self.at)

    def image_age(self, now: Now) -> float:
        """Seconds since the image that it rests on."""
        return now.age(self.verdict.image_stamp, self.at)

    def timeout(self, settings: GateSettings) -> float:
        """Seconds for which it may be used."""
        return min(self.verdict.valid_for, settings.verdict_timeout)

    def fresh(self, now: Now, settings: GateSettings) -> bool:
        return self.age(now) <= self.timeout(settings) and self.image_age(now) <= settings.image_timeout

    @property
    def clear(self) -> bool:
        """Whether it lets a command pass, be it slower."""
        finding = self.verdict.finding
        return finding.action != Action.STOP and finding.scale > 0

    @property
    def slow(self) -> bool:
        """Whether it lets a command pass at less than its full speed."""
        finding = self.verdict.finding
        return self.clear and (finding.action != Action.CLEAR or finding.scale < 1 or bool(finding.max_rate))


class VerdictStore:
    """Verdicts in the order of their images, the newest image first."""

    def __init__(self) -> None:
        self._fresh: list[Received] = []
        self._number = 0
        self.newest: Received | None = None
        """The one with the newest image of all that came, fresh or not."""

    def forget(self) -> None:
        """The clock jumped: what is stamped belongs to another time."""
        self._fresh, self.newest = [], None

    def add(self, verdict: Verdict, now: Now, settings: GateSettings) -> bool:
        """Keep a verdict without a problem. Returns: whether it is fresh."""
        self._number += 1
        received = Received(verdict, now, self._number)
        if self.newest is None or _order(received) >= _order(self.newest):
            self.newest = received
        if not received.fresh(now, settings):
            return False
        self._fresh = sorted([*self._fresh, received], key=_order, reverse=True)[:_MOST]
        return True

    def covering(self, following: Following, now: Now, settings: GateSettings) -> tuple[Received | None, float]:
        """The verdict that answers for a command from here on.

        Among those that cover it the newest image decides, and of several on one image the gravest.
        Returns: None where there is none; and how far the command leaves the best envelope, in half-widths, inf where
        there is no envelope.
        """
        self._fresh = [r for r in self._fresh if r.fresh(now, settings)]
        times, values = following.path()
        found: Received | None = None
        least = math.inf
        for received in self._fresh:
            envelope = received.verdict.envelope
            if found is not None and received.verdict.image_stamp < found.verdict.image_stamp:
                break
            offset = now.ros - envelope.start
            if offset < -settings.future_tolerance or envelope.ahead(offset) < settings.min_lookahead:
                continue
            # A way that has not begun yet begins when it passes: its time 0 is the envelope's.
            waits = following.timed and following.speed == 0
            excess = envelope.excess(times, values, 0.0 if waits else max(offset, 0.0))
            if following.speed > 0 and received.number == following.admitted:
                excess = min(excess, 1.0)
            least = min(least, excess)
            if excess <= 1 + 1e-6 and (found is None or _gravity(received) > _gravity(found)):
                found = received
        return found, least


def _order(received: Received) -> tuple[float, float]:
    return received.verdict.image_stamp, received.verdict.stamp


def _gravity(received: Received) -> tuple[int, float]:
    return received.verdict.finding.action, -received.verdict.finding.scale
