"""Workers that are killed, and what a process asks of its C library (glibc, wherever ROS 2 runs on Linux)."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from deepverse_ros import processes
from deepverse_ros.errors import ShapeError, WorkerError

FAULTS = """
import resource, sys, threading
import numpy as np
from deepverse_ros.processes import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def pictures():
    return [np.ones(size << 20, np.uint8) for size in (3, 20, 9, 14, 20, 6, 25)]  # MiB

def work():
    pictures()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        pictures()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_freed_memory_is_used_again_without_asking_the_system_for_it() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "leave")
    }
    assert faults["keep"] < 1000  # a megabyte is 256 pages
    assert faults["leave"] > 10 * faults["keep"]


def nothing() -> None:
    pass


def refuse() -> None:
    raise ShapeError("no renderer")


def signalled(number: int) -> int:
    if number:
        os.kill(os.getpid(), number)
    return number


def test_a_killed_worker_is_an_error_that_names_the_signal() -> None:
    said = r"worker process \d+ was ended by signal 9.*memory"
    with pytest.raises(WorkerError, match=said), processes.workers(2, nothing) as pool:
        list(pool.imap_unordered(signalled, [0, 0, int(signal.SIGKILL), *[0] * 20]))
    with pytest.raises(WorkerError, match="exit code 3"), processes.workers(1, nothing) as pool:
        list(pool.imap_unordered(os._exit, [3]))
    assert not multiprocessing.active_children()


def test_a_start_that_fails_is_told_with_where_it_failed() -> None:
    with pytest.raises(ShapeError, match="no renderer") as raised, processes.workers(2, refuse) as pool:
        list(pool.imap_unordered(signalled, [0, 0]))
    assert "in refuse" in str(raised.value.__cause__)


def test_every_item_is_done_once() -> None:
    with processes.workers(3, nothing) as pool:
        assert sorted(pool.imap_unordered(abs, range(-50, 0))) == list(range(1, 51))
        assert list(pool.imap_unordered(abs, [])) == []
