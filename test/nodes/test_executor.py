"""An executor that lives on while subscriptions come and go in another thread."""

import sys
import threading
import time

import rclpy
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from std_msgs.msg import Empty

from deepverse_ros.nodes.executor import NodeExecutor


def test_entities_destroyed_while_they_are_waited_for_do_not_end_the_spinning() -> None:
    rclpy.init()
    node = Node("comes_and_goes")
    executor = NodeExecutor(num_threads=2)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # the two threads meet more often
    try:
        events = SubscriptionEventCallbacks(incompatible_qos=lambda _: None)
        end = time.monotonic() + 3.0
        while time.monotonic() < end and thread.is_alive():
            subscriptions = [
                node.create_subscription(Empty, f"topic_{i}", lambda _: None, 1, event_callbacks=events)
                for i in range(3)
            ]
            for subscription in subscriptions:
                node.destroy_subscription(subscription)
        assert thread.is_alive()
        ticks = []
        node.create_timer(0.01, lambda: ticks.append(1))
        end = time.monotonic() + 5.0
        while not ticks and time.monotonic() < end:
            time.sleep(0.01)
        assert ticks
    finally:
        sys.setswitchinterval(interval)
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
        thread.join(5.0)
