"""What the robot is told: accepted plans and holds, in the form that its commands have."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Protocol

import numpy as np
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.msg import ActionPlan
from deepverse_ros.nodes.control.controller_output import CommandOutput
from deepverse_ros.nodes.control.setpoint_output import SetpointOutput, resting
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.command_formats import FORMATS, CommandFormat
from deepverse_ros.nodes.messages.command_layout import layout_from
from deepverse_ros.nodes.messages.plan import plan_to_msg
from deepverse_ros.nodes.perception.observation_source import base_frame
from deepverse_ros.nodes.perception.robot_state import RobotState
from deepverse_ros.nodes.planner.controller_reports import ControllerReports
from deepverse_ros.nodes.planner.holding import OVER, SentPlan, resting_place, steps_to
from deepverse_ros.nodes.planner.keeper import Keeper
from deepverse_ros.nodes.planner.plan_progress import PlanProgress
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import ParameterError
from deepverse_ros.safety.commands import Command

HOLD = "hold"
"""Id of the plan that says: stay where you are."""
SAME_PLACE = 0.25
"""Share of the largest step that joints may be off a hold's target and still count as held there."""


class PlanOutput(Protocol):
    """How plans reach the robot, and how far it is on the one that was sent last.

    waits: whether a prefilter stands between, so that a plan begins when it passes.
    """

    waits: bool

    def send(self, plan: Command, what: str, hold: bool = False) -> None:
        """Have the robot follow it in place of what came before. Args: what: for people, as "plan goal-1.3"."""

    def stop(self) -> bool:
        """End what is executed, wherever the robot is. Returns: False where only a place to stay at could do that."""

    def elapsed(self, now: float) -> float:
        """Seconds of the plan that are done at `now` (ROS seconds), or have passed since its end."""

    def kept(self, now: float) -> float:
        """Seconds for which it has not gone on."""

    def failure(self) -> str:
        """Why it is not executed; empty while nothing is known to be wrong."""

    def check(self) -> tuple[str, dict[str, object]]:
        """What is wrong, for /diagnostics, and values."""

    def destroy(self) -> None: ...


class TrajectoryOutput:
    """Sends a plan whole, as a trajectory to its controllers."""

    def __init__(self, node: RobotNode, layout: JointLayout, writer: CommandFormat, reader: CommandFormat) -> None:
        self._node = node
        self._writer = writer
        self._command = CommandOutput(node, layout, "command")
        self._progress = PlanProgress(node, reader)
        self.waits = self._progress.waits
        self.elapsed, self.kept = self._progress.elapsed, self._progress.kept
        self.stop, self.failure, self.check = self._command.stop, self._command.failure, self._command.check

    def send(self, plan: Command, what: str, hold: bool = False) -> None:
        turns = self._writer.turns
        self._progress.begin(plan, np.zeros(self._writer.layout.size) if turns is None else turns)
        message = self._writer.write(plan, self._node.get_clock().now().to_msg())
        self._command.send(message, what, hold=hold)

    def destroy(self) -> None:
        self._command.destroy()
        self._progress.destroy()


