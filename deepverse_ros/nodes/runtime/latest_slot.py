"""The newest value, and nothing older: what a callback hands to a worker thread."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """Thread-safe holder of one value. A newer value replaces an older one that nobody took.

    condition: guards the value; a worker waits on it. overwritten: how many values were replaced before anyone took
    them (the frames that a slow worker skipped).
    """

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.overwritten = 0
        self._value: T | None = None
        self._fresh = False

    def put(self, value: T) -> None:
        """Replace the value and wake whoever waits. Never blocks for longer than the lock is held."""
        with self.condition:
            if self._fresh:
                self.overwritten += 1
            self._value = value
            self._fresh = True
            self.condition.notify_all()

    def take(self, timeout: float = 0.0) -> T | None:
        """The newest value that was not yet taken, or None after `timeout` seconds without one."""
        with self.condition:
            if not self._fresh and timeout > 0:
                self.condition.wait_for(lambda: self._fresh, timeout)
            if not self._fresh:
                return None
            self._fresh = False
            return self._value

    def peek(self) -> T | None:
        """The newest value, taken or not; None before the first one."""
        with self.condition:
            return self._value

    @property
    def fresh(self) -> bool:
        """Whether a value waits that nobody has taken."""
        with self.condition:
            return self._fresh

    def clear(self) -> None:
        """Forget the value."""
        with self.condition:
            self._value = None
            self._fresh = False
