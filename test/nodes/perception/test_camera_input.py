"""What a node makes of a camera: compressed topics, sizes, frames, clocks, and the cause where it sees nothing."""

import array
import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from made_images import compressed, image, message, smooth
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from deepverse_ros.geometry import Intrinsics
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.camera import camera_model, info_from_intrinsics
from deepverse_ros.nodes.messages.time import stamp_from_seconds
from deepverse_ros.nodes.perception import observation_source
from deepverse_ros.nodes.perception.observation_source import ObservationSource, ObservationWindow
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.robot.embodiment import Embodiment

RGB = smooth(240, 320)
CAMERA = Intrinsics(250.0, 250.0, 159.5, 119.5, 320, 240)
MILLIMETRES = np.full((240, 320), 1500, np.uint16)


class Eyes(RobotNode):
    """Only looks; its model takes 60 by 80 pixels."""

    def __init__(self, **kwargs) -> None:
        super().__init__("eyes", observation_source.PARAMETERS, **kwargs)

    def activate(self) -> None:
        layout = JointLayout(Embodiment.load("arm"), "gripper_joint", 0.0, 1.0)
        self.input = ObservationSource(self, layout, 8, (60, 80))
        self.input.start()

    def deactivate(self) -> None:
        self.input.stop()


class Scene:
    """Eyes and the camera that they look through."""

    def __init__(self, robot: Any, **parameters: Any) -> None:
        self.robot = robot
        self.eyes = robot.start(Eyes, **parameters)
        self.topics: dict[str, Any] = {}

    def publish(self, topic: str, what: Any, frame: str = "camera_optical_frame", stamp: float | None = None) -> None:
        """Once it is certain that it will be heard."""
        what.header = Header(frame_id=frame, stamp=stamp_from_seconds(time.time() if stamp is None else stamp))
        if topic not in self.topics:
            profile = qos.latched() if topic == "/tf_static" else qos.sensor_output()
            self.topics[topic] = self.robot.peer.create_publisher(type(what), topic, profile)
            self.robot.until(self.topics[topic].get_subscription_count)
        self.topics[topic].publish(what)

    def deliver(self, topic: str, what: Any, frame: str, stamp: float, arrived: Callable[[], Any]) -> None:
        """Again and again: what is sent while a reader is still being matched is lost."""
        sent = -math.inf

        def ready() -> Any:
            nonlocal sent
            if time.monotonic() - sent > 0.5:
                sent = time.monotonic()
                self.publish(topic, what, frame, stamp)
            return arrived()

        self.robot.until(ready)

    def place(self, child: str, parent: str, x: float = 0.0) -> None:
        step = TransformStamped(header=Header(frame_id=parent), child_frame_id=child)
        step.transform.translation.x, step.transform.rotation.w = x, 1.0
        publisher = self.robot.peer.create_publisher(TFMessage, "/tf_static", qos.latched())
        self.robot.until(publisher.get_subscription_count)
        publisher.publish(TFMessage(transforms=[step]))
        self.robot.until(lambda: self.eyes.input.to_base(child) is not None)

    def see(
        self, depth: Any = None, info: CameraInfo | None = None, picture: Any = None,
        frame: str = "camera_optical_frame", depth_frame: str = "camera_optical_frame",
        topics: tuple[str, str] = ("", ""),
    ) -> ObservationWindow:  # fmt: skip
        """The sight of one picture with its depth and calibration."""
        camera, now = self.eyes.input.camera, time.time()
        if info is not None:
            self.deliver("camera/camera_info", info, frame, now, lambda: camera._info is not None)
        if depth is not None:
            topic = f"camera/depth/image_raw{topics[1]}"
            self.deliver(topic, depth, depth_frame, now, lambda: len(camera._depths))
        before, topic = camera.images.total, f"camera/image_raw{topics[0]}"
        picture = image(RGB, "rgb8") if picture is None else picture
        self.deliver(topic, picture, frame, now, lambda: camera.images.total > before)
        sight = self.eyes.input.latest_window()
        assert sight is not None
        return sight

    def said(self, text: str) -> bool:
        return text in self.eyes.diagnostics.status().message


