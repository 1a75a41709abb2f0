"""Which commands a verdict answers for: those within the half-widths, as early or late as the time slack allows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepverse_ros.safety.verdict import Envelope

SLACK = 0.05
FINE = np.linspace(-SLACK, SLACK, 101)


def drawn(seed: int) -> tuple[Envelope, np.ndarray, np.ndarray]:
    """An envelope of 2 s and the path (times, values) that it is of, which turns back twice and then rests."""
    rng = np.random.default_rng(seed)
    times = np.array([0.0, 0.4, 0.9, 1.5])
    path = rng.uniform(-1, 1, (4, 3))
    center = Envelope(7.0, np.append(times, 2.0), np.concatenate([path, path[-1:]]), np.full(3, 0.01), SLACK)
    return center, times, path


def shifted(times: np.ndarray, path: np.ndarray, later: float) -> tuple[np.ndarray, np.ndarray]:
    """The same way, begun `later` seconds after now, or before it: times from now."""
    if later >= 0:
        return np.insert(times + max(later, 1e-9), 0, 0.0), np.insert(path, 0, path[0], 0)
    here = np.array([np.interp(-later, times, v) for v in path.T])
    left = times > -later
    return np.insert(times[left] + later, 0, 0.0), np.insert(path[left], 0, here, 0)


@given(st.integers(0, 10_000), st.floats(-1, 1))
def test_a_path_that_is_early_or_late_within_the_slack_is_covered(seed: int, share: float) -> None:
    envelope, times, path = drawn(seed)
    assert envelope.excess(*shifted(times, path, 0.98 * share * SLACK), 0.0) <= 1


@given(st.integers(0, 10_000), st.floats(1.3, 4), st.booleans())
def test_a_path_that_is_too_early_or_late_is_not(seed: int, share: float, late: bool) -> None:
    envelope, times, path = drawn(seed)
    path[1] = path[0] + np.array([0.6, -0.6, 0.6])  # moves fast enough for the slack to matter
    envelope = replace(envelope, center=np.concatenate([path, path[-1:]]))
    assert envelope.excess(*shifted(times, path, share * SLACK * (1 if late else -1)), 0.0) > 1


@given(st.integers(0, 10_000), st.floats(0, 0.05), st.floats(-1, 1))
def test_what_is_covered_is_so_by_some_shift(seed: int, noise: float, share: float) -> None:
    """No path is let through that no shift within the slack brings within the half-widths."""
    envelope, times, path = drawn(seed)
    path = path + noise * np.random.default_rng(seed + 1).uniform(-1, 1, path.shape)
    there = shifted(times, path, share * SLACK)
    exact = replace(envelope, time_slack=0.0)
    best = min(exact.excess(*there, float(shift)) for shift in FINE)
    slope = np.abs(np.diff(path, axis=0)).max() / 0.4 / 0.01  # half-widths a second, of what lies between two shifts
    assert envelope.excess(*there, 0.0) >= best - slope * (FINE[1] - FINE[0])


@given(st.integers(0, 10_000), st.booleans())
def test_a_tube_holds_all_ways_whose_ends_it_holds_at_any_time(seed: int, degenerate: bool) -> None:
    rng = np.random.default_rng(seed)
    center = rng.uniform(-1, 1, (2, 3))
    center[1] = center[0] if degenerate else center[1]
    tube = Envelope(7.0, np.array([0.0, 1.6]), center, np.full(3, 0.02), tube=True)
    assert not tube.problem(3)
    along = rng.uniform(0, 1, (4, 1))
    places = center[0] + along * (center[1] - center[0]) + rng.uniform(-0.02, 0.02, (4, 3))
    times = np.array([0.0, 0.0, *rng.uniform(0.1, 3.0, 2)])
    assert tube.excess(times, places, rng.uniform(0, 1.5)) <= 1
    assert tube.excess(times, places, 1.6) == np.inf  # nothing is left of it
    off = places.copy()
    way = center[1] - center[0]
    off[rng.integers(4)] += way + 0.05 * np.where(way < 0, -1, 1)
    assert tube.excess(times, off, 0.0) > 1


def test_a_tube_has_two_ends() -> None:
    tube = Envelope(7.0, np.array([0.0, 0.5, 1.6]), np.zeros((3, 2)), np.ones(2), tube=True)
    assert "tube is true, so center must have 2 rows" in tube.problem(2)


def test_without_slack_time_counts_exactly() -> None:
    envelope, times, path = drawn(3)
    path[1] = path[0] + 0.8
    strict = replace(envelope, center=np.concatenate([path, path[-1:]]), time_slack=0.0)
    assert strict.excess(times, path, 0.0) == pytest.approx(0, abs=1e-9)
    assert strict.excess(*shifted(times, path, 0.01), 0.0) > 1


@pytest.mark.parametrize("slack", [-0.1, np.nan, np.inf])
def test_a_slack_that_is_none_is_named(slack: float) -> None:
    envelope, _, _ = drawn(0)
    assert "time_slack" in replace(envelope, time_slack=slack).problem(3)
