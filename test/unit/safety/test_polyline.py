"""Values on straight lines between way points, against numpy's interpolation of one column at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepverse_ros.safety.polyline import interpolate

NUMBERS = st.floats(-1e3, 1e3)


@st.composite
def ways(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    points = draw(st.integers(1, 5))
    steps = draw(arrays(float, points, elements=st.floats(1e-3, 10.0)))
    return np.cumsum(steps), draw(arrays(float, (points, 3), elements=NUMBERS))


@given(ways(), arrays(float, 6, elements=NUMBERS))
def test_it_is_numpys_interpolation_of_each_value(way, at):
    times, values = way
    expected = np.stack([np.interp(at, times, column) for column in values.T], -1)
    np.testing.assert_allclose(interpolate(at, times, values), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(interpolate(float(at[0]), times, values), expected[0], rtol=1e-9, atol=1e-9)


@given(ways())
def test_way_points_are_kept_to_the_last_bit(way):
    times, values = way
    np.testing.assert_array_equal(interpolate(times, times, values), values)
    np.testing.assert_array_equal(interpolate(np.array([-np.inf, np.inf]), times, values), values[[0, -1]])


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_the_shape_of_the_times_stays(shape):
    assert interpolate(np.zeros(shape), np.zeros(1), np.ones((1, 5))).shape == (*shape, 5)
