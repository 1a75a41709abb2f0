"""Bounds that learn from what is executed cover at their level, also where the world is not as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.recalibration import Recalibration
from deepverse_ros.planning.verdict import Calibration

CALIBRATION = Calibration(0.9, (1.0, 2.0), (1.0, 1.0))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), worse=st.floats(0.85, 1.8))
def test_in_the_long_run_bounds_hold_at_their_level_in_a_world_that_is_harder_or_easier(seed, worse):
    rng = np.random.default_rng(seed)
    recalibration, held = Recalibration(CALIBRATION), []
    for error in worse * np.abs(rng.normal(0, 0.01, 3000)):
        bound = recalibration.calibration.bound(0, 0.0, 0.0164)  # covers 90 % where nothing has changed
        held.append(error <= bound)
        recalibration.observe(error, bound)
    assert np.mean(held[500:]) == pytest.approx(0.9, abs=0.02)
    assert recalibration.executed == 3000
    assert recalibration.missed == 3000 - sum(held)


def test_the_factor_stays_within_its_ends():
    recalibration = Recalibration(CALIBRATION, most=2.0, least=0.5)
    for _ in range(100):
        wide = recalibration.observe(1.0, 0.1)
    assert wide.widened == pytest.approx(2.0)
    for _ in range(1000):
        narrow = recalibration.observe(0.0, 0.1)
    assert narrow.widened == pytest.approx(0.5)
    assert narrow.bound(1, 0.03, 0.04) == pytest.approx(0.5 * CALIBRATION.bound(1, 0.03, 0.04))
    np.testing.assert_allclose(narrow.clearance_bound(np.ones(2)), 0.5 * CALIBRATION.clearance_bound(np.ones(2)))


def test_an_error_that_is_no_number_is_a_miss():
    recalibration = Recalibration(CALIBRATION)
    assert recalibration.observe(float("nan"), 0.1).widened > 1
    assert recalibration.missed == 1


@pytest.mark.parametrize("values", [{"rate": -1}, {"least": 0}, {"least": 1.5}, {"most": 0.5}])
def test_ends_that_mean_nothing_are_refused(values):
    with pytest.raises(ShapeError, match="recalibration"):
        Recalibration(CALIBRATION, **values)
