"""What the planner says: accepted plans as commands, verdicts, and for who listens what it imagined."""

import time
from typing import cast

import numpy as np
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from deepverse_ros.errors import printable
from deepverse_ros.model import future as imagined
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.observation import Goal
from deepverse_ros.msg import ActionPlan, PlanVerdict, PredictedFrames
from deepverse_ros.nodes.control.controller_output import CommandOutput
from deepverse_ros.nodes.messages import predicted_frames
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.plan import interpolate, plan_to_msg, trajectory_from_plan
from deepverse_ros.nodes.messages.plan_markers import candidate_markers
from deepverse_ros.nodes.messages.plan_verdict import verdict_to_msg
from deepverse_ros.nodes.perception.measured_joints import Posture
from deepverse_ros.nodes.perception.observation_source import ObservationWindow, base_frame
from deepverse_ros.nodes.planner.controller_reports import ControllerReports
from deepverse_ros.nodes.planner.holding import OVER, SentPlan, resting_place, steps_to
from deepverse_ros.nodes.planner.keeper import Keeper
from deepverse_ros.nodes.planner.plan_progress import PlanProgress
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import Quantiles
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.planning.objectives.base import Future
from deepverse_ros.planning.search.result import PlanResult
from deepverse_ros.planning.verdicts.calibration import Calibration
from deepverse_ros.planning.verdicts.verdict import Verdict

HOLD = "hold"
"""Id of the plan that says: stay where you are."""
SAME_PLACE = 0.25
"""Share of the largest step that joints may be off a hold's target and still count as held there."""


