"""The simulated arm behind its topics: what it publishes, how it follows commands, and how it refuses bad ones."""

import numpy as np
import pytest
import yaml
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray, PoseStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float32, Float64MultiArray
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.nodes.messages.depth_decoding import depth_from_image
from deepverse_ros.nodes.messages.image_decoding import rgb_from_image
from deepverse_ros.nodes.messages.time import duration, stamp_seconds
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.parameters import ParameterError
from deepverse_ros.nodes.simulation.node import SimNode


def position(message: JointState) -> np.ndarray:
    return np.array(message.position)


def test_everything_that_a_camera_and_an_arm_publish(robot, arm):
    heard = {
        topic: robot.hear(kind, topic, profile)
        for kind, topic, profile in (
            (Image, "camera/image_raw", qos.sensor_input()),
            (Image, "camera/depth/image_raw", qos.sensor_input()),
            (Image, "camera/depth/image_metric", qos.sensor_input()),
            (CameraInfo, "camera/camera_info", qos.sensor_input()),
            (JointState, "joint_states", qos.sensor_input()),
            (TFMessage, "/tf_static", qos.latched()),
            (TFMessage, "/tf", 10),
            (PoseStamped, "sim/ground_truth/tool_pose", 10),
            (PoseArray, "sim/ground_truth/objects", 10),
            (Float32, "sim/ground_truth/clearance", 10),
            (DiagnosticArray, "/diagnostics", 10),
        )
    }
    robot.start(SimNode, width=96, height=64, rate=30.0, randomise=False, objects=2)
    robot.until(lambda: all(heard.values()) and len(heard["joint_states"]) > 30)
    picture, depth = heard["camera/image_raw"][-1], heard["camera/depth/image_raw"][-1]
    assert (picture.width, picture.height, picture.encoding) == (96, 64, "rgb8")
    assert picture.header.frame_id == arm.camera.frame_id
    assert rgb_from_image(picture).std() > 10
    assert depth.encoding == "16UC1"
    in_millimetres = {stamp_seconds(m.header.stamp): m for m in heard["camera/depth/image_raw"]}
    both = [m for m in heard["camera/depth/image_metric"] if stamp_seconds(m.header.stamp) in in_millimetres]
    metric = both[-1]
    same = in_millimetres[stamp_seconds(metric.header.stamp)]
    np.testing.assert_allclose(depth_from_image(metric), depth_from_image(same), atol=6e-4)
    seen = depth_from_image(metric)
    assert arm.camera.near < np.nanmin(seen)
    assert np.nanmedian(seen) < arm.camera.far
    assert heard["camera/camera_info"][-1].k[2] == pytest.approx(47.5)
    joints = heard["joint_states"][-1]
    assert list(joints.name) == [*arm.joint_names, "gripper_joint"]
    np.testing.assert_allclose(position(joints), arm.home, atol=0.05)
    assert heard["/tf_static"][-1].transforms[0].child_frame_id == arm.camera.frame_id
    tool = heard["sim/ground_truth/tool_pose"][-1].pose.position
    moving = heard["/tf"][-1].transforms[0]
    assert moving.child_frame_id == arm.tool_frame
    assert moving.transform.translation.x == pytest.approx(tool.x, abs=1e-3)
    assert len(heard["sim/ground_truth/objects"][-1].poses) == 2
    assert heard["sim/ground_truth/clearance"][-1].data > 0
    stamps = [stamp_seconds(m.header.stamp) for m in heard["joint_states"]]
    assert np.median(np.diff(stamps)) > 0.7 / 30  # slower is up to the machine, and said in /diagnostics


def test_nothing_is_rendered_for_nobody(robot):
    node = robot.start(SimNode, rate=30.0)
    robot.hear(JointState, "joint_states", qos.sensor_input())
    robot.until(lambda: len(robot.heard["joint_states"]) > 5)
    assert node._frames.total == 0


def reach(arm, seconds: float, **changes: float) -> JointTrajectory:
    names = [*arm.joint_names, "gripper_joint"]
    target = dict(zip(names, arm.home, strict=True)) | changes
    point = JointTrajectoryPoint(positions=[float(v) for v in target.values()], time_from_start=duration(seconds))
    return JointTrajectory(joint_names=list(target), points=[point])


