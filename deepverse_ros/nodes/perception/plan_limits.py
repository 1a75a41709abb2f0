"""What a plan must keep to be accepted, as parameters of every node that judges plans."""

from deepverse_ros.nodes.runtime.parameters import Parameter, Parameters
from deepverse_ros.planning.verdicts.calibration import NEAR
from deepverse_ros.planning.verdicts.judge import Limits

_TOUCHING_IS_ALLOWED = -1.0

PARAMETERS = (
    Parameter(
        "goal_tolerance",
        0.08,
        "A plan is accepted when its imagined distance to the goal at its end, with its margin, is within this (m).",
        0.001,
        2.0,
        dynamic=True,
    ),
    Parameter("max_uncertainty", 0.10, "Largest predicted deviation of the tool (m).", 0.001, 2.0, dynamic=True),
    Parameter(
        "max_goal_uncertainty",
        0.03,
        "Largest deviation with which a goal picture may show where the tool shall be (m).",
        0.001,
        2.0,
        dynamic=True,
    ),
    Parameter(
        "min_goal_agreement",
        0.55,
        "Share of a goal picture that must look as what the camera sees; 0: it may show any scene.",
        0.0,
        1.0,
        dynamic=True,
    ),
    Parameter(
        "min_clearance",
        _TOUCHING_IS_ALLOWED,
        "A plan is rejected when the lower bound of its clearance is not above this at every step (m); -1: touching "
        "things is allowed.",
        _TOUCHING_IS_ALLOWED,
        round(NEAR - 0.001, 3),
        dynamic=True,
    ),
)


def limits(parameters: Parameters) -> Limits:
    """The values at this moment."""
    p = parameters.values()
    clearance = None if p.min_clearance == _TOUCHING_IS_ALLOWED else p.min_clearance
    return Limits(p.goal_tolerance, p.max_uncertainty, p.max_goal_uncertainty, p.min_goal_agreement, clearance)
