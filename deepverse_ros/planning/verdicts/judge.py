"""Judging a plan by its imagined outcome."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.distance_field import Seen
from deepverse_ros.planning.objectives.base import Future, Goal, goal_distance
from deepverse_ros.planning.verdicts.calibration import NEAR, Calibration, as_array
from deepverse_ros.planning.verdicts.verdict import Reason, Verdict, rejected
from deepverse_ros.robot.embodiment import Embodiment


@dataclass(frozen=True)
class Limits:
    """What a plan must keep to be accepted.

    tolerance: metres from the goal within which a plan must end.
    max_uncertainty: largest predicted standard deviation of the tool position at any step, metres.
    max_goal_uncertainty: the same of the tool in the goal picture, metres: pictures of places that the robot cannot
        reach are read with little certainty.
    min_goal_agreement: share of the goal picture that must look as the camera's newest picture does; 0: no matter what
        it shows.
    clearance: the lower bound of the clearance must be above it at every step, metres below NEAR; None where touching
        things is allowed.
    rate_slack: share by which an external plan may exceed the embodiment's step limits (rounding).
    """

    tolerance: float = 0.08
    max_uncertainty: float = 0.10
    max_goal_uncertainty: float = 0.03
    min_goal_agreement: float = 0.55
    clearance: float | None = None
    rate_slack: float = 0.02

    def __post_init__(self) -> None:
        if self.clearance is not None and not self.clearance < NEAR:
            raise ShapeError(f"clearance: bounds are calibrated for less than {NEAR} m, got {self.clearance}")


class Belief(Seen, Protocol):
    """What the world model made of the observations."""

    @property
    def ood_score(self) -> float: ...

    @property
    def out_of_distribution(self) -> bool: ...

    @property
    def doubt(self) -> str: ...

    def agreement(self, frame: Tensor | None) -> float: ...


def check_plan(plan: np.ndarray, start: np.ndarray, embodiment: Embodiment, limits: Limits) -> Verdict | None:
    """Refuse a plan that the robot could not follow; None where it is fine.

    Args: plan (H, A) physical units; start (A,) where the robot is before the first action.
    """
    invalid = Reason.INVALID_PLAN
    if plan.ndim != 2 or plan.shape[0] == 0 or plan.shape[1] != embodiment.action_dim:
        return rejected(invalid, f"plan has shape {plan.shape}, expected (H, {embodiment.action_dim}) with H >= 1")
    names = [f"{m.name}[{i}]" for m in embodiment.modalities for i in range(m.dim)]
    finite = np.isfinite(plan)
    if not finite.all():
        step, dim = map(int, np.argwhere(~finite)[0])
        return rejected(
            invalid,
            f"{names[dim]} is {plan[step, dim]} at step {step}",
            value=plan[step, dim],
            first_offending_step=step,
        )
    span = embodiment.upper - embodiment.lower
    over = np.maximum(plan - embodiment.upper, embodiment.lower - plan) - 1e-3 * span
    if (over > 0).any():
        step, dim = map(int, np.argwhere(over > 0)[0])
        value = float(plan[step, dim])
        limit = float(embodiment.upper[dim] if value > embodiment.upper[dim] else embodiment.lower[dim])
        text = f"{names[dim]} is {value:.3f} at step {step}, its limit is {limit:.3f}"
        return rejected(invalid, text, value=value, threshold=limit, first_offending_step=step)
    steps = np.abs(np.diff(np.concatenate([np.asarray(start, float)[None], plan]), axis=0))
    allowed = embodiment.max_step * (1.0 + limits.rate_slack) + 1e-4
    if (steps > allowed).any():
        step, dim = map(int, np.argwhere(steps > allowed)[0])
        value, limit = float(steps[step, dim]), float(embodiment.max_step[dim])
        text = f"{names[dim]} moves {value:.3f} in step {step}, at most {limit:.3f} is possible in {embodiment.dt} s"
        return rejected(invalid, text, value=value, threshold=limit, first_offending_step=step)
    return None


def judge(
    future: Future,
    index: int,
    belief: Belief,
    goal: Goal,
    calibration: Calibration | None,
    limits: Limits,
    clearance: np.ndarray | None = None,
) -> Verdict:
    """Judge plan number `index` of an imagined future against a goal.

    Accepted only when the imagined goal distance at the last step, with its calibrated margin, is within tolerance, the
    lower bound of the clearance is above its limit at every step, and the model is not asked about something that it
    does not know.

    Args: clearance (H,) metres: what the `DistanceField` of this plan tell; None: only what is imagined is known of it.
    """
    future = future.select([index])
    distance, spread = as_array(goal_distance(future, goal)), as_array(future.uncertainty)
    last = len(distance) - 1
    seen: dict[str, Any] = {
        "uncertainty": float(spread.max()),
        "predicted_distance": float(distance[last]),
        "level": calibration.level if calibration else 0.0,
    }
    unknown = _strange(belief, goal, limits, seen) or _not_finite(distance, spread, seen)
    if unknown is not None:
        return unknown
    if calibration is None:
        return rejected(Reason.TOO_UNCERTAIN, "the checkpoint has no calibration, so nothing can be promised", **seen)
    doubted = _too_uncertain(spread, goal, limits, seen) or _too_near(future, clearance, calibration, limits, seen)
    if doubted is not None:
        return doubted
    margin = calibration.margin(last, float(spread[last]), goal.tool_std, limits.tolerance)
    bound = float(distance[last]) + margin
    how = f"imagined {distance[last]:.3f} m, and the margin at {100 * calibration.level:.0f} %"
    if not bound <= limits.tolerance:
        text = f"may end {bound:.3f} m from the goal ({how}); {limits.tolerance:.3f} m is allowed"
        if last >= len(calibration.goal_error_z):
            text = (
                f"has {last + 1} steps, of which the calibration covers {len(calibration.goal_error_z)}: nothing can "
                "be promised of its end"
            )
        return rejected(Reason.MISSES_GOAL, text, value=bound, threshold=limits.tolerance,
                        first_offending_step=last, **seen)  # fmt: skip
    text = f"ends within {bound:.3f} m of the goal ({how}); {limits.tolerance:.3f} m is allowed"
    return Verdict(True, Reason.ACCEPTED, value=bound, threshold=limits.tolerance, text=text, **seen)


def _strange(belief: Belief, goal: Goal, limits: Limits, seen: dict[str, Any]) -> Verdict | None:
    for name, thing in (("observation", belief), ("goal image", goal)):
        if thing.out_of_distribution:
            text, value = f"the {name} {thing.doubt}", float(thing.ood_score)
            return rejected(Reason.OUT_OF_DISTRIBUTION, text, value=value, threshold=1.0, **seen)
    alike, least = belief.agreement(goal.frame), limits.min_goal_agreement
    if alike < least:
        text = (
            f"the goal image shows another scene than the camera, or the same from elsewhere: {alike:.0%} of it looks "
            f"as what the camera sees, at least {least:.0%} must (min_goal_agreement)"
        )
        return rejected(Reason.OUT_OF_DISTRIBUTION, text, value=alike, threshold=least, **seen)
    return None


def _too_uncertain(spread: np.ndarray, goal: Goal, limits: Limits, seen: dict[str, Any]) -> Verdict | None:
    """Args: spread (H,) metres."""
    most = limits.max_goal_uncertainty
    if goal.tool_std > most:
        text = (
            f"where the tool is in the goal image is too uncertain: its standard deviation is {goal.tool_std:.3f} m, "
            f"at most {most:.3f} m is allowed"
        )
        return rejected(Reason.TOO_UNCERTAIN, text, value=goal.tool_std, threshold=most, **seen)
    most = limits.max_uncertainty
    if not (spread > most).any():
        return None
    step = int(np.argmax(spread > most))
    text = (
        f"where the tool will be at step {step} is too uncertain: its standard deviation is {spread[step]:.3f} m, "
        f"at most {most:.3f} m is allowed"
    )
    return rejected(
        Reason.TOO_UNCERTAIN, text, value=float(spread[step]), threshold=most, first_offending_step=step, **seen
    )


def _not_finite(distance: np.ndarray, spread: np.ndarray, seen: dict[str, Any]) -> Verdict | None:
    finite = np.isfinite(distance) & np.isfinite(spread)
    if finite.all():
        return None
    step = int(np.argmin(finite))
    text = f"the model gives no numbers for what it imagines at step {step}"
    return rejected(Reason.TOO_UNCERTAIN, text, first_offending_step=step, **seen)


def _too_near(
    future: Future, clearance: np.ndarray | None, calibration: Calibration, limits: Limits, seen: dict[str, Any]
) -> Verdict | None:
    """Args: future of one plan."""
    if limits.clearance is None:
        return None
    lower = calibration.lower_clearance(future, clearance)
    free = lower > limits.clearance
    if free.all():
        return None
    step = int(np.argmin(free))
    text = (
        f"may come as near as {lower[step]:.3f} m to something at step {step} ({calibration.percent}); at least "
        f"{limits.clearance:.3f} m is to be kept"
    )
    return rejected(Reason.COLLISION_ZONE, text, value=float(lower[step]), threshold=limits.clearance,
                    first_offending_step=step, **seen)  # fmt: skip
