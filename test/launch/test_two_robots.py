"""Two arms in one graph, each in its namespace: each reaches its own place and hears nothing of the other."""

from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from arm_launch import arguments, launched, quick_planner, until
from control_msgs.action import FollowJointTrajectory
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from deepverse_ros.action import PlanToGoal
from deepverse_ros.nodes.messages.image import image_from_array
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.executor import OneThreadExecutor, SpinThread

ROBOTS = ("left", "right")


class Side:
    """What one robot says, and its planner."""

    def __init__(self, node: Node, name: str) -> None:
        self.node, self.name = node, name
        self.joints = self.hear(JointState, "joint_states")
        self.tf = self.hear(TFMessage, "tf")
        self.tool = self.hear(PoseStamped, "sim/ground_truth/tool_pose")
        self.planner = ActionClient(node, PlanToGoal, f"/{name}/planner/plan_to_goal")
        self.controller = ActionClient(node, FollowJointTrajectory, f"/{name}/arm_controller/follow_joint_trajectory")

    def hear(self, kind: type, topic: str) -> list[Any]:
        heard: list[Any] = []
        self.node.create_subscription(kind, f"/{self.name}/{topic}", heard.append, qos.debug_output())
        return heard

    def where(self) -> np.ndarray:
        return np.array(self.joints[-1].position[:7])

    def pursue(self) -> Any:
        image = image_from_array(np.full((48, 64, 3), 120, np.uint8), "rgb8", Header())
        sent = self.planner.send_goal_async(PlanToGoal.Goal(goal_image=image, max_plans=1))
        until(sent.done, 20.0, "sending a goal")
        assert sent.result().accepted, self.name
        done = sent.result().get_result_async()
        until(done.done, 60.0, "the goal's result")
        return done.result().result

    def close(self) -> None:
        for client in (self.planner, self.controller):
            client.destroy()


def test_each_arm_follows_its_own_planner_through_its_own_controller(tmp_path: Path) -> None:
    given = arguments(planner_params=str(quick_planner()), command_output="follow_joint_trajectory", seed="3")
    words = [f"{name}:={value}" for name, value in given.items()]
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("both", context=context)
    executor = OneThreadExecutor(context=context)
    executor.add_node(node)
    spinning = SpinThread(executor)
    sides = [Side(node, name) for name in ROBOTS]
    logs = [tmp_path / name for name in ROBOTS]
    try:
        with (
            launched(logs[0], "arm_mpc.launch.py", [*words, "namespace:=left"]),
            launched(logs[1], "arm_mpc.launch.py", [*words, "namespace:=right"]),
        ):
            for side, log in zip(sides, logs, strict=True):
                until(lambda log=log: "planner is active" in log.read_text(), 240.0, f"{side.name}, {log.read_text()}")
                until(lambda side=side: side.joints and side.tf and side.tool, 20.0, f"the topics of {side.name}")
                assert side.controller.wait_for_server(timeout_sec=10.0)
            for moving, resting in (sides, sides[::-1]):
                before, other = moving.where(), resting.where()
                result = moving.pursue()
                assert result.plans_accepted == 1, result.text
                until(lambda m=moving, b=before: np.abs(m.where() - b).max() > 0.05, 20.0, f"{moving.name} moves")
                assert np.abs(resting.where() - other).max() < 0.02, f"{resting.name} stands meanwhile"
            for topic in ("tf", "tf_static", "joint_states", "camera/image_raw", "planner/verdict"):
                publishers = [node.count_publishers(f"{place}/{topic}") for place in ("/left", "/right", "")]
                assert publishers == [1, 1, 0], topic
    finally:
        spinning.end()
        for side in sides:
            side.close()
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert not any("Traceback" in log.read_text() for log in logs)
