"""Commands at 50 Hz from a thread of their own, and what becomes of them."""

import threading
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from verdict_source import CENTER

from deepverse_ros.msg import PrefilterStatus
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.executor import OneThreadExecutor, SpinThread

RATE = 50.0


class Commander:
    """Sends a command every 20 ms, each a little different, and notes when each is heard before and after."""

    def __init__(self, command_out: str = "prefilter/command_out") -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("commander", context=self.context)
        self.sent: dict[float, float] = {}
        self.direct: dict[float, float] = {}
        self.sent_stamps: dict[float, float] = {}  # and the system's seconds at which the middleware sent it
        self.out: list[tuple[float, float]] = []  # when, and joint 1's rate
        self.out_stamps: list[float] = []  # and the system's seconds at which the prefilter sent it
        self.status: list[PrefilterStatus] = []
        listen = self.node.create_subscription
        listen(Float64MultiArray, "prefilter/command_in", self._on_direct, qos.command())
        listen(Float64MultiArray, command_out, self._on_out, qos.command())
        listen(PrefilterStatus, "prefilter/status", self.status.append, qos.debug_output())
        self.publisher = self.node.create_publisher(Float64MultiArray, "prefilter/command_in", qos.command())
        executor = OneThreadExecutor(context=self.context)
        executor.add_node(self.node)
        self.spinning = SpinThread(executor)
        self.stopping = threading.Event()
        self.sending = threading.Thread(target=self._send, daemon=True)
        self.sending.start()

    def _on_direct(self, message: Float64MultiArray, info: Any) -> None:
        self.direct.setdefault(message.data[0], time.monotonic())
        self.sent_stamps.setdefault(message.data[0], 1e-9 * info["source_timestamp"])

    def _on_out(self, message: Float64MultiArray, info: Any) -> None:
        self.out_stamps.append(1e-9 * info["source_timestamp"])
        self.out.append((time.monotonic(), message.data[0]))

    def rates(self) -> np.ndarray:
        """(8,) what to command now, rad/s."""
        return CENTER

    def _send(self) -> None:
        number = 0
        due = time.monotonic()
        while not self.stopping.is_set():
            number += 1
            data = self.rates().copy()
            data[0] += 1e-8 * number
            self.sent[float(data[0])] = time.monotonic()
            self.publisher.publish(Float64MultiArray(data=data.tolist()))
            due = max(due + 1 / RATE, time.monotonic() - 1.0)
            self.stopping.wait(max(0.0, due - time.monotonic()))

    @property
    def state(self) -> int:
        return self.status[-1].state if self.status else -1

    def close(self) -> None:
        self.stopping.set()
        self.sending.join(2.0)
        self.spinning.end()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
