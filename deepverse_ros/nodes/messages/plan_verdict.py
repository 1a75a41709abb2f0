"""A plan's verdict as a ROS message."""

from std_msgs.msg import Header

from deepverse_ros.msg import PlanVerdict
from deepverse_ros.planning.verdicts.verdict import Verdict


def verdict_to_msg(verdict: Verdict, header: Header) -> PlanVerdict:
    """Args: header: of the newest image that the judgement rests on."""
    return PlanVerdict(
        header=header,
        plan_id=verdict.plan_id,
        accepted=verdict.accepted,
        reason=getattr(PlanVerdict, verdict.reason.name),
        text=verdict.text,
        value=float(verdict.value),
        threshold=float(verdict.threshold),
        first_offending_step=int(verdict.first_offending_step),
        score=float(verdict.score),
        uncertainty=float(verdict.uncertainty),
        latency_ms=float(verdict.latency_ms),
        predicted_goal_distance=float(verdict.predicted_distance),
        level=float(verdict.level),
    )
