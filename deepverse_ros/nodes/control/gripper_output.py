"""A gripper that another controller moves than the arm's: what it is told, and when."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from control_msgs.action import GripperCommand
from control_msgs.msg import GripperCommand as Command
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.nodes.control.newest_goal import NewestGoal
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.controller_status import ControllerStatus, State
from deepverse_ros.nodes.messages.time import duration, stamp_seconds
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter, ParameterError

PARAMETERS = (
    Parameter(
        "gripper_output",
        "in_trajectory",
        "How the gripper is moved. in_trajectory: as a joint of the arm's controller; trajectory_topic, "
        "gripper_command: by a controller of its own, the arm's then gets the arm's joints only.",
        choices=("in_trajectory", "trajectory_topic", "gripper_command"),
    ),
    Parameter("gripper_topic", "gripper_controller/joint_trajectory", "For trajectory_topic (JointTrajectory)."),
    Parameter("gripper_action", "gripper_controller/gripper_cmd", "For gripper_command (GripperCommand)."),
    Parameter("gripper_max_effort", 0.0, "For gripper_command (N or Nm); 0: the controller's own.", 0.0, 1000.0),
    Parameter(
        "gripper_change",
        0.05,
        "For gripper_command: a change of the gripper by more than this share of its way is commanded.",
        0.0,
        1.0,
    ),
)
NOT_TAKEN = (State.REJECTED, State.UNANSWERED, State.NO_SERVER)
"""A gripper that took its command and did not get there holds something, as a rule."""
HOLD_TIME = 0.2
"""Seconds in which a gripper's controller has to be where it is told to stay."""


def without_joint(message: JointTrajectory, joint: str) -> tuple[JointTrajectory, JointTrajectory | None]:
    """A trajectory as one of the other joints, and one of `joint` alone, None where it has no such joint.

    A message whose points do not fit its names is left as it is: whoever takes it will say so.
    """
    names = list(message.joint_names)
    fits = all(len(p.positions) == len(names) for p in message.points)
    if joint not in names or not fits:
        return message, None
    column = names.index(joint)
    others = [k for k in range(len(names)) if k != column]
    return _columns(message, others), _columns(message, [column])


def _columns(message: JointTrajectory, columns: list[int]) -> JointTrajectory:
    def pick(values: list[float]) -> list[float]:
        return [values[k] for k in columns] if len(values) == len(message.joint_names) else []

    points = [
        JointTrajectoryPoint(
            positions=pick(p.positions),
            velocities=pick(p.velocities),
            accelerations=pick(p.accelerations),
            time_from_start=p.time_from_start,
        )
        for p in message.points
    ]
    names = [message.joint_names[k] for k in columns]
    return JointTrajectory(header=message.header, joint_names=names, points=points)


@dataclass
class GripperCourse:
    """What a gripper was told: positions (P,) to be reached at `times` (P,) seconds, and one place before that."""

    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    positions: np.ndarray = field(default_factory=lambda: np.zeros(0))
    before: float | None = None

    def begin(self, now: float, trajectory: JointTrajectory) -> None:
        """From now on `trajectory`, of one joint, in place of what came before."""
        before = self.commanded(now)
        begin = stamp_seconds(trajectory.header.stamp) or now
        after = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in trajectory.points]
        self.times = np.array([begin, *(begin + t for t in after)])
        positions = [p.positions[0] for p in trajectory.points]
        self.before = positions[0] if before is None else before
        self.positions = np.array([self.before, *positions])

    def hold(self, now: float) -> float | None:
        """Stay at what is commanded now, which is returned; None where nothing ever was."""
        self.before = self.commanded(now)
        self.times, self.positions = np.zeros(0), np.zeros(0)
        return self.before

    def commanded(self, now: float) -> float | None:
        """Where it shall be now; None where nothing was ever commanded."""
        return float(np.interp(now, self.times, self.positions)) if len(self.times) else self.before

    def goal(self, now: float) -> float | None:
        """What it is on its way to now: the next point's position."""
        if not len(self.times):
            return self.before
        return float(self.positions[min(int(np.searchsorted(self.times, now, side="right")), len(self.times) - 1)])