def test_it_follows_a_trajectory_and_holds_at_its_end(robot, arm):
    heard = robot.hear(JointState, "joint_states", qos.sensor_input())
    send = robot.peer.create_publisher(JointTrajectory, "joint_trajectory", qos.command())
    robot.start(SimNode, rate=30.0, randomise=False, objects=0, obstacles=0)
    robot.until(lambda: heard and send.get_subscription_count())
    send.publish(reach(arm, 0.8, joint_1=0.4, gripper_joint=0.2))
    robot.until(lambda: abs(position(heard[-1])[0] - 0.4) < 0.01 and abs(position(heard[-1])[7] - 0.2) < 0.05)
    arrived = position(heard[-1])
    robot.spin(0.5)
    np.testing.assert_allclose(position(heard[-1]), arrived, atol=0.02)


def test_a_velocity_moves_it_until_the_watchdog_ends_it(robot):
    heard = robot.hear(JointState, "joint_states", qos.sensor_input())
    send = robot.peer.create_publisher(Float64MultiArray, "velocity_command", qos.command())
    node = robot.start(SimNode, rate=30.0, randomise=False, objects=0, obstacles=0)
    robot.until(lambda: heard and send.get_subscription_count())
    send.publish(Float64MultiArray(data=[0.5] + [0.0] * 6))
    robot.until(lambda: abs(position(heard[-1])[0]) > 0.02)
    ticks = node._ticks.total
    robot.until(lambda: node._ticks.total > ticks + 30)  # a second of the robot's time
    stopped = position(heard[-1])[0]
    assert stopped == pytest.approx(0.25, abs=0.06)
    robot.until(lambda: node._ticks.total > ticks + 40)
    assert position(heard[-1])[0] == pytest.approx(stopped, abs=0.005)


def test_a_topic_of_commands_without_a_name_is_left_out(robot):
    node = robot.start(SimNode, rate=30.0, randomise=False, objects=0, obstacles=0, velocity_topic="")
    assert robot.peer.count_subscribers("velocity_command") == 0
    assert [s.topic_name for s in node.subscriptions if s.msg_type is JointTrajectory] == ["/joint_trajectory"]
    assert not [s for s in node.subscriptions if s.msg_type is Float64MultiArray]


def test_bad_commands_are_named_and_the_robot_holds(robot, arm):
    heard = robot.hear(JointState, "joint_states", qos.sensor_input())
    path = robot.peer.create_publisher(JointTrajectory, "joint_trajectory", qos.command())
    speed = robot.peer.create_publisher(Float64MultiArray, "velocity_command", qos.command())
    node = robot.start(SimNode, rate=30.0, randomise=False, objects=0, obstacles=0)
    robot.until(lambda: heard and path.get_subscription_count() and speed.get_subscription_count())
    old = reach(arm, 0.5, joint_1=0.3)
    old.header.stamp.sec = 1
    far = reach(arm, 0.5, joint_1=0.3)
    far.header.stamp = Time(sec=int(node.now()) + 60)
    for publisher, message, said in (
        (path, reach(arm, 1.0, joint_1=9.0), "joint_positions[0] is 9 rad"),
        (path, reach(arm, 1.0, joint_2=float("nan")), "joint_positions[1] is nan"),
        (path, JointTrajectory(joint_names=["elbow"], points=[JointTrajectoryPoint()]), "unknown joint 'elbow'"),
        (path, old, "s before it arrived"),
        (path, far, "s in the future"),
        (speed, Float64MultiArray(data=[1.0, 2.0]), "velocity data has 2 values"),
        (speed, Float64MultiArray(data=[float("nan")] * 7), "velocity data[0] is nan"),
    ):
        path.publish(reach(arm, 5.0, joint_1=1.0))
        robot.until(lambda: abs(position(heard[-1])[0]) > 0.02)
        publisher.publish(message)
        robot.until(lambda said=said: said in last_warning(node))
        assert "the robot holds" in last_warning(node)
        robot.spin(0.3)
        held = position(heard[-1])[0]
        robot.spin(0.2)
        assert position(heard[-1])[0] == pytest.approx(held, abs=0.005)
        path.publish(reach(arm, 0.3))
        robot.until(lambda: abs(position(heard[-1])[0]) < 0.01)


