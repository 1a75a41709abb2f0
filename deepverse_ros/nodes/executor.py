"""The executors that nodes are spun by.

They go on when an entity is destroyed while it is waited for or taken. A transition of a node destroys what it created,
in a thread of the executor or in another one. rclpy's executor has then already listed the entity for its next wait,
and the `InvalidHandle` that follows would end its spinning.
"""

from contextlib import suppress

from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation


class NodeExecutor(MultiThreadedExecutor):
    """Callbacks run beside each other, so a long one keeps none waiting."""

    def spin_once(self, timeout_sec: float | None = None) -> None:
        with suppress(rclpy_implementation.InvalidHandle):
            super().spin_once(timeout_sec)


class OneThreadExecutor(SingleThreadedExecutor):
    """Callbacks run one after the other, without the way to another thread and back: for short ones in a hurry."""

    def spin_once(self, timeout_sec: float | None = None) -> None:
        with suppress(rclpy_implementation.InvalidHandle):
            super().spin_once(timeout_sec)
