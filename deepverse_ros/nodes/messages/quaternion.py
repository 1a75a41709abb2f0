"""Quaternions of messages in numpy."""

import numpy as np
from geometry_msgs.msg import Quaternion

from deepverse_ros.robot.rigid import rotation_from_quaternion


def unit_quaternion(quaternion: Quaternion) -> np.ndarray:
    """(4,) float64 x, y, z, w; one that is not of length one is normalised."""
    q = np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w])
    return q / max(np.linalg.norm(q), 1e-12)


def rotation_of(quaternion: Quaternion) -> np.ndarray:
    """(3, 3) float64; a quaternion that is not of length one is normalised."""
    return rotation_from_quaternion(unit_quaternion(quaternion))
