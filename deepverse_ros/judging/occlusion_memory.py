"""What stands around the robot, also where the robot hides it from the camera."""

from collections.abc import Callable, Mapping

import numpy as np

from deepverse_ros.judging.push_prediction import TOUCH, predict_pushes
from deepverse_ros.robot.self_filter import RobotSelfFilter

_REMEMBERED = 1.5  # seconds from one picture to the next after which nobody knows what has happened to hidden things
_MOMENTS = 8  # between two pictures at which it is looked whether the robot meets something


class OccludedPoints:
    """Points of what was seen last, and of what the robot hides since: where it has left or shoved it.

    Args: poses: of the links, (S, 4, 4) each, with the robot at joints (S, A).
    """

    def __init__(self, body: RobotSelfFilter, poses: Callable[[np.ndarray], Mapping[str, np.ndarray]]) -> None:
        self._body = body
        self._poses = poses
        self._last: tuple[float, np.ndarray, np.ndarray] | None = None

    def forget(self) -> None:
        """Another scene begins."""
        self._last = None

    def see(
        self, points: np.ndarray, pixel: float, hides: Callable[[np.ndarray], np.ndarray], joints: np.ndarray,
        stamp: float,
    ) -> np.ndarray:  # fmt: skip
        """(M, 3) metres, base frame: all points that are known now.

        Args:
            points: (N, 3) that are seen now.
            pixel: metres between two neighbours.
            hides: which of some points (K, 3) the robot hides now, (K,) bool.
            joints: (A,).
            stamp: of the picture, seconds.
        """
        if self._last is not None and 0 < stamp - self._last[0] < _REMEMBERED:
            left = self._left(self._last[2], pixel, self._last[1], joints)
            points = np.concatenate([points, left[hides(left)]])
        self._last = (stamp, joints, points)
        return points

    def _left(self, things: np.ndarray, pixel: float, before: np.ndarray, joints: np.ndarray) -> np.ndarray:
        """(K, 3) where things (K, 3) are after the robot went from `before` to `joints`, (A,) each."""
        out = things.copy()
        way = np.linspace(before, joints, _MOMENTS + 1).astype(float)
        for thing, moved in predict_pushes(things, pixel, self._body, self._poses(way)):
            out[thing] += moved[-1].astype(out.dtype)
        return out


def hidden(
    points: np.ndarray, own: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, camera: np.ndarray
) -> np.ndarray:
    """(N,) bool: the points that the camera cannot see because the robot is before them.

    Args:
        points: (N, 3) metres, base frame.
        own: (h, w) bool, the pixels that show the robot.
        depth: (h, w) metres.
        intrinsics: (3, 3) pixels.
        camera: (4, 4) to the base frame.
    """
    at = (points - camera[:3, 3]) @ camera[:3, :3]
    with np.errstate(invalid="ignore", divide="ignore"):
        u, v, _ = np.rint(intrinsics @ (at / at[:, 2:]).T)
    height, width = own.shape
    inside = (at[:, 2] > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    row, column = (np.where(inside, c, 0).astype(int) for c in (v, u))
    return inside & own[row, column] & (depth[row, column] < at[:, 2] + TOUCH)
