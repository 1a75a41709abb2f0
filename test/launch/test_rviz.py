"""Every display of config/rviz/arm.rviz must find its topic, with its type and a matching quality of service."""

import time
import unittest
from typing import Any

import launch_testing.actions
import launch_testing.markers
import pytest
import rclpy
import yaml
from arm_launch import ROOT, include
from launch import LaunchDescription
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

CONFIG = yaml.safe_load((ROOT / "config" / "rviz" / "arm.rviz").read_text())["Visualization Manager"]
TYPES = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
    "rviz_default_plugins/Path": "nav_msgs/msg/Path",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
}
WITHOUT_TOPIC = {"rviz_default_plugins/Grid", "rviz_default_plugins/TF"}
SHOWN = {
    "/camera/image_raw",
    "/world_model/predicted_image",
    "/world_model/predicted_cloud",
    "/world_model/predicted_path",
    "/planner/candidates",
}


def profile(topic: dict[str, Any]) -> QoSProfile:
    """What RViz subscribes with."""
    return QoSProfile(
        depth=topic["Depth"],
        history=HistoryPolicy[topic["History Policy"].upper().replace(" ", "_")],
        reliability=ReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
        durability=DurabilityPolicy[topic["Durability Policy"].upper().replace(" ", "_")],
    )


@pytest.mark.launch_test
@launch_testing.markers.keep_alive
def generate_test_description() -> LaunchDescription:
    description = include()
    description.add_action(launch_testing.actions.ReadyToTest())
    return description


class TestDisplays(unittest.TestCase):
    node: Node

    @classmethod
    def setUpClass(cls) -> None:
        cls.context = rclpy.Context()
        rclpy.init(context=cls.context)
        cls.node = Node("rviz_check", context=cls.context)
        cls.displays = [d for d in CONFIG["Displays"] if d["Class"] not in WITHOUT_TOPIC]
        wanted = [d["Topic"]["Value"] for d in cls.displays]
        end = time.monotonic() + 240.0
        while not all(cls.node.get_publishers_info_by_topic(topic) for topic in wanted):
            assert time.monotonic() < end, [t for t in wanted if not cls.node.get_publishers_info_by_topic(t)]
            time.sleep(0.1)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.node.destroy_node()
        rclpy.shutdown(context=cls.context)

    def test_what_a_user_wants_to_see_is_there_and_switched_on(self) -> None:
        assert {d["Topic"]["Value"] for d in self.displays if d["Enabled"]} >= SHOWN
        assert {d["Class"] for d in CONFIG["Displays"]} >= WITHOUT_TOPIC

    def test_every_topic_has_the_type_of_its_display(self) -> None:
        for display in self.displays:
            for publisher in self.node.get_publishers_info_by_topic(display["Topic"]["Value"]):
                assert publisher.topic_type == TYPES[display["Class"]], display["Name"]

    def test_every_display_can_hear_its_publisher(self) -> None:
        for display in self.displays:
            for publisher in self.node.get_publishers_info_by_topic(display["Topic"]["Value"]):
                offered = publisher.qos_profile
                # A publisher on the network does not tell its history; RViz's is only its own.
                offered.history, offered.depth = HistoryPolicy.KEEP_LAST, 1
                verdict, reason = qos_check_compatible(offered, profile(display["Topic"]))
                assert verdict != QoSCompatibility.ERROR, f"{display['Name']}: {reason}"

    def test_the_fixed_frame_is_published(self) -> None:
        assert CONFIG["Global Options"]["Fixed Frame"] == "base_link"
        assert self.node.get_publishers_info_by_topic("/tf")
        assert self.node.get_publishers_info_by_topic("/tf_static")
