"""What a zone says to a command that enters it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Action(IntEnum):
    """What is to be done with a command; the larger, the graver."""

    CLEAR = 0
    LIMIT = 1
    SLOW = 2
    STOP = 3


@dataclass(frozen=True)
class Answer:
    """What one zone says.

    action: what is to be done.
    scale: share of its speed at which the command may pass.
    max_rate: at most so fast, of each value by its name (rad/s, m/s); "*": of all others.
    note: what people should know beside it; empty: nothing.
    """

    action: Action = Action.STOP
    scale: float = 0.0
    max_rate: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
