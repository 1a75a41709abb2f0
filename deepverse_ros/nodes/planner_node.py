"""The planner as a node: goal images in, judged plans out. A plan that was not accepted is never sent."""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from deepverse_ros.action import PlanToGoal
from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import CheckpointError
from deepverse_ros.model import observation
from deepverse_ros.model.observation import Belief, Goal
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import ActionPlan, PlanVerdict, PredictedFrames
from deepverse_ros.nodes import futures, qos
from deepverse_ros.nodes.base import RobotNode, run
from deepverse_ros.nodes.conversions import JointLayout, MessageError, check_picture, rgb_from_image
from deepverse_ros.nodes.diagnostics import Quantiles
from deepverse_ros.nodes.observation_input import ObservationInput, Sight
from deepverse_ros.nodes.plan_markers import candidate_markers
from deepverse_ros.nodes.planner_parameters import PARAMETERS, Settings, mpc_config
from deepverse_ros.nodes.plans import plan_from_msg, plan_to_msg, trajectory_from_plan
from deepverse_ros.nodes.pursuit import GoalTask, Pursuit, Result
from deepverse_ros.nodes.slot import LatestSlot
from deepverse_ros.nodes.verdicts import verdict_to_msg
from deepverse_ros.nodes.worker import Worker, WorkerStopped
from deepverse_ros.planning.mpc import Mpc, PlanResult
from deepverse_ros.planning.objectives import Future
from deepverse_ros.planning.verdict import Calibration, Reason, Verdict, rejected


