"""A recording through topics and simulated time. The real ones are read from $DEEPVERSE_REAL_DATA."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from droid_recording import write_recording
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from deepverse_ros.data.importers.droid import data_directory
from deepverse_ros.msg import PredictedFrames
from deepverse_ros.nodes.messages.image_decoding import rgb_from_image
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.replay.node import ReplayNode
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.world_model.node import WorldModelNode

REAL = data_directory() / "droid" / "annotation" / "val" / "899.json"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames, each of another grey, with joint 1 at a tenth of the state's number."""
    frames = np.stack([np.full((48, 64, 3), 40 * index, np.uint8) for index in range(6)])
    joints = [[0.1 * s] + [0.0] * 6 for s in range(17)]
    return write_recording(tmp_path_factory.mktemp("droid"), "1", frames, joints, [0.25] * 17)


def test_frames_and_joints_come_at_their_recorded_times(robot, recording):
    pictures = robot.hear(Image, "camera/image_raw", qos.sensor_input())
    joints = robot.hear(JointState, "joint_states", qos.sensor_input())
    clock = robot.hear(Clock, "/clock")
    node = robot.start(ReplayNode, active=False, recording=str(recording))
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    robot.until(lambda: node._image.get_subscription_count() and node._joints.get_subscription_count())
    node.trigger_activate()
    robot.until(lambda: node._finished)
    robot.spin(0.3)
    stamps = [stamp_seconds(m.header.stamp) for m in pictures]
    np.testing.assert_allclose(np.diff(stamps), 0.2 * np.round(np.diff(stamps) / 0.2), atol=1e-6)
    assert len(pictures) >= 4
    for message, stamp in zip(pictures, stamps, strict=True):
        frame = round((stamp - 1.0) / 0.2)
        assert rgb_from_image(message).mean() == pytest.approx(40 * frame, abs=4)
    for message in joints:
        state = round((stamp_seconds(message.header.stamp) - 1.0) * 15)
        assert message.position[0] == pytest.approx(0.1 * state, abs=1e-5)
        assert message.position[7] == pytest.approx(0.75)
    robot.until(lambda: stamp_seconds(clock[-1].clock) == pytest.approx(1.0 + 16 / 15, abs=0.01))
    assert (np.diff([stamp_seconds(m.clock) for m in clock]) > 0).all()
    assert node.diagnostics.status().message == "end of the recording"


def test_a_loop_goes_on_in_time(robot, recording):
    pictures = robot.hear(Image, "camera/image_raw", qos.sensor_input())
    robot.start(ReplayNode, recording=str(recording), rate=8.0, loop=True)
    robot.until(lambda: pictures and stamp_seconds(pictures[-1].header.stamp) > 5.0)
    assert (np.diff([stamp_seconds(m.header.stamp) for m in pictures]) > 0).all()


@pytest.mark.parametrize(("given", "said"), [("", "'recording' is empty"), ("val/nothing", "recording 'val/nothing'")])
def test_a_missing_recording_is_named(robot, capfd, given, said):
    node = robot.start(ReplayNode, active=False, recording=given)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert said in capfd.readouterr().err


def test_the_recorded_joints_are_those_of_the_embodiment(robot, arm, recording, tmp_path, capfd):
    node = robot.start(ReplayNode, active=False, recording=str(recording), embodiment="vehicle")
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "'embodiment' is 'vehicle', which has 0 joints; the recording has 7" in capfd.readouterr().err
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(arm.model_dump(mode="json") | {"name": "franka", "base_frame": "panda_link0"}))
    joints = robot.hear(JointState, "joint_states", qos.sensor_input())
    node.set_parameters([RosParameter("embodiment", value=str(own))])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    robot.until(lambda: joints)
    assert joints[-1].header.frame_id == "panda_link0"


@pytest.mark.parametrize("source", ["made", *(["real"] if REAL.is_file() else [])])
def test_of_a_recording_that_tells_no_camera_the_shipped_model_imagines_nothing_and_says_why(robot, recording, source):
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    model = robot.start(WorldModelNode, checkpoint="models/arm", depth_topic="", use_sim_time=True)
    path = REAL if source == "real" else recording
    robot.start(ReplayNode, recording=str(path), loop=True)
    robot.until(lambda: "the model must be told of its camera" in model.diagnostics.status().message)
    assert model.diagnostics.status().level == DiagnosticStatus.WARN
    robot.until(lambda: model.input.images.total > 10)
    if source == "real":
        assert model.input.latest_window().observation.rgb.shape[-2:] == (192, 320)
    assert not frames
    assert model.worker.alive
