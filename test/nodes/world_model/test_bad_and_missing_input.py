"""What the world model node makes of input that is bad, strange, late or missing: a sentence, and it goes on."""

import time

import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import Log
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from sensors import NAMES, mount_camera, status
from std_msgs.msg import Header

from deepverse_ros.model.config import ThingsConfig, WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import ActionPlan, PredictedFrames
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.perception import camera_input
from deepverse_ros.nodes.perception.camera_health import GRACE
from deepverse_ros.robot.embodiment import Embodiment

UNPLACED = "nobody says where its pictures' frame is in 'base_link' (tf)"


def bad_images(arm):
    def image(**changes):
        message = image_from_array(np.zeros((48, 64, 3), np.uint8), "rgb8", Header(frame_id="camera_optical_frame"))
        for field, value in changes.items():
            setattr(message, field, value)
        return message

    return [
        ("image", image(encoding="h264"), "encoding is 'h264'"),
        ("image", image(height=0, data=[]), "size is 64x0"),
        ("image", image(step=5), "step is 5 bytes"),
        ("depth", image(), "depth encoding is 'rgb8'"),
        ("depth", image_from_depth(np.full((48, 64), np.nan, np.float32), "32FC1"), "has no known pixel"),
        ("depth", image_from_depth(np.ones((20, 20), np.float32), "16UC1"), "20x20 pixels; the colour image is 64x48"),
        ("joints", JointState(name=NAMES[1:], position=[0.0] * 7), "joint_1 has been silent for"),
        ("joints", JointState(name=NAMES, position=[float("nan")] * 8), "joint_1 is nan"),
    ]


def test_bad_input_is_named_and_the_node_goes_on(robot, sensors, start, arm):
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    node = start()
    robot.until(lambda: len(frames) > 3)
    for name, message, said in bad_images(arm):
        publisher = getattr(sensors, name)
        sensors.with_depth = name != "depth"
        robot.peer.destroy_timer(sensors.timer) if name == "joints" else None

        def disturb(publisher=publisher, message=message, said=said, name=name):
            message.header.stamp = sensors.now()
            if name == "joints":
                picture = image_from_array(np.zeros((48, 64, 3), np.uint8), "rgb8", message.header)
                publisher.publish(message)
                sensors.image.publish(picture)
            else:
                publisher.publish(message)
            robot.spin(0.03)
            return said in status(node)[2].get("last_warning", "")

        robot.until(disturb)
        assert status(node)[0] == DiagnosticStatus.WARN
    sensors.with_depth = True
    sensors.timer = robot.peer.create_timer(1 / 30, sensors.publish)
    count = len(frames)
    robot.until(lambda: len(frames) > count + 3)
    assert node.worker.alive


def test_another_size_and_a_clock_that_jumps_back_begin_a_new_history(robot, sensors, start, capfd):
    logged = []

    def said(text: str) -> bool:
        # Of two warnings one may be throttled in the log, or replaced in diagnostics by a later one.
        logged.extend([capfd.readouterr().err, status(node)[2].get("last_warning", "")])
        return text in " ".join(logged)

    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    node = start()
    robot.until(lambda: len(frames) > 3)
    sensors.size = (120, 160)
    robot.until(lambda: said("size changed from 64x48 to 160x120"))
    count = len(frames)
    robot.until(lambda: len(frames) > count + 3)
    sensors.offset = -50.0
    robot.until(lambda: said("jumped back by"))
    count = len(frames)
    robot.until(lambda: len(frames) > count + 3)
    assert stamp_seconds(frames[-1].header.stamp) < time.time() - 40


def test_a_picture_waits_for_its_depth(robot, sensors, start, monkeypatch):
    monkeypatch.setattr(camera_input, "DEPTH_MEMORY", 60.0)
    robot.peer.destroy_timer(sensors.timer)
    node = start()
    robot.until(lambda: sensors.image.get_subscription_count() and sensors.depth.get_subscription_count())

    def stamp() -> float:
        window = node.input.latest_window()
        return 0.0 if window is None else stamp_seconds(window.header.stamp)

    for tenth in range(3):
        header = Header(stamp=Time(sec=100, nanosec=tenth * 100_000_000), frame_id="camera_optical_frame")
        now = stamp_seconds(header.stamp)
        before, count = stamp(), node.input.images.total
        sensors.image.publish(image_from_array(np.zeros((48, 64, 3), np.uint8), "rgb8", header))
        robot.until(lambda count=count: node.input.images.total > count)
        if tenth:  # before the first depth image nobody knows that there will be one
            assert stamp() == before
        sensors.depth.publish(image_from_depth(np.ones((48, 64), np.float32), "16UC1", header))
        robot.until(lambda now=now: stamp() == now and node.input.latest_window().observation.depth is not None)


