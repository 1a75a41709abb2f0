"""One thread that does the slow work, so that no callback waits for it."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from deepverse_ros.nodes.runtime.latest_slot import LatestSlot

T = TypeVar("T")
R = TypeVar("R")

SWITCH_INTERVAL = 2e-4
"""Seconds after which a busy Python thread lets another one run.

torch gives the interpreter away in each of its operations, and gets it back when a busy thread lets go: after 5 ms by
Python's default. With an executor that is busy with camera messages, that slows a network of small operations down
by a factor of 5 and more.
"""


class WorkerStopped(RuntimeError):
    """A job was handed to a worker that does not run, or that stopped before it came to the job."""


class Worker(Generic[T]):
    """Handles the newest value of a slot, and jobs that are handed in, one after the other on one thread.

    Args:
        slot: where callbacks put their newest input.
        handle: called with each value that is taken; runs on the worker's thread.
        on_error: called with what `handle` raised; the thread goes on. What a job raises goes to the job's future.
        max_rate: at most so many values per second (jobs are not limited); a value that waits is replaced by a
            newer one, so that what is handled is always the newest. None: no limit. May be changed while it runs.
        name: the thread's name.
    """

    def __init__(
        self,
        slot: LatestSlot[T],
        handle: Callable[[T], None],
        on_error: Callable[[Exception], None],
        max_rate: float | None = None,
        name: str = "worker",
    ) -> None:
        self.max_rate = max_rate
        self._slot = slot
        self._handle = handle
        self._on_error = on_error
        self._name = name
        self._jobs: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._ending = threading.Event()
        """Of the thread that was started last: an earlier one that is still busy has its own, and ends all the same."""
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; a second call does nothing while it runs.

        After a `stop` in the middle of something, the new thread begins when the old one has ended with that.
        """
        with self._slot.condition:
            if self.alive and not self._ending.is_set():
                return
            before, self._ending = self._thread, threading.Event()
            sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
            self._thread = threading.Thread(target=self._run, args=(self._ending, before), name=self._name, daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Let the value or job in hand end, refuse the waiting jobs, and end the thread.

        Returns: False when the thread was still busy after `timeout` seconds (it then ends after what it does now).
        """
        with self._slot.condition:
            self._ending.set()
            waiting, self._jobs = list(self._jobs), deque()
            self._slot.condition.notify_all()
        for future, _ in waiting:
            future.set_exception(WorkerStopped(f"{self._name} stopped before it came to this job"))
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def submit(self, job: Callable[[], R]) -> "Future[R]":
        """Run `job` on the worker's thread, before the next value of the slot.

        Raises: WorkerStopped when the worker does not run.
        """
        future: Future[R] = Future()
        with self._slot.condition:
            if self._ending.is_set() or not self.alive:
                raise WorkerStopped(f"{self._name} is not running")
            self._jobs.append((future, job))
            self._slot.condition.notify_all()
        return future

    def _run(self, ending: threading.Event, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()  # one thing at a time, whatever is started and stopped meanwhile
        not_before = 0.0
        while True:
            with self._slot.condition:
                while not ending.is_set() and not self._jobs:
                    wait = not_before - time.monotonic()
                    if self._slot.fresh and wait <= 0:
                        break
                    self._slot.condition.wait(wait if self._slot.fresh else None)
                if ending.is_set():
                    return
                job = self._jobs.popleft() if self._jobs else None
            if job is not None:
                self._do_job(*job)
                continue
            value = self._slot.take()
            if value is None:
                continue
            if self.max_rate:
                not_before = time.monotonic() + 1.0 / self.max_rate
            try:
                self._handle(value)
            except Exception as error:  # the thread must outlive whatever one input did to it
                self._on_error(error)

    @staticmethod
    def _do_job(future: Future, job: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(job())
        except Exception as error:  # belongs to whoever asked for the job
            future.set_exception(error)
