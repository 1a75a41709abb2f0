"""A robot that does as imagined is on its path, also a little early or late; one that does not has left it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.verdicts.monitor import PathMonitor

DT = 0.2
START = np.zeros(3)
# 10 cm a step along x, then two steps along y.
PATH = np.array([[0.1, 0, 0], [0.2, 0, 0], [0.2, 0.1, 0], [0.2, 0.2, 0]])
BOUNDS = np.array([0.01, 0.02, 0.03, 0.01])


def monitor(tolerance: float = 0.0) -> PathMonitor:
    return PathMonitor(START, PATH, BOUNDS, DT, tolerance)


@pytest.mark.parametrize(
    ("elapsed", "where", "bound", "step"),
    [
        (-1.0, [0, 0, 0], 0.01, 0),
        (0.0, [0, 0, 0], 0.01, 0),
        (0.1, [0.05, 0, 0], 0.01, 0),
        (0.3, [0.15, 0, 0], 0.02, 1),  # between a bound of 1 cm and one of 2 cm
        (0.5, [0.2, 0.05, 0], 0.03, 2),
        (0.7, [0.2, 0.15, 0], 0.03, 3),  # between 3 cm and 1 cm
        (0.8, [0.2, 0.2, 0], 0.03, 3),
        (9.0, [0.2, 0.2, 0], 0.03, 3),
    ],
)
def test_the_path_is_followed_in_time(elapsed: float, where: list[float], bound: float, step: int) -> None:
    seen = monitor().check(np.array(where), elapsed)
    assert seen.metres == pytest.approx(0, abs=1e-9)
    assert (seen.bound, seen.step, seen.left) == (bound, step, False)
    beside = np.array(where) + np.array([0, 0, bound * 1.01])
    assert monitor().check(beside, elapsed).left
    assert monitor().check(beside, elapsed).metres == pytest.approx(bound * 1.01)


def test_a_robot_that_does_not_follow_has_left_the_path_unless_it_is_only_late() -> None:
    assert monitor().check(START, 0.1).left
    assert not monitor(0.1).check(START, 0.1).left
    assert monitor(0.1).check(START, 0.2).left
    assert monitor(0.1).check(START, 0.2).metres == pytest.approx(0.05)
    # Late and early, round the corner.
    assert not monitor(0.2).check(np.array([0.15, 0, 0]), 0.5).left
    assert not monitor(0.2).check(np.array([0.2, 0.1, 0]), 0.4).left
    assert monitor(0.1).check(np.array([0.2, 0.1, 0]), 0.4).left
    # After the end as well: the last place is reached late, but it is reached.
    assert not monitor(0.2).check(np.array([0.2, 0.12, 0]), 0.9).left
    assert monitor(0.2).check(np.array([0.2, 0.12, 0]), 1.1).left


def test_what_is_not_known_is_not_held_against_the_robot_but_what_is_no_number_is() -> None:
    unknown = PathMonitor(START, PATH, np.full(4, math.inf), DT)
    assert not unknown.check(np.ones(3), 0.4).left
    assert monitor(0.3).check(np.full(3, math.nan), 0.4).left


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31), steps=st.integers(1, 8), time=st.floats(0, 1), slack=st.floats(0, 0.5),
    off=st.floats(0, 0.2),
)  # fmt: skip
def test_the_deviation_is_at_most_the_distance_to_any_place_that_is_allowed(seed, steps, time, slack, off):
    rng = np.random.default_rng(seed)
    start, path, bounds = rng.normal(size=3), rng.normal(size=(steps, 3)), rng.uniform(0.01, 0.1, steps)
    elapsed = time * steps * DT
    places = np.vstack([start, path])
    times = DT * np.arange(steps + 1)
    direction = rng.normal(size=3)
    direction *= off / np.linalg.norm(direction)
    late = rng.uniform(-slack, slack)
    asked = np.array([np.interp(elapsed - late, times, column) for column in places.T])
    seen = PathMonitor(start, path, bounds, DT, slack).check(asked + direction, elapsed)
    # The point that was asked for is one of those that are compared, with a bound of a neighbouring step.
    assert seen.metres - seen.bound <= off - bounds.min() + 1e-9
    assert not PathMonitor(start, path, np.full(steps, off + 1e-9), DT, slack).check(asked + direction, elapsed).left
    assert elapsed - slack - 1e-9 <= DT * (seen.step + 1)
    assert DT * seen.step <= elapsed + slack + 1e-9
    # More tolerance only allows more.
    later = PathMonitor(start, path, bounds, DT, slack + 0.1).check(asked + direction, elapsed)
    assert later.metres - later.bound <= seen.metres - seen.bound + 1e-9


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("path", {"path": np.zeros((0, 3))}),
        ("path", {"path": np.full((4, 3), np.nan)}),
        ("start", {"start": np.zeros(2)}),
        ("bounds", {"bounds": np.zeros(3)}),
        ("bounds", {"bounds": np.full(4, np.nan)}),
        ("dt", {"dt": 0.0}),
        ("tolerance", {"tolerance": -0.1}),
    ],
)
def test_what_means_nothing_is_refused(field: str, changes: dict) -> None:
    with pytest.raises(ShapeError, match=field):
        PathMonitor(**({"start": START, "path": PATH, "bounds": BOUNDS, "dt": DT} | changes))
