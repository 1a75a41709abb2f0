"""Processes that share the work and end with the one that started them, and the memory of one that computes."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.pool import Pool
from typing import Any

# Of mallopt, see malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, as the pictures of the next future need as much again.

    The GNU C library hands it back to the system by rules that follow chance: a future that was decoded then takes
    thousands of page faults, and the memory of the process goes up and down by tens of megabytes. All threads share one
    arena, so it is to be called before others begin; another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 512 << 20)):
            mallopt(option, value)


@contextmanager
def workers(count: int, start: Callable[..., None], *options: Any) -> Iterator[Pool]:
    """`count` fresh processes that each began with `start(*options)`; all end with the block, also by Ctrl-C.

    Args: start, options, and whatever is given to the pool: what pickle can hand over.
    """
    context = multiprocessing.get_context("spawn")
    with _single_threaded_rendering(), _interrupts_blocked():
        pool = context.Pool(count, _begin, (start, *options))
    try:
        yield pool
        pool.close()
    except BaseException:  # also Ctrl-C: no worker may outlive its work
        pool.terminate()
        raise
    finally:
        pool.join()


def _begin(start: Callable[..., None], *options: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers
    start(*options)


class _single_threaded_rendering:
    """Software OpenGL takes one thread per worker while workers are started; the workers share the cores already."""

    def __enter__(self) -> None:
        self._before = os.environ.get("LP_NUM_THREADS")
        os.environ["LP_NUM_THREADS"] = "1"

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            del os.environ["LP_NUM_THREADS"]
        else:
            os.environ["LP_NUM_THREADS"] = self._before


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that are started meanwhile never hear Ctrl-C, not even while they import; the parent hears it later."""
    resource_tracker.ensure_running()  # when it starts, it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
