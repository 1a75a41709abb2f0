"""One check: whether it is fine, what was measured and what it was held against."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and whether it is fine.

    value, threshold: in the check's own unit, NaN where there is none.
    text: one sentence where it is not fine.
    """

    name: str
    ok: bool
    value: float = math.nan
    threshold: float = math.nan
    text: str = ""


def at_most(name: str, value: float, threshold: float, text: str) -> Check:
    """Fine while `value` is no more than `threshold`; NaN never is. `text` gets both appended."""
    ok = value <= threshold
    return Check(name, ok, value, threshold, "" if ok else f"{text}: {value:.3g}, at most {threshold:.3g}")
