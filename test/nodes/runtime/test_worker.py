"""The newest-value slot and the worker thread behind every slow callback."""

import sys
import threading
import time

import pytest

from deepverse_ros.nodes.runtime.latest_slot import LatestSlot
from deepverse_ros.nodes.runtime.worker import Worker, WorkerStopped


def wait_for(condition, timeout=5.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.002)


def test_a_slot_hands_out_the_newest_once_and_counts_what_was_skipped():
    slot = LatestSlot()
    assert slot.take() is None
    for value in (1, 2, 3):
        slot.put(value)
    assert (slot.take(), slot.overwritten, slot.take(), slot.peek()) == (3, 2, None, 3)
    slot.clear()
    assert slot.peek() is None


def test_a_busy_thread_does_not_keep_the_interpreter_from_the_worker():
    worker = Worker(LatestSlot(), print, print)
    ended = threading.Event()
    busy = threading.Thread(target=lambda: [None for _ in iter(ended.is_set, True)], daemon=True)
    before = sys.getswitchinterval()
    try:
        worker.start()
        busy.start()

        def a_hundred_operations() -> float:
            begin = time.monotonic()
            for _ in range(100):
                time.sleep(0)  # gives the interpreter away, as each operation of torch does
            return time.monotonic() - begin

        # 0.5 s with Python's switch interval of 5 ms
        assert min(worker.submit(a_hundred_operations).result(20.0) for _ in range(3)) < 0.3
    finally:
        ended.set()
        worker.stop()
        sys.setswitchinterval(before)


def test_taking_waits_for_a_value_but_not_for_ever():
    slot = LatestSlot()
    threading.Timer(0.05, slot.put, ["late"]).start()
    assert slot.take(timeout=5.0) == "late"
    started = time.monotonic()
    assert slot.take(timeout=0.05) is None
    assert time.monotonic() - started < 1.0


@pytest.fixture
def made():
    workers = []

    def make(handle, **options):
        slot, errors = LatestSlot(), []
        worker = Worker(slot, handle, errors.append, **options)
        workers.append(worker)
        worker.start()
        return slot, worker, errors

    yield make
    for worker in workers:
        worker.stop()


def test_a_slow_worker_skips_to_the_newest(made):
    seen, busy = [], threading.Event()

    def handle(value):
        seen.append(value)
        busy.wait(5.0)

    slot, _, _ = made(handle)
    slot.put(0)
    wait_for(lambda: seen == [0])
    for value in range(1, 50):
        slot.put(value)
    busy.set()
    wait_for(lambda: len(seen) == 2)
    assert seen == [0, 49]
    assert slot.overwritten == 48


def test_the_thread_outlives_what_a_value_did_to_it(made):
    seen = []

    def handle(value):
        seen.append(value)
        if value == "bad":
            raise ValueError("bad value")

    slot, worker, errors = made(handle)
    slot.put("bad")
    wait_for(lambda: errors)
    slot.put("good")
    wait_for(lambda: seen == ["bad", "good"])
    assert worker.alive
    assert str(errors[0]) == "bad value"


def test_the_rate_is_limited_and_what_waits_is_the_newest(made):
    seen = []
    slot, _, _ = made(lambda value: seen.append((time.monotonic(), value)), max_rate=10.0)
    begin = time.monotonic()
    while time.monotonic() - begin < 0.65:
        slot.put(time.monotonic())
        time.sleep(0.005)
    assert 5 <= len(seen) <= 8
    # A value that waited for its turn was at most one put old when it was handled.
    assert max(at - value for at, value in seen) < 0.08


def test_jobs_go_first_and_bring_back_results_and_errors(made):
    _, worker, errors = made(lambda value: None)
    assert worker.submit(lambda: 7).result(5.0) == 7
    with pytest.raises(ZeroDivisionError):
        worker.submit(lambda: 1 / 0).result(5.0)
    assert worker.alive
    assert errors == []


def test_stopping_refuses_jobs_that_wait_and_says_when_it_is_still_busy(made):
    release, started = threading.Event(), threading.Event()

    def handle(_value):
        started.set()
        release.wait(5.0)

    slot, worker, _ = made(handle)
    slot.put(1)
    started.wait(5.0)
    waiting = worker.submit(lambda: None)
    assert not worker.stop(timeout=0.05)
    with pytest.raises(WorkerStopped):
        waiting.result(1.0)
    with pytest.raises(WorkerStopped):
        worker.submit(lambda: None)
    release.set()
    wait_for(lambda: not worker.alive)
    worker.start()
    assert worker.submit(lambda: "again").result(5.0) == "again"


def test_a_worker_that_was_stopped_while_busy_works_again_and_does_one_thing_at_a_time(made):
    seen, running, most = [], [], []
    release, started = threading.Event(), threading.Event()

    def handle(value):
        running.append(value)
        most.append(len(running))
        started.set()
        if value == "slow":
            release.wait(10.0)
        seen.append(value)
        running.remove(value)

    slot, worker, _ = made(handle)
    slot.put("slow")
    started.wait(5.0)
    assert not worker.stop(timeout=0.01)
    worker.start()
    slot.put("again")
    first = worker.submit(running.copy)
    assert not worker.stop(timeout=0.01)  # and once more, before the first thread has ended
    worker.start()
    second = worker.submit(running.copy)
    release.set()
    assert second.result(5.0) == []
    with pytest.raises(WorkerStopped):
        first.result(5.0)
    wait_for(lambda: seen == ["slow", "again"])
    assert max(most) == 1
    assert worker.stop()
    assert not worker.alive
