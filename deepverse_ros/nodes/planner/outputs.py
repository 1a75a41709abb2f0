"""What the planner says to people: verdicts, and for who listens what it imagined."""

from typing import cast

import numpy as np
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from deepverse_ros.errors import printable
from deepverse_ros.model import future as imagined
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.observation import Goal
from deepverse_ros.msg import PlanVerdict, PredictedFrames
from deepverse_ros.nodes.messages import predicted_frames
from deepverse_ros.nodes.messages.plan_markers import candidate_markers
from deepverse_ros.nodes.messages.plan_verdict import verdict_to_msg
from deepverse_ros.nodes.perception.observation_source import ObservationWindow, base_frame
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import Quantiles
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.planning.objectives.base import Future
from deepverse_ros.planning.search.result import PlanResult
from deepverse_ros.planning.verdicts.calibration import Calibration
from deepverse_ros.planning.verdicts.verdict import Verdict
from deepverse_ros.robot.embodiment import Embodiment


class PlanOutputs:
    """The planner's publishers, and a count of what went through them.

    accepted, rejected: verdicts so far. last_verdict: as a sentence. plan_ms: milliseconds per planning.
    """

    def __init__(self, node: RobotNode, embodiment: Embodiment) -> None:
        self.accepted = self.rejected = 0
        self.last_verdict = "none"
        self.plan_ms = Quantiles()
        self._node = node
        self._embodiment = embodiment
        self._verdict = node.advertise(PlanVerdict, "~/verdict", qos.debug_output())
        self._candidates = node.advertise(MarkerArray, "~/candidates", qos.debug_output())
        self._outcome = node.advertise(PredictedFrames, "~/imagined_outcome", qos.debug_output())

    def destroy(self) -> None:
        for publisher in (self._verdict, self._candidates, self._outcome):
            self._node.destroy_lifecycle_publisher(publisher)

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
            self._embodiment.dt,
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
        return Header(frame_id=base_frame(self._node, self._embodiment))
