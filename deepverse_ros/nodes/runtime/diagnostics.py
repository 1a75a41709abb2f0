"""What a node says about itself on /diagnostics, once a second."""

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.timer import Timer

from deepverse_ros.errors import printable

Check = Callable[[], tuple[bytes, str, dict[str, object]]]
LEVEL_NAMES = {DiagnosticStatus.OK: "OK", DiagnosticStatus.WARN: "WARN", DiagnosticStatus.ERROR: "ERROR"}


class RateMeter:
    """Events per second over the last `window` seconds. Thread-safe."""

    def __init__(self, window: float = 3.0) -> None:
        self.window = window
        self.total = 0
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def tick(self) -> None:
        now = time.monotonic()
        with self._lock:
            self.total += 1
            self._times.append(now)
            self._forget(now)

    def rate(self) -> float:
        now = time.monotonic()
        with self._lock:
            self._forget(now)
            if len(self._times) < 2:
                return 0.0
            return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-6)

    def age(self) -> float:
        """Seconds since the last event; infinite before the first within the window."""
        with self._lock:
            return time.monotonic() - self._times[-1] if self._times else float("inf")

    def _forget(self, now: float) -> None:
        while self._times and now - self._times[0] > self.window:
            self._times.popleft()


class Quantiles:
    """Quantiles of the last `size` values. Thread-safe."""

    def __init__(self, size: int = 100) -> None:
        self._values: deque[float] = deque(maxlen=size)
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        with self._lock:
            self._values.append(value)

    def at(self, *quantiles: float) -> list[float]:
        """The values at `quantiles` (0 to 1); NaN where nothing was added yet."""
        with self._lock:
            values = list(self._values)
        if not values:
            return [float("nan")] * len(quantiles)
        return [float(v) for v in np.quantile(values, quantiles)]


class DiagnosticsPublisher:
    """Gathers a node's condition from its checks and publishes it.

    A check is a function that returns (level, sentence or "", values). Each has a status of its own, "NODE: NAME", and
    so have the warnings of the last `warning_memory` seconds with the QoS mismatches, which are at WARN. The first
    status, "NODE", sums up: it carries the highest level, every sentence and every value.
    """

    def __init__(self, node: Node, period: float = 1.0, warning_memory: float = 5.0) -> None:
        self._node = node
        self._period = period
        self._memory = warning_memory
        self._checks: dict[str, Check] = {}
        self._last_warning: tuple[float, str] | None = None
        self._mismatches: dict[str, None] = {}
        self._timer: Timer | None = None
        self._publisher: Publisher | None = None

    def add_check(self, name: str, check: Check) -> None:
        """Ask `check` from now on. Args: name: of its status, unique within the node."""
        self._checks[name] = check

    def clear_checks(self) -> None:
        self._checks.clear()

    def warned(self, message: str) -> None:
        self._last_warning = (time.monotonic(), message)

    def qos_mismatch(self, message: str) -> None:
        """Remember and log, once per sentence, that two ends of a topic do not match."""
        if message not in self._mismatches:
            self._mismatches[message] = None
            self._node.get_logger().warning(message)

    def mismatch(self, topic: str) -> str:
        """What was said last of two ends of `topic` that do not match; empty where nothing was."""
        return next((text for text in reversed(self._mismatches) if f"topic '{topic}'" in text), "")

    def start(self) -> None:
        if self._timer is None:
            self._publisher = self._node.create_publisher(DiagnosticArray, "/diagnostics", 10)
            # Wall time: a paused simulation must still be diagnosed.
            self._timer = self._node.create_timer(
                self._period, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME)
            )

    def stop(self) -> None:
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._node.destroy_publisher(self._publisher)
            self._timer = self._publisher = None

    def status(self) -> DiagnosticStatus:
        """The node's condition now, in one."""
        return self.statuses()[0]

    def statuses(self) -> list[DiagnosticStatus]:
        """The node's condition now: the sum, each check, and what was warned of."""
        parts = {}
        for name, check in list(self._checks.items()):
            level, sentence, values = check()
            parts[name] = level, printable(sentence), values
        parts["warnings"] = self._warnings()
        level = max(level for level, _, _ in parts.values())
        sentence = "; ".join(sentence for _, sentence, _ in parts.values() if sentence)
        values = {key: value for _, _, some in parts.values() for key, value in some.items()}
        node = self._node.get_fully_qualified_name().lstrip("/")
        whole = _status(node, level, sentence, values)
        return [whole, *(_status(f"{node}: {name}", *part) for name, part in parts.items())]

    def _warnings(self) -> tuple[bytes, str, dict[str, object]]:
        sentences, values = [*self._mismatches], dict[str, object]()
        if self._mismatches:
            values["qos_mismatches"] = len(self._mismatches)
        if self._last_warning is not None:
            at, text = self._last_warning
            age = time.monotonic() - at
            values["last_warning"] = f"{text} ({age:.0f} s ago)"
            if age <= self._memory:
                sentences.append(text)
        return DiagnosticStatus.WARN if sentences else DiagnosticStatus.OK, "; ".join(map(printable, sentences)), values

    def _publish(self) -> None:
        message = DiagnosticArray(status=self.statuses())
        message.header.stamp = self._node.get_clock().now().to_msg()
        if self._publisher is not None:
            self._publisher.publish(message)


def _status(name: str, level: bytes, sentence: str, values: dict[str, object]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name=name,
        message=sentence or LEVEL_NAMES[level],
        hardware_id="deepverse_ros",
        values=[KeyValue(key=key, value=_text(value)) for key, value in values.items()],
    )


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