def test_without_depth_or_joints_it_says_what_it_lacks(robot, sensors, start):
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    node = start(joint_states_topic="", depth_topic="")
    robot.until(
        lambda: (
            "nothing has been heard of joint_1, joint_2, … and gripper_joint (8 joints)"
            in status(node)[2].get("last_warning", "")
        )
    )
    assert not frames
    node.trigger_deactivate()
    node.trigger_cleanup()
    node.set_parameters([RosParameter("joint_states_topic", value="joint_states")])
    node.trigger_configure()
    node.trigger_activate()
    robot.until(lambda: frames)


def test_diagnostics_tell_of_a_robot_that_is_seen_beside_where_its_joints_say(robot, sensors, start, tmp_path):
    config = WorldModelConfig.small_test(Embodiment.load("arm"))
    model = WorldModel(config.model_copy(update={"things": ThingsConfig(), "posed": True}))
    with torch.no_grad():  # sure that the tool is in the middle of every picture
        model.picture_readout.place[-1].weight.zero_()
        model.picture_readout.place[-1].bias.copy_(torch.tensor([0.0, 0.0, 0.0, -4.0]))
    model.novelty.trust_all()
    model.save(tmp_path / "displaced")
    mount_camera(robot)
    # Where depth is known, and as here not a robot's, the observation is out of distribution instead.
    node = start(checkpoint=str(tmp_path / "displaced"), depth_topic="")
    robot.until(lambda: "cm beside where its joints say" in status(node)[1])
    level, _, values = status(node)
    assert level == DiagnosticStatus.WARN
    assert float(values["displaced_m"]) > 0.05


@pytest.fixture
def posed(tmp_path) -> str:
    """A checkpoint that must be told its camera."""
    model = WorldModel(WorldModelConfig.small_test(Embodiment.load("arm")).model_copy(update={"posed": True}))
    model.novelty.trust_all()
    model.save(tmp_path / "posed")
    return str(tmp_path / "posed")


def test_a_camera_whose_place_comes_after_its_first_images_is_no_cause_for_a_warning(robot, sensors, start, posed):
    logged = robot.hear(Log, "/rosout")
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    node = start(checkpoint=posed)
    robot.until(lambda: UNPLACED in status(node)[1])
    mount_camera(robot)
    robot.until(lambda: frames)
    robot.spin(GRACE)
    assert not [m.msg for m in logged if m.name == "world_model" and "must be told" in m.msg]


def test_a_model_that_must_be_told_its_camera_waits_for_that_and_says_so_once(robot, sensors, start, posed):
    logged = robot.hear(Log, "/rosout")
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    node = start(checkpoint=posed)
    robot.until(lambda: UNPLACED in status(node)[1])
    robot.spin(GRACE + 1.0)
    warnings = [m.msg for m in logged if m.name == "world_model" and m.level >= Log.WARN]
    assert sum("must be told of its camera" in text for text in warnings) == 1
    assert not [text for text in warnings if "failed" in text]
    assert not frames
    assert "where its pictures' frame is" in node.input.latest_window().problem
    mount_camera(robot)
    robot.until(lambda: frames)
    assert "must be told" not in status(node)[1]


def test_diagnostics_tell_of_silence_strangeness_and_deaf_ends(robot, sensors, start, small_checkpoint, tmp_path, arm):
    model = WorldModel.load(small_checkpoint, device="cpu")
    model.novelty.content.limit.fill_(0.0)  # knows nothing, so that everything is new to it
    model.save(tmp_path / "strange")
    heard = robot.hear(DiagnosticArray, "/diagnostics")
    beats = robot.hear(Header, "world_model/heartbeat")
    node = start(checkpoint=str(tmp_path / "strange"))
    robot.until(lambda: any("out of distribution" in m.status[0].message for m in heard))
    unusual = next(m.status[0] for m in heard if "out of distribution" in m.status[0].message)
    assert (unusual.level, unusual.name) == (DiagnosticStatus.WARN, "world_model")
    assert float(next(v.value for v in unusual.values if v.key == "ood_score")) > 1.0
    began, count = time.monotonic(), len(beats)
    robot.until(lambda: len(beats) >= count + 10)
    assert time.monotonic() - began > 0.7
    wish = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    robot.peer.create_publisher(ActionPlan, "command", wish)
    robot.until(lambda: "topic 'command': a publisher offers an incompatible RELIABILITY" in status(node)[1])
    robot.peer.destroy_timer(sensors.timer)
    robot.until(
        lambda: "stale_timeout is 0.5 s: /peer publishes '/camera/image_raw', but nothing has come" in status(node)[1]
    )