def last_warning(node) -> str:
    return next((v.value for v in node.diagnostics.status().values if v.key == "last_warning"), "")


def test_a_reset_puts_it_back_with_the_seed_that_was_set(robot, arm):
    heard = robot.hear(JointState, "joint_states", qos.sensor_input())
    truth = robot.hear(PoseArray, "sim/ground_truth/objects")
    node = robot.start(SimNode, rate=30.0, seed=1)
    robot.until(lambda: heard and truth)
    first = truth[-1].poses[0].position.x
    assert node.set_parameters([RosParameter("seed", value=2)])[0].successful
    response = robot.call(Trigger, "sim/reset", Trigger.Request())
    assert (response.success, response.message) == (True, "reset to seed 2")
    robot.until(lambda: abs(truth[-1].poses[0].position.x - first) > 1e-3)
    stamps = [stamp_seconds(m.header.stamp) for m in heard]
    assert (np.diff(stamps) > 0).all()


def test_its_clock_runs_faster_than_time_when_told_so(robot):
    clock = robot.hear(Clock, "/clock")
    pictures = robot.hear(Image, "camera/image_raw", qos.sensor_input())
    node = robot.start(SimNode, rate=20.0, publish_clock=True, real_time_factor=3.0)
    robot.until(lambda: node._ticks.total > 45 and pictures)
    before = stamp_seconds(clock[-1].clock)
    robot.spin(1.0)
    factor = stamp_seconds(clock[-1].clock) - before
    assert factor < 3.6
    assert factor > 2.0 or "too slow for real time" in node.diagnostics.status().message
    ticks = np.diff([stamp_seconds(m.clock) for m in clock])
    assert (ticks > 0).all(), "also where a second is full"
    assert np.median(ticks) == pytest.approx(0.02, abs=0.006), "not only with every image"
    stamps = [stamp_seconds(m.header.stamp) for m in pictures]
    assert np.median(np.diff(stamps)) == pytest.approx(0.05, abs=0.01)


def test_it_stops_when_deactivated_and_goes_on_when_activated(robot):
    heard = robot.hear(JointState, "joint_states", qos.sensor_input())
    node = robot.start(SimNode, rate=30.0)
    robot.until(lambda: len(heard) > 3)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    robot.spin(0.3)
    count = len(heard)
    robot.spin(0.3)
    assert len(heard) == count
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    robot.until(lambda: len(heard) > count)
    node.trigger_deactivate()
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS


def test_wrong_parameters_are_refused_with_name_and_value(robot):
    with pytest.raises(ParameterError, match="'rate'"):
        SimNode(parameter_overrides=[RosParameter("rate", value=99.0)])
    with pytest.raises(ParameterError, match="'width'"):
        SimNode(parameter_overrides=[RosParameter("width", value="wide")])
    node = robot.start(SimNode, active=False, real_time_factor=2.0)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    node.set_parameters([RosParameter("publish_clock", value=True)])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    refused: SetParametersResult = node.set_parameters([RosParameter("width", value=64)])[0]
    assert not refused.successful
    assert "'width' is applied by configure" in refused.reason
    assert node.describe_parameter("rate").floating_point_range[0].to_value == 30.0


def test_a_robot_is_named_by_its_embodiment(robot, arm, tmp_path, capfd):
    node = robot.start(SimNode, active=False, embodiment="drone")
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "embodiment 'drone': nothing simulates it; simulated: arm" in capfd.readouterr().err
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(arm.model_dump(mode="json") | {"base_frame": "plinth"}))
    heard = robot.hear(JointState, "joint_states", qos.sensor_input())
    node.set_parameters([RosParameter("embodiment", value=str(own))])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    robot.until(lambda: heard)
    assert heard[-1].header.frame_id == "plinth"
