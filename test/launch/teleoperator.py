"""Somebody who leads the arm by hand: single set-points at a high rate, and what becomes of them."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.msg import CommandVerdict, PrefilterStatus
from deepverse_ros.nodes.messages.time import duration
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.executor import OneThreadExecutor, SpinThread
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
Way = Callable[[float], np.ndarray]
"""Where the joints (7,) shall be so many seconds after it began."""


class Teleoperator:
    """Sends one set-point after the other on a way, each to be reached until the next, and notes which pass."""

    def __init__(self, rate: float) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node, self.rate = rclpy.create_node("teleoperator", context=self.context), rate
        self.passed: set[float] = set()
        self.counts: list[tuple[int, int]] = []  # commands that the prefilter had, and that it passed, by then
        self.status: list[PrefilterStatus] = []
        self.verdicts: list[CommandVerdict] = []
        self.joints: list[np.ndarray] = []
        listen = self.node.create_subscription
        every = qos.command()
        every.depth = 1000  # none is to be missed, however busy this process is
        listen(JointTrajectory, "prefilter/command_out", self._on_passed, every)
        listen(DiagnosticArray, "/diagnostics", self._on_diagnostics, every)
        listen(PrefilterStatus, "prefilter/status", self.status.append, qos.debug_output())
        listen(CommandVerdict, "world_model/command_verdict", self.verdicts.append, qos.command())
        listen(JointState, "joint_states", self._on_joints, qos.sensor_input())
        self._publisher = self.node.create_publisher(JointTrajectory, "prefilter/command_in", qos.command())
        executor = OneThreadExecutor(context=self.context)
        executor.add_node(self.node)
        self._spinning, self._number = SpinThread(executor), 0

    def _on_passed(self, message: JointTrajectory) -> None:
        self.passed |= {point.positions[6] for point in message.points}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for values in ({v.key: v.value for v in status.values} for status in message.status):
            if "commands_passed" in values:
                self.counts.append((int(values["commands"]), int(values["commands_passed"])))

    def _on_joints(self, message: JointState) -> None:
        order = [message.name.index(name) for name in ARM.joint_names]
        self.joints.append(np.array(message.position)[order])

    @property
    def state(self) -> int:
        return self.status[-1].state if self.status else -1

    def lead(self, way: Way, seconds: float, until: Callable[[], Any] = lambda: False) -> list[tuple[float, float]]:
        """Send the way's set-points, until something is so.

        Returns: of each when it was sent (monotonic seconds), and joint 7, by which `passed` knows it.
        """
        began, out = time.monotonic(), []
        while (now := time.monotonic()) < began + seconds and not until():
            self._number += 1
            joints = way(now - began)
            joints[6] += 1e-8 * self._number
            point = JointTrajectoryPoint(positions=joints.tolist(), time_from_start=duration(1 / self.rate))
            self._publisher.publish(JointTrajectory(header=Header(), joint_names=ARM.joint_names, points=[point]))
            out.append((now, float(joints[6])))
            threading.Event().wait(max(0.0, began + len(out) / self.rate - time.monotonic()))
        return out

    def close(self) -> None:
        self._spinning.end()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
