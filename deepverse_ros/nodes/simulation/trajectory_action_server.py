"""The simulated arm's controllers: actions with the rules of ros2_control's for joint trajectories and grippers."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from control_msgs.action import FollowJointTrajectory, GripperCommand
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.plan import command_from_trajectory
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.safety.commands import Command

PARAMETERS = (
    Parameter(
        "controller_action",
        "",
        "Also take trajectories as goals of an action of this name (control_msgs/FollowJointTrajectory), as "
        "ros2_control's joint trajectory controller does; empty: none.",
    ),
    Parameter(
        "gripper_action",
        "",
        "The gripper has an action of its own, of this name (control_msgs/GripperCommand), and is no joint of the "
        "trajectory controller; empty: it is one.",
    ),
    Parameter(
        "gripper_topic",
        "",
        "Or it listens to this topic (JointTrajectory of its joint alone) and goes to the last point at once.",
    ),
    Parameter("path_tolerance", 0.3, "Error on the way that aborts a goal (rad); 0: none.", 0.0, 10.0, dynamic=True),
    Parameter(
        "goal_tolerance", 0.05, "Error at the end that counts as reached (rad); 0: any.", 0.0, 10.0, dynamic=True
    ),
    Parameter(
        "goal_time_tolerance",
        2.0,
        "Seconds after its end in which a trajectory's goal must be reached (s).",
        0.0,
        60.0,
        dynamic=True,
    ),
)
Result: TypeAlias = FollowJointTrajectory.Result
POLL = 0.02
REPLACED = "Current goal cancelled due to new incoming action."
STALL_TIME = 1.0
"""Seconds for which a gripper has to rest, away from its goal, to count as stalled."""


class Arm(Protocol):
    """The robot that a controller moves."""

    def joints(self) -> np.ndarray:
        """(A,) as measured."""

    def time(self) -> float:
        """Seconds of the simulation."""

    def follow(self, message: JointTrajectory, command: Command) -> float:
        """Begin the message's command. Returns: when it begins, by `time`. Raises: MessageError."""

    def hold(self) -> None:
        """Stay at the last target."""

    def grip(self, opening: float) -> None:
        """Bring the gripper there, 0 (closed) to 1."""


@dataclass(eq=False)
class _Goal:
    """A goal under way; `ended`: set when something else than its course ends it, with the result's code and text."""

    ended: threading.Event = field(default_factory=threading.Event)
    code: int = 0
    text: str = ""

    def end(self, code: int, text: str) -> None:
        self.code, self.text = code, text
        self.ended.set()


def problem_of(message: JointTrajectory, joints: list[str]) -> str:
    """What a joint trajectory controller of `joints` has against a trajectory; empty where it takes it.

    The rules and words are those of ros2_controllers' joint_trajectory_controller with its default parameters.
    """
    return _problem_of_names(list(message.joint_names), joints) or _problem_of_points(message)


def _problem_of_names(names: list[str], joints: list[str]) -> str:
    if not names:
        return "Empty joint names on incoming trajectory."
    strange = [name for name in names if name not in joints]
    if strange:
        return f"Incoming joint {strange[0]} doesn't match the controller's joints."
    if sorted(names) != sorted(joints):
        return f"Joints on incoming trajectory don't match the controller joints: {', '.join(joints)}."
    return ""


def _problem_of_points(message: JointTrajectory) -> str:
    if not message.points:
        return "Empty trajectory received."
    names, before = list(message.joint_names), -1
    for k, point in enumerate(message.points):
        time_from_start = point.time_from_start.sec * 1_000_000_000 + point.time_from_start.nanosec
        if time_from_start <= before:
            return f"Time between points {k - 1} and {k} is not strictly increasing."
        before = time_from_start
        for field_name in ("positions", "velocities", "accelerations"):
            size = len(getattr(point, field_name))
            if size != len(names) and (size or field_name == "positions"):
                return f"Mismatch between joint_names size ({len(names)}) and {field_name} ({size}) at point #{k}."
    for name, velocity in zip(names, message.points[-1].velocities, strict=False):
        if abs(velocity) > np.finfo(np.float32).eps:
            return f"Velocity of last trajectory point of joint {name} is not zero: {velocity:.15f}"
    return ""


