"""The executors that nodes are spun by.

They go on when an entity is destroyed while it is waited for or taken. A transition of a node destroys what it created,
in a thread of the executor or in another one. rclpy's executor has then already listed the entity for its next wait,
and the error that follows would end its spinning.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from rclpy.executors import Executor, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.subscription import Subscription

BATCH_SECONDS = 0.002
"""Seconds; see `NodeExecutor`."""


@contextmanager
def _while_entities_go() -> Iterator[None]:
    """Suppress what rclpy raises when it would wait for an entity that was destroyed since it was listed."""
    try:
        yield
    except rclpy_implementation.InvalidHandle:
        pass
    except rclpy_implementation.RCLError as error:
        # An action's server or client: rclpy passes over its InvalidHandle and puts it into the wait set all the same.
        if "pointer is invalid" not in str(error):
            raise


class WakeGuard(GuardCondition):
    """What wakes an executor: not for what the spinning thread itself does, as that looks again before it waits.

    rclpy's handlers trigger it twice for each callback: every message would be followed by one wait for nothing.
    """

    spinning: int | None = None

    def trigger(self) -> None:
        if threading.get_ident() != self.spinning:
            super().trigger()


class _NodeSpinning(Executor):
    """What both executors have in common; comes before rclpy's in the order of bases."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self._guard is not None  # made just now
        self._guard.destroy()
        self._guard: GuardCondition | None = WakeGuard(None, None, self._context)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        if isinstance(self._guard, WakeGuard):  # not shut down
            self._guard.spinning = threading.get_ident()
        with _while_entities_go():
            super().spin_once(timeout_sec)


class WorkerPool(ThreadPoolExecutor):
    """Threads that know what still waits for one of them."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.waiting: set[Callable] = set()

    def submit(self, task: Callable, /, *args: Any, **kwargs: Any) -> Future:
        if getattr(task, "at_once", False):
            done: Future = Future()
            done.set_result(task(*args, **kwargs))
            return done
        self.waiting.add(task)
        return super().submit(self._begin, task, *args, **kwargs)

    def _begin(self, task: Callable, *args: Any, **kwargs: Any) -> Any:
        self.waiting.discard(task)
        return task(*args, **kwargs)


class NodeExecutor(_NodeSpinning, MultiThreadedExecutor):
    """Timers, services and actions run beside each other, so a long one keeps none waiting.

    Subscriptions only store what they hear: the spinning thread calls them itself, as the way to another thread and
    back costs more than they do.

    rclpy's executor hands a task that no thread has begun to the pool again at every look, thousands of times within a
    second on a busy machine, and the list of them is what then takes all the time: no callback runs for most of that
    second. Here a task waits in the pool once.

    It also builds its list of all that can be waited for anew before each wait, in Python, which keeps the lock of the
    interpreter from whatever computes: 100 images and commands a second made an imagined future take twice as long.
    Here what comes within `gather` seconds is handled with one wait.
    """

    _executor: WorkerPool

    def __init__(self, num_threads: int, gather: float = BATCH_SECONDS, **kwargs: Any) -> None:
        super().__init__(num_threads, **kwargs)
        self._gather = gather
        self._executor.shutdown(wait=False)  # has no thread yet
        self._executor = WorkerPool(num_threads)

    def wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> tuple:
        while True:
            task, entity, node = super().wait_for_ready_callbacks(*args, **kwargs)
            if task not in self._executor.waiting:
                return task, entity, node

    def _wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> Iterator[tuple]:
        time.sleep(self._gather)
        yield from super()._wait_for_ready_callbacks(*args, **kwargs)

    def _make_handler(self, entity: Any, *args: Any, **kwargs: Any) -> Any:
        task = super()._make_handler(entity, *args, **kwargs)
        task.at_once = isinstance(entity, Subscription)
        return task


class OneThreadExecutor(_NodeSpinning, SingleThreadedExecutor):
    """Callbacks run one after the other, without the way to another thread and back: for short ones in a hurry."""


class SpinThread(threading.Thread):
    """Spins an executor from now on until `end`; a node that is alone with it may be destroyed after that.

    `Executor.shutdown` beside `Executor.spin` takes away what the spinning still waits for.
    """

    def __init__(self, executor: Executor) -> None:
        super().__init__(name="spin", daemon=True)
        self._executor = executor
        self._ending = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ending.is_set() and self._executor.context.ok():
            self._executor.spin_once()

    def end(self, timeout: float = 5.0) -> None:
        """Raises: TimeoutError if a callback is still busy after `timeout` seconds."""
        self._ending.set()
        self._executor.create_task(lambda: None)  # the spinning returns when it has something to do
        self.join(timeout)
        if self.is_alive():
            raise TimeoutError(f"a callback is still busy after {timeout:g} s")
        self._executor.shutdown(timeout_sec=0)
