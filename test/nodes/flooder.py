"""A process that floods a topic: `python flooder.py TOPIC KIND SIZE HZ SECONDS`, SIZE as many points or names."""

import sys
import time
from array import array
from typing import Any

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, Header
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.msg import ActionPlan, CommandEnvelope, CommandFinding, CommandVerdict
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.robot.embodiment import Embodiment

JOINTS = [*Embodiment.load("arm").joint_names, "gripper_joint"]


def trajectory(size: int) -> JointTrajectory:
    points = [JointTrajectoryPoint(positions=[0.1] * len(JOINTS)) for _ in range(size)]
    for k, point in enumerate(points):
        point.time_from_start.sec = k + 1
    return JointTrajectory(joint_names=JOINTS, points=points)


MAKE: dict[str, Any] = {
    "trajectory": trajectory,
    "joints": lambda size: JointState(name=[f"j{i}" for i in range(size)], position=[0.0] * size),
    "verdict": lambda size: CommandVerdict(
        envelope=CommandEnvelope(names=[f"n{i}" for i in range(size)]),
        finding=CommandFinding(max_rate_names=["x"] * size),
    ),
    "header": lambda size: Header(frame_id="x" * size),
    "array": lambda size: Float64MultiArray(data=array("d", bytes(8 * size))),
    "tf": lambda size: TFMessage(transforms=[TransformStamped(child_frame_id="x") for _ in range(size)]),
    "plan": lambda size: ActionPlan(modality_names=["x"] * size, embodiment="arm"),
    "info": lambda size: CameraInfo(d=array("d", bytes(8 * size))),
    "image": lambda size: Image(encoding="rgb8", height=size, width=1, step=3, data=array("B", bytes(3 * size))),
}


def main(topic: str, kind: str, size: str, rate: str, seconds: str) -> None:
    message = MAKE[kind](int(size))
    data = serialize_message(message)
    rclpy.init()
    node = Node("flooder")
    publisher = node.create_publisher(type(message), topic, qos.command())
    while not publisher.get_subscription_count():
        time.sleep(0.01)
    begin, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - begin) < float(seconds):
        if sent <= elapsed * float(rate):
            publisher.publish(data)
            sent += 1
        else:
            time.sleep(0.0002)
    print(f"{sent} of {len(data)} bytes")
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
