"""What a prefilter says of the controller behind it, as far as it concerns the plan that was sent last."""

import threading

from rclpy.qos import QoSProfile

from deepverse_ros.msg import ControllerStatus as StatusMessage
from deepverse_ros.nodes.messages.controller_status import ControllerStatus
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter

PARAMETERS = (
    Parameter(
        "controller_status_topic",
        "",
        "Where a prefilter that sends to a controller's action says how that fares (ControllerStatus); empty: nowhere.",
    ),
)


class ControllerReports:
    """The first failure since the last `begin`: the prefilter's own holds, which follow it, may do well."""

    def __init__(self, node: RobotNode) -> None:
        self._node, self._lock = node, threading.Lock()
        self._since = node.now()
        self._failed: ControllerStatus | None = None
        topic = node.parameters["controller_status_topic"]
        self._subscription = node.subscribe(StatusMessage, topic, self._on_status, _input()) if topic else None

    def destroy(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)

    def begin(self) -> None:
        """A plan is about to be sent: what failed before is no concern of it."""
        with self._lock:
            self._since, self._failed = self._node.now(), None

    def failure(self, command: str) -> str:
        """What went wrong, empty where nothing did. Args: command: what it was, as "plan goal-1.3"."""
        with self._lock:
            return self._failed.sentence(command) if self._failed is not None else ""

    def _on_status(self, message: StatusMessage) -> None:
        try:
            status = ControllerStatus.from_msg(message)
        except ValueError as error:
            self._node.warn("controller", f"{self._node.parameters['controller_status_topic']}: {error}")
            return
        with self._lock:
            if self._failed is None and status.failed and status.sent >= self._since:
                self._failed = status


def _input() -> QoSProfile:
    profile = qos.debug_output()
    profile.depth = 10  # a failure and what is sent after it come at once
    return profile
