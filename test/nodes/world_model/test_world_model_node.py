"""The world model behind its topics: futures at a rate, services, diagnostics.

The weights are untrained: what is tested is what the node does with a model, not what the model knows.
"""

import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Path
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import Image, PointCloud2
from sensors import NAMES, mount_camera, status
from std_msgs.msg import Header

from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import ActionPlan, PlanVerdict, PredictedFrames
from deepverse_ros.nodes.messages import predicted_frames
from deepverse_ros.nodes.messages.image import image_from_array
from deepverse_ros.nodes.messages.image_decoding import rgb_from_image
from deepverse_ros.nodes.messages.plan import plan_to_msg
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.srv import EvaluatePlan, Imagine


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
    node = start(goal_tolerance=2.0, max_uncertainty=2.0, max_goal_uncertainty=2.0, min_goal_agreement=0.0)
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
