"""Hands topics on with faults in them, by a schedule: to see what a robot's safety does when its parts fail."""

import heapq
import itertools
import os
import signal
import sys
import threading
import time
from functools import partial
from importlib import import_module
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.publisher import Publisher

from deepverse_ros.nodes.fault_injection.corruptions import corrupt
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode, run
from deepverse_ros.nodes.runtime.parameters import Parameter, ParameterError
from deepverse_ros.safety.faults import KINDS, Channel, Fault, Schedule, Topic, channels

PARAMETERS = (
    Parameter("schedule", "config/safety/faults.yaml", "YAML file of topics and faults."),
    Parameter("pids", [""], "Processes that the schedule kills or suspends, each as name=pid."),
    Parameter("seed", -1, "Replaces the schedule's seed; -1: as it says.", -1, 2**31 - 1),
    Parameter("autostart", True, "Configure and activate at once, without a launch file."),
)
PERIOD = 0.002
"""Seconds between two looks at what is due."""


class FaultInjector(RobotNode):
    """Relays the schedule's topics; what is delayed waits in a heap, and the schedule begins with `activate`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("fault_injector", PARAMETERS, **kwargs)
        self._lock = threading.Lock()
        self._began: float | None = None

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def configure(self) -> None:
        p = self.parameters.values()
        schedule = Schedule.load(p.schedule)
        if p.seed >= 0:
            schedule = schedule.model_copy(update={"seed": p.seed})
        self.schedule = schedule
        self._pids = _pids(p.pids)
        for fault in schedule.faults:
            if fault.process and fault.process not in self._pids:
                raise ParameterError(f"parameter 'pids' has no '{fault.process}', which the schedule has a fault for")
        self._relays: dict[str, Publisher] = {}
        for topic in schedule.topics:
            self._relay(topic)
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.own(self.create_timer(PERIOD, self._tick, MutuallyExclusiveCallbackGroup(), clock=clock))
        self._channels: dict[str, Channel] = {}
        self.diagnostics.add_check("faults", self._check)

    def _relay(self, topic: Topic) -> None:
        kind = message_type(topic.type)
        profile = qos.command() if topic.reliable else qos.sensor_input()
        out = qos.command()
        profile.depth = out.depth = 10
        self._relays[topic.name] = self.own(self.advertise(kind, topic.output, out))
        callback = partial(self._on_message, topic.name)
        self.own(self.subscribe(kind, topic.input, callback, profile, MutuallyExclusiveCallbackGroup()))

    def activate(self) -> None:
        with self._lock:
            self._channels = channels(self.schedule, corrupt)
            self._waiting: list[tuple[float, int, str, Any]] = []
            self._count = itertools.count()
            self._todo = _deeds(self.schedule.faults)
            self._suspended: set[int] = set()
            self._began = time.monotonic()

    def deactivate(self) -> None:
        with self._lock:
            self._began = None
            for pid in self._suspended:
                self._send(pid, signal.SIGCONT)
            self._suspended = set()

    # Work ---------------------------------------------------------------------------------------------------------
    def _on_message(self, name: str, message: Any) -> None:
        with self._lock:
            if self._began is None:
                return
            now = time.monotonic() - self._began
            for due, out in self._channels[name].take(message, now):
                heapq.heappush(self._waiting, (due, next(self._count), name, out))
            self._publish_due(now)

    def _tick(self) -> None:
        with self._lock:
            if self._began is None:
                return
            now = time.monotonic() - self._began
            self._publish_due(now)
            while self._todo and self._todo[0][0] <= now:
                _, name, number = self._todo.pop(0)
                self._signal(name, number)

    def _publish_due(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            _, _, name, message = heapq.heappop(self._waiting)
            self._relays[name].publish(message)

    def _signal(self, name: str, number: signal.Signals) -> None:
        pid = self._pids[name]
        self.get_logger().info(f"{number.name} to {name} ({pid})")
        if number == signal.SIGSTOP:
            self._suspended.add(pid)
        elif number == signal.SIGCONT:
            self._suspended.discard(pid)
        self._send(pid, number)

    def _send(self, pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except OSError as error:
            self.warn("process", f"{number.name} to process {pid}: {error}")

    def _check(self) -> tuple[bytes, str, dict[str, object]]:
        began = self._began
        if began is None:
            return DiagnosticStatus.OK, "inactive", {}
        now = time.monotonic() - began
        running = [f"{f.kind} {f.topic or f.process}" for f in self.schedule.faults if f.active(now)]
        values: dict[str, object] = {f"hit_{name}": channel.hit for name, channel in self._channels.items()}
        return DiagnosticStatus.OK, ", ".join(running), {"seconds": now, "faults": len(running), **values}


def message_type(name: str) -> type:
    """The class of a message such as sensor_msgs/msg/Image. Raises: ParameterError where it is not installed."""
    package, _, kind = name.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError) as error:
        raise ParameterError(f"schedule: message type '{name}' is not known here: {error}") from error


def _pids(entries: list[str]) -> dict[str, int]:
    out = {}
    for entry in filter(None, (e.strip() for e in entries)):
        name, _, number = entry.partition("=")
        # 0 and below are groups of processes, 1 is the system's, and a fault that ends its own injector is none.
        if not name or not number.isdigit() or int(number) <= 1 or int(number) in (os.getpid(), os.getppid()):
            raise ParameterError(f"parameter 'pids' has '{entry}'; expected name=pid of another process")
        out[name] = int(number)
    return out


def _deeds(faults: tuple[Fault, ...]) -> list[tuple[float, str, signal.Signals]]:
    """What is done to processes: (seconds, process, signal), in time's order."""
    out = []
    for fault in faults:
        if fault.kind == "kill":
            out.append((fault.start, fault.process, signal.SIGKILL))
        elif fault.kind == "suspend":
            out += [(fault.start, fault.process, signal.SIGSTOP), (fault.end, fault.process, signal.SIGCONT)]
    return sorted(out)


def _started() -> FaultInjector:
    node = FaultInjector()
    if node.parameters["autostart"]:
        node.trigger_configure()
        if node._state_machine.current_state[1] != "inactive":
            raise ParameterError("the fault injector could not be configured; its log says why")
        node.trigger_activate()
    return node


def main() -> None:
    """Run the fault injector, or list the kinds of faults (--list)."""
    if "--list" in sys.argv:
        for name, kind in KINDS.items():
            amount = f" (amount: {kind.amount}, {kind.default:g} when left out)" if kind.amount else ""
            print(f"{name:<16} {kind.group:<10} {kind.text}{amount}")
        return
    sys.exit(run(_started, threads=3))


if __name__ == "__main__":
    main()
