"""A way to the goal by kinematics alone, for a search to begin from."""

import numpy as np

from deepverse_ros.robot.embodiment import Embodiment

_PLACES = 8  # through which the tool is led to the end of its way
_NEAR = 0.01  # metres from the place: nearer than that, the shorter way counts


def kinematic_seed(
    robot: Embodiment, start: np.ndarray, place: np.ndarray, steps: int, straight: bool = False
) -> np.ndarray | None:
    """From `start` to a posture that has the tool at a place, or as near to it as damped least squares lead.

    Nothing is avoided, and nothing is known of rates: a search makes a plan of it, and a verdict judges that.

    Args:
        start: (A,) physical units.
        place: (3,) metres in the base frame.
        steps: H.
        straight: the tool goes straight, as one pushes things; else the joints go evenly to where they shall be, which
            is found from `start` or from the robot's home.
    Returns: (1 + H, A), `start` and the way; None for a robot whose actions do not say where its body goes.
    """
    if robot.body is None or not robot.actions_place_body:
        return None
    begin, place = np.asarray(start, float), np.asarray(place, float)
    if straight:
        return _led(robot, begin, place, steps).astype(np.float32)
    ends = [_led(robot, posture, place, _PLACES)[-1] for posture in (begin, np.asarray(robot.home, float))]
    left = [max(float(np.linalg.norm(_tool(robot, end) - place)), _NEAR) for end in ends]
    travel = [float(np.abs((end - begin) / robot.max_step).max()) for end in ends]
    end = ends[min((0, 1), key=lambda k: (left[k], travel[k]))]
    return (begin + np.linspace(0, 1, steps + 1)[:, None] * (end - begin)).astype(np.float32)


def _led(robot: Embodiment, begin: np.ndarray, place: np.ndarray, steps: int) -> np.ndarray:
    """(1 + H, A) along which the tool is led straight to a place, each posture as near to the last as can be."""
    assert robot.body is not None
    tool = _tool(robot, begin)
    course = [begin]
    for share in np.linspace(0, 1, steps + 1)[1:]:
        there = (tool + share * (place - tool))[None]
        values = robot.body.inverse_kinematics(robot.action_values(course[-1][None]), robot.tool_frame, there)
        course.append(np.clip(np.concatenate([values[m.name][0] for m in robot.modalities]), robot.lower, robot.upper))
    return np.stack(course)


def _tool(robot: Embodiment, action: np.ndarray) -> np.ndarray:
    assert robot.body is not None
    return robot.body.forward_kinematics(robot.action_values(action[None]))[robot.tool_frame][0, :3, 3]
