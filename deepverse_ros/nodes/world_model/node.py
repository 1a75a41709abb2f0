"""The world model as a node: camera frames and a command in, the RGB-D future that it leads to out."""

import contextlib
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future as Job
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, cast

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Header

from deepverse_ros.errors import DeepverseError, MessageError
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.future import Future
from deepverse_ros.model.memory import Memory
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import PlanVerdict
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.goal import goal_from_images
from deepverse_ros.nodes.messages.plan import plan_from_msg
from deepverse_ros.nodes.messages.plan_verdict import verdict_to_msg
from deepverse_ros.nodes.perception import model_loading, observation_source, plan_limits
from deepverse_ros.nodes.perception.observation_source import (
    NO_WINDOW,
    ObservationSource,
    ObservationWindow,
    base_frame,
    read_goal,
)
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import Quantiles
from deepverse_ros.nodes.runtime.lifecycle import RobotNode, named, run
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.nodes.runtime.worker import Worker, WorkerStopped
from deepverse_ros.nodes.world_model import command_judge_server
from deepverse_ros.nodes.world_model.command_judge_server import CommandJudgeServer
from deepverse_ros.nodes.world_model.outputs import Prediction, PredictionOutputs
from deepverse_ros.nodes.world_model.running_command import CommandInput
from deepverse_ros.planning.search.mpc import Mpc, MpcConfig
from deepverse_ros.planning.verdicts.calibration import Calibration
from deepverse_ros.planning.verdicts.verdict import Reason, rejected
from deepverse_ros.processes import keep_freed_memory
from deepverse_ros.srv import EvaluatePlan, Imagine

PARAMETERS = (
    *model_loading.PARAMETERS,
    Parameter("max_rate", 5.0, "Imagined futures per second at most (Hz).", 0.1, 60.0, dynamic=True),
    Parameter("horizon", 8, "Steps of dt to imagine.", 1, 32, dynamic=True),
    Parameter("plan_topic", "command", "Plan that is being executed (ActionPlan); empty: none."),
    Parameter("trajectory_topic", "joint_trajectory", "The same as a JointTrajectory; empty: none."),
    Parameter("verdict_topic", "verdict", "Verdicts that colour the border of the predicted images; empty: none."),
    Parameter("memory_frames", 128, "Frames from before the window that may be recalled; 0 turns memory off.", 0, 4096),
    Parameter(
        "publish_cloud_step", 8, "Predicted frame whose points are published (1 is the next).", 1, 32, dynamic=True
    ),
    Parameter("service_timeout", 5.0, "Seconds until a service request gives up (s).", 0.1, 120.0, dynamic=True),
    *plan_limits.PARAMETERS,
    *command_judge_server.PARAMETERS,
    *observation_source.PARAMETERS,
)
HEARTBEAT_PERIOD = 0.1


@dataclass(frozen=True)
class _Condition:
    """What the last observation said about itself. displaced: metres that the robot is seen beside its joints' word."""

    ood_score: float
    doubt: str
    displaced: float

    def problem(self) -> str:
        """Empty where there is none."""
        if self.doubt:
            return f"input is out of distribution: it {self.doubt}"
        if self.displaced:
            return (
                f"the robot is seen {100 * self.displaced:.0f} cm beside where its joints say, and imagined there; "
                "check the joints' zeros and the camera's extrinsics"
            )
        return ""


