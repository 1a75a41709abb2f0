"""What the gate answers: what to send, and why."""

import math
from dataclasses import dataclass
from enum import Enum, IntEnum

from deepverse_ros.safety.check import Check
from deepverse_ros.safety.commands import Command


class State(IntEnum):
    """The values are those of the PrefilterStatus message's constants."""

    PASS = 0
    SLOW = 1
    STOP = 2
    FALLBACK = 3
    RECOVER = 4


class Mode(IntEnum):
    """As in the PrefilterStatus message."""

    MONITOR = 0
    ENFORCE = 1


class Send(str, Enum):
    """What goes to the robot.

    NOTHING: nothing new.
    COMMAND: the command as it came.
    SCALED: it, slower, or the next step towards it.
    HOLD: rest, at the last target.
    STOP: rest, where the robot is.
    LAST_SAFE: the last safe command again.
    """

    NOTHING = "nothing"
    COMMAND = "command"
    SCALED = "scaled"
    HOLD = "hold"
    STOP = "stop"
    LAST_SAFE = "last_safe"


@dataclass(frozen=True)
class Status:
    """What the gate does with the commands, and why.

    reason: one sentence, empty while commands pass as they come.
    scale: share of its speed at which a command passes, 0 while none does.
    checks: all of them, fine or not.
    step, zone: the first imagined step that offends and what it enters; -1 and empty for none.
    would: what enforcing sends or would send.
    ages: seconds, NaN for what never came.
    """

    state: State
    mode: Mode
    would: Send
    reason: str = ""
    scale: float = 1.0
    checks: tuple[Check, ...] = ()
    step: int = -1
    zone: str = ""
    command_age: float = math.nan
    verdict_age: float = math.nan
    image_age: float = math.nan
    heartbeat_age: float = math.nan


@dataclass(frozen=True)
class Decision:
    """What the gate sends after an event, and its status.

    command: what to send; None with NOTHING.
    """

    send: Send
    command: Command | None
    status: Status


@dataclass
class Counts:
    """Since the gate was made.

    withheld: commands that did not pass when they came (in monitor: would not have). ahead: joint states and heartbeats
    that were stamped ahead of the clock, and left out.
    """

    commands: int = 0
    passed: int = 0
    slowed: int = 0
    withheld: int = 0
    refused: int = 0
    out_of_order: int = 0
    expired: int = 0
    verdicts: int = 0
    verdicts_stale: int = 0
    verdicts_wrong: int = 0
    ahead: int = 0
