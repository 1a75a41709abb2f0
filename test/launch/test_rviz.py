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


class Displays:
    """RViz's displays beside what the running nodes publish."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("rviz_check", context=self.context)
        self.displays = [d for d in CONFIG["Displays"] if d["Class"] not in WITHOUT_TOPIC]
        wanted = [d["Topic"]["Value"] for d in self.displays]
        end = time.monotonic() + 240.0
        while not all(self.publishers(topic) for topic in wanted):
            assert time.monotonic() < end, [t for t in wanted if not self.publishers(t)]
            time.sleep(0.1)

    def close(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def publishers(self, topic: str) -> list[Any]:
        return self.node.get_publishers_info_by_topic(topic)

    def what_a_user_wants_to_see_is_there_and_switched_on(self) -> None:
        assert {d["Topic"]["Value"] for d in self.displays if d["Enabled"]} >= SHOWN
        assert {d["Class"] for d in CONFIG["Displays"]} >= WITHOUT_TOPIC

    def every_topic_has_the_type_of_its_display(self) -> None:
        for display in self.displays:
            for publisher in self.publishers(display["Topic"]["Value"]):
                assert publisher.topic_type == TYPES[display["Class"]], display["Name"]

    def every_display_can_hear_its_publisher(self) -> None:
        for display in self.displays:
            for publisher in self.publishers(display["Topic"]["Value"]):
                offered = publisher.qos_profile
                # A publisher on the network does not tell its history; RViz's is only its own.
                offered.history, offered.depth = HistoryPolicy.KEEP_LAST, 1
                verdict, reason = qos_check_compatible(offered, profile(display["Topic"]))
                assert verdict != QoSCompatibility.ERROR, f"{display['Name']}: {reason}"

    def the_fixed_frame_is_published(self) -> None:
        assert CONFIG["Global Options"]["Fixed Frame"] == "base_link"
        assert self.publishers("/tf")
        assert self.publishers("/tf_static")


@pytest.mark.launch_test
@launch_testing.markers.keep_alive
def generate_test_description() -> LaunchDescription:
    description = include()
    description.add_action(launch_testing.actions.ReadyToTest())
    return description


class TestDisplays(unittest.TestCase):
    displays: Displays

    @classmethod
    def setUpClass(cls) -> None:
        cls.displays = Displays()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.displays.close()

    def test_what_a_user_wants_to_see_is_there_and_switched_on(self) -> None:
        self.displays.what_a_user_wants_to_see_is_there_and_switched_on()

    def test_every_topic_has_the_type_of_its_display(self) -> None:
        self.displays.every_topic_has_the_type_of_its_display()

    def test_every_display_can_hear_its_publisher(self) -> None:
        self.displays.every_display_can_hear_its_publisher()

    def test_the_fixed_frame_is_published(self) -> None:
        self.displays.the_fixed_frame_is_published()
