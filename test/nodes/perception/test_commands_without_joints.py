"""Robots without joints over ROS: a vehicle's control and twists are judged; where it went and how fast is observed.

The models are untrained, so nothing is said about what they imagine; the pictures, the commands and the way are real.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from geometry_msgs.msg import Twist, TwistStamped, Vector3
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from deepverse_ros.geometry import Intrinsics
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import CommandVerdict, VehicleControl
from deepverse_ros.nodes.messages.camera import info_from_intrinsics
from deepverse_ros.nodes.messages.command_verdict import command_verdict_from_msg
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.messages.pose import transform_from_matrix
from deepverse_ros.nodes.messages.time import stamp_from_seconds
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.world_model.node import WorldModelNode
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.verdict import Verdict

WIDTH, HEIGHT = 64, 48
INTRINSICS = Intrinsics.from_matrix(np.array([[50.0, 0, 32], [0, 50.0, 24], [0, 0, 1]]), WIDTH, HEIGHT)
BASE = {
    "name": "cart", "description": "a cart that is driven by twists", "dt": 0.2, "base_frame": "odom",
    "tool_frame": "base_link", "home": [0.0, 0.0],
    "modalities": [
        {"name": "linear_x", "units": "m/s", "lower": [-1.0], "upper": [1.0], "max_rate": [2.0]},
        {"name": "angular_z", "units": "rad/s", "lower": [-1.0], "upper": [1.0], "max_rate": [4.0]},
    ],
    "camera": {"frame_id": "camera_optical_frame", "near": 0.3, "far": 10.0, "fixed": False},
}  # fmt: skip
EVERYWHERE, NOWHERE = ([100.0, 100.0, 100.0], [0.0, 0.0, 0.0]), ([0.1, 0.1, 0.1], [0.0, 500.0, 0.0])
"""Size and place of a box in the camera's frame."""


def control(values: list[float]) -> VehicleControl:
    steering, throttle, brake = values
    header = Header(stamp=stamp_from_seconds(time.time()))
    return VehicleControl(header=header, steering=steering, throttle=throttle, brake=brake)


def twist(values: list[float]) -> Twist:
    return Twist(linear=Vector3(x=values[0]), angular=Vector3(z=values[1]))


def stamped(values: list[float]) -> TwistStamped:
    return TwistStamped(header=Header(stamp=stamp_from_seconds(time.time())), twist=twist(values))


class Drive:
    """A camera that shows a wall, and a model of the robot with one zone."""

    def __init__(self, robot: Any, folder: Path, name: str, kind: type, command_type: str) -> None:
        self.robot, peer = robot, robot.peer
        if name == "cart":
            name = str(folder / "cart.yaml")
            Path(name).write_text(yaml.safe_dump(BASE))
        self.name, self.embodiment = name, Embodiment.load(name)
        torch.manual_seed(0)
        model = WorldModel(WorldModelConfig.small_test(self.embodiment))
        model.novelty.trust_all()
        model.save(folder / "model")
        self.folder, self.command_type = folder, command_type
        camera = qos.sensor_output()
        topics = {"camera/camera_info": CameraInfo, "camera/depth/image_raw": Image, "camera/image_raw": Image}
        self.outputs = [peer.create_publisher(kind_, topic, camera) for topic, kind_ in topics.items()]
        self.frames = peer.create_publisher(TFMessage, "/tf", 10)
        self.odometry = peer.create_publisher(Odometry, "odom", camera)
        self.command, self.passed = (peer.create_publisher(kind, t, qos.command()) for t in ("wanted", "passed"))
        self.heard = robot.hear(CommandVerdict, "world_model/command_verdict", qos.command())
        self.rgb = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        self.depth = np.full((HEIGHT, WIDTH), 5.0, np.float32)
        self.speed, self.yaw_rate, self.began = 0.0, 0.1, time.time()
        peer.create_timer(0.1, self.publish)

    def camera_to_world(self, seconds: float) -> np.ndarray:
        """(4, 4): it looks ahead, and goes ahead at its speed."""
        way = self.speed * (seconds - self.began)
        return np.array([[0, 0, 1, way], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])

    def publish(self) -> None:
        now = time.time()
        header = Header(stamp=stamp_from_seconds(now), frame_id="camera_optical_frame")
        odom = Header(stamp=header.stamp, frame_id="odom")
        there = transform_from_matrix(self.camera_to_world(now), odom, header.frame_id)
        self.frames.publish(TFMessage(transforms=[there]))
        moves = Odometry(header=odom, child_frame_id="base_link")
        moves.twist.twist = Twist(linear=Vector3(x=self.speed), angular=Vector3(z=self.yaw_rate))
        self.odometry.publish(moves)
        pictures = (
            info_from_intrinsics(INTRINSICS, header),
            image_from_depth(self.depth, "32FC1", header),
            image_from_array(self.rgb, "rgb8", header),
        )
        for output, message in zip(self.outputs, pictures, strict=True):
            output.publish(message)

    def start(self, box: tuple[list[float], list[float]]) -> WorldModelNode:
        size, position = box
        zone = {"name": "there", "type": "stop", "frame_id": "camera_optical_frame", "min_points": 1,
                "shape": {"kind": "box", "size": size}, "position": position}  # fmt: skip
        file = self.folder / "zones.yaml"
        file.write_text(yaml.safe_dump({"zones": [zone]}))
        node = self.robot.start(
            WorldModelNode, checkpoint=str(self.folder / "model"), embodiment=self.name,
            device="cpu", torch_threads=1, zones=str(file), watched_command_topic="wanted",
            passed_command_topic="passed", watched_command_type=self.command_type, max_depth_scale=100.0,
            verdict_deadline=10.0, stale_timeout=5.0,
        )  # fmt: skip
        self.robot.until(lambda: node.input.images.total > 8 and node.input.to_base("camera_optical_frame") is not None)
        self.robot.until(lambda: self.command.get_subscription_count() and self.passed.get_subscription_count())
        return node

    def verdict(self, message: Callable[[], Any]) -> Verdict:
        """On a command that is repeated until there is one."""
        before = len(self.heard)

        def judged() -> bool:
            self.command.publish(message())
            self.robot.spin(0.05)
            return len(self.heard) > before

        self.robot.until(judged)
        names = tuple(m.name for m in self.embodiment.modalities)
        return command_verdict_from_msg(self.heard[-1], names, "odom")


