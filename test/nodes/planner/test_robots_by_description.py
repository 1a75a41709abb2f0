"""A robot is a description: two that the package knows nothing of are planned for, moved and held.

The models are untrained, so nothing is said about what they imagine. The robots are driven by what is sent to them.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import Point, PointStamped, Twist, Vector3
from nav_msgs.msg import Odometry
from planner_world import QUICK
from rclpy.action import ActionClient
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory
from untrained import IN_REACH, untrained_checkpoint

from deepverse_ros.action import PlanToGoal
from deepverse_ros.geometry import Intrinsics
from deepverse_ros.msg import ActionPlan, PlanVerdict
from deepverse_ros.nodes.messages.camera import info_from_intrinsics
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.messages.pose import transform_from_matrix
from deepverse_ros.nodes.messages.time import stamp_from_seconds
from deepverse_ros.nodes.planner.node import PlannerNode
from deepverse_ros.nodes.prefilter.node import PrefilterNode
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.world_model.node import WorldModelNode

WIDTH = 64
INTRINSICS = Intrinsics.from_matrix(np.array([[50.0, 0, 32], [0, 50.0, 32], [0, 0, 1]]), WIDTH, WIDTH)
CAMERA = np.array([[0, 0, 1, 0.0], [-1, 0, 0, 0], [0, -1, 0, 0.5], [0, 0, 0, 1]])
PERIOD = 0.05
ROVER = {
    "name": "rover", "description": "two wheels, driven by twists, seen through its own camera", "dt": 0.2,
    "base_frame": "odom", "tool_frame": "base_link", "home": [0.0, 0.0],
    "modalities": [
        {"name": "linear_x", "units": "m/s", "lower": [-0.5], "upper": [0.5], "max_rate": [2.0]},
        {"name": "angular_z", "units": "rad/s", "lower": [-1.0], "upper": [1.0], "max_rate": [4.0]},
    ],
    "camera": {"frame_id": "camera_optical_frame", "near": 0.3, "far": 10.0, "fixed": False},
}  # fmt: skip
LEG = {
    "name": "leg", "description": "three joints and no gripper", "dt": 0.2,
    "base_frame": "hip", "tool_frame": "foot", "home": [0.0, 0.3, -0.5],
    "modalities": [
        {"name": "angles", "units": "rad", "lower": [-1.0, -1.5, -2.0], "upper": [1.0, 1.5, 0.0],
         "max_rate": [2.0, 2.0, 2.0], "joints": ["yaw", "lift", "knee"]},
    ],
    "camera": {"frame_id": "camera_optical_frame", "near": 0.3, "far": 10.0, "fixed": True},
}  # fmt: skip


class Driven(ABC):
    """A robot that does what it is told, and shows itself to a planner.

    heard: commands with the time of their coming (time.monotonic()).
    """

    def __init__(self, robot: Any, folder: Path, description: dict[str, Any], kind: type, **parameters: Any) -> None:
        self.robot = robot
        peer = robot.peer
        file = folder / "robot.yaml"
        file.write_text(yaml.safe_dump(description))
        checkpoint = untrained_checkpoint(folder / "model", file)
        self.base = description["base_frame"]
        self.heard: list[tuple[float, Any]] = []
        peer.create_subscription(kind, "to_the_robot", self._on_command, 50)
        sensors = qos.sensor_output()
        self._images = peer.create_publisher(Image, "camera/image_raw", sensors)
        self._depths = peer.create_publisher(Image, "camera/depth/image_raw", sensors)
        self._infos = peer.create_publisher(CameraInfo, "camera/camera_info", sensors)
        self._frames = peer.create_publisher(TFMessage, "/tf", 10)
        self._timer = peer.create_timer(PERIOD, self._on_tick)
        self.verdicts = robot.hear(PlanVerdict, "planner/verdict", 50)
        self.plans = robot.hear(ActionPlan, "planner/plan", 50)
        self.goals = ActionClient(peer, PlanToGoal, "planner/plan_to_goal")
        command = "wanted" if "passed_command_topic" in parameters else "to_the_robot"
        self.file, self.checkpoint = file, checkpoint
        self.planner = robot.start(
            partial(PlannerNode, cli_args=["--ros-args", "-r", f"command:={command}"]),
            checkpoint=str(checkpoint), embodiment=str(file), device="cpu", **{**QUICK, **parameters},
        )  # fmt: skip
        robot.until(lambda: self.planner.input.images.total > 8 and self.planner.input.state.now() is not None)

    def _on_command(self, message: Any) -> None:
        self.heard.append((time.monotonic(), message))

    def _on_tick(self) -> None:
        now = time.time()
        header = Header(stamp=stamp_from_seconds(now), frame_id="camera_optical_frame")
        base = Header(stamp=header.stamp, frame_id=self.base)
        self._frames.publish(TFMessage(transforms=[transform_from_matrix(self.camera(), base, header.frame_id)]))
        self._infos.publish(info_from_intrinsics(INTRINSICS, header))
        self._depths.publish(image_from_depth(np.full((WIDTH, WIDTH), 2.0, np.float32), "32FC1", header))
        self._images.publish(image_from_array(np.full((WIDTH, WIDTH, 3), 120, np.uint8), "rgb8", header))
        self.move(base)

    def camera(self) -> np.ndarray:
        """(4, 4) from the camera to the base frame."""
        return CAMERA

    @abstractmethod
    def move(self, base: Header) -> None:
        """One period more; and tell where it is."""

    def pursue(self, meanwhile: Callable[[], bool] = lambda: False) -> Any:
        """The result of a goal within reach; canceled as soon as `meanwhile` is true."""
        self.robot.until(self.goals.server_is_ready)
        x, y, z = IN_REACH
        place = PointStamped(header=Header(frame_id=self.base), point=Point(x=x, y=y, z=z))
        sent = self.goals.send_goal_async(PlanToGoal.Goal(goal_position=place))
        self.robot.until(sent.done)
        result = sent.result().get_result_async()
        self.robot.until(lambda: result.done() or meanwhile())
        if not result.done():
            sent.result().cancel_goal_async()
            self.robot.until(result.done)
        return result.result().result

    def close(self) -> None:
        self.goals.destroy()  # rclpy leaves it, and it holds the node's handle


class Rover(Driven):
    """A unicycle whose speeds follow what it is told within a moment; where nothing comes it goes on."""

    def __init__(self, robot: Any, folder: Path, dt: float = ROVER["dt"], **parameters: Any) -> None:
        self.speed = np.zeros(2)
        self.place = np.zeros(3)  # x, y (m), heading (rad)
        self.silent = False
        self._odometry = robot.peer.create_publisher(Odometry, "odom", qos.sensor_output())
        super().__init__(robot, folder, {**ROVER, "dt": dt}, Twist, command_type="twist", **parameters)

    def camera(self) -> np.ndarray:
        x, y, heading = self.place
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]]
        turn[:2, 3] = x, y
        return turn @ CAMERA

    def move(self, base: Header) -> None:
        if self.heard:
            told = self.heard[-1][1]
            self.speed += 0.7 * (np.array([told.linear.x, told.angular.z]) - self.speed)
        x, y, heading = self.place
        v, w = self.speed
        self.place = np.array(
            [x + PERIOD * v * np.cos(heading), y + PERIOD * v * np.sin(heading), heading + PERIOD * w]
        )
        message = Odometry(header=base, child_frame_id="base_link")
        message.twist.twist = Twist(linear=Vector3(x=float(v)), angular=Vector3(z=float(w)))
        if not self.silent:
            self._odometry.publish(message)

    def twists(self) -> np.ndarray:
        """(N, 2) of all that it was told."""
        return np.array([(m.linear.x, m.angular.z) for _, m in self.heard]).reshape(-1, 2)


class Leg(Driven):
    """Follows trajectories as a controller does."""

    def __init__(self, robot: Any, folder: Path) -> None:
        self.angles = np.array(LEG["home"])
        self._states = robot.peer.create_publisher(JointState, "joint_states", qos.sensor_output())
        super().__init__(robot, folder, LEG, JointTrajectory)

    def move(self, base: Header) -> None:
        if self.heard:
            began, message = self.heard[-1]
            times = [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points]
            ahead = next((p for t, p in zip(times, message.points, strict=True) if t > time.monotonic() - began), None)
            target = np.array((ahead or message.points[-1]).positions)
            self.angles += np.clip(target - self.angles, -2.0 * PERIOD, 2.0 * PERIOD)
        self._states.publish(JointState(header=base, name=["yaw", "lift", "knee"], position=self.angles.tolist()))


@pytest.fixture
def rover(robot, tmp_path):
    rover = Rover(robot, tmp_path, state_timeout=0.5)
    yield rover
    rover.close()


def test_a_base_without_joints_is_driven_by_twists_and_rests_after_the_plan(rover):
    rover.pursue()
    accepted = [v for v in rover.verdicts if v.accepted]
    assert accepted, [v.text for v in rover.verdicts]
    plan = next(p for p in rover.plans if p.id == accepted[0].plan_id)
    wanted = np.array(plan.values).reshape(plan.horizon, 2)
    told = rover.twists()
    for step in wanted:
        assert (np.abs(told - step) <= 1e-6).all(1).any(), "each step of the plan was sent"
    assert (np.abs(told) <= np.array([0.5, 1.0]) + 1e-6).all()
    assert np.abs(rover.place).max() > 0.01, "it has moved"
    # A rate goes on until another one comes: the last thing that it is told is to rest.
    rover.robot.spin(0.8)
    np.testing.assert_array_equal(rover.twists()[-1], [0.0, 0.0])
    assert np.abs(rover.speed).max() < 1e-3
    gaps = np.diff([at for at, _ in rover.heard if at])
    assert np.median(gaps) < 0.1


def test_a_goal_that_is_canceled_brings_a_base_to_rest_at_once(rover):
    result = rover.pursue(meanwhile=lambda: len(rover.twists()) and np.abs(rover.twists()[-1]).max() > 0.01)
    assert result.code == PlanToGoal.Result.CANCELED, result.text
    canceled = time.monotonic()
    rover.robot.spin(0.6)
    late = [(m.linear.x, m.angular.z) for at, m in rover.heard if at > canceled]
    assert late
    assert not np.any(late), "nothing but rest after that"
    assert np.abs(rover.speed).max() < 1e-3


def test_a_base_whose_odometry_falls_silent_on_its_way_is_told_to_rest_again_and_again(rover):
    def moving() -> bool:
        if len(rover.twists()) and np.abs(rover.twists()[-1]).max() > 0.01:
            rover.silent = True
        return False

    result = rover.pursue(meanwhile=moving)
    assert rover.silent, "it has moved"
    assert result.code == PlanToGoal.Result.NO_OBSERVATION, result.text
    last = np.flatnonzero(np.any(rover.twists(), axis=1))[-1]
    assert len(rover.twists()) - last > 5, "one message could be lost"
    rover.robot.spin(0.5)
    assert np.abs(rover.speed).max() < 1e-3


def test_steps_that_are_shorter_than_the_set_points_are_apart_are_sent_all_the_same(robot, tmp_path):
    rover = Rover(robot, tmp_path, setpoint_rate=2.0, execute_steps=8)
    try:
        rover.pursue()
        accepted = next(v for v in rover.verdicts if v.accepted)
        plan = next(p for p in rover.plans if p.id == accepted.plan_id)
        for step in np.array(plan.values).reshape(plan.horizon, 2):
            assert (np.abs(rover.twists() - step) <= 1e-6).all(1).any()
    finally:
        rover.close()


def test_without_odometry_nothing_is_planned_and_a_base_rests(rover):
    rover.silent = True
    rover.robot.until(lambda: rover.planner.input.state.now() is None)
    assert "odom: it has been silent for" in rover.planner.input.state.problem()
    result = rover.pursue()
    assert result.code == PlanToGoal.Result.NO_OBSERVATION
    assert "odom" in result.text
    assert not any(v.accepted for v in rover.verdicts)
    assert not np.any(rover.twists())


def test_with_a_prefilter_between_a_base_does_what_passes(robot, tmp_path):
    # Steps that last longer than a judgement takes, on a slow machine too.
    rover = Rover(robot, tmp_path, dt=0.6, passed_command_topic="to_the_robot")
    zone = {"name": "far_away", "type": "stop", "frame_id": "odom", "min_points": 1,
            "shape": {"kind": "box", "size": [0.1, 0.1, 0.1]}, "position": [0.0, 500.0, 0.0]}  # fmt: skip
    (tmp_path / "zones.yaml").write_text(yaml.safe_dump({"zones": [zone]}))
    judge = robot.start(
        WorldModelNode, checkpoint=str(rover.checkpoint), embodiment=str(rover.file), device="cpu", torch_threads=1,
        zones=str(tmp_path / "zones.yaml"), watched_command_topic="wanted", passed_command_topic="to_the_robot",
        watched_command_type="twist", max_depth_scale=100.0, verdict_deadline=10.0, stale_timeout=5.0,
        verdict_valid_for=2.0,
    )  # fmt: skip
    remaps = ["-r", "~/command_in:=wanted", "-r", "~/command_out:=to_the_robot"]
    gate = robot.start(
        partial(PrefilterNode, cli_args=["--ros-args", *remaps]),
        embodiment=str(rover.file), command_type="twist", verdict_timeout=2.0, image_timeout=2.0, heartbeat_timeout=2.0,
    )  # fmt: skip
    try:
        robot.until(lambda: judge.input.images.total > 8)
        result = rover.pursue()
        assert any(v.accepted for v in rover.verdicts), result.text
        assert gate.gate.counts.passed > 3, gate.diagnostics.status()
        assert np.abs(rover.place).max() > 0.01, "it has moved"
        robot.spin(1.0)
        np.testing.assert_array_equal(rover.twists()[-1], [0.0, 0.0])
    finally:
        rover.close()


def test_three_joints_without_a_gripper_follow_a_trajectory(robot, tmp_path):
    leg = Leg(robot, tmp_path)
    try:
        leg.pursue()
        accepted = [v for v in leg.verdicts if v.accepted]
        assert accepted, [v.text for v in leg.verdicts]
        sent = [m for _, m in leg.heard]
        assert all(list(m.joint_names) == ["yaw", "lift", "knee"] for m in sent)
        plan = next(p for p in leg.plans if p.id == accepted[0].plan_id)
        points = np.array([p.positions for p in next(m for m in sent if len(m.points) > 1).points])
        np.testing.assert_allclose(points, np.array(plan.values).reshape(plan.horizon, 3), atol=1e-6)
        assert np.abs(leg.angles - LEG["home"]).max() > 0.01, "it has moved"
    finally:
        leg.close()
