"""Places and turns between messages and numpy."""

from collections.abc import Sequence

import numpy as np
import torch
from geometry_msgs.msg import Point, Pose, Quaternion, TransformStamped
from std_msgs.msg import Header

from deepverse_ros.geometry import quaternion_from_matrix


def pose_from_matrix(matrix: np.ndarray) -> Pose:
    """A rigid transform (4, 4) as a Pose."""
    x, y, z, w = quaternion_from_matrix(torch.as_tensor(np.asarray(matrix, np.float64)[:3, :3])).tolist()
    return Pose(position=point(matrix[:3, 3]), orientation=Quaternion(x=x, y=y, z=z, w=w))


def point(position: Sequence[float] | np.ndarray) -> Point:
    """A position (3,) in metres as a Point."""
    return Point(x=float(position[0]), y=float(position[1]), z=float(position[2]))


def transform_from_matrix(matrix: np.ndarray, header: Header, child: str) -> TransformStamped:
    """Args: matrix (4, 4): maps points in `child` to header.frame_id."""
    pose = pose_from_matrix(matrix)
    message = TransformStamped(header=header, child_frame_id=child)
    message.transform.translation.x = pose.position.x
    message.transform.translation.y = pose.position.y
    message.transform.translation.z = pose.position.z
    message.transform.rotation = pose.orientation
    return message
