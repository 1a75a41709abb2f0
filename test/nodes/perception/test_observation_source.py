"""What a node sees of the robot, whatever else it does."""

import threading
import time

import numpy as np
import pytest
import torch
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from deepverse_ros.errors import ShapeError
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.image import image_from_array
from deepverse_ros.nodes.messages.time import stamp_from_seconds
from deepverse_ros.nodes.perception import observation_source
from deepverse_ros.nodes.perception.observation_source import ObservationSource, ObservationWindow, read_goal
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.robot.embodiment import Embodiment

JOINTS = [f"joint_{i}" for i in range(1, 8)]


class Eyes(RobotNode):
    """Only looks."""

    def __init__(self, **kwargs) -> None:
        super().__init__("eyes", observation_source.PARAMETERS, **kwargs)

    def activate(self) -> None:
        self.input = ObservationSource(self, JointLayout(Embodiment.load("arm"), "gripper_joint", 0.0, 1.0), 8)
        self.input.start()

    def deactivate(self) -> None:
        self.input.stop()


def test_no_plan_is_judged_before_the_joints_and_a_whole_window_were_seen(robot) -> None:
    eyes = robot.start(Eyes)
    camera = robot.peer.create_publisher(Image, "camera/image_raw", qos.sensor_output())
    joints = robot.peer.create_publisher(JointState, "joint_states", qos.sensor_output())
    robot.until(lambda: camera.get_subscription_count() and joints.get_subscription_count())
    eyes.set_parameters([RosParameter("state_timeout", value=60.0)])  # what is seen here was a while ago
    begin, measured = time.time() - 10.0, [*JOINTS, "gripper_joint"]

    def sees(seconds: float, names: list[str]) -> str:
        stamp = stamp_from_seconds(begin + seconds)
        picture = image_from_array(np.zeros((48, 64, 3), np.uint8), "rgb8", Header(stamp=stamp))
        before = eyes.input.images.total
        joints.publish(JointState(header=Header(stamp=stamp), name=names, position=[0.5] * len(names)))
        robot.until(lambda: eyes.input.state.rate.total > before)
        camera.publish(picture)
        robot.until(lambda: eyes.input.images.total > before)
        return eyes.input.latest_window().problem

    window = 7 * Embodiment.load("arm").dt
    assert sees(0.0, measured) == "the camera has not been seen for as long as bounds rest on"
    assert sees(0.5 * window, measured) == "the camera has not been seen for as long as bounds rest on"
    assert sees(window, measured) == ""
    eyes.set_parameters([RosParameter("state_timeout", value=0.1)])
    time.sleep(0.1)
    assert "joint_1, joint_2, … and gripper_joint (8 joints)" in sees(window + 1.0, JOINTS)


def test_what_else_the_node_is_busy_with_keeps_neither_pictures_nor_joint_states_waiting(robot) -> None:
    eyes = robot.start(Eyes)
    busy, go = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        go.wait(30.0)

    eyes.create_timer(0.01, work)
    camera = robot.peer.create_publisher(Image, "camera/image_raw", qos.sensor_output())
    joints = robot.peer.create_publisher(JointState, "joint_states", qos.sensor_output())
    robot.until(lambda: busy.is_set() and camera.get_subscription_count() and joints.get_subscription_count())
    try:
        camera.publish(image_from_array(np.zeros((48, 64, 3), np.uint8), "rgb8"))
        joints.publish(JointState(name=JOINTS))
        robot.until(lambda: eyes.input.images.total and eyes.input.state.rate.total, timeout=10.0)
        assert not go.is_set()
    finally:
        go.set()


def test_a_goal_picture_is_of_the_camera_that_sees_now() -> None:
    torch.manual_seed(0)
    told = WorldModelConfig.small_test(Embodiment.load("arm")).model_copy(update={"posed": True})
    model = WorldModel(told).prepare(torch.device("cpu"), torch.float32)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, 3] = (0.3, -0.2, 1.1)
    matrix = np.array([[90.0, 0, 63.5], [0, 90.0, 47.5], [0, 0, 1]], np.float32)
    rgb = np.zeros((1, 96, 128, 3), np.uint8)
    window = ObservationWindow(
        Observation.from_numpy(rgb, None, matrix, np.stack([np.eye(4, dtype=np.float32), pose])[None]),
        np.zeros((1, 0, 8)), None, None, "", "", Header(), 0.0, 0.0, True,
    )  # fmt: skip
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    half, at = window.camera_of(picture)
    np.testing.assert_allclose(half, [[45, 0, 31.5], [0, 45, 23.5], [0, 0, 1]])
    np.testing.assert_allclose(at, pose)
    goal = read_goal(model, lambda: window, picture, None)
    np.testing.assert_allclose(goal.tool_position, model.encode_goal(picture, None, half, pose).tool_position)
    with pytest.raises(ShapeError, match="told where its camera stands"):
        read_goal(model, lambda: None, picture, None)


def test_a_model_whose_camera_never_moves_is_not_asked_what_is_seen() -> None:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(Embodiment.load("arm"))).prepare(torch.device("cpu"), torch.float32)

    def see() -> None:
        raise AssertionError("looked")

    picture = np.zeros((48, 64, 3), np.uint8)
    goal = read_goal(model, see, picture, None)
    np.testing.assert_allclose(goal.tool_position, model.encode_goal(picture).tool_position)
