"""The world model behind its topics: futures at a rate, services, diagnostics, and every kind of bad input.

The weights are untrained: what is tested is what the node does with a model, not what the model knows.
"""

import time

import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Path
from rcl_interfaces.msg import Log
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from deepverse_ros.geometry import Intrinsics
from deepverse_ros.model.config import ThingsConfig, WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import ActionPlan, PlanVerdict, PredictedFrames
from deepverse_ros.nodes.messages import predicted_frames
from deepverse_ros.nodes.messages.action_layout import joint_state
from deepverse_ros.nodes.messages.camera import info_from_intrinsics
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.messages.image_decoding import rgb_from_image
from deepverse_ros.nodes.messages.plan import plan_to_msg
from deepverse_ros.nodes.messages.pose import transform_from_matrix
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.perception import camera_input
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.world_model.node import WorldModelNode
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.srv import EvaluatePlan, Imagine

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


@pytest.fixture
def sensors(robot, arm):
    return Sensors(robot, arm)


@pytest.fixture
def start(robot, small_checkpoint):
    def start(**parameters):
        return robot.start(
            WorldModelNode,
            **{"checkpoint": str(small_checkpoint), "max_rate": 20.0, "torch_threads": 1, "service_timeout": 60.0}
            | parameters,
        )

    return start


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


def test_a_frame_in_is_eight_predicted_frames_out(robot, sensors, start, arm):
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    mount_camera(robot)
    node = start()
    robot.until(lambda: len(frames) > 5 and frames[-1].camera_poses)
    newest = frames[-1]
    assert (len(newest.rgb), len(newest.depth), len(newest.uncertainty)) == (8, 8, 8)
    assert (newest.rgb[0].width, newest.rgb[0].height) == (64, 64)
    assert (newest.base_frame, newest.dt, newest.plan_id) == ("base_link", arm.dt, "")
    assert newest.camera_poses[0].position.z == 2.0
    assert newest.header.frame_id == "camera_optical_frame"
    assert abs(stamp_seconds(newest.header.stamp) - time.time()) < 5.0
    stamps = [stamp_seconds(m.header.stamp) for m in frames]
    assert (np.diff(stamps) > 0).all()
    level, message, values = status(node)
    assert 1.0 < float(values["image_rate_hz"]) < 40.0
    assert float(values["latency_p50_ms"]) > 0
    assert int(values["skipped_images"]) > 0
    assert level in (DiagnosticStatus.OK, DiagnosticStatus.WARN), message


@pytest.mark.parametrize("capacity", [0, 2])
def test_it_remembers_as_many_frames_as_it_may(robot, sensors, start, capacity):
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    node = start(memory_frames=capacity)
    begun = time.monotonic()
    # A frame is remembered every dt: after this long there would be more.
    robot.until(lambda: frames and time.monotonic() - begun > 2.0)
    assert int(status(node)[2]["remembered_frames"]) == capacity
    node.trigger_deactivate()
    node.trigger_activate()
    assert int(status(node)[2]["remembered_frames"]) < max(capacity, 1)  # what was seen before it rested is no more


def test_the_newest_frame_is_used_and_the_rate_is_limited(robot, sensors, start):
    arrivals = []
    robot.peer.create_subscription(
        PredictedFrames,
        "world_model/predicted_frames",
        lambda m: arrivals.append((time.time(), time.time() - stamp_seconds(m.header.stamp), m.latency_ms)),
        qos.debug_output(),
    )
    start(max_rate=5.0)
    robot.until(lambda: len(arrivals) >= 3)
    arrivals.clear()
    robot.spin(3.0)
    assert len(arrivals) <= 16
    robot.until(lambda: len(arrivals) >= 3, timeout=30.0)
    # What is not inference: after these seconds, a queue of 30 frames a second would be behind by much more.
    waited = [age - latency / 1e3 for _, age, latency in arrivals]
    assert np.median(waited) < 0.5


def test_all_pictures_are_published_to_whoever_listens_and_nothing_is_made_for_nobody(robot, sensors, start):
    node = start()
    robot.until(lambda: node.input.images.total > 10)
    assert node.outputs.published.total == 0
    strip = robot.hear(Image, "world_model/predicted_image")
    depth = robot.hear(Image, "world_model/predicted_depth_image")
    cloud = robot.hear(PointCloud2, "world_model/predicted_cloud")
    path = robot.hear(Path, "world_model/predicted_path")
    robot.until(lambda: strip and depth and cloud and path)
    assert rgb_from_image(strip[-1]).shape == rgb_from_image(depth[-1]).shape == (70, 8 * 70, 3)
    assert tuple(rgb_from_image(strip[-1])[0, 0]) == predicted_frames.NEUTRAL
    assert cloud[-1].width == 64 * 64
    assert (cloud[-1].header.frame_id, path[-1].header.frame_id) == ("camera_optical_frame", "base_link")
    assert len(path[-1].poses) == 8


