"""Judging a plan by its imagined outcome: bounds at a calibrated level, never guesses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from deepverse_ros.errors import CheckpointError, ShapeError
from deepverse_ros.planning.distance_field import Seen
from deepverse_ros.planning.objectives import Future, Goal, goal_distance
from deepverse_ros.planning.verdicts.acceptance import ExecutedOutcomes, margin_multiple
from deepverse_ros.robot.embodiment import Embodiment

NEAR = 0.1
"""Metres within which bounds of the clearance are calibrated: what stays further away cannot be touched, however wrong
it was imagined."""


class Reason(str, Enum):
    """Why a plan was accepted or rejected; the values are those of the PlanVerdict message's constants."""

    ACCEPTED = "ACCEPTED"
    MISSES_GOAL = "MISSES_GOAL"
    COLLISION_ZONE = "COLLISION_ZONE"
    TOO_UNCERTAIN = "TOO_UNCERTAIN"
    OUT_OF_DISTRIBUTION = "OUT_OF_DISTRIBUTION"
    STALE_INPUT = "STALE_INPUT"
    DEADLINE_MISSED = "DEADLINE_MISSED"
    INVALID_PLAN = "INVALID_PLAN"
    LEFT_IMAGINED_PATH = "LEFT_IMAGINED_PATH"
    CONTROLLER_FAILED = "CONTROLLER_FAILED"


@dataclass(frozen=True)
class Verdict:
    """The answer to one plan.

    value, threshold: what was compared, in the unit of the check (metres for MISSES_GOAL, COLLISION_ZONE, TOO_UNCERTAIN
    and LEFT_IMAGINED_PATH, a score for OUT_OF_DISTRIBUTION, seconds for STALE_INPUT, milliseconds for DEADLINE_MISSED).
    first_offending_step: -1 where no single step offends. score: cost of the plan, lower is better.
    uncertainty: largest predicted standard deviation of the tool position, metres. level: coverage of the bounds.
    predicted_distance: imagined distance to the goal at the last step, metres, without the bound.
    latency_ms: from the request to the verdict. text: one sentence for people.
    """

    accepted: bool
    reason: Reason
    value: float = math.nan
    threshold: float = math.nan
    first_offending_step: int = -1
    score: float = math.nan
    uncertainty: float = math.nan
    latency_ms: float = math.nan
    plan_id: str = ""
    level: float = 0.0
    predicted_distance: float = math.nan
    text: str = ""

    def with_(self, **changes: Any) -> "Verdict":
        return replace(self, **changes)


def rejected(reason: Reason, text: str, **fields: Any) -> Verdict:
    """A refusal, with a sentence that says what was wrong."""
    return Verdict(accepted=False, reason=reason, text=text, **fields)


def conformal_quantile(errors: np.ndarray, level: float) -> float:
    """Upper bound that a new, exchangeable error stays under with probability >= `level` (split conformal).

    Args: errors (n,) of held-out calibration data; level in (0, 1).
    Returns: the ceil((n + 1) * level)-th smallest error; inf where n is too small for the level.
    Raises: ShapeError for a level outside (0, 1), or errors that hold NaN or are not one-dimensional.
    """
    errors = np.asarray(errors, float)
    if not 0.0 < level < 1.0:
        raise ShapeError(f"level: expected a value between 0 and 1, got {level}")
    if errors.ndim != 1 or np.isnan(errors).any():
        raise ShapeError(f"errors: expected a vector without NaN, got shape {errors.shape}")
    # Rounded first, so that 0.9 * 10 is 9 and not 9.000000000000002.
    rank = math.ceil(round((errors.size + 1) * level, 9))
    return float(np.sort(errors)[rank - 1]) if rank <= errors.size else math.inf