@pytest.mark.parametrize(
    ("name", "kind", "command_type", "message", "values"),
    [
        ("vehicle", VehicleControl, "vehicle_control", control, [0.3, 0.4, 0.0]),
        ("cart", Twist, "twist", twist, [0.5, -0.3]),
        ("cart", TwistStamped, "twist_stamped", stamped, [0.5, -0.3]),
    ],
)
@pytest.mark.parametrize(("box", "action"), [(EVERYWHERE, Action.STOP), (NOWHERE, Action.CLEAR)])
def test_a_command_is_imagined_and_held_against_the_zones(
    robot, tmp_path, name, kind, command_type, message, values, box, action
):
    drive = Drive(robot, tmp_path, name, kind, command_type)
    node = drive.start(box)
    verdict = drive.verdict(lambda: message(values))
    assert verdict.finding.action == action, verdict.finding
    assert verdict.finding.zone == ("there" if action == Action.STOP else "")
    np.testing.assert_allclose(verdict.envelope.center, np.tile(values, (len(verdict.envelope.times), 1)))
    # What the robot did is what it was told, from when it was.
    rest = np.asarray(drive.embodiment.home)
    np.testing.assert_allclose(node.input.latest_window().actions[0], np.tile(rest, (3, 1)))
    drive.passed.publish(message(values))

    def moved() -> list[np.ndarray]:
        actions = node.input.latest_window().actions[0]
        return [actions] if (actions[-1] != rest).any() else []

    (actions,) = robot.until(moved)
    np.testing.assert_allclose(actions[-1], values, rtol=1e-6)
    np.testing.assert_allclose(actions[0], rest)


def test_a_moving_camera_is_where_it_was_at_each_frame_and_odometry_says_how_fast(robot, tmp_path):
    drive = Drive(robot, tmp_path, "vehicle", VehicleControl, "vehicle_control")
    drive.speed = 3.0
    node = drive.start(NOWHERE)

    def whole() -> bool:
        window = node.input.latest_window()
        return window.observation.camera_to_world is not None and window.observation.rgb.shape[1] == 4

    robot.until(whole)
    window = node.input.latest_window()
    poses = window.observation.camera_to_world.numpy()
    assert poses.shape == (4, 4, 4)
    np.testing.assert_allclose(poses[-1], drive.camera_to_world(window.stamp), atol=0.02)
    np.testing.assert_allclose(np.diff(poses[:, 0, 3]), drive.speed * drive.embodiment.dt, atol=0.1)
    np.testing.assert_allclose(window.proprioception, np.tile(np.float32([3.0, 0.1]), (1, 4, 1)))
    # And the model is told all of it.
    told, model = window.observed_by(node.model), node.model
    silent = model.observe(window.observation, window.actions)
    np.testing.assert_allclose(told.camera_to_world[0], poses[-1], atol=1e-5)
    assert not torch.equal(told.newest.states, silent.newest.states)
    np.testing.assert_array_equal(silent.newest.states.isnan(), np.full(silent.newest.states.shape, True))


def test_odometry_that_is_wrong_or_missing_leaves_the_rest(robot, tmp_path):
    drive = Drive(robot, tmp_path, "vehicle", VehicleControl, "vehicle_control")
    drive.yaw_rate = float("nan")
    node = drive.start(NOWHERE)
    assert node.input.latest_window().proprioception is None
    robot.until(lambda: "odom: odometry yaw_rate is [nan]; it must be finite" in str(node.diagnostics.status()))
    assert node.input.latest_window().observation.rgb.shape[1] == 4


def test_where_the_camera_is_not_known_the_model_is_not_told(robot, tmp_path):
    drive = Drive(robot, tmp_path, "vehicle", VehicleControl, "vehicle_control")
    node = drive.start(NOWHERE)
    robot.until(lambda: node.input.latest_window().observation.camera_to_world is not None)
    drive.frames = robot.peer.create_publisher(TFMessage, "/elsewhere", 10)
    robot.until(lambda: node.input.latest_window().observation.camera_to_world is None, 10.0)
    lost = node.input.latest_window().stamp
    answers = []

    def after_that() -> bool:  # one that was under way rests on what was seen before
        answers.append(drive.verdict(lambda: control([0.0, 0.2, 0.0])))
        return answers[-1].image_stamp >= lost - 1e-6

    robot.until(after_that)
    answer = answers[-1]
    assert answer.finding.action != Action.CLEAR, "nothing can be held against the zones"
