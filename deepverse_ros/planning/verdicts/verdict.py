"""The answer to one plan: accepted or not, why, and what was compared."""

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any


class Reason(str, Enum):
    """Why a plan was accepted or rejected; the values are those of the PlanVerdict message's constants."""

    ACCEPTED = "ACCEPTED"
    MISSES_GOAL = "MISSES_GOAL"
    COLLISION_ZONE = "COLLISION_ZONE"
    TOO_UNCERTAIN = "TOO_UNCERTAIN"
    OUT_OF_DISTRIBUTION = "OUT_OF_DISTRIBUTION"
    STALE_INPUT = "STALE_INPUT"
    DEADLINE_MISSED = "DEADLINE_MISSED"
    INVALID_PLAN = "INVALID_PLAN"
    LEFT_IMAGINED_PATH = "LEFT_IMAGINED_PATH"
    CONTROLLER_FAILED = "CONTROLLER_FAILED"


@dataclass(frozen=True)
class Verdict:
    """The answer to one plan.

    value, threshold: what was compared, in the unit of the check (metres for MISSES_GOAL, COLLISION_ZONE, TOO_UNCERTAIN
        and LEFT_IMAGINED_PATH, a score for OUT_OF_DISTRIBUTION, seconds for STALE_INPUT, milliseconds for
        DEADLINE_MISSED).
    first_offending_step: -1 where no single step offends.
    score: cost of the plan, lower is better.
    uncertainty: largest predicted standard deviation of the tool position, metres.
    level: coverage of the bounds.
    predicted_distance: imagined distance to the goal at the last step, metres, without the bound.
    latency_ms: from the request to the verdict.
    text: one sentence for people.
    """

    accepted: bool
    reason: Reason
    value: float = math.nan
    threshold: float = math.nan
    first_offending_step: int = -1
    score: float = math.nan
    uncertainty: float = math.nan
    latency_ms: float = math.nan
    plan_id: str = ""
    level: float = 0.0
    predicted_distance: float = math.nan
    text: str = ""

    def with_(self, **changes: Any) -> "Verdict":
        return replace(self, **changes)


def rejected(reason: Reason, text: str, **fields: Any) -> Verdict:
    """A refusal, with a sentence that says what was wrong."""
    return Verdict(accepted=False, reason=reason, text=text, **fields)
