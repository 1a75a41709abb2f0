"""Bounds that learn from what is executed cover at their level, also where the world is harder than the calibration."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.verdicts.calibration import Calibration
from deepverse_ros.planning.verdicts.recalibration import Recalibration

CALIBRATION = Calibration(0.9, (1.0, 2.0), (1.0, 1.0), (4.0, 4.0))


def at_step_0(recalibration: Recalibration, error: float) -> bool:
    """With a calibrated bound of 5 cm."""
    return recalibration.observe(error, 0, 0.03, 0.04)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), worse=st.floats(0.3, 2.0))
@example(seed=2**31, worse=1.203125)  # the factor is down at 1 when the last plan was executed
def test_in_the_long_run_bounds_hold_at_their_level_in_a_harder_world_and_better_in_an_easier_one(seed, worse):
    rng = np.random.default_rng(seed)
    recalibration = Recalibration(CALIBRATION)
    # 90 % of these are within 5 cm where worse is 1.
    factors = []
    for error in worse * np.abs(rng.normal(0, 0.05 / 1.645, 3000)):
        at_step_0(recalibration, error)
        factors.append(recalibration.factor)
    assert recalibration.executed == 3000
    assert recalibration.missed / 3000 <= 0.1 + math.log(3.0) / (0.1 * 3000)
    if worse > 1.2:
        assert recalibration.missed / 3000 == pytest.approx(0.1, abs=0.01)
        # It swings around the factor that the world asks for.
        assert np.mean(factors[1000:]) == pytest.approx(worse, rel=0.15)


@given(st.lists(st.floats(0, 0.14), min_size=1, max_size=200), st.floats(0.01, 0.5))
def test_misses_are_bounded_whatever_happens_below_the_limit(errors, rate):
    recalibration = Recalibration(CALIBRATION, rate, limit=5.0)  # 14 cm are never beyond 5 times 5 cm
    for error in errors:
        at_step_0(recalibration, error)
        assert 1 <= recalibration.factor < 5
    assert recalibration.missed <= 0.1 * len(errors) + math.log(5.0) / rate


def test_a_miss_widens_the_bound_of_the_goal_alone_and_hits_bring_it_back_to_what_was_calibrated():
    recalibration = Recalibration(CALIBRATION)
    assert not at_step_0(recalibration, 0.049)
    assert recalibration.calibration == CALIBRATION
    assert at_step_0(recalibration, 0.051)
    assert recalibration.factor == pytest.approx(math.exp(0.09))
    wide = recalibration.calibration
    assert wide.bound(1, 0.03, 0.04) == pytest.approx(math.exp(0.09) * CALIBRATION.bound(1, 0.03, 0.04))
    assert (wide.level, wide.clearance_error_z, wide.path_error_z) == (0.9, (1.0, 1.0), (4.0, 4.0))
    assert at_step_0(recalibration, 0.051), "within the wider bound: one of the hits that narrow it again"
    for _ in range(10):
        at_step_0(recalibration, 0.0)
    assert recalibration.calibration == CALIBRATION
    assert (recalibration.executed, recalibration.missed) == (13, 1)


def test_the_factor_has_a_limit():
    recalibration = Recalibration(CALIBRATION, limit=2.0)
    for _ in range(100):
        at_step_0(recalibration, 1.0)
    assert recalibration.factor == pytest.approx(2.0)
    assert not at_step_0(recalibration, math.nan), "no number is a miss, and the factor is at its limit"
    assert recalibration.missed == 101


def test_a_rate_of_zero_turns_it_off_and_what_was_never_calibrated_teaches_nothing():
    off = Recalibration(CALIBRATION, rate=0.0)
    assert not at_step_0(off, 1.0)
    assert (off.calibration, off.executed, off.missed) == (CALIBRATION, 1, 1)
    beyond = Recalibration(CALIBRATION)
    assert not beyond.observe(1.0, 2, 0.03, 0.04)
    never = Recalibration(None)
    assert not at_step_0(never, 1.0)
    assert never.calibration is None
    assert beyond.executed == never.executed == 0


@pytest.mark.parametrize("values", [{"rate": -1}, {"rate": math.nan}, {"limit": 0.5}, {"limit": math.inf}])
def test_a_rate_or_limit_that_means_nothing_is_refused(values):
    with pytest.raises(ShapeError, match="recalibration"):
        Recalibration(CALIBRATION, **values)
