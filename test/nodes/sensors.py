"""A camera and joints that publish what a test wants, a camera's place in tf, and what a node says of itself."""

import time

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from deepverse_ros.geometry import Intrinsics
from deepverse_ros.nodes.messages.action_layout import joint_state
from deepverse_ros.nodes.messages.camera import info_from_intrinsics
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.messages.pose import transform_from_matrix
from deepverse_ros.nodes.runtime import qos

NAMES = [f"joint_{i}" for i in range(1, 8)] + ["gripper_joint"]


class Sensors:
    """A camera and joints that publish what a test wants them to."""

    def __init__(self, robot, arm, rate: float = 30.0) -> None:
        self.robot, self.arm = robot, arm
        self.rng = np.random.default_rng(0)
        peer, camera = robot.peer, qos.sensor_output()
        self.image = peer.create_publisher(Image, "camera/image_raw", camera)
        self.depth = peer.create_publisher(Image, "camera/depth/image_raw", camera)
        self.info = peer.create_publisher(CameraInfo, "camera/camera_info", camera)
        self.joints = peer.create_publisher(JointState, "joint_states", camera)
        self.with_depth, self.size, self.offset = True, (48, 64), 0.0
        self.names, self.positions = NAMES, list(arm.home)
        self.timer = peer.create_timer(1.0 / rate, self.publish)

    def now(self) -> Time:
        seconds = time.time() + self.offset
        return Time(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))

    def publish(self) -> None:
        header = Header(stamp=self.now(), frame_id="camera_optical_frame")
        height, width = self.size
        self.joints.publish(joint_state(self.names, self.positions, header))
        self.info.publish(info_from_intrinsics(Intrinsics(60.0, 60.0, width / 2, height / 2, width, height), header))
        if self.with_depth:
            self.depth.publish(image_from_depth(self.rng.uniform(1, 4, self.size).astype(np.float32), "16UC1", header))
        self.image.publish(image_from_array(self.rng.integers(0, 255, (*self.size, 3), np.uint8), "rgb8", header))


def status(node) -> tuple[bytes, str, dict[str, str]]:
    now = node.diagnostics.status()
    return now.level, now.message, {v.key: v.value for v in now.values}


def mount_camera(robot) -> None:
    """It stands 1 m before the robot's base and 2 m above it."""
    pose = np.eye(4)
    pose[:3, 3] = 1.0, 0.0, 2.0
    static = robot.peer.create_publisher(TFMessage, "/tf_static", qos.latched())
    header = Header(frame_id="base_link")
    static.publish(TFMessage(transforms=[transform_from_matrix(pose, header, "camera_optical_frame")]))