class RobotInterface:
    """Sends plans, and follows them.

    output: how they reach the robot. keeper: who keeps one from going on.

    Args: record_command: hears what a robot without joints is told: ROS seconds and values (A,).
    Raises: ParameterError or ShapeError where the parameters' commands are none of this robot.
    """

    def __init__(
        self, node: RobotNode, layout: JointLayout, record_command: Callable[[float, np.ndarray], None]
    ) -> None:
        p = node.parameters.values()
        embodiment = layout.embodiment
        self._node = node
        self._embodiment = embodiment
        self.layout = layout_from(embodiment, SimpleNamespace(**{**vars(p), "command_values": "targets"}))
        kind = FORMATS[p.command_type]
        whole = kind.message_type is JointTrajectory
        frame = base_frame(node, embodiment) if whole else p.command_frame
        # What is read changes what is written next, such as the order of names.
        self._writer, reader = (kind(self.layout, layout, frame_id=frame) for _ in range(2))
        if not whole and (p.command_output, p.gripper_output) != ("topic", "in_trajectory"):
            raise ParameterError(
                f"parameter 'command_output' is '{p.command_output}' and 'gripper_output' '{p.gripper_output}'; with "
                f"command_type '{p.command_type}' they must be 'topic' and 'in_trajectory'"
            )
        self.output: PlanOutput = (
            TrajectoryOutput(node, layout, self._writer, reader)
            if whole
            else SetpointOutput(node, self._writer, reader, "command", embodiment.dt, record_command)
        )
        self._plan = node.advertise(ActionPlan, "~/plan", qos.command())
        self._reports = ControllerReports(node)
        self.keeper = Keeper(node)
        self._held: np.ndarray | None = None
        self._sent: SentPlan | None = None
        self._what = "nothing"

    def destroy(self) -> None:
        self._node.destroy_lifecycle_publisher(self._plan)
        for part in (self.output, self._reports, self.keeper):
            part.destroy()

    def send(self, plan: np.ndarray, plan_id: str, steps: int, start: RobotState) -> None:
        """Hand an accepted plan (H, A) to the robot; only its first `steps` actions are commanded.

        Args: start: where the plan begins, and the turns of what is sent.
        """
        self._held = None
        plan = plan[:steps]
        dt = self._embodiment.dt
        self._publish_plan(plan, plan_id)
        times = dt * np.arange(1, steps + 1)
        command = Command(plan.astype(float), times, self.layout.names, start=start.values.astype(float))
        hold = plan_id == HOLD
        if hold and self.layout.stays:
            command = Command(command.values[-1:], times[-1:], command.names, start=command.start)
        self._sent = SentPlan(plan, start, dt, time.monotonic())
        self.keeper.begin()
        self._reports.begin()
        self._what = "the hold" if hold else f"plan {plan_id}"
        self._writer.turns = start.turns
        self.output.send(command, self._what, hold)

    def failure(self) -> str:
        """Why the controller does not, or no longer, execute what was sent last; empty while nothing is wrong."""
        return self.output.failure() or self._reports.failure(self._what)

    def hold(self, state: RobotState | None) -> None:
        """Command the robot to come to rest: rates at once, places by one point that it reaches within its rates.

        Where it is known where the robot is, it stays there; a little ahead if it moves, so that it can brake. Where
        not, it rests on the plan that was sent last, where it should be now; and once that is over, nothing moves it
        and nothing is sent: where it was before may be far away. A robot that is held already keeps its target: one
        that sags a little under each hold would creep away.
        """
        if state is None and self.output.stop():
            self._held = None
            self._sent = None
            return
        expected = self._expected()
        here = state or expected
        if here is None:
            self._node.warn("hold", "no hold is sent: nothing says where the robot is, and no plan moves it")
            return
        embodiment = self._embodiment
        places = self.layout.position
        rest = resting(self.layout, here.values).astype(np.float32)
        target = np.where(places, resting_place(here, embodiment), rest)
        held = self._held
        if held is not None and bool((np.abs(target - held) <= SAME_PLACE * embodiment.max_step).all()):
            target = held
        # A controller goes there from where it is on its way, which may be ahead of where the robot is measured.
        begin = here.values if expected is None else expected.values
        steps = steps_to(target, [here.values, begin], embodiment)
        way = Command(target[None], np.array([embodiment.dt * steps]), start=here.values)
        plan = np.where(places, way.at(embodiment.dt * np.arange(1, steps + 1)), target).astype(np.float32)
        self.send(np.clip(plan, embodiment.lower, embodiment.upper), HOLD, steps, here)
        self._held = target

    def _expected(self) -> RobotState | None:
        """Where the robot should be on what was sent last; None where that is over, or nothing was sent."""
        sent = self._sent
        if sent is None:
            return None
        # Where nothing else sets the pace, steady time does not jump.
        paced = self.output.waits or self._node.get_clock().ros_time_is_active
        elapsed = max(self.output.elapsed(self._node.now()), 0.0) if paced else time.monotonic() - sent.at
        return sent.state(elapsed) if elapsed <= sent.duration + OVER else None

    def _publish_plan(self, plan: np.ndarray, plan_id: str) -> None:
        header = Header(frame_id=base_frame(self._node, self._embodiment))
        header.stamp = self._node.get_clock().now().to_msg()
        self._plan.publish(plan_to_msg(plan, self._embodiment, header, plan_id))
