"""Trajectories whose points have velocities and no positions, as positions from where the robot is."""

from collections.abc import Mapping

import numpy as np
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.errors import MessageError

AT_REST = 1e-6
"""rad/s (or m/s) of a last point that count as none."""


def integrated(message: JointTrajectory, places: Mapping[str, float] | None) -> JointTrajectory:
    """The trajectory with positions: itself, unless none of its points has any and all have velocities.

    Velocities change linearly from point to point, and from rest at time 0, as ros2_control's joint trajectory
    controller takes them; the way between two of the positions that they lead to is straight.

    Args: places: where each joint is now; None: not known.
    Raises: MessageError where some points have positions and others only velocities, where it is not known where a
    joint is, or where the last point still moves: nothing says how that would end.
    """
    without = [k for k, p in enumerate(message.points) if not len(p.positions) and len(p.velocities)]
    if not without:
        return message
    names, points = list(message.joint_names), message.points
    if len(without) < len(points):
        other = min(set(range(len(points))) - set(without))
        raise MessageError(
            f"point {without[0]} has velocities and no positions, and point {other} is not so: give positions for all "
            "points, or velocities alone for all"
        )
    for row, waypoint in enumerate(points):
        if len(waypoint.velocities) != len(names):
            raise MessageError(
                f"point {row} has {len(waypoint.velocities)} velocities; joint_names has {len(names)} entries"
            )
    velocities: np.ndarray = np.array([p.velocities for p in points])
    for name, velocity in zip(names, velocities[-1], strict=True):
        if not abs(velocity) <= AT_REST:
            raise MessageError(
                f"the last point's velocity of '{name}' is {velocity:.4g}, without a position to end at: end with "
                "velocities of 0, or give positions (rates that are repeated are no trajectory: Float64MultiArray)"
            )
    unknown = [name for name in names if places is None or name not in places]
    if unknown:
        raise MessageError(
            f"points have velocities and no positions, and where '{unknown[0]}' is now is not known: give positions"
        )
    assert places is not None
    times = np.array([0.0, *(p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in points)])
    rates = np.vstack([np.zeros(len(names)), velocities])
    moved = np.cumsum(0.5 * (rates[1:] + rates[:-1]) * np.diff(times)[:, None], axis=0)
    positions = np.array([places[name] for name in names]) + moved
    out = [
        JointTrajectoryPoint(positions=row.tolist(), time_from_start=p.time_from_start)
        for row, p in zip(positions, points, strict=True)
    ]
    return JointTrajectory(header=message.header, joint_names=names, points=out)
