"""The objectives that planners know by name, each with a weight: an own one is a class, and an entry here.

The planner node has a parameter `NAME_weight` for each entry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.distance_field import DistanceField
from deepverse_ros.planning.objectives.base import Goal, Objective
from deepverse_ros.planning.objectives.certainty import Certainty
from deepverse_ros.planning.objectives.clearance import Clearance, DistanceFieldClearance
from deepverse_ros.planning.objectives.effort import Effort
from deepverse_ros.planning.objectives.smoothness import Smoothness
from deepverse_ros.planning.objectives.straightness import Straightness
from deepverse_ros.robot.embodiment import Embodiment


@dataclass(frozen=True, eq=False)
class Search:
    """What an objective may be made from.

    goal: of the plans.
    embodiment: the robot.
    margin: metres of clearance that cost nothing.
    surroundings: what the camera sees around the robot; None where geometry cannot tell.
    joints: (A,) where the plans begin; None: unknown.
    """

    goal: Goal
    embodiment: Embodiment
    margin: float
    surroundings: DistanceField | None = None
    joints: np.ndarray | None = None


@dataclass(frozen=True)
class Entry:
    """One objective.

    name: of its weight in YAML files and parameters.
    weight: by default; 0: it is not asked.
    description: what it costs and in which unit, one sentence.
    make: makes it for a search.
    most: largest weight.
    """

    name: str
    weight: float
    description: str
    make: Callable[[Search], Objective]
    most: float = 10.0


def _clearance(search: Search) -> Objective:
    if search.surroundings is None or search.joints is None:
        return Clearance(search.margin)
    return DistanceFieldClearance(search.surroundings, search.joints, search.margin)


OBJECTIVES: tuple[Entry, ...] = (
    Entry("certainty", 1.0, "Cost of predicted deviation of the tool, per metre.", lambda search: Certainty()),
    Entry("smoothness", 0.005, "Cost of changes of speed (m).", lambda search: Smoothness(search.embodiment)),
    Entry("effort", 0.0, "Cost of movement (m).", lambda search: Effort(search.embodiment)),
    Entry(
        "straightness",
        0.0,
        "Cost of a tool's way that is not straight, per metre.",
        lambda search: Straightness(),
        most=100.0,
    ),
    Entry(
        "clearance",
        0.0,
        "Cost of a clearance below the margin, per metre; at least 5 where min_clearance is set.",
        _clearance,
        most=100.0,
    ),
)


def weights(given: Mapping[str, float]) -> dict[str, float]:
    """Of every objective by name: the given weight, or its own. Raises: ShapeError naming one that is not known."""
    known = {entry.name: entry.weight for entry in OBJECTIVES}
    for name in given:
        if name not in known:
            raise ShapeError(f"weights: there is no objective '{name}'; known: {', '.join(known)}")
    return known | dict(given)
