"""The world model's verdicts on commands over ROS, with the shipped model and pictures of the simulated arm."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from plan_trajectories import trajectory_from_plan
from rcl_interfaces.msg import Log
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, Header
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.evaluation.prefilter.scenarios import Scenario, draw, look, obstacle_zones
from deepverse_ros.geometry import Intrinsics
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import CommandVerdict, PredictedFrames
from deepverse_ros.nodes.messages.action_layout import JointLayout, joint_state
from deepverse_ros.nodes.messages.camera import info_from_intrinsics
from deepverse_ros.nodes.messages.command_verdict import command_verdict_from_msg
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.messages.pose import transform_from_matrix
from deepverse_ros.nodes.messages.time import duration, stamp_from_seconds, stamp_seconds
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.world_model.node import WorldModelNode
from deepverse_ros.planning.robot_control import RobotControl
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.commands import Layout
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.verdict import Verdict
from deepverse_ros.safety.zones import Zones
from deepverse_ros.simulation.arm.simulation import ArmSimulation

ARM = Embodiment.load("arm")
NAMES = Layout.of(ARM).names
JOINTS = [*ARM.joint_names, "gripper_joint"]
TOUCHING, HARMLESS = 4, 3  # numbers of the scenarios of seed 5
SLOWED = 4


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def simulation() -> Iterator[ArmSimulation]:
    with ArmSimulation(width=128, height=128, embodiment=ARM, n_objects=3, n_obstacles=1) as simulation:
        yield simulation


class Standing:
    """A camera and joints that show one scene of the simulation again and again, with the time of now."""

    def __init__(self, robot, simulation: ArmSimulation, number: int) -> None:
        self.robot, peer, camera = robot, robot.peer, qos.sensor_output()
        self.scenario: Scenario = draw(simulation, 5, number, 8)
        look(simulation, RobotControl(WorldModel.load("models/arm", device="cpu")), self.scenario)
        self.rgb, self.depth = simulation.render()
        self.names = JOINTS
        self.joints, self.zones = simulation.joints, obstacle_zones(simulation, ARM)
        self.intrinsics = Intrinsics.from_matrix(simulation.intrinsics, 128, 128)
        self.outputs = [
            peer.create_publisher(kind, topic, camera)
            for kind, topic in (
                (JointState, "joint_states"),
                (CameraInfo, "camera/camera_info"),
                (Image, "camera/depth/image_raw"),
                (Image, "camera/image_raw"),
            )
        ]
        self.static = peer.create_publisher(TFMessage, "/tf_static", qos.latched())
        frame = transform_from_matrix(simulation.camera_to_world, Header(frame_id="base_link"), "camera_optical_frame")
        self.static.publish(TFMessage(transforms=[frame]))
        self.command = peer.create_publisher(JointTrajectory, "prefilter/command_in", qos.command())
        self.passed = peer.create_publisher(JointTrajectory, "prefilter/command_out", qos.command())
        self.heard = robot.hear(CommandVerdict, "world_model/command_verdict", qos.command())
        self.timer = peer.create_timer(0.1, self.publish)

    def publish(self) -> None:
        header = Header(stamp=stamp_from_seconds(time.time()), frame_id="camera_optical_frame")
        for output, message in zip(
            self.outputs,
            (
                joint_state(self.names, self.joints, header),
                info_from_intrinsics(self.intrinsics, header),
                image_from_depth(self.depth, "32FC1", header),
                image_from_array(self.rgb, "rgb8", header),
            ),
            strict=True,
        ):
            output.publish(message)

    def start(self, folder: Path, **parameters) -> WorldModelNode:
        file = folder / "zones.yaml"
        file.write_text(yaml.safe_dump(self.zones.model_dump(mode="json", by_alias=True, exclude_none=True)))
        node = self.robot.start(
            WorldModelNode,
            **{"checkpoint": "models/arm", "device": "cpu", "torch_threads": 1, "zones": str(file),
               "verdict_deadline": 10.0, "stale_timeout": 5.0, "state_timeout": 5.0} | parameters,
        )  # fmt: skip
        self.robot.until(lambda: node.input.images.total > 4 and node.input.to_base("camera_optical_frame") is not None)
        return node

    def start_with_rates(self, folder: Path) -> tuple[WorldModelNode, Publisher]:
        """It judges velocities, and what publishes them."""
        rates = self.robot.peer.create_publisher(Float64MultiArray, "velocities", qos.command())
        node = self.start(
            folder, watched_command_topic="velocities", watched_command_type="float64_multi_array",
            watched_command_values="rates", passed_command_topic="",
            half_width=["joint_positions=0.02", "gripper_state=0.1"],
        )  # fmt: skip
        self.robot.until(rates.get_subscription_count)
        return node, rates

    def trajectory(self) -> JointTrajectory:
        return trajectory_from_plan(self.scenario.commands, JointLayout(ARM), Header())

    def verdict(self, number: int = 0) -> tuple[Verdict, CommandVerdict]:
        """The verdict after so many others."""
        self.robot.until(lambda: len(self.heard) > number)
        message = self.heard[number]
        return command_verdict_from_msg(message, NAMES, "base_link"), message


def test_a_command_that_touches_is_stopped_and_the_model_is_alive(robot, simulation, tmp_path):
    standing = Standing(robot, simulation, TOUCHING)
    node = standing.start(tmp_path)
    robot.until(standing.command.get_subscription_count)
    beats = robot.hear(Header, "world_model/heartbeat")
    robot.until(lambda: beats)
    assert not standing.heard  # there is nothing to judge
    before = time.time()
    standing.command.publish(standing.trajectory())
    verdict, message = standing.verdict()
    assert verdict.finding.action == Action.STOP
    assert verdict.finding.zone == "obstacle_0"
    assert 0 <= verdict.finding.step * ARM.dt <= standing.scenario.touches
    assert before - 1.0 < verdict.image_stamp < verdict.stamp < time.time()
    assert 0 < message.latency_ms < 1e3 * (time.time() - before)
    assert verdict.envelope.times[-1] == pytest.approx(1.6)
    # As long as it waits, each new image judges it anew.
    again, _ = standing.verdict(2)
    assert again.image_stamp > verdict.image_stamp
    assert again.finding.action == Action.STOP
    values = {v.key: v.value for v in node.diagnostics.status().values}
    assert int(values["command_stopped"]) >= 3
    assert float(values["command_verdict_p50_ms"]) > 0


def test_a_harmless_command_is_clear_also_while_it_runs_and_until_it_is_done(robot, simulation, tmp_path):
    standing = Standing(robot, simulation, HARMLESS)
    standing.start(tmp_path)
    robot.until(standing.command.get_subscription_count)
    standing.command.publish(standing.trajectory())
    verdict, _ = standing.verdict()
    assert verdict.finding.action == Action.CLEAR, verdict.finding
    plan = np.concatenate([standing.joints[None], standing.scenario.commands])
    np.testing.assert_allclose(verdict.envelope.center, plan, atol=1e-3)
    # A hold does not begin it; what passes does. What waits is forgotten after two seconds, within which a slow machine
    # judges no picture of later: it is commanded anew.
    hold = trajectory_from_plan(standing.joints[None], JointLayout(ARM), Header())
    begun = time.time()

    def held() -> Verdict | None:
        for publisher, message in ((standing.command, standing.trajectory()), (standing.passed, hold)):
            publisher.publish(message)
            robot.spin(0.5)
        newest, _ = standing.verdict(len(standing.heard) - 1)
        return newest if newest.image_stamp > begun + 0.5 else None

    verdict = robot.until(held)
    np.testing.assert_allclose(verdict.envelope.center[0], plan[0], atol=1e-3)
    standing.command.publish(standing.trajectory())
    robot.spin(0.2)
    # Slowed down as it passes: it shall still run when a slow machine judges the next picture.
    passed = standing.trajectory()
    for point in passed.points:
        point.time_from_start = duration(SLOWED * stamp_seconds(point.time_from_start))
    standing.passed.publish(passed)
    began = time.time()

    def running() -> Verdict | None:
        newest, _ = standing.verdict(len(standing.heard) - 1)
        return newest if newest.image_stamp > began + 0.3 else None

    verdict = robot.until(running)
    elapsed = verdict.image_stamp - began
    dt = SLOWED * ARM.dt
    at = np.stack([np.interp(elapsed, dt * np.arange(9), joint) for joint in plan.T], -1)
    most = np.abs(np.diff(plan, axis=0)).max(0) / dt
    assert (np.abs(verdict.envelope.center[0] - at) <= 0.1 * most + 1e-3).all()  # give or take 0.1 s
    robot.until(lambda: time.time() > began + 8 * dt + 1.0)
    count = len(standing.heard)
    robot.spin(1.0)
    assert len(standing.heard) <= count + 1


def test_a_scene_that_starts_in_a_zone_is_told_before_anything_is_commanded(robot, simulation, tmp_path):
    standing = Standing(robot, simulation, HARMLESS)
    place = [*map(float, simulation.scene.obstacles[0].position[:2]), 0.2]
    box = {"kind": "box", "size": [0.25, 0.25, 0.3]}
    stop = {"name": "there", "type": "stop", "frame_id": "base_link", "shape": box, "position": place, "min_points": 4}
    clear = stop | {"name": "elsewhere", "position": [-0.6, 0.6, 0.9]}
    standing.zones = Zones.model_validate({"zones": [stop, clear]})
    logged = robot.hear(Log, "/rosout")
    node = standing.start(tmp_path)
    robot.until(lambda: "zone 'there' has" in node.diagnostics.status().message)
    status = node.diagnostics.status()
    assert status.level == DiagnosticStatus.WARN
    assert f"around ({place[0]:.1f}" in status.message
    assert "metres in base_link" in status.message
    for way in ("take it away", "~/release", "zones:=FILE", "prefilter:=monitor"):
        assert way in status.message
    assert "elsewhere'" not in status.message
    said = robot.until(lambda: [m.msg for m in logged if "zone 'there' has" in m.msg])
    # It is gone on the next picture: so is the sentence.
    standing.depth = np.full_like(standing.depth, 4.0)
    robot.until(lambda: "zone 'there'" not in node.diagnostics.status().message)
    assert len(said) == 1
    assert not standing.heard


def test_strange_pictures_no_pictures_and_slowness_stop_every_command(robot, simulation, tmp_path):
    standing = Standing(robot, simulation, HARMLESS)
    node = standing.start(tmp_path)
    robot.until(standing.command.get_subscription_count)
    ordinary = standing.rgb
    standing.rgb = np.random.default_rng(0).integers(0, 255, ordinary.shape, np.uint8)
    robot.spin(1.0)

    def said(text: str) -> bool:
        standing.command.publish(standing.trajectory())
        number = len(standing.heard)
        verdict, _ = standing.verdict(number)
        return text in verdict.finding.text and verdict.finding.action == Action.STOP

    robot.until(lambda: said("out of distribution"))
    standing.rgb = ordinary
    node.set_parameters([RosParameter("verdict_deadline", value=0.05)])
    robot.until(lambda: said("judging took"))
    node.set_parameters([RosParameter("verdict_deadline", value=10.0), RosParameter("state_timeout", value=0.5)])
    standing.names = [f"other_{name}" for name in JOINTS]
    robot.spin(0.7)
    robot.until(lambda: said("have been silent for"))
    node.set_parameters([RosParameter("state_timeout", value=60.0), RosParameter("stale_timeout", value=0.5)])
    robot.peer.destroy_timer(standing.timer)
    robot.spin(0.7)
    robot.until(lambda: said("the newest image is"))


def test_a_zone_of_another_frame_is_judged_where_tf_says_that_frame_is(robot, simulation, tmp_path):
    standing = Standing(robot, simulation, HARMLESS)
    cell = np.array([[0, -1, 0, 0.6], [1, 0, 0, -0.4], [0, 0, 1, 0.1], [0, 0, 0, 1.0]])
    in_base = np.append(simulation.scene.obstacles[0].position[:2], [0.2, 1.0])
    in_cell = [float(v) for v in (np.linalg.inv(cell) @ in_base)[:3]]
    box = {"kind": "box", "size": [0.25, 0.25, 0.3]}
    zone = {"name": "there", "type": "stop", "frame_id": "cell", "min_points": 4, "shape": box, "position": in_cell}
    standing.zones = Zones.model_validate({"zones": [zone]})
    standing.start(tmp_path)
    frames = robot.peer.create_publisher(TFMessage, "/tf", 10)
    robot.until(lambda: standing.command.get_subscription_count() and frames.get_subscription_count())

    def judged(wanted: Callable[[Finding], bool], *chain: TransformStamped) -> None:
        def agrees() -> bool:
            frames.publish(TFMessage(transforms=list(chain)))
            standing.command.publish(standing.trajectory())
            return wanted(standing.verdict(len(standing.heard))[0].finding)

        robot.until(agrees)

    judged(lambda f: f.action == Action.STOP and "the frame 'cell' of a zone is is not known" in f.text)
    # Its chain of frames is not complete yet.
    half = transform_from_matrix(np.eye(4), Header(frame_id="floor"), "cell")
    judged(lambda f: f.action == Action.STOP and "the frame 'cell' of a zone is is not known" in f.text, half)
    floor = transform_from_matrix(cell, Header(frame_id="base_link"), "floor")
    judged(lambda f: f.action == Action.STOP and (f.zone, f.step) == ("there", 0), half, floor)
    cell[2, 3] += 3.0
    lifted = transform_from_matrix(cell, Header(frame_id="base_link"), "floor")
    judged(lambda f: f.action == Action.CLEAR, lifted)


def test_velocities_are_added_up_and_the_newest_of_many_wins(robot, simulation, tmp_path):
    standing = Standing(robot, simulation, HARMLESS)
    _, rates = standing.start_with_rates(tmp_path)
    for k in range(40):
        rates.publish(Float64MultiArray(data=[0.005 * k] + [0.0] * 7))
        robot.spin(0.01)
    verdict = robot.until(
        lambda: next((v for v in map(_read, standing.heard) if v.envelope.center[0, 0] == pytest.approx(0.195)), None)
    )
    np.testing.assert_allclose(verdict.envelope.half_width, [0.02] * 7 + [0.1])
    assert len(standing.heard) < 30  # not one for each
    count = len(standing.heard)
    robot.spin(2.5)
    settled = len(standing.heard)
    robot.spin(1.0)
    assert len(standing.heard) == settled >= count  # a rate that nobody repeats is not judged for ever


def test_a_stream_of_commands_leaves_time_for_requests_and_is_shown(robot, simulation, tmp_path):
    standing = Standing(robot, simulation, HARMLESS)
    node, rates = standing.start_with_rates(tmp_path)
    shown = robot.hear(PredictedFrames, "world_model/predicted_frames")

    def stream(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rates.publish(Float64MultiArray(data=[0.01] + [0.0] * 7))
            robot.spin(0.01)

    stream(4.0)
    count, seen, request = len(standing.heard), len(shown), node.worker.submit(lambda: None)
    stream(4.0)
    assert request.done()
    assert len(standing.heard) > count
    assert len(shown) > seen


def _read(message: CommandVerdict) -> Verdict:
    return command_verdict_from_msg(message, NAMES, "base_link")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"zones": "/nowhere.yaml"}, "/nowhere.yaml"),
        ({"half_width": ["joint_positions=wide"]}, "half_width' has 'joint_positions=wide'"),
        ({"half_width": ["wings=0.1"]}, "'wings' is no modality"),
        ({"watched_command_type": "twist"}, "'command_type' is a twist"),
        ({"base_frame": "odom"}, "base_frame' is 'odom'"),
    ],
)
def test_what_cannot_be_judged_is_named_by_configure(robot, small_checkpoint, capfd, parameters, said):
    node = robot.start(
        WorldModelNode, active=False,
        **{"checkpoint": str(small_checkpoint), "zones": "config/safety/arm_zones.yaml"} | parameters,
    )  # fmt: skip
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert said in capfd.readouterr().err
