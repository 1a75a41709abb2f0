"""A robot whose places odometry tells is held where it was measured, and not where it was told to be long ago."""

import time

import numpy as np
from geometry_msgs.msg import Quaternion, Vector3
from nav_msgs.msg import Odometry
from std_msgs.msg import Float64MultiArray, Header

from deepverse_ros.msg import PrefilterStatus
from deepverse_ros.nodes.messages.time import stamp_from_seconds
from deepverse_ros.nodes.prefilter.node import PrefilterNode
from deepverse_ros.nodes.runtime import qos

PLACE = [1.0, -2.0, 3.0]
TOLD = [1.2, -2.0, 3.0, 0.5, 0.0, 0.0, 0.0]


class Drone:
    def __init__(self, robot) -> None:
        self.robot = robot
        self.frame = "odom"
        self.odometry = robot.peer.create_publisher(Odometry, "odom", qos.sensor_output())
        self.command = robot.peer.create_publisher(Float64MultiArray, "prefilter/command_in", qos.command())
        self.out = robot.hear(Float64MultiArray, "prefilter/command_out", 50)
        self.status = robot.hear(PrefilterStatus, "prefilter/status", qos.debug_output())
        self.node = robot.start(
            PrefilterNode, embodiment="drone", command_type="float64_multi_array", rest=["velocity=0"]
        )
        robot.until(lambda: self.command.get_subscription_count() and self.odometry.get_subscription_count())

    def measure(self) -> None:
        message = Odometry(header=Header(stamp=stamp_from_seconds(time.time()), frame_id=self.frame))
        position = message.pose.pose.position
        position.x, position.y, position.z = PLACE
        message.pose.pose.orientation = Quaternion(w=1.0)
        message.twist.twist.linear = Vector3(x=0.1)
        self.odometry.publish(message)

    def tell(self) -> None:
        self.command.publish(Float64MultiArray(data=TOLD))


def test_a_drone_that_nobody_judges_is_held_where_it_is(robot):
    drone = Drone(robot)

    def held() -> bool:
        drone.measure()
        drone.tell()
        robot.spin(0.02)
        return bool(drone.out)

    robot.until(held)
    np.testing.assert_allclose(drone.out[-1].data, [*PLACE, 0.0, 0.0, 0.0, 0.0], atol=1e-6)
    assert drone.status[-1].state == PrefilterStatus.FALLBACK


def test_a_place_in_another_frame_says_nothing(robot):
    drone = Drone(robot)
    drone.frame = "map"
    for _ in range(20):
        drone.measure()
        drone.tell()
        robot.spin(0.02)
    assert not drone.out, "nobody knows where it is"
    text = str(drone.node.diagnostics.status())
    assert "odometry frame_id is 'map'; position is in 'odom'" in text
