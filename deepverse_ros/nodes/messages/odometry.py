"""Which value of an Odometry message is which value that a robot measures of itself."""

from collections.abc import Callable, Sequence

import numpy as np
from geometry_msgs.msg import Quaternion, Vector3
from nav_msgs.msg import Odometry

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages.command_formats import TWIST
from deepverse_ros.nodes.messages.quaternion import rotation_of
from deepverse_ros.robot.embodiment import Modality


def _values(vector: Vector3) -> list[float]:
    return [vector.x, vector.y, vector.z]


def _yaw(q: Quaternion) -> float:
    return float(np.arctan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y**2 + q.z**2)))


def _twist(name: str) -> Callable[[Odometry], list[float]]:
    part, axis = name.split("_")
    return lambda message: [getattr(getattr(message.twist.twist, part), axis)]


# A message's twist is in its child frame, the robot's own: x forward, z up (REP 105).
_IN_ROBOT: dict[str, Callable[[Odometry], list[float]]] = {
    **{name: _twist(name) for name in TWIST},
    "speed": _twist("linear_x"),
    "yaw_rate": _twist("angular_z"),
}
_IN_BASE: dict[str, Callable[[Odometry], list[float]]] = {
    "position": lambda m: _values(m.pose.pose.position),
    "yaw": lambda m: [_yaw(m.pose.pose.orientation)],
    "velocity": lambda m: (rotation_of(m.pose.pose.orientation) @ _values(m.twist.twist.linear)).tolist(),
}


class OdometryLayout:
    """Reads values of a robot from odometry, by the names of their modalities.

    `speed` (m/s, forward), `yaw_rate` (rad/s) and the values of a twist (`linear_x` to `angular_z`) are those of the
    message's twist; `position` (3, m), `velocity` (3, m/s) and `yaw` (rad) are in the base frame. Others are unknown.

    told: (K,) bool, which of the values odometry tells.
    """

    def __init__(self, modalities: Sequence[Modality], base_frame: str) -> None:
        self._base_frame = base_frame
        self._modalities = tuple(modalities)
        known = [m.name in _IN_ROBOT or m.name in _IN_BASE for m in modalities]
        self.told = np.repeat(known, [m.dim for m in modalities])

    def vector(self, message: Odometry) -> np.ndarray:
        """The values (K,) float32, in physical units, NaN where odometry does not tell it.

        Raises: MessageError for a value that is not finite, one in another frame than the base's, and a modality of
        another size.
        """
        out: list[float] = []
        for modality in self._modalities:
            name = modality.name
            if name in _IN_BASE and message.header.frame_id.lstrip("/") != self._base_frame:
                raise MessageError(
                    f"odometry frame_id is '{message.header.frame_id}'; {name} is in '{self._base_frame}'"
                )
            read = _IN_ROBOT.get(name) or _IN_BASE.get(name)
            values = [np.nan] * modality.dim if read is None else read(message)
            if len(values) != modality.dim:
                raise MessageError(f"odometry tells {len(values)} values of {name}; this robot has {modality.dim}")
            if read is not None and not np.isfinite(values).all():
                raise MessageError(f"odometry {name} is {values}; it must be finite")
            out += values
        return np.array(out, np.float32)