class ArmControllers:
    """The actions; each goal under way keeps a thread of the executor. A new goal ends the one before it.

    Args: node: with PARAMETERS. active: whether the controllers are.
    """

    def __init__(self, node: RobotNode, arm: Arm, layout: JointLayout, active: Callable[[], bool]) -> None:
        self._node, self._arm, self._layout, self._active = node, arm, layout, active
        name, gripper = node.parameters["controller_action"], node.parameters["gripper_action"]
        apart = bool(gripper or node.parameters["gripper_topic"])
        self.joints = [n for n in layout.names() if not (apart and n == layout.gripper_name)]
        self._lock = threading.Lock()
        self._goals: dict[str, _Goal] = {}
        """The newest, by the action's name."""
        self._under_way: list[_Goal] = []
        self._name, self._gripper = name, gripper
        self._servers: list[ActionServer] = []
        if name:
            self._serve(FollowJointTrajectory, name, self._take_trajectory, self._follow)
        if gripper:
            self._serve(GripperCommand, gripper, self._take_grip, self._grip)

    def _serve(self, kind: Any, name: str, take: Callable, run: Callable) -> None:
        def begin(handle: ServerGoalHandle) -> None:
            # Here, as goals come one after the other; they are executed in any order.
            goal = self._begin(name)
            handle.execute(lambda accepted: self._execute(name, accepted, goal, run))

        server = ActionServer(
            self._node,
            kind,
            name,
            execute_callback=run,
            goal_callback=take,
            handle_accepted_callback=begin,
            cancel_callback=lambda _handle: CancelResponse.ACCEPT,
            callback_group=MutuallyExclusiveCallbackGroup(),
        )
        self._servers.append(server)

    def replace(self, text: str) -> None:
        """The trajectory's goal ends, as something else moves the arm from now on."""
        with self._lock:
            if (goal := self._goals.pop(self._name, None)) is not None:
                goal.end(Result.INVALID_GOAL, text)

    def stop(self) -> None:
        """End all goals, and wait until their results are out."""
        with self._lock:
            for goal in self._goals.values():
                goal.end(Result.INVALID_GOAL, "the controller was deactivated")
            self._goals.clear()
        end = time.monotonic() + 1.0
        while self._under_way and time.monotonic() < end:
            time.sleep(0.01)

    def destroy(self) -> None:
        for server in self._servers:
            server.destroy()

    def _begin(self, name: str) -> _Goal:
        goal = _Goal()
        with self._lock:
            before, self._goals[name] = self._goals.get(name), goal
            self._under_way.append(goal)
            if before is not None:
                before.end(Result.INVALID_GOAL, REPLACED)
        return goal

    def _execute(self, name: str, handle: ServerGoalHandle, goal: _Goal, run: Callable) -> Any:
        try:
            return run(handle, goal)
        finally:
            with self._lock:
                self._under_way.remove(goal)
                if self._goals.get(name) is goal:
                    del self._goals[name]

    def _refuse(self, name: str, why: str) -> GoalResponse:
        self._node.warn(f"rejected {name}", f"{name}: a goal was rejected: {why}")
        return GoalResponse.REJECT

    # The arm's trajectories ---------------------------------------------------------------------------------------
    def _take_trajectory(self, request: FollowJointTrajectory.Goal) -> GoalResponse:
        if not self._active():
            return self._refuse(self._name, "Can't accept new action goals. Controller is not running.")
        problem = problem_of(request.trajectory, self.joints)
        if not problem:
            try:  # what the joints themselves cannot do
                command_from_trajectory(request.trajectory, self._layout, self._arm.joints())
            except MessageError as error:
                problem = str(error)
        return self._refuse(self._name, problem) if problem else GoalResponse.ACCEPT

    def _follow(self, handle: ServerGoalHandle, goal: _Goal) -> Result:
        message = handle.request.trajectory
        try:
            command = command_from_trajectory(message, self._layout, self._arm.joints())
            assert command is not None  # `problem_of` refuses one without points
            with self._lock:  # what came after it may already be executed
                begin = 0.0 if goal.ended.is_set() else self._arm.follow(message, command)
        except MessageError as error:
            return self._abort(handle, goal, Result.OLD_HEADER_TIMESTAMP, str(error))
        while True:
            if goal.ended.wait(POLL):
                handle.abort()
                return Result(error_code=goal.code, error_string=goal.text)
            if handle.is_cancel_requested:
                self._hold(goal)
                handle.canceled()
                return Result(error_code=Result.SUCCESSFUL, error_string="canceled; the arm holds")
            p, elapsed, joints = self._node.parameters, self._arm.time() - begin, self._arm.joints()
            if elapsed < command.duration:
                wanted = command.at(max(elapsed, 0.0))
                if problem := self._off(joints, wanted, p["path_tolerance"]):
                    return self._abort(handle, goal, Result.PATH_TOLERANCE_VIOLATED, f"{problem} on the way")
            elif not (problem := self._off(joints, command.values[-1], p["goal_tolerance"])):
                handle.succeed()
                return Result(error_code=Result.SUCCESSFUL, error_string="Goal successfully reached!")
            elif elapsed > command.duration + p["goal_time_tolerance"]:
                return self._abort(handle, goal, Result.GOAL_TOLERANCE_VIOLATED, f"{problem} at the end")

    def _off(self, joints: np.ndarray, wanted: np.ndarray, tolerance: float) -> str:
        """Which joint is too far from where it should be; empty where none is. The gripper may hold something."""
        index = self._layout.embodiment.joints
        off = np.abs(joints[index] - wanted[index])
        worst = int(np.argmax(off))
        if not tolerance or off[worst] <= tolerance:
            return ""
        return f"{self._layout.names()[worst]} is {off[worst]:.3f} rad off; allowed: {tolerance:g}"

    def _abort(self, handle: ServerGoalHandle, goal: _Goal, code: int, text: str) -> Result:
        self._hold(goal)
        handle.abort()
        return Result(error_code=code, error_string=text)

    def _hold(self, goal: _Goal) -> None:
        with self._lock:
            if not goal.ended.is_set():
                self._arm.hold()

    # The gripper --------------------------------------------------------------------------------------------------
    def on_gripper(self, message: JointTrajectory) -> None:
        """A trajectory of the gripper's own topic."""
        if list(message.joint_names) != [self._layout.gripper_name] or not message.points:
            names = ", ".join(message.joint_names) or "none"
            self._node.warn("gripper", f"a gripper's trajectory has {len(message.points)} points of joints: {names}")
        elif len(message.points[-1].positions) == 1:
            self._arm.grip(float(np.clip(self._layout.gripper_opening(message.points[-1].positions[0]), 0.0, 1.0)))

    def _take_grip(self, request: GripperCommand.Goal) -> GoalResponse:
        if not self._active():
            return self._refuse(self._gripper, "the controller is not active")
        if not -1e-3 <= self._layout.gripper_opening(request.command.position) <= 1 + 1e-3:
            return self._refuse(self._gripper, f"position is {request.command.position:.4g}")
        return GoalResponse.ACCEPT

    def _grip(self, handle: ServerGoalHandle, goal: _Goal) -> GripperCommand.Result:
        wanted, tolerance = self._layout.gripper_opening(handle.request.command.position), 0.03
        with self._lock:
            if not goal.ended.is_set():
                self._arm.grip(float(np.clip(wanted, 0.0, 1.0)))
        index = self._layout.gripper_column()
        before, since = np.inf, self._arm.time()
        while True:
            opening, now = float(self._arm.joints()[index]), self._arm.time()
            if abs(opening - before) > 0.1 * tolerance:
                before, since = opening, now
            reached, stalled = abs(opening - wanted) <= tolerance, now - since > STALL_TIME
            position = self._layout.gripper_position(opening)
            result = GripperCommand.Result(position=position, reached_goal=reached, stalled=stalled and not reached)
            if goal.ended.is_set() or (stalled and not reached):
                handle.abort()
                return result
            if handle.is_cancel_requested:
                self._arm.grip(opening)
                handle.canceled()
                return result
            if reached:
                handle.succeed()
                return result
            goal.ended.wait(POLL)