class WorldModelNode(RobotNode):
    """Imagines the future of the running command from each new camera frame, and of plans that services hand in.

    With `zones`, it also judges the commands that a prefilter is given (`CommandJudgeServer`).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("world_model", PARAMETERS, **kwargs)
        self._watching: CommandJudgeServer | None = None
        self._judging: Job[None] | None = None

    # Made by `configure`, gone after `cleanup`.
    model: WorldModel
    input: ObservationSource
    worker: Worker
    command: CommandInput
    outputs: PredictionOutputs

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def configure(self) -> None:
        p = self.parameters.values()
        model = model_loading.load_model(self)
        self.model = model
        Calibration.from_model(model.calibration)  # a checkpoint whose bounds are wrong is refused now
        layout = JointLayout.of(model.embodiment, p)
        size = (model.config.height, model.config.width)
        self.input = self.own(ObservationSource(self, layout, model.config.context, size, model.config.posed))
        self.worker = Worker(self.input.slot, self._on_frame, self._on_error, p.max_rate, "world_model")
        self.command = CommandInput(self, layout, self.input.state)
        self._ages = Quantiles()
        self._condition: _Condition | None = None
        self._memory: Memory | None = None
        self._serve()
        self.outputs = self.own(PredictionOutputs(self, model.embodiment))
        if p.zones:
            self._watching = self.own(CommandJudgeServer(self, model, layout, self.input.state, self.input.to_base))
        self.diagnostics.add_check("imagination", self._check)

    def _serve(self) -> None:
        # One group for both services: a request that waits for the worker occupies one thread of the executor only.
        waiting = MutuallyExclusiveCallbackGroup()
        self.own(self.create_service(Imagine, "~/imagine", self._imagine, callback_group=waiting))
        self.own(self.create_service(EvaluatePlan, "~/evaluate_plan", self._evaluate_plan, callback_group=waiting))
        self._heartbeat = self.own(self.advertise(Header, "~/heartbeat", qos.command()))
        self.own(self.create_timer(HEARTBEAT_PERIOD, self._beat, callback_group=MutuallyExclusiveCallbackGroup()))
        if topic := self.parameters["verdict_topic"]:
            self.own(self.subscribe(PlanVerdict, topic, self._on_verdict, qos.command()))

    def activate(self) -> None:
        capacity = self.parameters["memory_frames"]
        # What was seen before the node rested may have changed since.
        self._memory = self.model.new_memory(capacity) if capacity else None
        self.command.start()
        self.worker.start()
        self.input.start()
        if self._watching is not None:
            self._watching.start(self._wake)

    def deactivate(self) -> None:
        if self._watching is not None:
            self._watching.stop()
        self.input.stop()
        self.command.stop()
        if not self.worker.stop(timeout=10.0):
            self.get_logger().error("the worker is still busy after 10 s; it ends after what it does now")
        self._condition = None

    def cleanup(self) -> None:
        self._watching = None
        for name in ("model", "input", "worker", "command", "outputs"):
            self.__dict__.pop(name, None)

    # The worker's thread ------------------------------------------------------------------------------------------
    def _on_frame(self, _frame: object) -> None:
        watching = self._watching
        # A command that is on its way is judged as often as there are images.
        self.worker.max_rate = None if watching is not None and watching.busy else self.parameters["max_rate"]
        started = time.monotonic()
        window = self._see()
        self._ages.add(started - window.received)
        if window.camera_problem:
            if watching is not None:
                watching.publish_no_observation(window.camera_problem, window.stamp)
            return
        belief = self._observe(window)
        imagined = None if watching is None else watching.on_frame(window, belief, self._memory)
        if not self.outputs.wanted:
            return
        if imagined is None:
            plan, plan_id = self.command.plan(window, self.parameters["horizon"])
            if plan is None:
                why = window.state_problem or "it is not known where the robot is"
                self.warn("joints", f"{why}, and no command: there is no plan whose future could be imagined")
                return
            imagined = self.model.imagine(belief, plan[None], self._memory), plan_id
        self.outputs.publish(Prediction(window, belief, *imagined, started))

    def _wake(self) -> None:
        """A command came: it is judged before the next image, by the newest one there is.

        A job that has not begun will take the newest command. One job for each would be more than can be done.
        """
        waiting = self._judging
        if waiting is not None and not waiting.running() and not waiting.done():
            return
        with contextlib.suppress(WorkerStopped):
            self._judging = self.worker.submit(self._judge_command)
            self._judging.add_done_callback(self._on_judged)

    def _judge_command(self) -> None:
        watching = self._watching
        if watching is None or not watching.unanswered:
            return  # of commands that came while another was judged, the newest has had its verdict
        watching.refresh()
        newest, problem = self.input.slot.peek(), self.input.stale()
        if newest is None or problem:
            why = problem or NO_WINDOW
            watching.publish_no_observation(why, 0.0 if newest is None else newest.stamp)
            return
        started = time.monotonic()
        window = self._see()
        if window.camera_problem:
            watching.publish_no_observation(window.camera_problem, window.stamp)
            return
        belief = self._observe(window)
        imagined = watching.on_frame(window, belief, self._memory)
        if imagined is not None and self.outputs.wanted:  # commands at 50 Hz leave no image to `_on_frame`
            self.outputs.publish(Prediction(window, belief, *imagined, started))

    def _on_judged(self, job: "Job[None]") -> None:
        if not job.cancelled() and (error := job.exception()) is not None and not isinstance(error, WorkerStopped):
            self._on_error(error)

    def _see(self) -> ObservationWindow:
        window = self.input.latest_window()
        if window is None:
            raise MessageError(self.input.stale() or NO_WINDOW)
        return window

    def _observe(self, window: ObservationWindow) -> Belief:
        belief = window.observed_by(self.model)
        if self._memory is not None:
            self.model.remember(self._memory, belief, window.stamp)
        displaced = float(belief.displaced.norm(dim=-1).max())
        self._condition = _Condition(belief.ood_score, belief.doubt, displaced)
        return belief

    def _on_error(self, error: BaseException) -> None:
        if isinstance(error, MessageError):
            self.warn("input", f"{self.parameters['image_topic']}: {error}")
        else:
            self.warn_unexpected("worker", "imagining failed", error)

    # Services -----------------------------------------------------------------------------------------------------
    def _imagine(self, request: Imagine.Request, response: Imagine.Response) -> Imagine.Response:
        return self._on_worker("imagine", request, response, self._do_imagine)

    def _evaluate_plan(self, request: EvaluatePlan.Request, response: EvaluatePlan.Response) -> EvaluatePlan.Response:
        return self._on_worker("evaluate_plan", request, response, self._do_evaluate)

    def _on_worker(
        self,
        name: str,
        request: Any,
        response: Any,
        job: Callable[[Any, Any], None],
    ) -> Any:
        """Run a service's job on the worker's thread; whatever goes wrong ends in `success` and `text`."""
        timeout = self.parameters["service_timeout"]
        try:
            self.worker.submit(lambda: job(request, response)).result(timeout)
        except FutureTimeout:
            problem = f"{name} took longer than service_timeout ({timeout} s)"
        except WorkerStopped as error:
            problem = f"{error}; activate the node first"
        except DeepverseError as error:
            problem = str(error)
        except Exception as error:  # a client must get an answer, and the node must stay alive
            self.warn_unexpected(name, name, error)
            return type(response)(success=False, text=named(error))
        else:
            return response
        self.warn(name, f"{name}: {problem}")
        return type(response)(success=False, text=problem)

    def _do_imagine(self, request: Imagine.Request, response: Imagine.Response) -> None:
        started = time.monotonic()
        plan = plan_from_msg(request.plan, self.model.embodiment)
        self._require_fresh()
        window = self._see()
        if problem := window.state_problem or window.camera_problem:
            raise MessageError(problem)
        belief = self._observe(window)
        future = self.model.imagine(belief, plan[None], self._memory)
        response.future = self.outputs.message(Prediction(window, belief, future, request.plan.id, started))
        response.success = True

    def _do_evaluate(self, request: EvaluatePlan.Request, response: EvaluatePlan.Response) -> None:
        started = time.monotonic()
        goal_picture = goal_from_images(request.goal_image, request.goal_depth)
        limits = plan_limits.limits(self.parameters)
        try:
            plan = plan_from_msg(request.plan, self.model.embodiment)
        except MessageError as error:
            invalid = rejected(Reason.INVALID_PLAN, str(error))
            response.verdict = verdict_to_msg(invalid.with_(plan_id=request.plan.id), Header())
            response.success = True
            return
        window = self._see()
        header, age = window.header, self.input.age()
        stale = self.parameters["stale_timeout"]
        if problem := self.input.stale():
            verdict = rejected(Reason.STALE_INPUT, problem, value=age, threshold=stale)
        elif window.state is None or window.problem:
            verdict = rejected(Reason.STALE_INPUT, window.problem)
        else:
            belief, goal = self._observe(window), read_goal(self.model, lambda: window, *goal_picture)
            # As the planner does it; without memory, as the bounds were calibrated.
            mpc = Mpc(self.model, MpcConfig(limits=limits))
            verdict, future = mpc.judge_plan(belief, goal, plan, window.state.values)
            if future is not None:
                prediction = Prediction(window, belief, cast(Future, future), request.plan.id, started)
                response.outcome = self.outputs.message(prediction)
        latency = 1e3 * (time.monotonic() - started)
        response.verdict = verdict_to_msg(verdict.with_(plan_id=request.plan.id, latency_ms=latency), header)
        response.success = True

    def _require_fresh(self) -> None:
        if problem := self.input.stale():
            raise MessageError(problem)

    # Timers and diagnostics ---------------------------------------------------------------------------------------
    def _on_verdict(self, message: PlanVerdict) -> None:
        self.outputs.verdict = message

    def _beat(self) -> None:
        if self.worker.alive:
            header = Header(frame_id=base_frame(self, self.model.embodiment))
            header.stamp = self.get_clock().now().to_msg()
            self._heartbeat.publish(header)

    def _check(self) -> tuple[bytes, str, dict[str, object]]:
        p50, p95 = self.outputs.latency_ms.at(0.5, 0.95)
        values: dict[str, object] = {
            "checkpoint": self.parameters["checkpoint"],
            "device": str(self.model.device),
            "image_rate_hz": self.input.images.rate(),
            "state_rate_hz": self.input.state.rate.rate(),
            "state_age_s": self.input.state.age(),
            "newest_image_age_s": self.input.health.age_text(),
            "used_image_age_p95_s": self._ages.at(0.95)[0],
            "latency_p50_ms": p50,
            "latency_p95_ms": p95,
            "predicted_frames_rate_hz": self.outputs.published.rate(),
            "skipped_images": self.input.slot.overwritten,
            "remembered_frames": 0 if self._memory is None else len(self._memory),
        }
        if self._watching is not None:
            values |= self._watching.values()
        if not self.worker.alive:
            return DiagnosticStatus.OK, "inactive", values
        condition = self._condition
        if problem := self.input.stale() or self.input.state.problem():
            return DiagnosticStatus.WARN, problem, values
        if condition is not None:
            values |= {"ood_score": condition.ood_score, "displaced_m": condition.displaced}
            if text := condition.problem():
                return DiagnosticStatus.WARN, text, values
        level, text = (DiagnosticStatus.OK, "") if self._watching is None else self._watching.reports.check()
        return level, text, values


def main() -> None:
    """Run the world model node until it is shut down."""
    keep_freed_memory()
    sys.exit(run(WorldModelNode, threads=3, gather=0.005))


if __name__ == "__main__":
    main()
