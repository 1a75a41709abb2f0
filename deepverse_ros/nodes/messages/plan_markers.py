"""What a planner thought of, as RViz markers: candidates by cost, the chosen plan, the goal and the verdict."""

import math
from itertools import pairwise

import numpy as np
from geometry_msgs.msg import Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from deepverse_ros.nodes.messages.pose import point
from deepverse_ros.planning.search.result import Candidates
from deepverse_ros.planning.verdicts.verdict import Verdict

GOOD = (0.18, 0.63, 0.26)
POOR = (0.93, 0.75, 0.18)
REJECTED = (0.81, 0.13, 0.18)
GOAL = (0.16, 0.44, 0.86)
"""Colours of cheap and costly candidates, of rejected ones and of the goal (RGB, 0 to 1)."""


def candidate_markers(
    candidates: Candidates,
    chosen: np.ndarray,
    verdict: Verdict,
    *,
    goal: np.ndarray,
    largest_distance: float,
    header: Header,
) -> MarkerArray:
    """Markers 0 candidates, 1 chosen plan, 2 goal, 3 verdict as text.

    Args: chosen (H, 3) metres: the tool's imagined path of the judged plan; goal (3,) metres; largest_distance: metres
    from the goal beyond which a candidate's end is rejected; header: stamp, base frame.
    """
    lines = _marker(header, 0, Marker.LINE_LIST, 0.002)
    colours = candidate_colours(candidates, goal, largest_distance)
    for path, colour in zip(candidates.tool_paths, colours, strict=True):
        if not np.isfinite(path).all():
            continue
        for begin, end in pairwise(path):
            lines.points += [point(begin), point(end)]
            lines.colors += [_colour(colour, 0.5)] * 2
    colour = GOOD if verdict.accepted else REJECTED
    best = _marker(header, 1, Marker.LINE_STRIP, 0.008)
    best.color = _colour(colour)
    best.points = [point(p) for p in chosen if np.isfinite(p).all()]
    target = _marker(header, 2, Marker.SPHERE, 0.04)
    target.color = _colour(GOAL, 0.8)
    target.pose.position = point(goal)
    text = _marker(header, 3, Marker.TEXT_VIEW_FACING, 0.05)
    text.color = _colour(colour)
    text.pose.position = point(np.add(goal, (0.0, 0.0, 0.1)))
    text.text = f"{verdict.reason.value}: {verdict.text}"
    return MarkerArray(markers=[lines, best, target, text])


def candidate_colours(candidates: Candidates, goal: np.ndarray, largest_distance: float) -> np.ndarray:
    """(N, 3): red where a candidate ends too far from the goal, else from green (cheapest) to yellow (costliest)."""
    costs = np.where(np.isfinite(candidates.costs), candidates.costs, math.inf)
    rank = np.argsort(np.argsort(costs)) / max(1, len(costs) - 1)
    colours = (1 - rank[:, None]) * GOOD + rank[:, None] * np.array(POOR)
    distance = np.linalg.norm(candidates.tool_paths[:, -1] - goal, axis=1)
    colours[~(distance <= largest_distance) | ~np.isfinite(costs)] = REJECTED
    return colours


def _marker(header: Header, number: int, kind: int, size: float) -> Marker:
    marker = Marker(header=header, ns="plan", id=number, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    flat = kind in (Marker.LINE_LIST, Marker.LINE_STRIP)
    marker.scale = Vector3(x=size) if flat else Vector3(x=size, y=size, z=size)
    return marker


def _colour(rgb: tuple[float, float, float] | np.ndarray, alpha: float = 1.0) -> ColorRGBA:
    return ColorRGBA(r=float(rgb[0]), g=float(rgb[1]), b=float(rgb[2]), a=alpha)
