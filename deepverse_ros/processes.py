"""Processes that share the work and end with the one that started them, and the memory of one that computes."""

import ctypes
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

from deepverse_ros.errors import WorkerError

Item = TypeVar("Item")
Result = TypeVar("Result")

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


class Pool:
    """Processes that each take one item after the other.

    The pool of Python's library waits for ever for the result of a process that was killed, as the system kills one
    when memory runs out; this one says so.
    """

    def __init__(self, count: int, start: Callable[..., None], options: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, BaseProcess] = {}
        for _ in range(count):
            mine, other = context.Pipe()
            process = context.Process(target=_serve, args=(other, start, options), daemon=True)
            process.start()
            other.close()  # so that the process alone holds it: when it ends, this end is told
            self._processes[mine] = process

    def imap_unordered(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """What `work` makes of each item, as it is done.

        Raises: what `work` or the start raised, of whichever process; WorkerError where a process was ended.
        """
        waiting = iter(items)
        busy = set[Connection]()

        def next_for(connection: Connection) -> None:
            busy.discard(connection)
            for item in waiting:
                with suppress(OSError):  # it ended, which is yet to be read
                    connection.send((work, item))
                busy.add(connection)
                return

        for connection in self._processes:
            next_for(connection)
        while busy:
            for ready in wait(list(busy)):
                connection = cast(Connection, ready)
                done, value, traced = self._receive(connection)
                if not done:
                    raise value from RuntimeError(f"in a worker process:\n{traced}")
                next_for(connection)
                yield value

    def _receive(self, connection: Connection) -> tuple[bool, Any, str]:
        try:
            return cast(tuple[bool, Any, str], connection.recv())
        except (EOFError, OSError):
            process = self._processes[connection]
            process.join(5.0)
            code = process.exitcode
            how = f"ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
            killed = "; the system does so when memory runs out: take fewer processes" if code == -9 else ""
            raise WorkerError(f"worker process {process.pid} was {how}, its work is not done{killed}") from None

    def close(self) -> None:
        """Let the processes end; they have nothing to do any more."""
        for connection in self._processes:
            connection.close()

    def terminate(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.terminate()
        self.close()

    def join(self) -> None:
        """Wait until all have ended; after `close` or `terminate`."""
        for process in self._processes.values():
            process.join()


@contextmanager
def workers(count: int, start: Callable[..., None], *options: Any) -> Iterator[Pool]:
    """`count` fresh processes that each began with `start(*options)`; all end with the block, also by Ctrl-C.

    Args: start, options, and whatever is given to the pool: what pickle can hand over.
    """
    with _single_threaded_rendering(), _interrupts_blocked():
        pool = Pool(count, start, options)
    try:
        yield pool
        pool.close()
    except BaseException:  # also Ctrl-C: no worker may outlive its work
        pool.terminate()
        raise
    finally:
        pool.join()


def _serve(connection: Connection, start: Callable[..., None], options: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers
    failed: Exception | None = None
    try:
        start(*options)
    except Exception as error:
        failed = error
    with suppress(EOFError, OSError):  # the one that started it has closed the connection, or is no more
        while True:
            work, item = connection.recv()
            try:
                if failed:
                    raise failed
                answer = True, work(item), ""
            except Exception as error:
                answer = False, _portable(error), traceback.format_exc()
            connection.send(answer)


def _portable(error: Exception) -> Exception:
    """The error, or its text where pickle cannot hand it over."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


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
