"""Where a frame is, and was: /tf and /tf_static as a tree. Needs the messages only, not tf2's library."""

import threading
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import Transform, TransformStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import QoSProfile
from tf2_msgs.msg import TFMessage

from deepverse_ros.nodes.messages.quaternion import unit_quaternion
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.perception.frame_history import TimedRing
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.robot.rigid import rotation_from_quaternion

SPAN = 10.0
"""Seconds of a moving frame's past that are kept, as tf2 does."""
TOLERANCE = 0.5
"""Seconds from the nearest of its transforms within which it is known where a moving frame is."""
JUMP = 1.0
"""Seconds by which a clock that jumped back makes a frame's past another time's."""


@dataclass(frozen=True)
class _Pose:
    """translation (3,) metres, rotation (4,): unit quaternion x, y, z, w."""

    translation: np.ndarray
    rotation: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = rotation_from_quaternion(self.rotation), self.translation
        return out

    def towards(self, other: "_Pose", share: float) -> "_Pose":
        """Straight on and with a constant turn from here (0) to there (1)."""
        cosine = float(self.rotation @ other.rotation)
        there = other.rotation if cosine >= 0 else -other.rotation  # both are the same turn; this is the short way
        angle = np.arccos(min(abs(cosine), 1.0))
        if angle < 1e-6:
            rotation = self.rotation
        else:
            rotation = (np.sin((1 - share) * angle) * self.rotation + np.sin(share * angle) * there) / np.sin(angle)
        return _Pose(self.translation + share * (other.translation - self.translation), rotation)


class _Step:
    """A frame in its parent: where it was over the last SPAN seconds, or the one place where it always is."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self._always: _Pose | None = None
        self._past: TimedRing[_Pose] = TimedRing(SPAN, JUMP)

    def add(self, pose: _Pose, stamp: float | None) -> None:
        self._always = pose if stamp is None else None
        if stamp is not None:
            self._past.add(stamp, pose)

    def at(self, stamp: float | None) -> np.ndarray | None:
        if self._always is not None:
            return self._always.matrix
        newest = self._past.newest
        if newest is None or stamp is None:
            return None if newest is None else newest[1].matrix
        nearest = self._past.nearest(stamp, TOLERANCE)
        if nearest is None:
            return None
        before, after = self._past.last(stamp), self._past.next(stamp)
        if before is None or after is None:
            return nearest[1].matrix
        return before[1].towards(after[1], (stamp - before[0]) / (after[0] - before[0])).matrix


class TransformTree:
    """Where every frame is in its parent, now and in the last SPAN seconds. Thread-safe.

    A transform that is not finite is left out, as tf2 does.
    """

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}
        self._lock = threading.Lock()

    def add(self, message: TFMessage) -> None:
        """Of /tf. A stamp of zero means: at any time."""
        for transform in message.transforms:
            self._add(transform, stamp_seconds(transform.header.stamp) or None)

    def add_static(self, message: TFMessage) -> None:
        """Of /tf_static."""
        for transform in message.transforms:
            self._add(transform, None)

    def _add(self, transform: TransformStamped, stamp: float | None) -> None:
        parent, child = transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/")
        pose = _pose(transform.transform)
        if not (np.isfinite(pose.translation).all() and np.isfinite(pose.rotation).all()):
            return
        with self._lock:
            step = self._steps.get(child)
            if step is None or step.parent != parent:
                step = self._steps[child] = _Step(parent)
            step.add(pose, stamp)

    def lookup(self, target: str, source: str, stamp: float | None = None) -> np.ndarray | None:
        """(4, 4) float64 that maps points in `source` to `target`; None where the two are not connected.

        Args: stamp: seconds; between two transforms it is interpolated, and where a moving frame has none within
        TOLERANCE of it, that counts as not connected. None: by the newest there are.
        """
        with self._lock:
            up, down = self._chain(source, stamp), self._chain(target, stamp)
        if target in up:
            return up[target]
        for frame, pose in up.items():
            if frame in down:
                return np.linalg.inv(down[frame]) @ pose
        return None

    def _chain(self, frame: str, stamp: float | None) -> dict[str, np.ndarray]:
        """Every ancestor of `frame` with the transform from `frame` to it."""
        pose, chain = np.eye(4), {frame: np.eye(4)}
        while frame in self._steps:
            step = self._steps[frame]
            there = step.at(stamp)
            if there is None or step.parent in chain:  # a loop in what was published
                break
            pose = there @ pose
            chain[step.parent] = pose
            frame = step.parent
        return chain


class TransformListener:
    """Fills a TransformTree from /tf and /tf_static."""

    def __init__(self, node: RobotNode) -> None:
        self.tree = TransformTree()
        moving = QoSProfile(depth=100)
        self._node = node
        # What shares a group with the node's timers and services has to wait for them.
        group = MutuallyExclusiveCallbackGroup()
        self._subscriptions = [
            node.subscribe(TFMessage, topic, store, profile, group)
            for topic, store, profile in (
                ("/tf", self.tree.add, moving),
                ("/tf_static", self.tree.add_static, _static_input()),
            )
        ]

    def destroy(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


def _static_input() -> QoSProfile:
    profile = qos.latched()
    profile.depth = 100  # one message per static broadcaster
    return profile


def _pose(transform: Transform) -> _Pose:
    place = transform.translation
    return _Pose(np.array([place.x, place.y, place.z]), unit_quaternion(transform.rotation))
