"""Rigid transforms in numpy: checked, applied to points, and made from quaternions and angles. In torch: `geometry`."""

import numpy as np

from deepverse_ros.errors import ShapeError


def check_rigid(name: str, transform: np.ndarray, steps: int) -> None:
    """Raises: ShapeError unless `transform` is (4, 4) or (steps, 4, 4), each a rotation and a shift."""
    if transform.shape not in ((4, 4), (steps, 4, 4)):
        raise ShapeError(f"{name}: expected (4, 4) or ({steps}, 4, 4), got {transform.shape}")
    rotation = transform[..., :3, :3]
    # Written out: a verdict checks some eighty, and np.allclose costs as much as all the rest.
    rigid = (
        np.isfinite(transform).all()
        and (abs(transform[..., 3, :] - (0, 0, 0, 1)) <= 1e-6).all()
        and (abs(rotation @ rotation.swapaxes(-1, -2) - np.eye(3)) <= 1e-3).all()
        and (np.linalg.det(rotation) > 0).all()
    )
    if not rigid:
        raise ShapeError(f"{name}: not a rotation and a shift")


def moved(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (S, N, 3) by one transform (4, 4), or by one for each moment (S, 4, 4); as the points' type."""
    transform = transform.astype(points.dtype, copy=False)
    with np.errstate(invalid="ignore"):  # infinite points become NaN
        return points @ np.swapaxes(transform[..., :3, :3], -1, -2) + transform[..., None, :3, 3]


def rotation_from_rpy(rpy: tuple[float, float, float]) -> np.ndarray:
    """(3, 3) of turns about the fixed axes x, y and z, in this order (REP 103), rad each."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    pitch = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return yaw @ pitch @ roll


def rotation_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) of a unit quaternion (4,) x, y, z, w."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
