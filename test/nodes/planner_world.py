"""A planner beside a simulated arm, over real ROS, and a client that hears and speaks to both."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import Point, PointStamped
from measured import measured
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from strict_controller import refusal
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from deepverse_ros.action import PlanToGoal
from deepverse_ros.msg import ActionPlan, PlanVerdict, PredictedFrames
from deepverse_ros.nodes.messages.image import image_from_array
from deepverse_ros.nodes.planner.node import PlannerNode
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.executor import NodeExecutor, SpinThread
from deepverse_ros.nodes.simulation.node import SimNode
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
Result = PlanToGoal.Result
QUICK = {
    "samples": 4,
    "iterations": 1,
    "max_replans": 1,
    "max_plans": 2,
    "verified": 1,
    "execute_steps": 2,
    "settle_time": 0.0,
    "settle_timeout": 10.0,
    "goal_tolerance": 2.0,
    "max_uncertainty": 2.0,
    "max_goal_uncertainty": 2.0,
    "min_goal_agreement": 0.0,
    "reached_tolerance": 0.001,
    "observation_timeout": 1.0,
    # Long: a machine that pauses makes no camera or joint old. Tests of silence set their own.
    "stale_timeout": 5.0,
    "state_timeout": 5.0,
    "goal_change": 0.02,
    "goal_dwell": 0.2,
    "retry_period": 0.3,
}


class Client(Node):
    """Everything that hears and speaks to the planner.

    refused: why a controller of `joints` would not have taken what was sent to the arm.
    """

    def __init__(self, joints: list[str]) -> None:
        super().__init__("client")
        self.heard: dict[str, list[Any]] = {}
        self.refused: list[str] = []
        self._joints = joints
        for kind, topic in (
            (PlanVerdict, "planner/verdict"),
            (ActionPlan, "planner/plan"),
            (JointTrajectory, "joint_trajectory"),
            (MarkerArray, "planner/candidates"),
            (PredictedFrames, "planner/imagined_outcome"),
            (Image, "camera/image_raw"),
        ):
            profile = qos.debug_output()
            profile.depth = 50
            self.heard[topic] = []
            self.create_subscription(kind, topic, self.heard[topic].append, profile)
        self.create_subscription(JointTrajectory, "joint_trajectory", self._on_trajectory, 50)
        self.goal_image = self.create_publisher(Image, "planner/goal_image", qos.command())
        self.proposal = self.create_publisher(ActionPlan, "planner/proposed_plan", qos.command())
        self.trajectory = self.create_publisher(JointTrajectory, "planner/proposed_trajectory", qos.command())
        self.arm = self.create_publisher(JointTrajectory, "joint_trajectory", qos.command())
        self.camera = self.create_publisher(Image, "camera/image_raw", qos.sensor_output())
        self.joints = self.create_publisher(JointState, "joint_states", qos.sensor_output())
        self.planner = ActionClient(self, PlanToGoal, "planner/plan_to_goal")
        self.reset = self.create_client(Trigger, "sim/reset")
        self.feedback: list[PlanToGoal.Feedback] = []

    def _on_trajectory(self, message: JointTrajectory) -> None:
        if why := refusal(message, self._joints):
            self.refused.append(why)
            return
        lower, upper = (limits[: len(self._joints)] for limits in (ARM.lower, ARM.upper))
        for point in message.points:
            if not (lower - 1e-4 <= point.positions).all() or not (point.positions <= upper + 1e-4).all():
                self.refused.append(f"{list(point.positions)} is beyond the limits")
            if not (point.time_from_start.sec or point.time_from_start.nanosec):
                self.refused.append("a point has to be reached at once")

    def destroy_node(self) -> None:
        self.planner.destroy()  # rclpy leaves it, and it holds the node's handle
        super().destroy_node()

    def clear(self) -> None:
        for messages in [*self.heard.values(), self.feedback]:
            messages.clear()

    def send(self, image: Image | None = None, **fields: Any) -> Any:
        """The handle of a goal that was sent."""
        assert self.planner.wait_for_server(timeout_sec=10.0)
        goal = PlanToGoal.Goal(goal_image=image or Image(), **fields)
        sent = self.planner.send_goal_async(goal, feedback_callback=self._on_feedback)
        until(sent.done)
        return sent.result()

    def _on_feedback(self, message: Any) -> None:
        self.feedback.append(message.feedback)

    def result(self, handle: Any, timeout: float = 60.0) -> Any:
        waiting = handle.get_result_async()
        until(waiting.done, timeout)
        self.settle()
        return waiting.result()

    def settle(self) -> None:
        """Until nothing more comes from the planner: a result may overtake the topics."""

        def quiet() -> bool:
            before = self._count()
            time.sleep(0.2)
            return self._count() == before

        until(quiet)

    def _count(self) -> int:
        return sum(len(messages) for topic, messages in self.heard.items() if topic.startswith("planner/"))


def until(condition: Callable[[], Any], timeout: float = 30.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited {timeout} s in vain"
        time.sleep(0.01)


def place(x: float, y: float, z: float, frame: str = "base_link") -> PointStamped:
    return PointStamped(header=Header(frame_id=frame), point=Point(x=x, y=y, z=z))


def picture(value: int = 100, size: int = 64) -> Image:
    return image_from_array(np.full((size, size, 3), value, np.uint8), "rgb8", Header())


class World:
    """A simulated arm, a planner and a client, each active.

    Args: size: of the camera's square picture, pixels. sim: more parameters of the arm. joint_prefix: of planner and
    arm. heard_by_arm: the topic that the arm takes its trajectories from. parameters: of the planner; with use_sim_time
    it follows the simulation's clock, so that a slow machine makes no robot late.
    """

    def __init__(
        self,
        checkpoint: Path | str,
        size: int = 64,
        sim: dict | None = None,
        joint_prefix: str = "",
        heard_by_arm: str = "joint_trajectory",
        **parameters: Any,
    ) -> None:
        rclpy.init()
        planner = {"checkpoint": str(checkpoint), "device": "cpu", "joint_prefix": joint_prefix, **parameters}
        arm = {"width": size, "height": size, "publish_clock": planner.get("use_sim_time", False), **(sim or {})}
        arm["joint_prefix"] = joint_prefix
        self.sim = SimNode(
            parameter_overrides=[RosParameter(n, value=v) for n, v in arm.items()],
            cli_args=["--ros-args", "-r", f"joint_trajectory:={heard_by_arm}"],
        )
        self.planner = PlannerNode(
            parameter_overrides=[RosParameter(n, value=v) for n, v in planner.items()],
            cli_args=["--ros-args", "-r", "command:=joint_trajectory"],
        )
        whole = planner.get("gripper_output", "in_trajectory") == "in_trajectory"
        self.client = Client([joint_prefix + name for name in (*ARM.joint_names, *["gripper_joint"] * whole)])
        executor = NodeExecutor(num_threads=8)
        for node in (self.sim, self.planner, self.client):
            executor.add_node(node)
        self.spinning = SpinThread(executor)
        for node in (self.sim, self.planner):
            assert node.trigger_configure().name == "SUCCESS"
            assert node.trigger_activate().name == "SUCCESS"

    @property
    def joints(self) -> np.ndarray:
        return measured(self.planner.input.state)

    def set(self, **values: Any) -> None:
        results = self.planner.set_parameters([RosParameter(n, value=v) for n, v in values.items()])
        assert all(r.successful for r in results), [r.reason for r in results]

    def state(self) -> str:
        """What /diagnostics says that the planner does."""
        return next(v.value for v in self.planner.diagnostics.status().values if v.key == "state")

    def rest(self) -> None:
        """No goal, quick parameters, seeing, at rest and with nothing heard."""
        self.all_was_taken()
        self.set(**QUICK)
        self.client.goal_image.publish(Image())
        until(lambda: self.state() == "idle")
        until(lambda: self.client.heard["camera/image_raw"])
        self.client.settle()
        self.client.clear()

    def all_was_taken(self) -> None:
        """By a controller that refuses what ros2_controllers' refuses."""
        assert not self.client.refused

    def close(self) -> None:
        self.all_was_taken()
        self.spinning.end()
        self.planner.end()
        self.sim.end()
        for node in (self.planner, self.sim, self.client):
            node.destroy_node()
        rclpy.try_shutdown()
