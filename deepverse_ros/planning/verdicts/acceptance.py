"""How far within its tolerance a plan must be imagined, so that a given share of the accepted ones ends there.

A bound that covers each plan at a level is not what decides here: of the plans that it lets through, it says nothing
(they were chosen), and it is wide for what needs no width, as most plans are imagined far within their tolerance.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from deepverse_ros.errors import ShapeError

ROOM = 0.05
"""Metres within a tolerance over which the imagined distances of plans are taken to be spread evenly. They are mostly
far within; more of them at the edge would be worse, and more room would hide those."""

_STEP, _MOST = 0.01, 20.0


@dataclass(frozen=True)
class ExecutedOutcomes:
    """How executed plans of one length ended: how much further from the goal than imagined, against what was expected.

    steps: H of the plans.
    further: (n,) metres, negative for nearer.
    spread: (n,) metres, predicted standard deviation of imagined tool and pictured goal together.
    """

    steps: int
    further: tuple[float, ...]
    spread: tuple[float, ...]

    def __post_init__(self) -> None:
        further, spread = np.asarray(self.further), np.asarray(self.spread)
        if self.steps < 1 or not further.size or further.shape != spread.shape:
            raise ShapeError(
                f"ends: expected as many errors as spreads, at least one, and steps >= 1; got {further.size}, "
                f"{spread.size} and {self.steps}"
            )
        if not (np.isfinite(further).all() and (spread > 0).all() and np.isfinite(spread).all()):
            raise ShapeError("ends: errors and spreads must be finite numbers, spreads above 0")


@lru_cache(maxsize=128)
def margin_multiple(ends: ExecutedOutcomes, level: float, tolerance: float) -> float:
    """The least multiple of the spread by which plans must be imagined within `tolerance`, in metres.

    It is such that a share of `level` of those that are accepted by it ends there; inf where too few plans are known
    for the level.

    Conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814), of the misses among what is selected, as in
    selection by prediction (Jin and Candès 2022, arXiv 2210.01408). The imagined distances are taken to be spread
    evenly over the last ROOM within the tolerance, so that the promise does not rest on planners that get much nearer,
    nor on how many plans are good; and to the plans that are known one more is added, which misses wherever it ends.
    """
    further, spread = np.asarray(ends.further), np.asarray(ends.spread)
    room = min(ROOM, tolerance)
    multiples = np.arange(0.0, _MOST, _STEP)[:, None]
    margins = multiples * spread  # (Q, n)
    accepted = np.clip(room - margins, 0, None)
    missed = np.clip(np.minimum(further, room) - margins, 0, None)
    most = accepted.max(1)
    share = (missed.sum(1) + most) / np.maximum(accepted.sum(1) + most, 1e-12)
    # A share that is just what is allowed: 1 - 0.9 is a little below 0.1.
    kept = (share <= 1 - level + 1e-12) & (most > 0)
    if not kept.any():
        return float("inf")
    # Where it is kept and then not again, chance was at work: the last stretch counts.
    last = np.flatnonzero(kept)[-1]
    before = np.flatnonzero(~kept[:last])
    return float(multiples[before[-1] + 1 if before.size else 0, 0])