def test_who_listens_to_the_path_alone_has_no_picture_decoded(robot, sensors, start, monkeypatch):
    decoded = []
    decode = WorldModel.decode
    monkeypatch.setattr(WorldModel, "decode", lambda *args: decoded.append(1) or decode(*args))
    path = robot.hear(Path, "world_model/predicted_path")
    start(horizon=8)
    robot.until(lambda: path)
    decoded.clear()  # warming up decodes
    before = len(path)
    robot.until(lambda: len(path) > before + 2)
    assert not decoded
    strip = robot.hear(Image, "world_model/predicted_image")
    robot.until(lambda: strip)
    assert decoded


def plan_message(arm, plan_id="p1", joint_1=0.5, horizon=8):
    plan = np.tile(np.float32(arm.home), (horizon, 1))
    plan[:, 0] = np.linspace(0, joint_1, horizon + 1)[1:]
    return plan_to_msg(plan, arm, Header(frame_id="base_link"), plan_id)


def test_the_running_command_is_imagined_and_its_verdict_colours_the_border(robot, sensors, start, arm):
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    strip = robot.hear(Image, "world_model/predicted_image")
    command = robot.peer.create_publisher(ActionPlan, "command", qos.command())
    verdict = robot.peer.create_publisher(PlanVerdict, "verdict", qos.command())
    start()
    robot.until(lambda: frames and command.get_subscription_count() and verdict.get_subscription_count())
    command.publish(plan_message(arm, "p7"))
    robot.until(lambda: frames[-1].plan_id == "p7")
    verdict.publish(PlanVerdict(plan_id="p7", accepted=False))
    robot.until(lambda: tuple(rgb_from_image(strip[-1])[0, 0]) == predicted_frames.REJECTED)


def test_commands_change_what_is_imagined(robot, sensors, start, arm):
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    command = robot.peer.create_publisher(ActionPlan, "command", qos.command())
    node = start()
    robot.until(lambda: frames and command.get_subscription_count())
    stay, _ = node.command.plan(node.input.latest_window(), 8)
    np.testing.assert_allclose(stay, np.tile(np.float32(arm.home), (8, 1)), atol=1e-5)
    command.publish(plan_message(arm, joint_1=1.0))
    robot.until(lambda: node.command.plan(node.input.latest_window(), 8)[1] == "p1")
    window = node.input.latest_window()
    plan, _ = node.command.plan(window, 8)
    assert (np.diff(plan[:, 0]) >= -1e-6).all()
    assert plan[-1, 0] > 0.9
    robot.until(
        lambda: node.command.plan(node.input.latest_window(), 8)[0][0, 0] > 0.99
    )  # it ends, and its last target holds


def test_imagine_answers_with_a_future_and_names_what_is_wrong(robot, sensors, start, arm):
    node = start()
    robot.until(lambda: node.input.images.total > 3)
    good = robot.call(Imagine, "world_model/imagine", Imagine.Request(plan=plan_message(arm, horizon=5)))
    assert good.success, good.text
    assert (len(good.future.rgb), good.future.plan_id) == (5, "p1")
    wrong = plan_message(arm)
    wrong.modality_dims = [6, 1]
    bad = robot.call(Imagine, "world_model/imagine", Imagine.Request(plan=wrong))
    assert not bad.success
    assert "modality_dims is [6, 1]" in bad.text
    sensors.names = [f"other_{name}" for name in NAMES]
    robot.until(node.input.state.problem)
    blind = robot.call(Imagine, "world_model/imagine", Imagine.Request(plan=plan_message(arm)))
    assert not blind.success
    assert "and gripper_joint (8 joints) have been silent for" in blind.text
    robot.peer.destroy_timer(sensors.timer)
    robot.spin(0.7)
    stale = robot.call(Imagine, "world_model/imagine", Imagine.Request(plan=plan_message(arm)))
    assert not stale.success
    assert "stale_timeout is 0.5 s" in stale.text
    node.trigger_deactivate()
    inactive = robot.call(Imagine, "world_model/imagine", Imagine.Request(plan=plan_message(arm)))
    assert "activate the node first" in inactive.text