class GripperOutput(Protocol):
    """Where a gripper's commands go; `tick` is called some 20 times a second. Not thread-safe."""

    def send(self, trajectory: JointTrajectory) -> None:
        """Have the gripper follow this one, of its joint alone."""

    def hold(self) -> None:
        """Keep it at what it was told last: what it has gripped must not fall."""

    def tick(self) -> None:
        """Send what is due by now."""

    def status(self) -> ControllerStatus | None:
        """How its newest command fares, where there is a way to know."""

    def problem(self) -> str:
        """What keeps commands from arriving; empty where nothing does."""

    def destroy(self) -> None:
        """Release what it has of the node."""


class TrajectoryGripper:
    """A gripper whose controller listens to a topic of trajectories."""

    def __init__(self, node: RobotNode) -> None:
        self._node, self._course = node, GripperCourse()
        self._names: list[str] = []
        self._publisher = node.advertise(JointTrajectory, node.parameters["gripper_topic"], qos.command())

    def send(self, trajectory: JointTrajectory) -> None:
        self._course.begin(self._node.now(), trajectory)
        self._names = list(trajectory.joint_names)
        self._publisher.publish(trajectory)

    def hold(self) -> None:
        place = self._course.hold(self._node.now())
        if place is not None:
            point = JointTrajectoryPoint(positions=[place], time_from_start=duration(HOLD_TIME))
            self._publisher.publish(JointTrajectory(header=Header(), joint_names=self._names, points=[point]))

    def tick(self) -> None:
        pass

    def status(self) -> None:
        return None

    def problem(self) -> str:
        return ""

    def destroy(self) -> None:
        self._node.destroy_lifecycle_publisher(self._publisher)


class CommandGripper:
    """A gripper with an action (control_msgs/GripperCommand), which takes one position at a time."""

    def __init__(self, node: RobotNode, layout: JointLayout) -> None:
        p = node.parameters.values()
        self._node, self._course, self._effort = node, GripperCourse(), p.gripper_max_effort
        self._change = p.gripper_change * abs(layout.gripper_open - layout.gripper_closed)
        self._told: float | None = None
        self._goals = NewestGoal(
            node, GripperCommand, p.gripper_action, _outcome, self._on_change, p.controller_timeout
        )

    def send(self, trajectory: JointTrajectory) -> None:
        self._course.begin(self._node.now(), trajectory)
        if self._goals.status().state in NOT_TAKEN:
            self._told = None
        self.tick()

    def hold(self) -> None:
        self._course.hold(self._node.now())
        # On its way it goes on to where it was told to be: there is no less than one position.
        self._course.before = self._told

    def tick(self) -> None:
        wanted = self._course.goal(self._node.now())
        if wanted is None or (self._told is not None and abs(wanted - self._told) <= self._change):
            return
        self._told = wanted
        self._goals.send(GripperCommand.Goal(command=Command(position=wanted, max_effort=self._effort)))

    def status(self) -> ControllerStatus:
        return self._goals.status()

    def problem(self) -> str:
        return self._goals.problem()

    def destroy(self) -> None:
        self._goals.destroy()

    def _on_change(self, status: ControllerStatus) -> None:
        if status.failed:
            self._node.warn("gripper", status.sentence("the gripper's command"))


def _outcome(result: GripperCommand.Result) -> tuple[int, str]:
    what = "it is stalled" if result.stalled else "it did not reach the position"
    return 0, f"{what}, at {result.position:.4g} with effort {result.effort:.3g}"


def gripper_output(node: RobotNode, layout: JointLayout) -> GripperOutput | None:
    """What the parameter `gripper_output` says; None: the gripper is a joint of the arm's controller.

    Raises: ParameterError where the robot has no gripper's joint.
    """
    chosen = node.parameters["gripper_output"]
    if chosen == "in_trajectory":
        return None
    if not layout.has_gripper_joint:
        raise ParameterError(
            f"parameter 'gripper_output' is '{chosen}', but {layout.embodiment.name} has no gripper's joint: set "
            "gripper_joint, or leave gripper_output at in_trajectory"
        )
    return TrajectoryGripper(node) if chosen == "trajectory_topic" else CommandGripper(node, layout)
