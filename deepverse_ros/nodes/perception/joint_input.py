"""Joint states as a node hears them, from any number of publishers on one topic."""

import time
from collections.abc import Sequence

import numpy as np
from rclpy.callback_groups import CallbackGroup
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState

from deepverse_ros.nodes.messages import action_layout
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.perception.measured_joints import MeasuredJoints
from deepverse_ros.nodes.perception.robot_state import RobotState
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import RateMeter
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter

PARAMETERS = (
    Parameter("joint_states_topic", "joint_states", "Measured joints (sensor_msgs/JointState); empty: none."),
    Parameter(
        "state_timeout",
        0.5,
        "Seconds for which a joint's position, or odometry of a robot without joints, counts, by its arrival and by "
        "its stamp: ten messages of a robot that publishes at 20 Hz. With an older one no plan is made, accepted or "
        "judged, and one that runs is stopped.",
        0.02,
        60.0,
        dynamic=True,
    ),
    *action_layout.PARAMETERS,
)


class JointInput:
    """Subscribes to joint states and merges them.

    Args: node: with PARAMETERS declared. span: seconds that are remembered.
    """

    def __init__(self, node: RobotNode, layout: JointLayout, span: float) -> None:
        self.topic = node.parameters["joint_states_topic"]
        self.rate = RateMeter()
        self.layout = layout
        self._node = node
        self._measured = MeasuredJoints(layout, span)
        self._subscription: Subscription | None = None

    def start(self, group: CallbackGroup) -> None:
        if self.topic:
            self._subscription = self._node.subscribe(
                JointState, self.topic, self._on_joints, qos.joints_input(), group, drain=True
            )

    def stop(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = None
        self.forget()

    def forget(self) -> None:
        self._measured.forget()

    def _on_joints(self, message: JointState) -> None:
        self.rate.tick()
        stamp = stamp_seconds(message.header.stamp) or self._node.now()  # a driver may leave it zero
        problem = self._measured.add(message.name, message.position, stamp, time.monotonic())
        if problem:
            self._node.warn("joints", f"{self.topic}: {problem}; the message was ignored")

    def _when(self) -> tuple[float, float, float]:
        return self._node.now(), time.monotonic(), self._node.parameters["state_timeout"]

    def now(self) -> RobotState | None:
        """Where the robot is; None where one of its joints is unknown, or its measurement too old."""
        return self._measured.state(*self._when())

    def at(self, stamp: float, tolerance: float) -> np.ndarray | None:
        """(A,) float32: where the robot was at `stamp` (ROS seconds), by what was measured within `tolerance` of it."""
        return self._measured.at(stamp, tolerance)

    def action_at(self, stamp: float, tolerance: float) -> np.ndarray | None:
        """The same: the joints of a step's end are what the step did, whatever was commanded."""
        return self.at(stamp, tolerance)

    def problem(self) -> str:
        """Which joints are unknown and why; empty where all are known."""
        ros, steady, timeout = self._when()
        problem = self._measured.problem(ros, steady, timeout)
        return (
            f"{self.topic or 'joint_states_topic is empty'}: {problem} (state_timeout is {timeout:g} s)"
            if problem
            else ""
        )

    def age(self) -> float:
        """Seconds since the joint that is silent for longest was measured; infinite where one never was."""
        ros, steady, _ = self._when()
        return self._measured.age(ros, steady)

    def record_command(self, stamp: float, values: np.ndarray) -> None:
        """Nothing to remember: its joint states tell what the robot did."""

    def proprioception(self, stamps: Sequence[float], tolerance: float) -> np.ndarray | None:
        """None: all that such a robot measures are its joints."""
        return None
