"""What a message may weigh: what reading it costs is known before it is read.

rclpy makes a Python object of every name and every way point, about 10 us each: a trajectory of 100,000 points keeps
the thread that hears it for seconds, and a stop waits behind it. So messages are taken as they came over the wire
(0.1 ms for 100 kB), and only those within a bound become objects. For a small message that is 0.03 to 0.06 ms slower
than rclpy's own way.

An image is one flat array, which costs no more than its copy (13 ms for a 4K picture): it is taken in rclpy's own way,
without another copy, and its bound is looked at afterwards. What services and actions are asked for cannot be had
before rclpy has read it: who may ask is for the network to say (SROS 2).
"""

import contextlib
import inspect
import struct
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, Header
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

Bound = Callable[[bytes], str]
"""What is too large of a serialized message; empty where it may be read."""

FLAT = (Image, CompressedImage)

MOST_NAMES = 256
"""Joints that a trajectory may name."""
MOST_DRAINED = 100
"""Messages that are read at once, so that a flood does not keep a thread for good."""
MOST_POINTS = 1000
"""Way points of a trajectory, where no parameter says another number."""

_KIB = 1024
_MOST_BYTES = {
    Image: 65536 * _KIB,  # a 4K picture of four 16-bit channels
    CompressedImage: 65536 * _KIB,
    TFMessage: 128 * _KIB,  # about a thousand frames
    JointState: 16 * _KIB,  # two hundred joints with long names
    CameraInfo: 16 * _KIB,
    Float64MultiArray: 8 * _KIB,
    Odometry: 4 * _KIB,
    Header: 4 * _KIB,
    Twist: 4 * _KIB,
    TwistStamped: 4 * _KIB,
}
_MOST_BYTES_OF_OTHERS = 64 * _KIB


def bound_of(kind: type) -> Bound:
    """The bound of a kind of message where nothing else is said."""
    if kind is JointTrajectory:
        return lambda data: trajectory_problem(data, MOST_POINTS)
    most = _MOST_BYTES.get(kind, _MOST_BYTES_OF_OTHERS)
    return lambda data: bytes_problem(data, most)


def bytes_problem(data: bytes, most: int) -> str:
    """Args: most: so many bytes are read."""
    return f"it has {len(data)} bytes; allowed: {most}" if len(data) > most else ""


def trajectory_problem(data: bytes, points: int) -> str:
    """Of a JointTrajectory. Its bytes alone say little: a point may have 24, or thousands.

    Args: points: so many are read.
    """
    most = 4 * _KIB + points * (24 + 4 * 8 * 64)
    try:
        names, given = _trajectory_counts(data)
    except struct.error:
        return "it ends before its points"
    if names > MOST_NAMES:
        return f"it names {names} joints; allowed: {MOST_NAMES}"
    if given > points:
        return f"it has {given} points; allowed: {points}"
    return bytes_problem(data, most)


def _trajectory_counts(data: bytes) -> tuple[int, int]:
    """How many joint names and points a serialized JointTrajectory says it has; no points where the names are too many.

    CDR: four bytes tell the byte order; numbers are aligned from there; strings and lists begin with their length.
    Raises: struct.error where it ends before.
    """
    order = "<" if data[1:2] == b"\x01" else ">"

    def number(at: int) -> int:
        return int(struct.unpack_from(f"{order}I", data, at)[0])

    def after_string(at: int) -> int:
        return at + 4 + number(at) + (-number(at)) % 4

    at = after_string(4 + 8)  # the header's frame_id, behind its stamp
    names = number(at)
    if names > MOST_NAMES:
        return names, 0
    at += 4
    for _ in range(names):
        at = after_string(at)
    return names, number(at)


class BoundedReader:
    """Hands on the messages of a subscription that are within their bound.

    Args:
        hear: called with each of them, and with what the middleware says of it if it takes only both.
        refuse: called with the bytes of any other, and what is wrong with it.
    """

    def __init__(self, kind: type, hear: Callable[..., Any], bound: Bound, refuse: Callable[[Any, str], None]) -> None:
        self._kind, self._hear, self._bound, self._refuse = kind, hear, bound, refuse
        self.drained: Subscription | None = None
        """All that waits there is read with each message, see `RobotNode.subscribe`."""
        with contextlib.suppress(TypeError):
            inspect.signature(hear).bind(object())
            self._hear = lambda message, _info: hear(message)

    @property
    def raw(self) -> bool:
        """Whether it takes messages as they came over the wire."""
        return self._kind not in FLAT

    def __call__(self, taken: Any, info: Any) -> None:
        """Args: taken: the serialized message, or the message itself where not `raw`."""
        self._read(taken, info)
        queue = self.drained
        if queue is None:
            return
        with queue.handle:
            for _ in range(MOST_DRAINED):
                waiting = queue.handle.take_message(queue.msg_type, queue.raw)
                if waiting is None:
                    break
                self._read(*waiting)

    def _read(self, taken: Any, info: Any) -> None:
        if problem := self._bound(taken if self.raw else taken.data):
            self._refuse(taken, problem)
            return
        if self.raw:
            try:
                taken = deserialize_message(taken, self._kind)
            except Exception as error:  # whatever it is that somebody sent
                self._refuse(taken, f"it cannot be read: {error}")
                return
        self._hear(taken, info)
