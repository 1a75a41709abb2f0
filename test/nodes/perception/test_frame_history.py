"""Windows of frames from cameras of any rate, and clocks and sizes that change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepverse_ros.nodes.perception.frame_history import FrameHistory, TimedRing

SHAPE = (48, 64)


@given(
    rate=st.floats(5.0, 60.0),
    jitter=st.floats(0.0, 0.3),
    count=st.integers(1, 80),
    context=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)
def test_a_window_is_spaced_by_dt_and_ends_at_the_newest(rate, jitter, count, context, seed):
    rng = np.random.default_rng(seed)
    stamps = np.cumsum(rng.uniform(1 - jitter, 1 + jitter, count)) / rate + 100.0
    history = FrameHistory(0.2, context)
    for index, stamp in enumerate(stamps):
        assert history.add(float(stamp), index, SHAPE) is None
    window = history.window()
    assert window.frames[-1] == count - 1
    assert 1 <= len(window.frames) <= context
    assert len(set(window.frames)) == len(window.frames)
    for steps_back, stamp in enumerate(reversed(window.stamps)):
        ideal = stamps[-1] - 0.2 * steps_back
        assert abs(stamp - ideal) <= history.tolerance
        assert abs(stamp - ideal) == pytest.approx(np.abs(stamps - ideal).min(), abs=1e-9)
    # Nothing is left out: the first that is missing is missing among all frames that ever came.
    if len(window.frames) < context:
        assert np.abs(stamps - (stamps[-1] - 0.2 * len(window.frames))).min() > history.tolerance


@pytest.mark.parametrize("rate", [5, 10, 15, 20, 30])
def test_a_steady_camera_fills_the_window_and_the_memory_stays_bounded(rate):
    history = FrameHistory(0.2, 4)
    for index in range(rate * 20):
        history.add(index / rate, index, SHAPE)
    assert [history.window().frames[-1] - f for f in history.window().frames] == pytest.approx(
        [0.6 * rate, 0.4 * rate, 0.2 * rate, 0]
    )
    assert len(history) <= 0.9 * rate + 1


FOUR_K = (2160, 3840)


@given(rate=st.floats(10.0, 120.0), jitter=st.floats(0.0, 0.2), context=st.integers(2, 6), seed=st.integers(0, 2**16))
def test_large_pictures_are_few_and_every_window_is_as_long_and_as_near_as_the_tolerance_asks(
    rate, jitter, context, seed
):
    rng = np.random.default_rng(seed)
    stamps = np.cumsum(rng.uniform(1 - jitter, 1 + jitter, int(4 * rate))) / rate
    history = FrameHistory(0.2, context)
    for index, stamp in enumerate(stamps):
        history.add(float(stamp), index, FOUR_K)
        assert len(history) <= 3 * (context + 1)
        window = history.window()
        assert window.frames[-1] == index
        if stamp - stamps[0] > 0.2 * context:
            assert len(window.frames) == context
        if index >= 3:
            # Depth that comes late: a window may end before the newest.
            assert history.window(lambda frame, last=index: frame <= last - 2).frames[-1] == index - 2


def test_a_fast_camera_of_small_pictures_is_kept_by_count():
    history = FrameHistory(0.2, 4)
    for index in range(5000):
        history.add(index / 1000, index, SHAPE)
    assert len(history) == 16 * 5
    window = history.window()
    assert [window.stamps[-1] - stamp for stamp in window.stamps] == pytest.approx([0.6, 0.4, 0.2, 0.0], abs=0.02)


def test_a_ring_may_keep_a_number_of_the_newest():
    ring = TimedRing(10.0, most=3)
    for stamp in (1.0, 2.0, 3.0, 2.5, 4.0):
        ring.add(stamp, stamp)
    assert len(ring) == 3
    assert ring.last(2.6) == (2.5, 2.5)
    assert ring.last(2.4) is None


def test_an_empty_history_has_no_window_and_a_slow_camera_gives_one_frame():
    history = FrameHistory(0.2, 4)
    assert history.window() is None
    for stamp in (1.0, 1.5, 2.0):
        history.add(stamp, stamp, SHAPE)
    assert history.window().frames == (2.0,)


@pytest.mark.parametrize("rate", [0.5, 1.0, 3.0, 10.0, 30.0])
def test_a_history_is_whole_when_it_began_as_long_ago_as_a_window_does(rate):
    history = FrameHistory(0.2, 4)
    assert not history.complete
    for index in range(100):
        history.add(50.0 + index / rate, index, SHAPE)
        assert history.complete == (index / rate >= 0.6 - history.tolerance)
        if history.complete and rate >= 10:
            assert len(history.window().frames) == 4
    history.add(10.0, 0, SHAPE)
    assert not history.complete
    history.add(10.6, 1, SHAPE)
    assert history.complete
    history.add(10.8, 2, (8, 8))
    assert not history.complete


def test_time_that_jumps_back_clears_and_a_late_frame_is_put_in_its_place():
    history = FrameHistory(0.2, 2)
    for stamp in (10.0, 10.2, 10.4, 10.3):
        assert history.add(stamp, stamp, SHAPE) is None
    assert history.window().frames == (10.2, 10.4)
    assert "jumped back by 8.400 s to 2.000 s" in history.add(2.0, 2.0, SHAPE)
    assert history.window().frames == (2.0,)


def test_another_size_clears():
    history = FrameHistory(0.2, 2)
    history.add(1.0, "a", SHAPE)
    assert "from 64x48 to 320x240" in history.add(1.2, "b", (240, 320))
    assert history.window().frames == ("b",)


def test_a_window_may_end_at_the_newest_complete_frame():
    history = FrameHistory(0.2, 3)
    for index in range(31):
        history.add(index / 30, index, SHAPE)
    assert history.window(lambda index: index != 30).frames == (17, 23, 29)
    assert history.window(lambda index: False).frames == (18, 24, 30)


def test_a_ring_forgets_what_was_before_a_jump_back_and_keeps_what_merely_came_late():
    ring = TimedRing(10.0, jump=0.5)
    for stamp in (7.0, 8.0, 7.5):
        ring.add(stamp, stamp)
    assert len(ring) == 3
    ring.add(7.4, 7.4)
    assert (len(ring), ring.newest) == (1, (7.4, 7.4))


def test_a_tolerance_that_could_take_a_frame_twice_is_refused():
    with pytest.raises(ValueError, match="half of dt"):
        FrameHistory(0.2, 4, tolerance=0.1)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.floats(0, 100))
def test_the_ring_finds_the_nearest_of_what_it_keeps(stamps, wanted):
    ring = TimedRing(10.0)
    for stamp in stamps:
        ring.add(stamp, stamp)
    kept = [s for s in stamps if s >= max(stamps) - 10.0]
    assert len(ring) <= len(set(stamps))
    assert ring.newest[0] == max(stamps)
    stamp, value = ring.nearest(wanted, 1000.0)
    assert stamp == value
    assert abs(stamp - wanted) == min(abs(s - wanted) for s in kept)
    assert ring.nearest(max(stamps) + 5.0, 1.0) is None
    before = [s for s in kept if s <= wanted]
    assert ring.last(wanted) == ((max(before),) * 2 if before else None)