class PlannerNode(RobotNode):
    """Plans to goal images by imagination, executes what is accepted, and judges the plans of others."""

    model: WorldModel
    input: ObservationInput
    worker: Worker[GoalTask]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("planner", PARAMETERS, **kwargs)
        self._entities: list = []
        self._outputs: list = []
        self._actions: ActionServer | None = None
        self._tasks: dict[bytes, GoalTask] = {}
        self._lock = threading.Lock()
        self._active = False

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def configure(self) -> None:
        p = self.parameters.values()
        if p.torch_threads:
            torch.set_num_threads(p.torch_threads)
        embodiment = Embodiment.load(p.embodiment)
        model = WorldModel.load(p.checkpoint, device=p.device)
        if model.embodiment.name != embodiment.name:
            raise CheckpointError(
                f"checkpoint '{p.checkpoint}' is for embodiment '{model.embodiment.name}'; "
                f"parameter 'embodiment' is '{p.embodiment}'"
            )
        milliseconds = model.warm_up()
        self.get_logger().info(f"loaded {p.checkpoint} on {model.device}, warmed up in {milliseconds:.0f} ms")
        self.calibration = Calibration.from_model(model.calibration)
        if self.calibration is None:
            self.get_logger().warning(f"{p.checkpoint} has no calibration: every plan will be rejected")
        self.model = model
        self.layout = JointLayout(model.embodiment, p.gripper_joint, p.gripper_closed, p.gripper_open)
        self.input = ObservationInput(self, self.layout, model.config.context)
        self._goals: LatestSlot[GoalTask] = LatestSlot()
        self._proposals: LatestSlot[tuple[ActionPlan, float]] = LatestSlot()
        self.worker = Worker(self._goals, self._pursue, self._on_error, name="planner")
        self._goal: Goal | None = None
        self._running: GoalTask | None = None
        self._count = 0
        self._state, self._plan_ms = "idle", Quantiles()
        self._accepted = self._rejected = 0
        self._last_verdict = "none"
        self._advertise()
        self.diagnostics.add_check(self._check)

    def _advertise(self) -> None:
        self._plan_out = self.advertise(ActionPlan, "~/plan", qos.command())
        self._command = self.advertise(JointTrajectory, "command", qos.command())
        self._verdict_out = self.advertise(PlanVerdict, "~/verdict", qos.debug_output())
        self._candidates = self.advertise(MarkerArray, "~/candidates", qos.debug_output())
        self._outcome = self.advertise(PredictedFrames, "~/imagined_outcome", qos.debug_output())
        self._outputs = [self._plan_out, self._command, self._verdict_out, self._candidates, self._outcome]
        # An executing goal keeps one thread of the executor until its result is there.
        self._actions = ActionServer(
            self,
            PlanToGoal,
            "~/plan_to_goal",
            execute_callback=self._execute_goal,
            goal_callback=self._accept_goal,
            cancel_callback=self._cancel_goal,
            callback_group=ReentrantCallbackGroup(),
        )
        group = MutuallyExclusiveCallbackGroup()
        self._entities = [
            self.subscribe(Image, "~/goal_image", self._on_goal_image, qos.command(), group),
            self.subscribe(ActionPlan, "~/proposed_plan", self._on_proposal, qos.command(), group),
        ]

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
        self.hold()
        self.input.stop()
        self._goal = None

    def cleanup(self) -> None:
        self.diagnostics.clear_checks()
        if self._actions is not None:
            self._actions.destroy()
        for subscription in self._entities:
            self.destroy_subscription(subscription)
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)
        self._entities, self._outputs, self._actions = [], [], None
        for name in ("model", "input", "worker"):
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
        task = self._new_task(request.goal_image, request.goal_tolerance, request.max_plans, handle.publish_feedback)
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
        try:
            check_picture(message)
        except MessageError as error:
            self.warn("goal_image", f"~/goal_image: {error}; the goal was ignored")
            return
        self._begin(self._new_task(message))

    def _new_task(
        self,
        image: Image,
        tolerance: float = 0.0,
        max_plans: int = 0,
        feedback: Callable[[PlanToGoal.Feedback], None] = lambda feedback: None,
    ) -> GoalTask:
        with self._lock:
            self._count += 1
            name = f"goal-{self._count}"
        return GoalTask(name, image, tolerance if tolerance > 0 else None, max_plans or None, feedback)

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
        with self._lock:
            self._running = task
        self._goal = None
        self._state = f"pursuing {task.name}"
        result = None
        try:
            result = Pursuit(self, task, self.model.embodiment).run()
            self.get_logger().info(
                f"{task.name}: {result.message} "
                f"({result.plans_accepted} plans accepted, {result.plans_rejected} rejected)"
            )
            if result.code == Result.INVALID_GOAL:
                self.warn("goal_image", result.message)
        except Exception as error:  # the goal must have a result, and the robot must hold, whatever happened
            self.hold()
            message = f"planning failed: {type(error).__name__}: {error}"
            result = Result(code=Result.NO_ACCEPTED_PLAN, message=message, final_distance=float("nan"))
            raise
        finally:
            with self._lock:
                self._running = None
            self._state = "idle"
            task.finish(result)

    def _on_error(self, error: Exception) -> None:
        self.warn(f"worker {type(error).__name__}", f"planning failed: {type(error).__name__}: {error}")

    def settings(self) -> Settings:
        return Settings.of(self.parameters)

    def input_age(self) -> float:
        return self.input.age()

    def newest_received(self) -> float:
        newest = self.input.slot.peek()
        return 0.0 if newest is None else newest.received

    def see(self) -> Sight:
        sight = self.input.sight()
        if sight is None:
            raise MessageError(f"no image has arrived on '{self.parameters['image_topic']}' yet")
        return sight

    def joints_now(self) -> np.ndarray | None:
        return self.input.joints_now()

    def observe(self, sight: Sight) -> Belief:
        return self.model.observe(sight.observation, sight.actions)

    def encode_goal(self, image: Image) -> Goal:
        self._goal = self.model.encode_goal(rgb_from_image(image))
        return self._goal

    def mpc(self) -> Mpc:
        config = mpc_config(self.parameters, self.model.config.horizon)
        return Mpc(self.model, config, seed=self.parameters["seed"])

    def publish_verdict(self, verdict: Verdict, header: Header) -> None:
        self._verdict_out.publish(verdict_to_msg(verdict, header))
        if verdict.accepted:
            self._accepted += 1
        else:
            self._rejected += 1
            self.get_logger().info(f"plan {verdict.plan_id} rejected, {verdict.reason.value}: {verdict.text}")
        self._last_verdict = f"{verdict.reason.value}: {verdict.text}"

    def publish_thoughts(self, result: PlanResult, sight: Sight, belief: Belief, goal: Goal) -> None:
        """What was imagined: the outcome of the best plan, and the candidates; only for who listens."""
        self._plan_ms.add(result.latency_ms)
        if result.future is None or result.candidates is None:
            return
        self._publish_outcome(result.future, sight, belief, result.verdict)
        if self._candidates.get_subscription_count():
            chosen = result.future.readout["tool_position"][0].float().cpu().numpy()
            bound = 0.0 if self.calibration is None else self.calibration.bound(len(chosen) - 1)
            largest = -1.0 if self.calibration is None else self.parameters["goal_tolerance"] - bound
            header = futures.with_frame(sight.header, self.parameters["base_frame"])
            markers = candidate_markers(
                result.candidates,
                chosen,
                result.verdict,
                goal=np.asarray(goal.tool_position),
                largest_distance=largest,
                header=header,
            )
            self._candidates.publish(markers)

    def _publish_outcome(self, future: Future, sight: Sight, belief: Belief, verdict: Verdict) -> None:
        if self._outcome.get_subscription_count():
            imagined = cast(observation.Future, future)
            self._outcome.publish(
                futures.predicted_frames(
                    imagined,
                    sight.header,
                    self.model.embodiment.dt,
                    self.parameters["base_frame"],
                    plan_id=verdict.plan_id,
                    ood_score=belief.ood_score,
                    out_of_distribution=belief.out_of_distribution,
                    latency_ms=verdict.latency_ms,
                )
            )

    def send(self, plan: np.ndarray, plan_id: str, steps: int) -> None:
        """Hand an accepted plan to the robot; only its first `steps` actions are commanded."""
        header = Header(frame_id=self.parameters["base_frame"])
        header.stamp = self.get_clock().now().to_msg()
        self._plan_out.publish(plan_to_msg(plan[:steps], self.model.embodiment, header, plan_id))
        # A zero stamp tells trajectory controllers to start at once.
        unstamped = Header(frame_id=header.frame_id)
        self._command.publish(trajectory_from_plan(plan[:steps], self.layout, unstamped))

    def hold(self) -> None:
        """Command the robot to stay where it is; an empty trajectory where that is not known."""
        try:
            joints = self.input.joints_now()
        except MessageError:
            joints = None
        header = Header(frame_id=self.parameters["base_frame"])
        if joints is None:
            self._command.publish(JointTrajectory(header=header, joint_names=self.layout.names()))
            return
        embodiment = self.model.embodiment
        stay = np.clip(joints, embodiment.lower, embodiment.upper)[None]
        self._command.publish(trajectory_from_plan(stay, self.layout, header))
        stamped = Header(frame_id=header.frame_id, stamp=self.get_clock().now().to_msg())
        self._plan_out.publish(plan_to_msg(stay, embodiment, stamped, "hold"))

    # Plans of others ----------------------------------------------------------------------------------------------
    def _on_proposal(self, message: ActionPlan) -> None:
        if not self._active:
            return
        self._proposals.put((message, time.monotonic()))
        try:
            self.worker.submit(self.serve_proposal)
        except WorkerStopped as error:
            self.warn("proposal", f"~/proposed_plan: {error}")

    def serve_proposal(self) -> None:
        """Judge the newest proposed plan, if one waits."""
        waiting = self._proposals.take()
        if waiting is None:
            return
        message, asked = waiting
        header = Header()
        verdict, plan = self._judge_proposal(message, header)
        verdict = verdict.with_(plan_id=message.id, latency_ms=(time.monotonic() - asked) * 1e3)
        self.publish_verdict(verdict, header)
        if verdict.accepted and plan is not None and self._running is None and self.parameters["execute_proposals"]:
            self.send(plan, message.id, len(plan))

    def _judge_proposal(self, message: ActionPlan, header: Header) -> tuple[Verdict, np.ndarray | None]:
        """header: filled in with that of the image that the verdict rests on."""
        try:
            plan = plan_from_msg(message, self.model.embodiment)
        except MessageError as error:
            self.warn("proposal", f"~/proposed_plan: {error}")
            return rejected(Reason.INVALID_PLAN, str(error)), None
        if self._goal is None:
            text = "there is no goal image to judge the plan against"
            return rejected(Reason.MISSES_GOAL, text), plan
        age, stale = self.input.age(), self.parameters["stale_timeout"]
        sight = self.input.sight() if age <= stale else None
        if sight is None or sight.joints is None:
            problem = f"the newest image is {age:.2f} s old; stale_timeout is {stale} s"
            if sight is not None:
                problem = "the joints are unknown: no usable joint states have arrived"
            return rejected(Reason.STALE_INPUT, problem, value=age, threshold=stale), plan
        header.stamp, header.frame_id = sight.header.stamp, sight.header.frame_id
        belief = self.observe(sight)
        verdict, future = self.mpc().judge_plan(belief, self._goal, plan, sight.joints)
        if future is not None:
            self._publish_outcome(future, sight, belief, replace(verdict, plan_id=message.id))
        return verdict, plan

    # Diagnostics --------------------------------------------------------------------------------------------------
    def _check(self) -> tuple[bytes, str, dict[str, object]]:
        p50, p95 = self._plan_ms.at(0.5, 0.95)
        age, stale = self.input.age(), self.parameters["stale_timeout"]
        values: dict[str, object] = {
            "state": self._state if self._active else "inactive",
            "checkpoint": self.parameters["checkpoint"],
            "device": str(self.model.device),
            "calibration_level": 0.0 if self.calibration is None else self.calibration.level,
            "image_rate_hz": self.input.images.rate(),
            "newest_image_age_s": age,
            "plans_accepted": self._accepted,
            "plans_rejected": self._rejected,
            "plan_p50_ms": p50,
            "plan_p95_ms": p95,
            "last_verdict": self._last_verdict,
        }
        if self.calibration is None:
            return DiagnosticStatus.WARN, "the checkpoint has no calibration: every plan is rejected", values
        if self._active and age > stale:
            text = f"input is stale: no image on '{self.parameters['image_topic']}' for {min(age, 999):.1f} s"
            return DiagnosticStatus.ERROR, text, values
        return DiagnosticStatus.OK, "", values


def main() -> None:
    # Each goal of the action that is not done yet keeps one thread.
    sys.exit(run(PlannerNode, threads=6))


if __name__ == "__main__":
    main()
