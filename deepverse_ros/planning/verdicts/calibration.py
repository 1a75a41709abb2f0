"""How far the truth is from what is imagined: bounds at a calibrated level, never guesses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from deepverse_ros.errors import CheckpointError, ShapeError
from deepverse_ros.planning.objectives.base import Future
from deepverse_ros.planning.verdicts.acceptance import ExecutedOutcomes, margin_multiple

NEAR = 0.1
"""Metres within which bounds of the clearance are calibrated: what stays further away cannot be touched, however wrong
it was imagined."""


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

    level: coverage of the quantiles.
    goal_error_z: multiples of the spread, one per step of the horizon, of how much further from the goal than imagined
        the tool ends there.
    clearance_error_z: likewise, of how much nearer than imagined the robot came to what it might touch where it came
        within NEAR, such that all steps of a plan together are covered; None where that was never measured.
    clearance_error_m: metres likewise, of how much nearer it came than the `DistanceField` tell.
    path_error_z: multiples of the spread likewise, of how far from the imagined path of the tool the model reads the
        tool while the plan is executed.
    ends: how plans of the planner's own lengths ended, which says by how much a verdict must see them within their
        tolerance.
    factor: how much wider than calibrated the bounds and margins of the goal distance are.
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
        imagined, std = (as_array(future.readout[name]) for name in ("clearance", "clearance_std"))
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


def as_array(of_one_plan: Tensor) -> np.ndarray:
    """(H,) from (1, H)."""
    return of_one_plan[0].detach().float().cpu().numpy()
