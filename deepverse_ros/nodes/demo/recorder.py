"""What the demo hears: camera frames, plans and their imagined outcomes, verdicts and the tool's true place."""

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from deepverse_ros.action import PlanToGoal
from deepverse_ros.msg import ActionPlan, PlanVerdict, PredictedFrames
from deepverse_ros.nodes.messages.image_decoding import rgb_from_image
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.executor import OneThreadExecutor, SpinThread

CAMERA_SECONDS = 8.0
"""How long camera frames are kept: longer than a plan is executed."""


@dataclass
class Plan:
    """One plan that was sent: when it began, what was imagined, and what the camera saw (rgb uint8, one per step)."""

    begin: float
    steps: int
    dt: float
    real: dict[int, np.ndarray] = field(default_factory=dict)


class DemoRecorder:
    """A ROS node on a thread of its own. Everything it heard is read under `lock`."""

    def __init__(self) -> None:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self.lock = threading.RLock()
        self.verdicts: list[PlanVerdict] = []
        self.outcomes: dict[str, PredictedFrames] = {}
        self.plans: dict[str, Plan] = {}
        self.imagine_ms: list[float] = []
        self.imagined_at: list[float] = []
        self.tool: np.ndarray | None = None
        self._frames: deque[tuple[float, Image]] = deque()
        self.node = Node("demo_client")
        debug = qos.debug_output()
        debug.depth = 20
        self._hear(Image, "camera/image_raw", self._on_image, qos.sensor_input())
        self._hear(PoseStamped, "sim/ground_truth/tool_pose", self._on_tool, qos.debug_output())
        self._hear(ActionPlan, "planner/plan", self._on_plan, debug)
        self._hear(PlanVerdict, "planner/verdict", self._on_verdict, debug)
        self._hear(PredictedFrames, "planner/imagined_outcome", self._on_outcome, debug)
        self._hear(PredictedFrames, "world_model/predicted_frames", self._on_predicted, debug)
        self.planner = ActionClient(self.node, PlanToGoal, "planner/plan_to_goal")
        executor = OneThreadExecutor()
        executor.add_node(self.node)
        self._spinning = SpinThread(executor)

    def _hear(self, kind: type, topic: str, callback: Any, profile: Any) -> None:
        self.node.create_subscription(kind, topic, callback, profile)

    def close(self) -> None:
        self._spinning.end()
        self.planner.destroy()  # rclpy leaves it, and it holds the node's handle
        self.node.destroy_node()
        rclpy.try_shutdown()

    def now(self) -> float:
        return self.node.get_clock().now().nanoseconds * 1e-9

    # Callbacks ----------------------------------------------------------------------------------------------------
    def _on_image(self, message: Image) -> None:
        with self.lock:
            self._frames.append((stamp_seconds(message.header.stamp), message))
            while self._frames[0][0] < self._frames[-1][0] - CAMERA_SECONDS:
                self._frames.popleft()

    def _on_tool(self, message: PoseStamped) -> None:
        p = message.pose.position
        with self.lock:
            self.tool = np.array([p.x, p.y, p.z])

    def _on_plan(self, message: ActionPlan) -> None:
        if message.id != "hold":
            with self.lock:
                self.plans[message.id] = Plan(stamp_seconds(message.header.stamp), message.horizon, message.dt)

    def _on_verdict(self, message: PlanVerdict) -> None:
        with self.lock:
            self.verdicts.append(message)

    def _on_outcome(self, message: PredictedFrames) -> None:
        with self.lock:
            self.outcomes[message.plan_id] = message

    def _on_predicted(self, message: PredictedFrames) -> None:
        with self.lock:
            self.imagine_ms.append(message.latency_ms)
            self.imagined_at.append(self.now())

    # What it makes of it ------------------------------------------------------------------------------------------
    def real_frames(self, plan_id: str) -> np.ndarray | None:
        """(T, H, W, 3) uint8: what the camera saw at the end of each executed step; None where frames are missing."""
        with self.lock:
            plan, frames = self.plans.get(plan_id), list(self._frames)
        if plan is None or not frames:
            return None
        stamps = np.array([stamp for stamp, _ in frames])
        wanted = plan.begin + plan.dt * np.arange(1, plan.steps + 1)
        nearest = np.abs(stamps[None] - wanted[:, None]).argmin(axis=1)
        if np.abs(stamps[nearest] - wanted).max() > plan.dt:
            return None
        return np.stack([rgb_from_image(frames[i][1]) for i in nearest])

    def newest_frame(self) -> np.ndarray | None:
        """(H, W, 3) uint8."""
        with self.lock:
            newest = self._frames[-1][1] if self._frames else None
        return None if newest is None else rgb_from_image(newest)

    def imagined_frames(self, plan_id: str) -> np.ndarray | None:
        """(H, h, w, 3) uint8."""
        with self.lock:
            outcome = self.outcomes.get(plan_id)
        return None if outcome is None else np.stack([rgb_from_image(image) for image in outcome.rgb])
