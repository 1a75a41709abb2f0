"""Stop metrics of series whose figures are known."""

import math

import numpy as np
import pytest

from deepverse_ros.errors import ShapeError
from deepverse_ros.evaluation.prefilter.stop_metrics import Signal, stop_metrics

ALWAYS = Signal([0.0, 10.0], [True, True])
DANGER = Signal([0.0, 2.0, 5.0, 10.0], [False, True, False, False])


def changes(*times: float, first: bool = True) -> Signal:
    """A signal that changes at these times."""
    return Signal([0.0, *times], [bool(first ^ (k % 2)) for k in range(len(times) + 1)])


def test_one_danger():
    metrics = stop_metrics(ALWAYS, changes(2.2, 5.4), DANGER)
    assert (metrics.dangers, metrics.false_stops) == (1, 0)
    np.testing.assert_allclose([metrics.time_to_stop, metrics.hold_share, metrics.resume_time], [0.2, 1.0, 0.4])


def test_messages_come_at_a_rate():
    """The same with a sample every 20 ms in each signal, at times of its own."""
    times = np.arange(0, 10, 0.02)
    out = times + 0.003
    passed = Signal(out, (out < 2.2) | (out > 5.4))
    metrics = stop_metrics(Signal(times, np.ones_like(times)), passed, Signal(times, (times >= 2) & (times < 5)))
    assert metrics.time_to_stop == pytest.approx(0.2, abs=0.021)
    assert metrics.hold_share == 1.0
    assert metrics.resume_time == pytest.approx(0.4, abs=0.021)
    assert metrics.false_stops == 0


def test_moving_in_the_middle_of_a_danger_is_no_hold():
    metrics = stop_metrics(ALWAYS, changes(2.0, 3.0, 3.6, 5.1), DANGER)
    assert metrics.hold_share == pytest.approx(1 - 0.6 / 3)
    assert metrics.false_stops == 0


def test_what_does_not_stop():
    metrics = stop_metrics(ALWAYS, ALWAYS, DANGER)
    assert (metrics.time_to_stop, metrics.hold_share, metrics.resume_time) == (math.inf, 0.0, 0.0)


def test_what_never_moves_again():
    metrics = stop_metrics(ALWAYS, changes(2.1), DANGER)
    assert metrics.resume_time == math.inf
    assert metrics.false_stops == 0


def test_stops_without_danger():
    # At 1 s for long, at 6 s for less than counts, at 7 s once more.
    metrics = stop_metrics(ALWAYS, changes(1.0, 1.5, 2.1, 5.1, 6.0, 6.05, 7.0, 7.5), DANGER)
    assert metrics.false_stops == 2


def test_rest_without_a_command_is_no_stop():
    commanded = Signal([0.0, 6.0, 8.0, 10.0], [True, False, True, True])
    metrics = stop_metrics(commanded, changes(2.1, 5.1, 6.0, 8.1), DANGER)
    assert metrics.false_stops == 0
    # A robot that starts late has stopped nowhere.
    assert stop_metrics(ALWAYS, changes(1.0, first=False), Signal([], [])).false_stops == 0


def test_the_worst_of_several_dangers_counts():
    danger = Signal([0, 1, 2, 5, 6, 10], [False, True, False, True, False, False])
    metrics = stop_metrics(ALWAYS, changes(1.1, 2.5, 5.3, 6.1), danger)
    assert metrics.dangers == 2
    np.testing.assert_allclose([metrics.time_to_stop, metrics.resume_time], [0.3, 0.5])


def test_a_danger_while_nothing_is_commanded_says_nothing():
    commanded = Signal([0.0, 1.0, 6.0, 10.0], [True, False, True, True])
    metrics = stop_metrics(commanded, changes(1.0, 6.1), DANGER)
    assert metrics.dangers == 0
    assert math.isnan(metrics.time_to_stop)


def test_nothing_recorded():
    metrics = stop_metrics(Signal([], []), Signal([], []), Signal([], []))
    assert (metrics.dangers, metrics.false_stops) == (0, 0)


def test_signals_that_are_wrong():
    with pytest.raises(ShapeError, match="must not fall"):
        Signal([1.0, 0.5], [True, True])
    with pytest.raises(ShapeError, match=r"\(2,\) and values \(1,\)"):
        Signal([1.0, 2.0], [True])
    assert Signal.of([(2.0, False), (1.0, True)]).at(1.5)