def test_evaluate_plan_judges_by_the_imagined_outcome(robot, sensors, start, arm):
    node = start(goal_tolerance=2.0, max_uncertainty=2.0, max_goal_uncertainty=2.0)
    robot.until(lambda: node.input.images.total and not node.input.latest_window().problem)
    goal = image_from_array(np.full((30, 50, 3), 90, np.uint8), "bgr8")
    request = EvaluatePlan.Request(plan=plan_message(arm), goal_image=goal)
    judged = robot.call(EvaluatePlan, "world_model/evaluate_plan", request)
    assert judged.success, judged.text
    assert (judged.verdict.accepted, judged.verdict.reason) == (True, PlanVerdict.ACCEPTED)
    assert (judged.verdict.plan_id, len(judged.outcome.rgb)) == ("p1", 8)
    assert judged.verdict.level == pytest.approx(0.9)
    assert judged.verdict.latency_ms > 0
    node.set_parameters([RosParameter("goal_tolerance", value=0.001)])
    missed = robot.call(EvaluatePlan, "world_model/evaluate_plan", request).verdict
    assert (missed.accepted, missed.reason, missed.first_offending_step) == (False, PlanVerdict.MISSES_GOAL, 7)
    assert missed.value > missed.threshold
    node.set_parameters([RosParameter("min_clearance", value=0.0)])  # a bound that nobody has measured
    near = robot.call(EvaluatePlan, "world_model/evaluate_plan", request).verdict
    assert (near.accepted, near.reason, near.first_offending_step) == (False, PlanVerdict.COLLISION_ZONE, 0)
    request.plan = plan_message(arm, joint_1=float("nan"))
    invalid = robot.call(EvaluatePlan, "world_model/evaluate_plan", request).verdict
    assert (invalid.reason, invalid.accepted) == (PlanVerdict.INVALID_PLAN, False)
    assert "joint_positions[0] is nan" in invalid.text
    request = EvaluatePlan.Request(plan=plan_message(arm), goal_image=Image(encoding="rgb8"))
    empty = robot.call(EvaluatePlan, "world_model/evaluate_plan", request)
    assert not empty.success
    assert "size is 0x0" in empty.text
    sensors.names = NAMES[:7]
    robot.until(node.input.state.problem)
    request = EvaluatePlan.Request(plan=plan_message(arm), goal_image=goal)
    blind = robot.call(EvaluatePlan, "world_model/evaluate_plan", request).verdict
    assert blind.reason == PlanVerdict.STALE_INPUT
    robot.peer.destroy_timer(sensors.timer)
    robot.spin(0.7)
    stale = robot.call(
        EvaluatePlan, "world_model/evaluate_plan", EvaluatePlan.Request(plan=plan_message(arm), goal_image=goal)
    )
    assert stale.verdict.reason == PlanVerdict.STALE_INPUT


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
    config = WorldModelConfig.small_test(Embodiment.load("arm_near"))
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


def test_a_model_that_must_be_told_its_camera_waits_for_that_and_says_so_once(robot, sensors, start, tmp_path):
    model = WorldModel(WorldModelConfig.small_test(Embodiment.load("arm")).model_copy(update={"posed": True}))
    model.novelty.trust_all()
    model.save(tmp_path / "posed")
    logged = robot.hear(Log, "/rosout")
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    node = start(checkpoint=str(tmp_path / "posed"))
    robot.until(lambda: "nobody says where its pictures' frame is in 'base_link' (tf)" in status(node)[1])
    robot.spin(1.0)
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


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"checkpoint": "/nowhere"}, "/nowhere"),
        ({"embodiment": "submarine"}, "submarine"),
        ({"device": "cuda"}, "torch"),
    ],
)
def test_configure_fails_with_a_sentence_and_can_be_repeated(robot, start, small_checkpoint, capfd, parameters, said):
    node = start(active=False, **parameters)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert said in capfd.readouterr().err
    good = {"checkpoint": str(small_checkpoint), "embodiment": "arm", "device": "cpu"}
    node.set_parameters([RosParameter(name, value=value) for name, value in good.items()])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS


def test_it_can_be_stopped_and_started_again_in_every_order(robot, sensors, start):
    frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
    node = start()
    for _ in range(2):
        count = len(frames)
        robot.until(lambda count=count: len(frames) > count + 2)
        assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        robot.spin(0.5)  # what was already on its way arrives
        count = len(frames)
        robot.spin(0.5)
        assert len(frames) == count
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
