"""What every node does: here, how it goes."""

import gc
from functools import partial

from rclpy.node import Node

from deepverse_ros.nodes.base import RobotNode


def test_a_destroyed_node_has_left_the_network_without_the_garbage_collector(robot):
    """Else its participant goes on beside the next one of the process, and Fast DDS may block for ever as it ends."""
    other = robot.start(partial(RobotNode, "passer_by", []))
    robot.until(lambda: "passer_by" in robot.peer.get_node_names())
    gc.disable()
    try:
        other.end()
        other.destroy_node()
        robot.nodes.remove(other)
        robot.until(lambda: "passer_by" not in robot.peer.get_node_names(), timeout=10.0)
    finally:
        gc.enable()


def test_a_node_of_ros_goes_as_well(robot):
    """So that the test above says something of the node, not of the graph."""
    other = Node("passer_by")
    robot.until(lambda: "passer_by" in robot.peer.get_node_names())
    other.destroy_node()
    robot.until(lambda: "passer_by" not in robot.peer.get_node_names(), timeout=10.0)
