"""Where a robot's trajectories go: to a topic, or to a controller's action, which also tells how it fares."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from control_msgs.action import FollowJointTrajectory
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.nodes.control import gripper_output
from deepverse_ros.nodes.control.gripper_output import NOT_TAKEN, GripperOutput, without_joint
from deepverse_ros.nodes.control.newest_goal import NewestGoal
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.controller_status import ControllerStatus
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter

PARAMETERS = (
    Parameter(
        "command_output",
        "topic",
        "How trajectories reach the robot. topic: published; follow_joint_trajectory: as goals of a controller's "
        "action, which tells what became of them.",
        choices=("topic", "follow_joint_trajectory"),
    ),
    Parameter(
        "controller_action",
        "arm_controller/follow_joint_trajectory",
        "For follow_joint_trajectory: name of the action (control_msgs/FollowJointTrajectory).",
    ),
    Parameter("controller_timeout", 2.0, "Seconds in which a controller takes or rejects a goal (s).", 0.1, 60.0),
    *gripper_output.PARAMETERS,
)
TICK = 0.05
"""Seconds between two looks at what is due."""
AGAIN = 1.0
"""Seconds after which a hold that was reached is commanded again, if it is sent again."""
_SAME = 1e-6
_CODES = {
    getattr(FollowJointTrajectory.Result, name): name
    for name in (
        "INVALID_GOAL",
        "INVALID_JOINTS",
        "OLD_HEADER_TIMESTAMP",
        "PATH_TOLERANCE_VIOLATED",
        "GOAL_TOLERANCE_VIOLATED",
    )
}


class ArmOutput(Protocol):
    """Where the trajectories of the arm's controller go."""

    def send(self, trajectory: JointTrajectory) -> None:
        """Have the robot follow it in place of what came before. Returns at once."""

    def stop(self) -> bool:
        """End what is executed, wherever the robot is. Returns: False where only a place to stay at could do that."""

    def status(self) -> ControllerStatus | None:
        """How the newest command fares; None where there is no way to know."""

    def problem(self) -> str:
        """What keeps commands from arriving; empty where nothing does."""

    def destroy(self) -> None:
        """Release what it has of the node."""


class TopicOutput:
    """Publishes them."""

    def __init__(self, node: RobotNode, topic: str) -> None:
        self._node = node
        self._publisher = node.advertise(JointTrajectory, topic, qos.command())

    def send(self, trajectory: JointTrajectory) -> None:
        self._publisher.publish(trajectory)

    def stop(self) -> bool:
        return False

    def status(self) -> None:
        return None

    def problem(self) -> str:
        return ""

    def destroy(self) -> None:
        self._node.destroy_lifecycle_publisher(self._publisher)


class ActionOutput:
    """Sends each as a goal of a FollowJointTrajectory action, which replaces the goal before it.

    To stop is to cancel the goal: ros2_control's controller then holds the robot where it is.
    """

    def __init__(self, node: RobotNode, on_change: Callable[[ControllerStatus], None]) -> None:
        p = node.parameters
        self._goals = NewestGoal(
            node, FollowJointTrajectory, p["controller_action"], outcome, on_change, p["controller_timeout"]
        )
        self._last, self._sent = JointTrajectory(), 0.0

    def send(self, trajectory: JointTrajectory) -> None:
        if self._is_held(trajectory):
            return
        self._last, self._sent = trajectory, time.monotonic()
        self._goals.send(FollowJointTrajectory.Goal(trajectory=trajectory))

    def _is_held(self, trajectory: JointTrajectory) -> bool:
        """Whether it asks for the place that the controller goes to or is at already."""
        last, status = self._last, self._goals.status()
        held = status.pending or (not status.failed and time.monotonic() - self._sent < AGAIN)
        if not held or len(last.points) != 1 or len(trajectory.points) != 1:
            return False
        if trajectory.joint_names != last.joint_names:
            return False
        there, here = np.array(trajectory.points[0].positions), np.array(last.points[0].positions)
        return there.shape == here.shape and bool((np.abs(there - here) <= _SAME).all())

    def stop(self) -> bool:
        self._last = JointTrajectory()
        self._goals.cancel()
        return True  # what is not executed stands

    def status(self) -> ControllerStatus:
        return self._goals.status()

    def problem(self) -> str:
        return self._goals.problem()

    def destroy(self) -> None:
        self._goals.destroy()