class PlanOutputs:
    """The planner's publishers, and a count of what went through them.

    course: how far the robot is on the plan that was sent last. keeper: who keeps it from going on. accepted, rejected:
    verdicts so far; last_verdict: as a sentence; plan_ms: milliseconds per planning.
    """

    def __init__(self, node: RobotNode, layout: JointLayout) -> None:
        self.accepted = self.rejected = 0
        self.last_verdict = "none"
        self.plan_ms = Quantiles()
        self._held: np.ndarray | None = None
        self._sent: SentPlan | None = None
        self._node = node
        self._layout = layout
        self._plan = node.advertise(ActionPlan, "~/plan", qos.command())
        self._command = CommandOutput(node, layout, "command")
        self._reports = ControllerReports(node)
        self._what = "nothing"
        self._verdict = node.advertise(PlanVerdict, "~/verdict", qos.debug_output())
        self._candidates = node.advertise(MarkerArray, "~/candidates", qos.debug_output())
        self._outcome = node.advertise(PredictedFrames, "~/imagined_outcome", qos.debug_output())
        self.course = PlanProgress(node)
        self.keeper = Keeper(node)

    def destroy(self) -> None:
        for publisher in (self._plan, self._verdict, self._candidates, self._outcome):
            self._node.destroy_lifecycle_publisher(publisher)
        for part in (self._command, self._reports, self.course, self.keeper):
            part.destroy()

    # To the robot -------------------------------------------------------------------------------------------------
    def send(self, plan: np.ndarray, plan_id: str, steps: int, start: Posture) -> None:
        """Hand an accepted plan (H, A) to the robot; only its first `steps` actions are commanded.

        Args: start: where the plan begins, and the turns of what is sent.
        """
        plan, self._held = plan[:steps], None
        self._publish_plan(plan, plan_id)
        # A zero stamp tells trajectory controllers to start at once.
        command = trajectory_from_plan(plan, self._layout, self._base(), start.turns)
        if plan_id == HOLD:
            command.points = command.points[-1:]
        self._sent = SentPlan(plan, start, self._layout.embodiment.dt, time.monotonic())
        self.course.begin(command)
        self.keeper.begin()
        self._reports.begin()
        self._what = f"plan {plan_id}"
        self._command.send(command, self._what if plan_id != HOLD else "the hold", hold=plan_id == HOLD)

    def failure(self) -> str:
        """Why the controller does not, or no longer, execute what was sent last; empty while nothing is wrong."""
        return self._command.failure() or self._reports.failure(self._what)

    def check(self) -> tuple[str, dict[str, object]]:
        """What is wrong with the controller, for /diagnostics, and values."""
        return self._command.check()

    def hold(self, posture: Posture | None) -> None:
        """Command the robot to come to rest, by one point that it reaches within its rates.

        Where it is known where the robot is, it stays there; a little ahead if it moves, so that it can brake. Where
        not, it rests on the plan that was sent last, where it should be now; and once that is over, nothing moves it
        and nothing is sent: where it was before may be far away. A robot that is held already keeps its target: one
        that sags a little under each hold would creep away.
        """
        if posture is None and self._command.stop():
            self._held = self._sent = None
            return
        expected = self._expected()
        here = posture or expected
        if here is None:
            self._node.warn("hold", "no hold is sent: nothing says where the robot is, and no plan moves it")
            return
        embodiment = self._layout.embodiment
        target, held = resting_place(here, embodiment), self._held
        if held is not None and bool((np.abs(target - held) <= SAME_PLACE * embodiment.max_step).all()):
            target = held
        # A controller goes there from where it is on its way, which may be ahead of where the robot is measured.
        begin = here.values if expected is None else expected.values
        steps = steps_to(target, [here.values, begin], embodiment)
        times = embodiment.dt * np.array([steps])
        plan = interpolate(times, target[None], here.values, embodiment.dt * np.arange(1, steps + 1))
        self.send(np.clip(plan, embodiment.lower, embodiment.upper), HOLD, steps, here)
        self._held = target

    def _expected(self) -> Posture | None:
        """Where the robot should be on what was sent last; None where that is over, or nothing was sent."""
        sent = self._sent
        if sent is None:
            return None
        # Where nothing else sets the pace, steady time does not jump.
        paced = self.course.waits or self._node.get_clock().ros_time_is_active
        elapsed = max(self.course.elapsed(self._node.now()), 0.0) if paced else time.monotonic() - sent.at
        return sent.posture(elapsed) if elapsed <= sent.duration + OVER else None

    def _publish_plan(self, plan: np.ndarray, plan_id: str) -> None:
        header = self._base()
        header.stamp = self._node.get_clock().now().to_msg()
        self._plan.publish(plan_to_msg(plan, self._layout.embodiment, header, plan_id))

    # To people ----------------------------------------------------------------------------------------------------
    def verdict(self, verdict: Verdict, header: Header) -> None:
        """header: of the image that the verdict rests on."""
        self._verdict.publish(verdict_to_msg(verdict, header))
        sentence = f"{verdict.reason.value}: {verdict.text}"
        if verdict.accepted:
            self.accepted += 1
        else:
            self.rejected += 1
            self._node.get_logger().info(printable(f"plan {verdict.plan_id} rejected, {sentence}"))
        self.last_verdict = sentence

    def publish_search(
        self, result: PlanResult, window: ObservationWindow, belief: Belief, goal: Goal, calibration: Calibration | None
    ) -> None:
        """The outcome of the best plan, and the candidates of the last round; calibration: what judged them."""
        self.plan_ms.add(result.latency_ms)
        if result.future is None or result.candidates is None:
            return
        self.outcome(result.future, window, belief, result.verdict)
        if self._candidates.get_subscription_count():
            markers = candidate_markers(
                result.candidates,
                result.tool_path,
                result.verdict,
                goal=np.asarray(goal.tool_position),
                largest_distance=self._largest_distance(result.tool_std, goal, calibration),
                header=predicted_frames.with_frame(window.header, self._base().frame_id),
            )
            self._candidates.publish(markers)

    def outcome(self, future: Future, window: ObservationWindow, belief: Belief, verdict: Verdict) -> None:
        """The imagined frames of one plan."""
        if not self._outcome.get_subscription_count():
            return
        message = predicted_frames.predicted_frames(
            cast(imagined.Future, future),
            window.header,
            self._layout.embodiment.dt,
            self._base().frame_id,
            plan_id=verdict.plan_id,
            ood_score=belief.ood_score,
            out_of_distribution=belief.out_of_distribution,
            latency_ms=verdict.latency_ms,
        )
        self._outcome.publish(message)

    def _largest_distance(self, tool_std: np.ndarray, goal: Goal, calibration: Calibration | None) -> float:
        """Metres from the goal, imagined for the end of a plan with spreads (H,), that get a plan rejected."""
        if calibration is None:
            return -1.0
        tolerance = float(self._node.parameters["goal_tolerance"])
        return tolerance - calibration.margin(len(tool_std) - 1, float(tool_std[-1]), goal.tool_std, tolerance)

    def _base(self) -> Header:
        return Header(frame_id=base_frame(self._node, self._layout.embodiment))
