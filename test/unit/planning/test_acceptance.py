"""The promise that a given share of the accepted plans ends within tolerance, for any mixture of plans."""

import math

import numpy as np
import pytest

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.verdicts.acceptance import ROOM, ExecutedOutcomes, margin_multiple

TOLERANCE = 0.08


def world(rng: np.random.Generator, plans: int) -> tuple[np.ndarray, np.ndarray]:
    """How much further plans end than imagined, and what was expected: one in ten is far worse than that, metres."""
    spread = rng.uniform(0.005, 0.02, plans)
    worse = np.where(rng.random(plans) < 0.1, 4.0, 0.8)
    return spread * worse * rng.normal(size=plans), spread


def ends(rng: np.random.Generator, plans: int) -> ExecutedOutcomes:
    further, spread = world(rng, plans)
    return ExecutedOutcomes(8, tuple(further), tuple(spread))


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("nearest", [0.0, 0.03, -0.3])
def test_of_the_plans_that_are_accepted_a_share_of_level_keeps_the_tolerance(level: float, nearest: float) -> None:
    """Also where planners get no nearer than 3 cm, and where most plans are imagined to miss by far."""
    rng = np.random.default_rng(0)
    accepted = missed = 0
    for _ in range(200):
        multiple = margin_multiple(ends(rng, 120), level, TOLERANCE)
        further, spread = world(rng, 200)
        distance = rng.uniform(nearest if nearest >= 0 else 0, TOLERANCE - 5 * min(nearest, 0), len(further))
        took = distance + multiple * spread <= TOLERANCE
        accepted += took.sum()
        missed += (distance + further > TOLERANCE)[took].sum()
    assert accepted > 200
    # At 95 % few plans are left; the spread of the share itself comes on top.
    assert missed / accepted <= 1 - level + 2 * math.sqrt(level * (1 - level) / accepted)


def test_it_lets_more_plans_through_than_a_bound_that_covers_each_of_them() -> None:
    rng = np.random.default_rng(1)
    known = ends(rng, 200)
    covering = np.quantile(np.array(known.further) / np.array(known.spread), 0.9)
    assert 0 < margin_multiple(known, 0.9, TOLERANCE) < 0.8 * covering


def test_it_asks_for_more_where_more_is_promised_or_less_is_tolerated() -> None:
    known = ends(np.random.default_rng(2), 300)
    levels = [margin_multiple(known, level, TOLERANCE) for level in (0.7, 0.8, 0.9, 0.95)]
    assert levels == sorted(levels)
    assert levels[0] < levels[-1]
    narrow = [margin_multiple(known, 0.9, tolerance) for tolerance in (0.5, TOLERANCE, ROOM, 0.04, 0.03)]
    assert narrow == sorted(narrow)
    assert narrow[0] == narrow[2] < narrow[-1], "beyond the room, a larger tolerance changes nothing"


def test_too_few_plans_promise_nothing() -> None:
    good = ExecutedOutcomes(8, (0.0,) * 8, (0.01,) * 8)
    assert margin_multiple(good, 0.9, TOLERANCE) == math.inf, "the one more that is added may miss"
    assert margin_multiple(ExecutedOutcomes(8, (0.0,) * 9, (0.01,) * 9), 0.9, TOLERANCE) == 0.0, "just enough of them"
    assert margin_multiple(ExecutedOutcomes(8, (1.0,) * 99, (0.01,) * 99), 0.9, TOLERANCE) == math.inf


@pytest.mark.parametrize(
    ("steps", "further", "spread"),
    [(8, (), ()), (8, (0.1,), (0.1, 0.1)), (0, (0.1,), (0.1,)), (8, (math.nan,), (0.1,)), (8, (0.1,), (0.0,))],
)
def test_ends_that_mean_nothing_are_refused(steps: int, further: tuple, spread: tuple) -> None:
    with pytest.raises(ShapeError, match="ends"):
        ExecutedOutcomes(steps, further, spread)
