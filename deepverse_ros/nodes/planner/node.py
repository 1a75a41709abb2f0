"""The planner as a node: goals in, judged plans out. A plan that was not accepted is never sent."""

import sys
import threading
import time
from concurrent.futures import Future
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.action import PlanToGoal
from deepverse_ros.errors import DeepverseError, MessageError
from deepverse_ros.model.observation import Goal
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import ActionPlan
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.goal import goal_from_images, position_from_point
from deepverse_ros.nodes.messages.image_decoding import picture_size
from deepverse_ros.nodes.perception.model_loading import load_model
from deepverse_ros.nodes.perception.observation_source import (
    ObservationSource,
    ObservationWindow,
    base_frame,
    read_goal,
)
from deepverse_ros.nodes.planner.goal_controller import GoalController
from deepverse_ros.nodes.planner.goal_image_tracker import GoalImageTracker, TrackingTask
from deepverse_ros.nodes.planner.goal_task import GoalTask, Result, failed_result
from deepverse_ros.nodes.planner.outputs import PlanOutputs
from deepverse_ros.nodes.planner.parameters import PARAMETERS, mpc_config
from deepverse_ros.nodes.planner.proposed_plans import Proposals
from deepverse_ros.nodes.planner.robot import POLL, Robot
from deepverse_ros.nodes.planner.robot_interface import RobotInterface
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.latest_slot import LatestSlot
from deepverse_ros.nodes.runtime.lifecycle import RobotNode, run
from deepverse_ros.nodes.runtime.worker import Worker, WorkerStopped
from deepverse_ros.planning.verdicts.calibration import Calibration
from deepverse_ros.planning.verdicts.recalibration import Recalibration
from deepverse_ros.processes import keep_freed_memory


