"""Plans as trajectories, written apart from the formats that the nodes write with."""

import numpy as np
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.time import duration


def trajectory_from_plan(
    plan: np.ndarray, layout: JointLayout, header: Header, turns: np.ndarray | None = None
) -> JointTrajectory:
    """The plan's joint targets (and the gripper's joint) as a trajectory; point t is reached at (t + 1) * dt.

    Args: turns (A,): of the robot, see `RobotState`; the trajectory is near where its own count says that it is.
    """
    dt = layout.embodiment.dt
    points = [
        JointTrajectoryPoint(positions=layout.positions(action, turns), time_from_start=duration((step + 1) * dt))
        for step, action in enumerate(plan)
    ]
    return JointTrajectory(header=header, joint_names=layout.names(), points=points)
