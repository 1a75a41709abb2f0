"""Where the prefilter's commands go: to a topic, or, of trajectories, to a controller's action."""

from typing import Any

from rclpy.publisher import Publisher
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.msg import ControllerStatus as StatusMessage
from deepverse_ros.nodes.control.controller_output import CommandOutput
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.controller_status import ControllerStatus
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import ParameterError


class PrefilterOutput:
    """Publishes what passes on ~/command_out, unless parameters name a controller's action or a separate gripper.

    What passes is then also published whole on ~/passed_command, and how the controller fares on ~/controller_status:
    the planner and the world model go by them.

    Args: kind: message of a command. Raises: ParameterError where such a message is no trajectory, but has to be.
    """

    def __init__(self, node: RobotNode, kind: type, layout: JointLayout) -> None:
        self._node = node
        self._topic: Publisher | None = None
        self._passed: Publisher | None = None
        self._command: CommandOutput | None = None
        p = node.parameters.values()
        if (p.command_output, p.gripper_output) == ("topic", "in_trajectory"):
            self._topic = node.advertise(kind, "~/command_out", qos.command())
            return
        if kind is not JointTrajectory:
            name = "gripper_output" if p.command_output == "topic" else "command_output"
            raise ParameterError(
                f"parameter '{name}' is '{getattr(p, name)}', which needs command_type: joint_trajectory; it is "
                f"'{p.command_type}'"
            )
        profile = qos.debug_output()
        profile.depth = 10  # a failure and what is sent after it come at once
        self._status = node.advertise(StatusMessage, "~/controller_status", profile)
        self._passed = node.advertise(JointTrajectory, "~/passed_command", qos.command())
        self._command = CommandOutput(node, layout, "~/command_out", self._report)

    def publish(self, message: Any, rest: bool = False) -> None:
        """Send it. Args: rest: it says where to stay, and does not come from whoever commands the robot."""
        if self._topic is not None:
            self._topic.publish(message)
            return
        assert self._passed is not None
        assert self._command is not None
        self._passed.publish(message)
        if message.points or not self._command.stop():
            self._command.send(message, "what the prefilter let pass" if not rest else "the hold", hold=rest)

    def stop(self) -> None:
        """End what a controller's action executes, wherever the robot is; a topic has no message for that."""
        if self._command is not None:
            self._command.stop()

    def check(self) -> tuple[str, dict[str, object]]:
        """What is wrong with the controller, for /diagnostics, and values."""
        return self._command.check() if self._command is not None else ("", {})

    def destroy(self) -> None:
        if self._topic is not None:
            self._node.destroy_lifecycle_publisher(self._topic)
        if self._command is not None:
            self._command.destroy()
            for publisher in (self._passed, self._status):
                self._node.destroy_lifecycle_publisher(publisher)

    def get_subscription_count(self) -> int:
        """How many hear what passes."""
        publisher = self._topic or self._passed
        return publisher.get_subscription_count() if publisher is not None else 0

    def _report(self, status: ControllerStatus) -> None:
        self._status.publish(status.to_msg())
