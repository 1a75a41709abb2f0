"""What stands in a zone already is said before anybody wonders why nothing moves: in the log and in /diagnostics."""

import math
import time

from diagnostic_msgs.msg import DiagnosticStatus

from deepverse_ros.judging.command_judge import CommandJudge
from deepverse_ros.judging.moments import Seen
from deepverse_ros.nodes.runtime.lifecycle import RobotNode

PERIOD = 1.0
"""Seconds between two looks while nothing is commanded."""
LEADS_OUT = (
    "a prefilter that enforces lets no command pass that does not lead out of it: take it away (where latch_stop is "
    "set, call the prefilter's ~/release then), or change the file of zones (parameter zones, zones:=FILE at launch), "
    "or only watch (mode: monitor, prefilter:=monitor at launch)"
)


class ZoneReports:
    """`look` runs on the worker's thread, the rest on any."""

    def __init__(self, node: RobotNode, judge: CommandJudge) -> None:
        self._node, self._judge = node, judge
        self.forget()

    def forget(self) -> None:
        """What is seen from now on is another scene."""
        self._standing: dict[str, str] = {}
        self._blind = ""
        self._looked = -math.inf

    @property
    def due(self) -> bool:
        """Whether nobody has looked for a while."""
        return time.monotonic() - self._looked >= PERIOD

    def look(self, seen: Seen) -> None:
        """Say what stands in a zone at this moment and did not before."""
        self._looked = time.monotonic()
        standing = {one.zone: one.text for one in self._judge.standing(seen)}
        new = standing.keys() - self._standing.keys()
        self._standing, self._blind = standing, seen.no_observation
        for zone in sorted(new):
            self._node.warn(f"zone {zone}", f"{standing[zone]}; {LEADS_OUT}")

    def check(self) -> tuple[bytes, str]:
        """Level and sentence for /diagnostics."""
        standing, blind = self._standing, self._blind
        if blind:
            return DiagnosticStatus.WARN, f"no command can be judged: {blind}; a prefilter that enforces lets none pass"
        if standing:
            return DiagnosticStatus.WARN, f"{'; '.join(standing.values())}; {LEADS_OUT}"
        return DiagnosticStatus.OK, ""