def outcome(result: FollowJointTrajectory.Result) -> tuple[int, str]:
    """Error code and sentence of a result, as "PATH_TOLERANCE_VIOLATED: joint_3 is 0.3 rad off"."""
    name = _CODES.get(result.error_code, f"error_code {result.error_code}" if result.error_code else "")
    return result.error_code, ": ".join(part for part in (name, result.error_string.strip()) if part)


class CommandOutput:
    """Sends whole trajectories, each joint to its controller. Thread-safe; nothing waits.

    Args: topic: of trajectories, where the parameter `command_output` is "topic". report: called with the status of the
    arm's controller after each change.
    """

    def __init__(
        self,
        node: RobotNode,
        layout: JointLayout,
        topic: str,
        report: Callable[[ControllerStatus], None] = lambda status: None,
    ) -> None:
        self._node, self._layout, self._report = node, layout, report
        self._lock = threading.RLock()
        self._gripper: GripperOutput | None = gripper_output.gripper_output(node, layout)
        by_topic = node.parameters["command_output"] == "topic"
        self._arm: ArmOutput = TopicOutput(node, topic) if by_topic else ActionOutput(node, self._on_change)
        self._what = "what was sent"
        self._timer = None
        if not by_topic or self._gripper is not None:
            # Wall time: a controller that does not answer is noticed while a simulation stands still, too.
            clock = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = node.create_timer(
                TICK, self._on_tick, callback_group=MutuallyExclusiveCallbackGroup(), clock=clock
            )

    @property
    def plain(self) -> bool:
        """Whether what is sent is published as it is: nothing is known of what becomes of it."""
        return self._timer is None

    def send(self, trajectory: JointTrajectory, what: str, hold: bool = False) -> None:
        """Have the robot follow it in place of what came before.

        Args: what: for people, as "plan goal-1.3". hold: it says where to stay: a gripper with a controller of its own
        then keeps what it was told.
        """
        with self._lock:
            self._what = what
            if self._gripper is None:
                self._arm.send(trajectory)
                return
            arm, gripper = without_joint(trajectory, self._layout.gripper_name)
            self._arm.send(arm)
            if hold or gripper is None or not gripper.points:
                self._gripper.hold()
            else:
                self._gripper.send(gripper)

    def stop(self) -> bool:
        """End what is executed, wherever the robot is. Returns: False where only a place to stay at could do that."""
        with self._lock:
            self._what = "the stop"
            if self._gripper is not None:
                self._gripper.hold()
            return self._arm.stop()

    def failure(self) -> str:
        """Why what was sent last is not executed; empty while nothing is known to be wrong."""
        with self._lock:
            arm = self._arm.status()
            if arm is not None and arm.failed:
                return arm.sentence(self._what)
            gripper = self._gripper.status() if self._gripper is not None else None
            if gripper is not None and gripper.state in NOT_TAKEN:
                return gripper.sentence(f"the gripper's part of {self._what}")
            return ""

    def check(self) -> tuple[str, dict[str, object]]:
        """What is wrong, for /diagnostics, and values."""
        values: dict[str, object] = {}
        if (status := self._arm.status()) is not None:
            values |= {"controller": status.action, "controller_state": status.state.name.lower()}
        problems = [self._arm.problem()]
        if self._gripper is not None:
            if (told := self._gripper.status()) is not None:
                values |= {"gripper_controller": told.action, "gripper_controller_state": told.state.name.lower()}
            problems.append(self._gripper.problem())
        return "; ".join(problem for problem in problems if problem), values

    def destroy(self) -> None:
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._arm.destroy()
        if self._gripper is not None:
            self._gripper.destroy()

    def _on_tick(self) -> None:
        with self._lock:
            self._arm.status()
            if self._gripper is not None:
                self._gripper.tick()
                self._gripper.status()

    def _on_change(self, status: ControllerStatus) -> None:
        if status.failed:
            self._node.warn("controller", status.sentence(self._what))
        self._report(status)
