"""What ros2_control's joint trajectory controller refuses, as a check on what this package sends it."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint


def refusal(message: JointTrajectory, joints: Sequence[str]) -> str:
    """Why a controller of these joints would not take it; empty where it would."""
    names = list(message.joint_names)
    if sorted(names) != sorted(joints):
        return f"joint_names are {names}; the controller has {list(joints)}"
    if not message.points:
        return "points is empty"
    times = [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points]
    if times[0] < 0 or any(b <= a for a, b in pairwise(times)):
        return f"times do not rise: {times}"
    if any(abs(v) > 1e-16 for v in message.points[-1].velocities):
        return f"it moves at its end: {list(message.points[-1].velocities)}"
    return next(filter(None, (_wrong_sizes(point, len(names)) for point in message.points)), "")


def _wrong_sizes(point: JointTrajectoryPoint, size: int) -> str:
    if len(point.positions) != size or not np.isfinite(point.positions).all():
        return f"a point has the positions {list(point.positions)}"
    lengths = {name: len(getattr(point, name)) for name in ("velocities", "accelerations", "effort")}
    return next((f"a point has {n} {name}" for name, n in lengths.items() if n not in (0, size)), "")
