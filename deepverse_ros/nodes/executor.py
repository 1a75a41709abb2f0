"""The executor that nodes are spun by."""

from contextlib import suppress

from rclpy.executors import MultiThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation


class NodeExecutor(MultiThreadedExecutor):
    """Goes on when an entity is destroyed while it is waited for or taken.

    A transition of a node destroys what it created, in a thread of the executor or in another one. rclpy's executor
    has then already listed the entity for its next wait, and the `InvalidHandle` that follows would end its spinning.
    """

    def spin_once(self, timeout_sec: float | None = None) -> None:
        with suppress(rclpy_implementation.InvalidHandle):
            super().spin_once(timeout_sec)
