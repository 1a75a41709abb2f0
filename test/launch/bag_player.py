"""Topics into a bag, and a bag onto topics again, at its own pace and with stamps of today."""

import time
from pathlib import Path

import numpy as np
import rclpy
from bag_files import read_bag, write_bag
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

from deepverse_ros.nodes.fault_injection.corruptions import corrupt
from deepverse_ros.nodes.fault_injection.node import message_type
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.executor import OneThreadExecutor, SpinThread


def profile() -> QoSProfile:
    """As commands are sent, and none is lost while this process is busy."""
    out = qos.command()
    out.depth = 100
    return out


class BagNode:
    """A node with a context and a thread of its own that hears `topics` (name: type) and can play a bag."""

    def __init__(self, topics: dict[str, str]) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = Node("bag", context=self._context)
        self.heard: list[tuple[float, str, str, bytes]] = []
        for topic, kind in topics.items():
            self.node.create_subscription(message_type(kind), topic, self._keep(topic, kind), profile(), raw=True)
        executor = OneThreadExecutor(context=self._context)
        executor.add_node(self.node)
        self._spinning = SpinThread(executor)

    def _keep(self, topic: str, kind: str):
        return lambda data: self.heard.append((time.time(), topic, kind, data))

    def save(self, path: Path) -> Path:
        return write_bag(path, list(self.heard))

    def play(self, path: Path) -> None:
        """Every message at its time, its stamps as much later as it is itself."""
        bag = read_bag(path)
        publishers = {
            topic: self.node.create_publisher(message_type(kind), topic, profile())
            for topic, kind in {(topic, kind) for _, topic, kind, _ in bag}
        }
        end = time.monotonic() + 20.0
        while not all(p.get_subscription_count() > 1 for p in publishers.values()):
            assert time.monotonic() < end, "nobody listens to the bag"
            time.sleep(0.05)
        first, generator = bag[0][0], np.random.default_rng(0)
        shift, began = time.time() - first, time.monotonic()
        for seconds, topic, kind, data in bag:
            message = deserialize_message(data, message_type(kind))
            message = corrupt("stamp_future", message, shift, generator, message)
            time.sleep(max(0.0, began + seconds - first - time.monotonic()))
            publishers[topic].publish(message)

    def close(self) -> None:
        self._spinning.end()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