def mean(values: np.ndarray, k: int) -> np.ndarray:
    height, width = values.shape[0] // k, values.shape[1] // k
    return values[: height * k, : width * k].reshape(height, k, width, k, -1).mean((1, 3))


def rgb_of(sight: ObservationWindow) -> np.ndarray:
    return (sight.observation.rgb[0, -1].permute(1, 2, 0) * 255).numpy()


# Pictures ------------------------------------------------------------------------------------------------------------
def test_pictures_are_made_smaller_with_their_depth_and_calibration(robot) -> None:
    sight = Scene(robot).see(depth=message(MILLIMETRES, "16UC1"), info=info_from_intrinsics(CAMERA, Header()))
    np.testing.assert_allclose(rgb_of(sight), mean(RGB, 2), atol=1.5)
    np.testing.assert_allclose(sight.observation.depth[0, -1], np.full((120, 160), 1.5))
    np.testing.assert_allclose(sight.observation.intrinsics, CAMERA.resized(160, 120).matrix, rtol=1e-6)


def test_compressed_topics_are_named_as_image_transport_does(robot) -> None:
    scene = Scene(robot, image_transport="compressed", depth_transport="compressedDepth", depth_scale=0.0005)
    jpeg = cv2.imencode(".jpg", RGB[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    png = bytes(12) + cv2.imencode(".png", MILLIMETRES)[1].tobytes()
    sight = scene.see(
        picture=compressed(jpeg, "rgb8; jpeg compressed bgr8"), depth=compressed(png, "16UC1; compressedDepth png"),
        topics=("/compressed", "/compressedDepth"),
    )  # fmt: skip
    np.testing.assert_allclose(rgb_of(sight)[2:-2, 2:-2], mean(RGB, 2)[2:-2, 2:-2], atol=4)
    np.testing.assert_allclose(sight.observation.depth[0, -1], np.full((120, 160), 0.75))


def test_calibration_of_another_frame_is_told(robot) -> None:
    scene, now = Scene(robot), time.time()
    scene.place("camera_optical_frame", "base_link")
    info = info_from_intrinsics(CAMERA, Header())
    scene.deliver("camera/camera_info", info, "/depth_frame", now, lambda: scene.eyes.input.camera._info is not None)
    assert scene.see().observation.intrinsics is not None
    assert scene.said("camera/camera_info: it is of frame 'depth_frame', the pictures are in 'camera_optical_frame'")


def test_distorted_pictures_are_rectified_and_rectified_ones_are_not(robot) -> None:
    info = info_from_intrinsics(CAMERA, Header())
    info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    scene = Scene(robot)
    sight = scene.see(info=info)
    straight = camera_model(info, 240, 320).rectified(np.rint(mean(RGB, 2)).astype(np.uint8), 2)
    np.testing.assert_allclose(rgb_of(sight), straight, atol=2)
    assert np.abs(straight - mean(RGB, 2)).max() > 10
    scene.eyes.trigger_deactivate()
    never = Scene(robot, rectify="never").see(info=info)
    np.testing.assert_allclose(rgb_of(never), mean(RGB, 2), atol=1.5)


def test_a_damaged_picture_ends_in_a_sentence_and_the_next_is_seen(robot) -> None:
    scene = Scene(robot, image_transport="compressed")
    jpeg = cv2.imencode(".jpg", RGB[..., ::-1])[1].tobytes()
    header_only = jpeg[: jpeg.index(b"\xff\xda")]
    with pytest.raises(Exception, match="damaged"):
        scene.see(picture=compressed(header_only, "jpeg"), topics=("/compressed", ""))
    assert "damaged" in scene.eyes.input.health.cause()
    assert scene.see(picture=compressed(jpeg, "jpeg"), topics=("/compressed", "")).observation.rgb.shape[1] == 1


# Frames --------------------------------------------------------------------------------------------------------------
def test_depth_of_another_frame_is_taken_only_where_tf_says_that_it_is_the_same(robot) -> None:
    scene = Scene(robot)
    scene.place("camera_optical_frame", "base_link")
    depth = lambda: message(MILLIMETRES, "16UC1")  # noqa: E731
    assert scene.see(depth=depth()).observation.depth is not None
    scene.eyes.input.clear()
    assert scene.see(depth=depth(), depth_frame="depth_frame").observation.depth is None
    assert scene.said(
        "depth is in frame 'depth_frame', the pictures are in 'camera_optical_frame', and tf does not say"
    )
    scene.place("depth_frame", "camera_optical_frame", x=0.05)
    scene.eyes.input.clear()
    assert scene.see(depth=depth(), depth_frame="depth_frame").observation.depth is None
    assert scene.said("0.050 m and 0.0 degrees from that of the pictures")
    scene.place("same_frame", "camera_optical_frame")
    scene.eyes.input.clear()
    assert scene.see(depth=depth(), depth_frame="/same_frame").observation.depth is not None


def test_a_frame_with_a_slash_is_found_and_one_that_tf_does_not_know_is_told(robot) -> None:
    scene = Scene(robot)
    assert scene.see().observation.camera_to_world is None
    assert scene.said("tf does not say where the camera's frame 'camera_optical_frame' is in 'base_link'")
    scene.place("camera_optical_frame", "base_link", x=0.3)
    pose = scene.see(frame="/camera_optical_frame").observation.camera_to_world
    assert pose is not None
    assert float(pose[0, 3]) == pytest.approx(0.3)


# Causes --------------------------------------------------------------------------------------------------------------
def test_a_topic_that_nobody_publishes_is_named_with_those_that_are(robot) -> None:
    robot.peer.create_publisher(Image, "camera/color/image_raw", 1)
    scene = Scene(robot)
    never = "no image has arrived on 'camera/image_raw': nobody publishes '/camera/image_raw'; published are: "
    robot.until(lambda: never + "/camera/color/image_raw" in scene.eyes.input.stale(), 10)
    assert scene.eyes.input.health.age_text() == "never"


OTHER = """
import sys
import rclpy
from sensor_msgs.msg import CompressedImage
rclpy.init()
node = rclpy.create_node("other")
for topic in ("camera/image_raw", "camera/depth/image_raw"):
    node.create_publisher(CompressedImage, topic, 1)
sys.stdin.read()
node.destroy_node()
rclpy.shutdown()
"""


def test_a_topic_of_another_type_is_told(robot) -> None:
    wrong = "it is published as sensor_msgs/msg/CompressedImage, and is read as sensor_msgs/msg/Image"
    # Fast DDS knows one type a topic in each process.
    other = subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, text=True)
    try:
        scene = Scene(robot)
        robot.until(lambda: wrong in scene.eyes.input.stale(), 20)
        assert "compressed reads it" in scene.eyes.input.stale()
        robot.until(lambda: scene.said(f"'camera/depth/image_raw': {wrong}"), 10)
    finally:
        other.communicate("", 20)
        robot.until(lambda: not robot.peer.count_publishers("camera/image_raw"), 20)


def test_a_camera_that_is_silent_refused_or_of_another_clock_is_told(robot) -> None:
    scene = Scene(robot, stale_timeout=0.1)
    robot.peer.create_publisher(Image, "camera/image_raw", qos.sensor_output())
    robot.until(lambda: "/peer publishes '/camera/image_raw', but nothing has come" in scene.eyes.input.stale(), 10)
    stale, health, frame = scene.eyes.input.stale, scene.eyes.input.health, "camera_optical_frame"
    h264 = Image(encoding="h264", height=4, width=4, step=1, data=array.array("B", [0] * 4))
    scene.deliver("camera/image_raw", h264, frame, time.time(), lambda: "image encoding is 'h264'" in stale())
    scene.deliver("camera/image_raw", image(RGB, "rgb8"), frame, time.time() - 7200, lambda: health.clock_problem)
    assert health.clock_problem.startswith("images are stamped 2.0 h behind this node's clock: use_sim_time")
    robot.until(scene.eyes.input.stale, 10)
    assert "s old; stale_timeout is 0.1 s: /peer publishes" in scene.eyes.input.stale()
    assert float(health.age_text()) < 10
