"""Conformal prediction and risk control as MAPIE computes them, which is written by others: ours must agree.

Left out where MAPIE is not installed: on Python 3.10, see requirements-dev.txt.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.planning.verdicts.acceptance import ROOM, ExecutedOutcomes, margin_multiple
from deepverse_ros.planning.verdicts.calibration import conformal_quantile

TOLERANCE = 0.08
MULTIPLES = np.arange(0.0, 20.0, 0.01)
"""What `margin_multiple` chooses from."""


@pytest.fixture(scope="module")
def mapie() -> SimpleNamespace:
    """Imported here: it takes seconds, also of those who only collect tests."""
    pytest.importorskip("mapie", reason="MAPIE is not installed")
    from mapie.regression import SplitConformalRegressor
    from mapie.risk_control.methods import find_best_predict_param, get_r_hat_plus
    from sklearn.dummy import DummyRegressor

    return SimpleNamespace(
        regressor=SplitConformalRegressor, zero=DummyRegressor, risk=get_r_hat_plus, best=find_best_predict_param
    )


def bound_by_mapie(mapie: SimpleNamespace, errors: np.ndarray, level: float) -> float:
    """Half the interval that it lays around a prediction of zero; inf where it says that there are too few errors."""
    nowhere = np.zeros((len(errors), 1))
    zero = mapie.zero(strategy="constant", constant=0.0).fit(nowhere, errors)
    known = mapie.regressor(zero, confidence_level=level).conformalize(nowhere, errors)
    try:
        _, interval = known.predict_interval(nowhere[:1], allow_infinite_bounds=True)
    except ValueError as error:
        if "too low to reach the requested level" not in str(error):
            raise
        return math.inf
    return float(interval[0, 1, 0])


# (n + 1) * level must come out the same in floats: MAPIE does not round it, so that 0.55 of 99 errors is its 56th.
LEVELS = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]) | st.integers(1, 63).map(lambda n: n / 64)


@settings(max_examples=100, deadline=None)
@given(errors=st.lists(st.floats(0, 1e3), min_size=1, max_size=130), level=LEVELS)
def test_the_quantile_is_that_of_mapie(mapie: SimpleNamespace, errors: list[float], level: float) -> None:
    assert conformal_quantile(np.array(errors), level) == bound_by_mapie(mapie, np.array(errors), level)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_it_is_that_of_mapie_for_every_number_of_errors(mapie: SimpleNamespace, level: float) -> None:
    """Where a level divides n + 1, one error more or less is the difference."""
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 122.0))
    for n in range(1, len(errors) + 1):
        assert conformal_quantile(errors[:n], level) == bound_by_mapie(mapie, errors[:n], level), n


def losses(known: ExecutedOutcomes, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Multiples (Q,) that let a plan through, and for each plan (n, Q) a loss of 0 to 1.

    A share of the misses among what is accepted is at most `share` where the misses, less that share of the accepted,
    are at most 0. Scaled to what one plan can add at most, and moved up by `share`, it is a loss whose mean is to be
    at most `share`, as conformal risk control asks.
    """
    further, spread = np.array(known.further)[:, None], np.array(known.spread)[:, None]
    room = min(ROOM, TOLERANCE)
    multiples = MULTIPLES[MULTIPLES * spread.min() < room]
    accepted = np.clip(room - multiples * spread, 0, None)
    missed = np.clip(np.minimum(further, room) - multiples * spread, 0, None)
    return multiples, (missed - share * accepted) / accepted.max(0) + share


def outcomes(seed: int, plans: int, spread: tuple[float, float]) -> ExecutedOutcomes:
    """Plans of which some end far further from the goal than was imagined."""
    rng = np.random.default_rng(seed)
    spreads = rng.uniform(*spread, plans)
    worse = np.where(rng.random(plans) < rng.uniform(0, 0.2), 4.0, 0.8)
    return ExecutedOutcomes(8, tuple(spreads * worse * rng.normal(size=plans)), tuple(spreads))


# No share of so few plans is any of these: none is met exactly, where rounding would decide.
SHARES = st.sampled_from([0.0531, 0.1037, 0.2069])


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31), plans=st.integers(1, 150), share=SHARES)
def test_the_margin_is_that_of_mapie_where_all_plans_are_seen_alike(
    mapie: SimpleNamespace, seed: int, plans: int, share: float
) -> None:
    known = outcomes(seed, plans, (0.01, 0.01))
    multiples, loss = losses(known, share)
    _, risk = mapie.risk(loss, multiples, "crc", None, None, None)
    if risk.min() > share:
        assert margin_multiple(known, 1 - share, TOLERANCE) == math.inf
    else:
        assert margin_multiple(known, 1 - share, TOLERANCE) == mapie.best(multiples, risk, np.array([share]))[0]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31), plans=st.integers(1, 150), share=SHARES)
def test_the_risk_at_the_margin_is_controlled_as_mapie_computes_it(
    mapie: SimpleNamespace, seed: int, plans: int, share: float
) -> None:
    """Also where some are seen more clearly; then the risk rises again where hardly a plan is let through."""
    known = outcomes(seed, plans, (0.005, 0.02))
    multiples, loss = losses(known, share)
    _, risk = mapie.risk(loss, multiples, "crc", None, None, None)
    multiple = margin_multiple(known, 1 - share, TOLERANCE)
    if multiple == math.inf:
        assert (risk > share).all()
        return
    at = int(np.searchsorted(multiples, multiple))
    assert risk[at] <= share
    assert at == 0 or risk[at - 1] > share
    # After the stretch that begins there, none is controlled any more.
    beyond = np.flatnonzero(risk[at:] > share)
    assert not beyond.size or (risk[at:][beyond[0] :] > share).all()
