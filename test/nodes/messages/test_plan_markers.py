"""What RViz is shown of a plan: colours that say what would be accepted."""

import numpy as np
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from deepverse_ros.nodes.messages.plan_markers import GOOD, POOR, REJECTED, candidate_colours, candidate_markers
from deepverse_ros.planning.search.result import Candidates
from deepverse_ros.planning.verdicts.verdict import Reason, Verdict

GOAL = np.array([0.5, 0.0, 0.2])


def candidates(ends: list[float], costs: list[float]) -> Candidates:
    """Plans of two steps whose tool ends so many metres beside the goal."""
    paths = np.stack([np.stack([GOAL + np.array([0, 0.5, 0]), GOAL + np.array([0, end, 0])]) for end in ends])
    return Candidates(np.zeros((len(ends), 2, 8), np.float32), np.array(costs), paths)


def test_cheap_is_green_costly_is_yellow_and_what_misses_is_red() -> None:
    colours = candidate_colours(candidates([0.01, 0.02, 0.3, 0.0], [0.1, 0.2, 0.3, np.nan]), GOAL, 0.05)
    np.testing.assert_allclose(colours[0], GOOD)
    assert np.abs(colours[1] - POOR).sum() < np.abs(colours[0] - POOR).sum()
    np.testing.assert_allclose(colours[2], REJECTED)
    np.testing.assert_allclose(colours[3], REJECTED)


def test_markers_show_candidates_plan_goal_and_verdict() -> None:
    seen = candidates([0.01, 0.3], [0.1, np.inf])
    seen.tool_paths[1, 0] = np.nan
    verdict = Verdict(False, Reason.MISSES_GOAL, text="ends too far away")
    markers = candidate_markers(
        seen, seen.tool_paths[0], verdict, goal=GOAL, largest_distance=0.05, header=Header(frame_id="base_link")
    ).markers
    assert [m.type for m in markers] == [Marker.LINE_LIST, Marker.LINE_STRIP, Marker.SPHERE, Marker.TEXT_VIEW_FACING]
    assert len({m.id for m in markers}) == 4
    assert {m.header.frame_id for m in markers} == {"base_link"}
    lines, plan, goal, text = markers
    assert len(lines.points) == len(lines.colors) == 2, "a path that is not finite is left out"
    np.testing.assert_allclose((plan.color.r, plan.color.g, plan.color.b), REJECTED, atol=1e-6)
    assert (goal.pose.position.x, goal.pose.position.z) == (0.5, 0.2)
    assert text.text == "MISSES_GOAL: ends too far away"
