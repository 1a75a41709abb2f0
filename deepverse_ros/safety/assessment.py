"""What all checks and verdicts together mean for the command that is on its way."""

from dataclasses import dataclass
from enum import Enum

from deepverse_ros.safety.check import Check
from deepverse_ros.safety.verdict_store import Received


class Kind(Enum):
    """What the checks and the verdicts mean for the command."""

    FAULT = "fault"  # something that is needed is late, wrong or dead
    IDLE = "idle"  # no command is on its way
    WAIT = "wait"  # no verdict answers for the command yet
    BAD = "bad"  # its verdict says stop
    LEADS_OUT = "way out"  # its verdict says stop, but it leads out of what is violated already
    CLEAR = "clear"  # its verdict lets it pass, be it slower


@dataclass(frozen=True)
class Assessment:
    """What stands for or against the command on its way, and why.

    cover: the verdict that answers for the command.
    fault: name of the first check that is not fine.
    """

    kind: Kind
    cover: Received | None
    checks: tuple[Check, ...]
    reason: str
    fault: str = ""

    @property
    def bad(self) -> bool:
        """Whether a verdict forbids the command, whatever else is wrong."""
        return self.cover is not None and not self.cover.clear
