"""Where a frame is: the newest /tf and /tf_static transforms as a tree. Needs the messages only, not tf2's library."""

import threading

import numpy as np
from geometry_msgs.msg import Transform, TransformStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from deepverse_ros.nodes import qos
from deepverse_ros.nodes.base import RobotNode
from deepverse_ros.nodes.conversions import pose_from_matrix


class TransformTree:
    """The newest transform of every frame to its parent. Thread-safe."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, np.ndarray]] = {}
        self._lock = threading.Lock()

    def add(self, message: TFMessage) -> None:
        with self._lock:
            for transform in message.transforms:
                parent = transform.header.frame_id.lstrip("/")
                self._parents[transform.child_frame_id.lstrip("/")] = (
                    parent,
                    matrix_from_transform(transform.transform),
                )

    def lookup(self, target: str, source: str) -> np.ndarray | None:
        """(4, 4) float64 that maps points in `source` to `target`; None where the two are not connected."""
        with self._lock:
            up, down = self._chain(source), self._chain(target)
        if target in up:
            return up[target]
        for frame, pose in up.items():
            if frame in down:
                return np.linalg.inv(down[frame]) @ pose
        return None

    def _chain(self, frame: str) -> dict[str, np.ndarray]:
        """Every ancestor of `frame` with the transform from `frame` to it."""
        pose, chain = np.eye(4), {frame: np.eye(4)}
        while frame in self._parents:
            parent, step = self._parents[frame]
            if parent in chain:
                break  # a loop in what was published
            pose = step @ pose
            chain[parent] = pose
            frame = parent
        return chain


class TransformListener:
    """Fills a TransformTree from /tf and /tf_static."""

    def __init__(self, node: RobotNode) -> None:
        self.tree = TransformTree()
        moving = QoSProfile(depth=100)
        self._node = node
        # Groups of their own: what shares a group with a quick topic has to wait for it.
        self._subscriptions = [
            node.subscribe(TFMessage, topic, self.tree.add, profile, MutuallyExclusiveCallbackGroup())
            for topic, profile in (("/tf", moving), ("/tf_static", _static_input()))
        ]

    def destroy(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


def _static_input() -> QoSProfile:
    profile = qos.latched()
    profile.depth = 100  # one message per static broadcaster
    return profile


def matrix_from_transform(transform: Transform) -> np.ndarray:
    """(4, 4) float64; a quaternion that is not of length one is normalised."""
    q = np.array([transform.rotation.x, transform.rotation.y, transform.rotation.z, transform.rotation.w])
    x, y, z, w = q / max(np.linalg.norm(q), 1e-12)
    out = np.eye(4)
    out[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    out[:3, 3] = transform.translation.x, transform.translation.y, transform.translation.z
    return out


def transform_from_matrix(matrix: np.ndarray, header: Header, child: str) -> TransformStamped:
    """Args: matrix (4, 4): maps points in `child` to header.frame_id."""
    pose = pose_from_matrix(matrix)
    message = TransformStamped(header=header, child_frame_id=child)
    message.transform.translation.x = pose.position.x
    message.transform.translation.y = pose.position.y
    message.transform.translation.z = pose.position.z
    message.transform.rotation = pose.orientation
    return message
