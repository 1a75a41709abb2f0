"""A plan as a stream of set-points, for robots that take one value after the other and no trajectories."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages.command_formats import CommandFormat
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.safety.commands import Command, Layout, in_layout_order

PARAMETERS = (
    Parameter(
        "setpoint_rate",
        20.0,
        "Set-points per second of a plan that is not sent as a trajectory: twists, a vehicle's control, arrays (Hz). A "
        "prefilter takes rates that cease for its command_timeout as an end. At least one for each step of the model.",
        2.0,
        200.0,
    ),
)
REST = 0.5
"""Seconds after its end for which rest is sent: one message could be lost."""
LOST = 3
"""Set-points, one after the other, of which none has passed: then the plan stands."""
SAME = 1e-3
"""In each value's unit, or as a share: two set-points that are so near are one."""


class SetpointOutput:
    """Sends what a plan says for now, again and again until it is over, and then rest. Thread-safe; nothing waits.

    Places are those that the plan has at the time of the next set-point, on straight lines; rates are those of
    its step. Where a prefilter stands between, the plan goes on with what passes, and as fast: a twist that passes at
    half its speed takes twice the time.

    waits: whether a prefilter stands between.

    Args: writer: of what is sent; reader: of what passes, for nothing else. dt: seconds of a step. record: hears what
    the robot is told: ROS seconds and values (A,).
    """

    def __init__(
        self, node: RobotNode, writer: CommandFormat, reader: CommandFormat, topic: str, dt: float,
        record: Callable[[float, np.ndarray], None],
    ) -> None:  # fmt: skip
        p = node.parameters
        self._node = node
        self._writer = writer
        self._reader = reader
        self._dt = dt
        self._record = record
        self._period = min(1.0 / p["setpoint_rate"], dt)  # no step is left out
        self._lock = threading.RLock()
        self._plan: Command | None = None
        self._done = 0.0  # seconds of it
        self._at = 0.0  # and when that was, ROS seconds
        self._gone_on = 0.0  # when it last went on, ROS seconds
        self._speed = 0.0  # share of its pace at which it goes on
        self._passed = -np.inf  # time.monotonic() when a set-point passed last
        self._newest: np.ndarray | None = None  # that was sent
        self._publisher = node.advertise(writer.message_type, topic, qos.command())
        passed = p["passed_command_topic"]
        self.waits = bool(passed)
        self._subscription = (
            node.subscribe(reader.message_type, passed, self._on_passed, qos.command(), bound=reader.bound)
            if passed
            else None
        )
        # Wall time: rates that cease count as an end, however slow a simulation is.
        self._timer = node.create_timer(
            self._period,
            self._on_tick,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def destroy(self) -> None:
        self._node.destroy_timer(self._timer)
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._node.destroy_lifecycle_publisher(self._publisher)

    # The plan -----------------------------------------------------------------------------------------------------
    def send(self, plan: Command, what: str, hold: bool = False) -> None:
        """Follow it in place of what came before. Args: plan: in the layout's order, with its start."""
        with self._lock:
            self._plan = plan
            self._done = 0.0
            self._at = self._gone_on = self._node.now()
            self._speed = 0.0 if self.waits else 1.0
            self._passed = -np.inf
            self._reader.turns = self._writer.turns
            self._on_tick()

    def stop(self) -> bool:
        """End what is executed, wherever the robot is. Returns: False where only a place to stay at could do that."""
        layout = self._writer.layout
        with self._lock:
            self._plan = None
            if layout.position.any():
                return False
            # Nothing but rest, for as long as after any plan.
            self.send(Command.setpoint(resting(layout, self._newest)), "the stop")
            return True

    def elapsed(self, now: float) -> float:
        """Seconds of the plan that are done at `now` (ROS seconds), or have passed since its end."""
        with self._lock:
            return self._done + self._pace() * (now - self._at)

    def kept(self, now: float) -> float:
        """Seconds for which it has not gone on."""
        with self._lock:
            return 0.0 if self._plan is None or self._pace() > 0 else now - self._gone_on

    def failure(self) -> str:
        """Nothing is known of what becomes of a set-point."""
        return ""

    def check(self) -> tuple[str, dict[str, object]]:
        """What is wrong, for /diagnostics, and values."""
        return "", {}

    def _pace(self) -> float:
        if self._plan is None or self._done >= self._plan.duration:
            return 1.0
        lost = self.waits and time.monotonic() - self._passed > LOST * self._period
        return 0.0 if lost else self._speed

    # What is sent, and what passes --------------------------------------------------------------------------------
    def _on_tick(self) -> None:
        with self._lock:
            plan = self._plan
            if plan is None:
                return
            now = self._node.now()
            self._at = min(self._at, now)  # where the clock jumped back, no time has passed
            pace = self._pace()
            self._done += pace * (now - self._at)
            self._at = now
            if pace > 0:
                self._gone_on = now
            layout = self._writer.layout
            if self._done < plan.duration:
                self._publish(self._wanted(plan, layout))
                return
            self._publish(np.where(layout.position, plan.values[-1], resting(layout, self._newest)))
            # The last place is kept by itself.
            if layout.stays or self._done >= plan.duration + REST:
                self._plan = None

    def _wanted(self, plan: Command, layout: Layout) -> np.ndarray:
        step = min(int(self._done / self._dt + 1e-6), len(plan.values) - 1)
        return np.where(layout.position, plan.at(self._done + self._period), plan.values[step])

    def _publish(self, values: np.ndarray) -> None:
        try:
            message = self._writer.write(Command.setpoint(values), self._node.get_clock().now().to_msg())
        except MessageError as error:  # such as a NaN that a model made
            self._node.warn("setpoint", f"{error}; it is not sent")
            return
        self._newest = values
        self._publisher.publish(message)
        if not self.waits:
            self._record(self._node.now(), values)

    def _on_passed(self, message: Any) -> None:
        layout = self._reader.layout
        with self._lock:
            incoming = self._reader.read(message, self._newest)
            command = None if incoming.problem else in_layout_order(incoming.command, layout)[0]
            if command is None:
                return
            self._record(self._node.now(), command.values[-1])
            if self._newest is not None and (share := share_of(command.values[-1], self._newest, layout)) > 0:
                self._speed = share
                self._passed = time.monotonic()


def resting(layout: Layout, last: np.ndarray | None) -> np.ndarray:
    """(A,) rates at rest, and what is kept (steering) as it was told `last` (A,); of positions whatever."""
    return np.where(np.isnan(layout.rest), 0.0 if last is None else last, layout.rest)


def share_of(passed: np.ndarray, wanted: np.ndarray, layout: Layout) -> float:
    """Share of its speed at which a set-point passed, from 0 to 1; 0 where something else passed. Args: (A,) each."""
    rates = layout.scaled & ~layout.position
    if not np.allclose(passed[~rates], wanted[~rates], atol=SAME):
        return 0.0
    speed = float(np.linalg.norm(wanted[rates]))
    if speed <= SAME:
        return 1.0 if np.allclose(passed[rates], wanted[rates], atol=SAME) else 0.0
    share = float(passed[rates] @ wanted[rates]) / speed**2
    same_way = np.allclose(passed[rates], share * wanted[rates], atol=SAME)
    return min(share, 1.0) if same_way and share > SAME else 0.0