@dataclass(frozen=True)
class Calibration:
    """How far the tool ended from the goal against what was imagined, over plans that were chosen and executed.

    The errors are counted in units of the spread that the model itself predicts, so that a plan whose outcome it sees
    clearly gets a tight bound (locally weighted split conformal prediction, Lei et al. 2018, arXiv 1604.04173).

    level: coverage of the quantiles. goal_error_z: multiples of the spread, one per step of the horizon, of how much
    further from the goal than imagined the tool ends there. clearance_error_z: likewise, of how much nearer than
    imagined the robot came to what it might touch where it came within NEAR, such that all steps of a plan together are
    covered; None where that was never measured. clearance_error_m: metres likewise, of how much nearer it came than the
    `DistanceField` tell. path_error_z: multiples of the spread likewise, of how far from the imagined path of the tool
    the model reads the tool while the plan is executed. ends: how plans of the planner's own lengths ended, which says
    by how much a verdict must see them within their tolerance. factor: how much wider than calibrated the bounds and
    margins of the goal distance are.
    """

    level: float
    goal_error_z: tuple[float, ...]
    clearance_error_z: tuple[float, ...] | None = None
    path_error_z: tuple[float, ...] | None = None
    clearance_error_m: tuple[float, ...] | None = None
    ends: tuple[ExecutedOutcomes, ...] = ()
    factor: float = 1.0

    @classmethod
    def from_model(cls, values: Mapping[str, Any] | None) -> "Calibration | None":
        """From `model.calibration`; None where the checkpoint was never calibrated.

        Raises: CheckpointError naming the field that is missing or wrong.
        """
        if values is None:
            return None
        try:
            level, goal = float(values["level"]), tuple(float(z) for z in values["goal_error_z"])
            names = ("clearance_error_z", "path_error_z", "clearance_error_m")
            clearance, path, metres = (_optional(values.get(name)) for name in names)
            ends = tuple(
                ExecutedOutcomes(e["steps"], tuple(e["further"]), tuple(e["spread"])) for e in values.get("ends", ())
            )
        except (KeyError, TypeError, ValueError, ShapeError) as error:
            raise CheckpointError(
                f"calibration: needs 'level' and 'goal_error_z' (multiples of the spread per step): {error}"
            ) from error
        errors = goal + (clearance or ()) + (path or ()) + (metres or ())
        if not 0.0 < level < 1.0 or not goal or not all(z >= 0.0 for z in errors):
            raise CheckpointError(
                f"calibration: level must be in (0, 1), errors >= 0; got {level}, {goal}, {clearance}, {path}, {metres}"
            )
        return cls(level, goal, clearance, path, metres, ends)

    def scaled(self, factor: float) -> "Calibration":
        """With bounds of the goal distance that are `factor` times as wide; those of clearance and path stay."""
        return replace(self, factor=factor * self.factor)

    @property
    def percent(self) -> str:
        """For people."""
        return f"{100 * self.level:.0f} % bound"

    def bound(self, step: int, tool_std: float, goal_std: float) -> float:
        """Metres to add to an imagined distance at `step`; inf for a step beyond what was calibrated.

        Args: tool_std, goal_std: predicted standard deviations of the imagined and of the pictured tool, metres.
        """
        if step >= len(self.goal_error_z):
            return math.inf
        return self.factor * self.goal_error_z[step] * math.hypot(tool_std, goal_std)

    def margin(self, step: int, tool_std: float, goal_std: float, tolerance: float) -> float:
        """Metres by which a plan that ends with `step` must be imagined within `tolerance` to be accepted.

        Of the plans that are accepted by it, a share of `level` ends within the tolerance. Where nobody measured how
        plans of that length end, the bound that covers every plan stands in; inf beyond what was calibrated.
        Args: as for `bound`; tolerance: metres.
        """
        measured = next((ends for ends in self.ends if ends.steps == step + 1), None)
        if measured is None:
            return self.bound(step, tool_std, goal_std)
        return self.factor * margin_multiple(measured, self.level, tolerance) * math.hypot(tool_std, goal_std)

    def clearance_bound(self, clearance_std: np.ndarray) -> np.ndarray:
        """Metres (H,) to take off an imagined clearance; inf where it was never calibrated.

        Args: clearance_std (H,) predicted standard deviations, metres.
        """
        return _multiples(self.clearance_error_z, len(clearance_std)) * clearance_std

    def lower_clearance(self, future: Future, seen: np.ndarray | None) -> np.ndarray:
        """Metres (H,) that the clearance of one plan is at least; -inf where no bound was calibrated.

        What the camera sees tells more of it than what is imagined, which is for those who see nothing.

        Args: future of one plan; seen (H,) metres, of `DistanceField`, or None.
        """
        if seen is not None and self.clearance_error_m is not None:
            return seen - _multiples(self.clearance_error_m, len(seen))
        imagined, std = (_array(future.readout[name]) for name in ("clearance", "clearance_std"))
        return imagined - self.clearance_bound(std)

    def path_bound(self, tool_std: np.ndarray) -> np.ndarray:
        """Metres (H,) that the tool may be off its imagined path during each step; inf where it was never calibrated.

        Args: tool_std (H,) predicted standard deviations of the imagined tool, metres.
        """
        return _multiples(self.path_error_z, len(tool_std)) * tool_std


def _optional(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(z) for z in values)


def _multiples(known: tuple[float, ...] | None, steps: int) -> np.ndarray:
    """(steps,) of what was calibrated; inf beyond it."""
    out = np.full(steps, math.inf)
    calibrated = (known or ())[:steps]
    out[: len(calibrated)] = calibrated
    return out


@dataclass(frozen=True)
class Limits:
    """What a plan must keep to be accepted.

    tolerance: metres from the goal within which a plan must end. max_uncertainty: largest predicted standard deviation
    of the tool position at any step, metres. max_goal_uncertainty: the same of the tool in the goal picture, metres:
    pictures of places that the robot cannot reach are read with little certainty. clearance: the lower bound of the
    clearance must be above it at every step, metres below NEAR; None where touching things is allowed. rate_slack:
    share by which an external plan may exceed the embodiment's step limits (rounding).
    """

    tolerance: float = 0.08
    max_uncertainty: float = 0.10
    max_goal_uncertainty: float = 0.03
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
    distance, spread = _array(goal_distance(future, goal)), _array(future.uncertainty)
    last = len(distance) - 1
    seen: dict[str, Any] = {
        "uncertainty": float(spread.max()),
        "predicted_distance": float(distance[last]),
        "level": calibration.level if calibration else 0.0,
    }
    unknown = _strange(belief, goal, seen) or _not_finite(distance, spread, seen)
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


def _strange(belief: Belief, goal: Goal, seen: dict[str, Any]) -> Verdict | None:
    for name, thing in (("observation", belief), ("goal image", goal)):
        if thing.out_of_distribution:
            text = f"the {name} is unlike anything the model was trained on (score {thing.ood_score:.2f}, at most 1)"
            return rejected(Reason.OUT_OF_DISTRIBUTION, text, value=float(thing.ood_score), threshold=1.0, **seen)
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


def _array(of_one_plan: Tensor) -> np.ndarray:
    """(H,) from (1, H)."""
    return of_one_plan[0].detach().float().cpu().numpy()