class PlannerNode(RobotNode):
    """Plans to goal images and places by imagination, executes what is accepted, and judges the plans of others.

    A goal of the action is pursued to its end; the topic's newest picture is tracked until an empty one withdraws it.
    """

    # Made by `configure`, gone after `cleanup`.
    model: WorldModel
    input: ObservationSource
    worker: Worker[GoalTask]
    robot: Robot

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("planner", PARAMETERS, **kwargs)
        self._tasks: dict[bytes, GoalTask] = {}
        self._tracking: TrackingTask | None = None
        self._lock = threading.RLock()
        self._active = False

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def configure(self) -> None:
        p = self.parameters.values()
        model = load_model(self)
        self.calibration = Calibration.from_model(model.calibration)
        if self.calibration is None:
            self.get_logger().warning(f"{p.checkpoint} has no calibration: every plan will be rejected")
        elif self.calibration.path_error_z is None:
            self.get_logger().warning(
                f"{p.checkpoint} has no calibrated bound of the path (path_error_z): nothing stops a robot that leaves "
                "the path that was imagined for it; `deepverse calibrate` measures the bound"
            )
        self._check_horizon(model)
        self.recalibration = Recalibration(self.calibration, p.recalibration_rate, p.recalibration_limit)
        self.model = model
        layout = JointLayout.of(model.embodiment, p)
        size = (model.config.height, model.config.width)
        self.input = self.own(ObservationSource(self, layout, model.config.context, size, model.config.posed))
        interface = self.own(RobotInterface(self, layout, self.input.state.record_command))
        outputs = self.own(PlanOutputs(self, model.embodiment))
        self.robot = Robot(self, model, self.input, interface, outputs, self.recalibration, self._serve_proposals)
        self._goals: LatestSlot[GoalTask] = LatestSlot()
        self._proposals = Proposals(self, model, self.input, interface, outputs, self.recalibration)
        self.worker = Worker(self._goals, self._pursue, self._on_error, name="planner")
        self._goal: Goal | None = None
        self._running: GoalTask | None = None
        self._halted = False  # whether the last task was ended before the robot rested; on the worker's thread only
        self._asked: Future[None] | None = None
        self._count = 0
        self._listen()
        self.diagnostics.add_check("planning", self._check)

    def _check_horizon(self, model: WorldModel) -> None:
        """Raises: ShapeError where no search has such a horizon."""
        steps = mpc_config(self.parameters, model.config.horizon).sampler.horizon
        if self.calibration is not None and steps > len(self.calibration.goal_error_z):
            self.get_logger().warning(
                f"horizon is {steps} steps; the calibration of {self.parameters['checkpoint']} covers "
                f"{len(self.calibration.goal_error_z)}: every plan will be rejected"
            )

    def _listen(self) -> None:
        # An executing goal keeps one thread of the executor until its result is there.
        self.own(
            ActionServer(
                self,
                PlanToGoal,
                "~/plan_to_goal",
                execute_callback=self._execute_goal,
                goal_callback=self._accept_goal,
                cancel_callback=self._cancel_goal,
                callback_group=ReentrantCallbackGroup(),
            )
        )
        # What shares a group with the node's timers and services has to wait for them.
        group = MutuallyExclusiveCallbackGroup()
        self.own(self.subscribe(Image, "~/goal_image", self._on_goal_image, qos.command(), group))
        for kind, topic, hear in (
            (ActionPlan, "~/proposed_plan", self._on_plan),
            (JointTrajectory, "~/proposed_trajectory", self._on_trajectory),
        ):
            self.own(self.subscribe(kind, topic, hear, qos.command(), group, unreadable=self._on_unread_proposal))

    def activate(self) -> None:
        self.worker.start()
        self.input.start()
        self._active = True

    def deactivate(self) -> None:
        self._active = False
        with self._lock:
            waiting = [t for t in (self._running, self._goals.take()) if t is not None] + list(self._tasks.values())
        for task in waiting:
            task.stop(Result.NODE_STOPPED)
        if not self.worker.stop(timeout=10.0):
            self.get_logger().error("the worker is still busy after 10 s; it ends after what it does now")
        for task in waiting:
            if task.result is None:
                task.finish()
        # The action's callbacks need a moment to hand their results out while the node still exists.
        end = time.monotonic() + 1.0
        while self._tasks and time.monotonic() < end:
            time.sleep(0.01)
        self.robot.hold()
        self.input.stop()
        self._goal = self._tracking = None

    def cleanup(self) -> None:
        for name in ("model", "input", "worker", "robot"):
            self.__dict__.pop(name, None)

    # Goals --------------------------------------------------------------------------------------------------------
    def _accept_goal(self, _request: PlanToGoal.Goal) -> GoalResponse:
        if not self._active:
            self.warn("goal", "a goal was refused: the planner is not active")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _cancel_goal(self, handle: ServerGoalHandle) -> CancelResponse:
        task = self._tasks.get(bytes(handle.goal_id.uuid))
        if task is not None:
            task.stop(Result.CANCELED)
        return CancelResponse.ACCEPT

    def _execute_goal(self, handle: ServerGoalHandle) -> Result:
        request, key = handle.request, bytes(handle.goal_id.uuid)
        task = GoalTask(self._new_name(), request, handle.publish_feedback)
        self._tasks[key] = task
        try:
            if handle.is_cancel_requested:
                task.stop(Result.CANCELED)
            self._begin(task)
            result = task.wait()
            if result.code == Result.CANCELED and handle.is_cancel_requested:
                handle.canceled()
            elif result.reached:
                handle.succeed()
            else:
                handle.abort()
            return result
        finally:
            del self._tasks[key]

    def _on_goal_image(self, message: Image) -> None:
        if not self._active:
            return
        tracking = self._tracking
        if message.width == message.height == 0:
            if tracking is not None:
                tracking.stop(Result.CANCELED)
            return
        try:
            picture_size(message)
        except MessageError as error:
            self.warn("goal_image", f"~/goal_image: {error}; the picture was ignored")
            return
        with self._lock:
            if self._tasks:
                self.warn("goal_image", "~/goal_image: an action's goal is pursued; the picture was ignored")
            elif tracking is None or tracking.ended():
                self._tracking = tracking = TrackingTask(self._new_name())
                tracking.pictures.put(message)
                self._begin(tracking)
            else:
                tracking.pictures.put(message)

    def _new_name(self) -> str:
        with self._lock:
            self._count += 1
            return f"goal-{self._count}"

    def _begin(self, task: GoalTask) -> None:
        """Make `task` the one that is pursued; what was pursued or waited before is preempted."""
        with self._lock:
            waiting = self._goals.take()
            for old in (waiting, self._running):
                if old is not None:
                    old.stop(Result.PREEMPTED)
            if waiting is not None:
                waiting.finish()
            if not self._active:
                task.stop(Result.NODE_STOPPED)
                task.finish()
                return
            self._goals.put(task)

    # The worker's thread ------------------------------------------------------------------------------------------
    def _pursue(self, task: GoalTask) -> None:
        task.halted, self._halted = self._halted, False
        with self._lock:
            self._running = task
            # What came between the slot and here did not see this task.
            if not self._active:
                task.stop(Result.NODE_STOPPED)
            elif self._goals.fresh:
                task.stop(Result.PREEMPTED)
        self._goal = None
        result = None
        try:
            result = self._run(task)
        except Exception as error:  # the goal must have a result, and the robot must hold, whatever happened
            self.robot.hold()
            result = failed_result(error)
            raise
        finally:
            with self._lock:
                self._running = None
            self._halted = task.halted or task.stopped()
            task.finish(result)

    def _run(self, task: GoalTask) -> Result:
        if isinstance(task, TrackingTask):
            result = GoalImageTracker(self, self.robot, task, self._aim).run()
            self._goal = None
        else:
            request = task.request
            named = "goal position" if request.goal_position.header.frame_id else "goal image"
            try:
                self._goal = self._read_goal(task)
            except DeepverseError as error:
                self.warn("goal_image", f"{named}: {error}")
                return Result(code=Result.INVALID_GOAL, text=f"{named}: {error}", final_distance=float("nan"))
            result = GoalController(self.robot, task, self._goal).run()
        counts = f"{result.plans_accepted} plans accepted, {result.plans_rejected} rejected"
        self.get_logger().info(f"{task.name}: {result.text} ({counts})")
        return result

    def _read_goal(self, task: GoalTask) -> Goal:
        """Raises: MessageError or ShapeError where it cannot be used."""
        request = task.request
        if not request.goal_position.header.frame_id:
            picture = goal_from_images(request.goal_image, request.goal_depth)
            return read_goal(self.model, lambda: self._first_window(task), *picture)
        for name, image in (("goal_image", request.goal_image), ("goal_depth", request.goal_depth)):
            if image.width or image.height:
                raise MessageError(f"{name} has {image.width}x{image.height} pixels; with a position it must be 0x0")
        return Goal.at(position_from_point(request.goal_position, base_frame(self, self.model.embodiment)))

    def _first_window(self, task: GoalTask) -> ObservationWindow | None:
        """What the camera sees; a goal may come before its first image."""
        latest = time.monotonic() + self.parameters["stale_timeout"]
        while (window := self.robot.input.latest_window()) is None and time.monotonic() < latest:
            if task.pause(POLL):
                return None
        return window

    def _aim(self, goal: Goal) -> None:
        self._goal = goal

    def _on_error(self, error: Exception) -> None:
        self.warn_unexpected("worker", "planning failed", error)

    # Plans of others ----------------------------------------------------------------------------------------------
    def _on_plan(self, message: ActionPlan) -> None:
        if self._active:
            self._proposals.put_plan(message)
            self._ask_worker()

    def _on_trajectory(self, message: JointTrajectory) -> None:
        if self._active:
            self._proposals.put_trajectory(message)
            self._ask_worker()

    def _on_unread_proposal(self, _data: Any, problem: str) -> None:
        if self._active:
            self._proposals.put_unread(problem)
            self._ask_worker()

    def _ask_worker(self) -> None:
        asked = self._asked
        if asked is not None and not (asked.running() or asked.done()):
            return  # that job is still to come, or what is pursued serves them meanwhile
        try:
            self._asked = self.worker.submit(self._serve_proposals)
        except WorkerStopped as error:
            self.warn("proposal", f"a proposed plan was not judged: {error}")

    def _serve_proposals(self) -> None:
        # What is pursued moves the robot; nobody else does at the same time.
        self._proposals.serve(self._goal, self._running is None and self.parameters["execute_proposals"])

    # Diagnostics --------------------------------------------------------------------------------------------------
    def _check(self) -> tuple[bytes, str, dict[str, object]]:
        outputs, running = self.robot.outputs, self._running
        p50, p95 = outputs.plan_ms.at(0.5, 0.95)
        monitored = self.calibration is not None and self.calibration.path_error_z is not None
        monitored = monitored and self.parameters["monitor_path"]
        values: dict[str, object] = {
            "state": ("idle" if running is None else f"pursuing {running.name}") if self._active else "inactive",
            "checkpoint": self.parameters["checkpoint"],
            "device": str(self.model.device),
            "calibration_level": 0.0 if self.calibration is None else self.calibration.level,
            "path_monitored": monitored,
            "recalibration_factor": self.recalibration.factor,
            "recalibration_plans": self.recalibration.executed,
            "image_rate_hz": self.input.images.rate(),
            "newest_image_age_s": self.input.health.age_text(),
            "state_rate_hz": self.input.state.rate.rate(),
            "state_age_s": self.input.state.age(),
            "plans_accepted": outputs.accepted,
            "plans_rejected": outputs.rejected,
            "plan_p50_ms": p50,
            "plan_p95_ms": p95,
            "last_verdict": outputs.last_verdict,
        }
        problem, controller = self.robot.interface.output.check()
        values |= controller
        if self._active and problem:
            return DiagnosticStatus.ERROR, problem, values
        if self.calibration is None:
            return DiagnosticStatus.WARN, "the checkpoint has no calibration: every plan is rejected", values
        if self._active and (problem := self.input.stale()):
            return DiagnosticStatus.ERROR, f"input is stale: {problem}", values
        if self._active and (problem := self.input.state.problem()):
            return DiagnosticStatus.ERROR, problem, values
        return DiagnosticStatus.OK, "", values


def main() -> None:
    """Run the planner node until it is shut down."""
    keep_freed_memory()
    # Each goal of the action that is not done yet keeps one thread.
    sys.exit(run(PlannerNode, threads=6))


if __name__ == "__main__":
    main()
