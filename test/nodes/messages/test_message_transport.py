"""The compiled interfaces carry their values through ROS unchanged."""

import math

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import Point, Pose
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from deepverse_ros.action import PlanToGoal
from deepverse_ros.msg import ActionPlan, PlanVerdict, PredictedFrames, PrefilterCheck, PrefilterStatus
from deepverse_ros.srv import EvaluatePlan, Imagine


def plan() -> ActionPlan:
    values = np.linspace(-1, 1, 16, dtype=np.float32)
    message = ActionPlan(id="p1", embodiment="arm", dt=0.2, horizon=2, values=values)
    message.modality_names, message.modality_dims = ["joint_positions", "gripper_state"], [7, 1]
    message.header.frame_id = "base_link"
    return message


def verdict() -> PlanVerdict:
    return PlanVerdict(
        plan_id="p1",
        reason=PlanVerdict.MISSES_GOAL,
        text="upper bound of the goal distance 0.12 m is over 0.05 m",
        value=0.125,
        threshold=0.0625,
        first_offending_step=-1,
        predicted_goal_distance=math.inf,
        level=0.875,
    )


def frames() -> PredictedFrames:
    image = Image(height=2, width=2, encoding="rgb8", step=6, data=bytes(range(12)))
    depth = Image(height=1, width=2, encoding="32FC1", step=8)
    depth.data = np.array([1.5, np.nan], np.float32).tobytes()
    message = PredictedFrames(plan_id="p1", dt=0.2, base_frame="base_link", rgb=[image] * 8, depth=[depth] * 8)
    message.camera_poses, message.tool_positions = [Pose()] * 8, [Point(x=0.5, y=-0.25, z=0.125)] * 8
    message.uncertainty = [0.5] * 8
    return message


def status() -> PrefilterStatus:
    message = PrefilterStatus(state=PrefilterStatus.STOP, mode=PrefilterStatus.ENFORCE, zone="keep_out")
    message.checks = [
        PrefilterCheck(name="verdict_age", ok=True, value=0.125, threshold=0.25),
        PrefilterCheck(name="zone:keep_out", ok=False, value=12.0, threshold=3.0, text="12 points, 3 count"),
    ]
    message.first_offending_step, message.command_age = 3, 0.5
    return message


@pytest.mark.parametrize("message", [plan(), verdict(), frames(), status()], ids=lambda m: type(m).__name__)
def test_serialisation_keeps_every_value(message: object) -> None:
    assert deserialize_message(serialize_message(message), type(message)) == message


def test_requests_and_goals_hold_the_messages() -> None:
    assert Imagine.Request(plan=plan()).plan.horizon == 2
    assert EvaluatePlan.Response(verdict=verdict()).verdict.reason == PlanVerdict.MISSES_GOAL
    assert PlanToGoal.Feedback(verdict=verdict()).verdict.plan_id == "p1"
    assert len({PlanToGoal.Result.REACHED, PlanToGoal.Result.NO_ACCEPTED_PLAN, PlanToGoal.Result.CANCELED}) == 3


def test_predicted_frames_arrive_unchanged() -> None:
    rclpy.init()
    sender, receiver = Node("interface_sender"), Node("interface_receiver")
    executor = SingleThreadedExecutor()
    executor.add_node(receiver)
    executor.add_node(sender)
    received: list[PredictedFrames] = []
    try:
        receiver.create_subscription(PredictedFrames, "interface_test", received.append, 1)
        publisher = sender.create_publisher(PredictedFrames, "interface_test", 1)
        sender.create_timer(0.05, lambda: publisher.publish(frames()))
        for _ in range(200):
            executor.spin_once(timeout_sec=0.05)
            if received:
                break
    finally:
        executor.shutdown()
        sender.destroy_node()
        receiver.destroy_node()
        rclpy.shutdown()
    assert received, "no message came within 10 s"
    assert np.isnan(np.frombuffer(received[0].depth[7].data, np.float32)[1])
    received[0].depth, expected = [], frames()
    expected.depth = []
    assert received[0] == expected
