"""Odometry as a node hears it: what a robot without joints measures of itself, and what it was told."""

import math
import threading
import time
from collections.abc import Sequence

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.callback_groups import CallbackGroup
from rclpy.subscription import Subscription

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages.odometry import OdometryLayout
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.perception.frame_history import TimedRing
from deepverse_ros.nodes.perception.robot_state import RobotState
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import RateMeter
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.robot.embodiment import Embodiment

PARAMETERS = (
    Parameter(
        "odometry_topic",
        "odom",
        "Own motion of a robot without joints that measures it (nav_msgs/Odometry); empty: none.",
    ),
)
OWN_CLOCK = 1e9
"""Seconds behind ROS time from where on a stamp counts from a beginning of its own."""


class OdometryInput:
    """Subscribes to odometry, and remembers commands.

    Values of an action that odometry tells are what was measured last. The others, such as a throttle, nobody measures:
    they are what the robot was told last (`record_command`), and before that its home. The actions of such a robot are
    what it was told.

    Args: node: with PARAMETERS and the parameter `state_timeout`. base_frame: see `OdometryLayout`. span: seconds that
    are remembered.
    """

    def __init__(self, node: RobotNode, embodiment: Embodiment, base_frame: str, span: float) -> None:
        self.topic = node.parameters["odometry_topic"]
        self.rate = RateMeter()
        self._node = node
        self._embodiment = embodiment
        self._measured_layout = OdometryLayout(embodiment.measured, base_frame)
        self._action_layout = OdometryLayout(embodiment.modalities, base_frame)
        # Of what no message can tell nothing is awaited.
        self._needed = bool(self._action_layout.told.any()) and bool(self.topic)
        self._lock = threading.Lock()
        self._messages: TimedRing[Odometry] = TimedRing(span, embodiment.dt)
        self._commanded: TimedRing[np.ndarray] = TimedRing(span, embodiment.dt)
        self._newest: tuple[np.ndarray, float, float] | None = None  # values (A,), stamp, time.monotonic()
        self._speed = np.zeros(embodiment.action_dim)
        self._strange = ""
        self._subscription: Subscription | None = None

    def start(self, group: CallbackGroup) -> None:
        wanted = self._action_layout.told.any() or self._measured_layout.told.any()
        if self.topic and wanted:
            self._subscription = self._node.subscribe(
                Odometry, self.topic, self._on_odometry, qos.sensor_input(), group
            )

    def stop(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = None
        self.forget()

    def forget(self) -> None:
        with self._lock:
            self._messages.clear()
            self._commanded.clear()
            self._newest, self._strange = None, ""
            self._speed = np.zeros(self._embodiment.action_dim)

    def record_command(self, stamp: float, values: np.ndarray) -> None:
        """The robot is told this from now on. Args: stamp: ROS seconds; values (A,)."""
        with self._lock:
            self._commanded.add(stamp, values.astype(np.float32))

    def _on_odometry(self, message: Odometry) -> None:
        self.rate.tick()
        stamp = stamp_seconds(message.header.stamp) or self._node.now()  # a driver may leave it zero
        with self._lock:
            self._messages.add(stamp, message)
            if not self._needed:
                return
            try:
                values = self._action_layout.vector(message)
            except MessageError as error:
                self._strange = str(error)
                return
            before, self._strange = self._newest, ""
            if before is not None and 0 < stamp - before[1] < 1.0:
                self._speed = np.nan_to_num((values - before[0]) / (stamp - before[1]))
            self._newest = values, stamp, time.monotonic()

    def now(self) -> RobotState | None:
        """Where the robot is; None where what odometry tells is unknown, or was measured too long ago."""
        with self._lock:
            values = self._told(self._node.now())
            if not self._needed:
                return RobotState.at_rest(values)
            if self._newest is None or self._age() > self._node.parameters["state_timeout"]:
                return None
            values = np.where(self._action_layout.told, self._newest[0], values)
            return RobotState(values, np.zeros(len(values)), self._speed)

    def at(self, stamp: float, tolerance: float) -> np.ndarray | None:
        """(A,) float32 of `stamp` (ROS seconds); None where odometry tells something, but not then."""
        with self._lock:
            values = self._told(stamp)
            if not self._needed:
                return values
            found = self._messages.nearest(stamp, tolerance)
        try:
            measured = None if found is None else self._action_layout.vector(found[1])
        except MessageError:  # `problem` says so
            measured = None
        return None if measured is None else np.where(self._action_layout.told, measured, values)

    def action_at(self, stamp: float, tolerance: float) -> np.ndarray:
        """(A,) float32: what it was told at `stamp` (ROS seconds)."""
        with self._lock:
            return self._told(stamp)

    def _told(self, stamp: float) -> np.ndarray:
        command = self._commanded.last(stamp)
        return np.asarray(self._embodiment.home, np.float32) if command is None else command[1]

    def problem(self) -> str:
        """Why it is unknown what actions depend on; empty where it is known, or where odometry tells nothing of it."""
        timeout = self._node.parameters["state_timeout"]
        with self._lock:
            if not self._needed or (self._newest is not None and self._age() <= timeout):
                return ""
            if self._strange:
                text = self._strange
            elif self._newest is None:
                text = "nothing has been heard"
            elif time.monotonic() - self._newest[2] <= 0.5 * timeout:  # it has come just now
                text = f"it comes with stamps that are {self._age():.1f} s old"
            else:
                text = f"it has been silent for {self._age():.1f} s"
        return f"{self.topic}: {text} (state_timeout is {timeout:g} s)"

    def age(self) -> float:
        """Seconds since it was measured; infinite where it never was, 0 where odometry tells nothing of it."""
        with self._lock:
            return self._age() if self._needed else 0.0

    def _age(self) -> float:
        if self._newest is None:
            return math.inf
        late = self._node.now() - self._newest[1]
        return max(time.monotonic() - self._newest[2], late if late < OWN_CLOCK else 0.0)

    def proprioception(self, stamps: Sequence[float], tolerance: float) -> np.ndarray | None:
        """(1, T, K) float32 of what odometry tells within `tolerance` of each stamp, NaN elsewhere; None for all."""
        with self._lock:
            messages = [self._messages.nearest(stamp, tolerance) for stamp in stamps]
        out = np.full((1, len(messages), self._embodiment.state_dim), np.nan, np.float32)
        for i, found in enumerate(messages):
            if found is not None:
                try:
                    out[0, i] = self._measured_layout.vector(found[1])
                except MessageError as error:
                    self._node.warn("odometry", f"{self.topic}: {error}; going on without it")
        return None if np.isnan(out).all() else out
