"""The command that the robot follows now: what the world model imagines the future of."""

import threading
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.errors import MessageError
from deepverse_ros.msg import ActionPlan
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.plan import command_from_trajectory, plan_from_msg
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.perception.observation_source import ObservationWindow
from deepverse_ros.nodes.perception.robot_state import StateInput
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.safety.commands import Command


@dataclass(frozen=True)
class _Command:
    """way: in the order of an action, with its start. begin: of its time 0, seconds of the node's clock."""

    way: Command
    begin: float
    plan_id: str


class CommandInput:
    """Subscribes to plans and trajectories; the newest of either is the running command.

    Args: node: with the parameters `plan_topic` and `trajectory_topic`. state: where the robot is.
    """

    def __init__(self, node: RobotNode, layout: JointLayout, state: StateInput) -> None:
        self._node = node
        self._layout, self._state = layout, state
        self._lock = threading.Lock()
        self._command: _Command | None = None
        self._subscriptions: list = []

    def start(self) -> None:
        node = self._node
        wanted = (
            (ActionPlan, node.parameters["plan_topic"], self._on_plan),
            (JointTrajectory, node.parameters["trajectory_topic"], self._on_trajectory),
        )
        self._subscriptions = [
            node.subscribe(kind, topic, callback, qos.command()) for kind, topic, callback in wanted if topic
        ]

    def stop(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        with self._lock:
            self._command = None

    def _on_plan(self, message: ActionPlan) -> None:
        try:
            plan = plan_from_msg(message, self._layout.embodiment)
        except MessageError as error:
            self._node.warn("command", f"{self._node.parameters['plan_topic']}: {error}; the plan was ignored")
            return
        times = self._layout.embodiment.dt * np.arange(1, len(plan) + 1)
        here = self._state.now()
        self._set(
            message.header.stamp, Command(plan, times, start=plan[0] if here is None else here.values), message.id
        )

    def _on_trajectory(self, message: JointTrajectory) -> None:
        topic = self._node.parameters["trajectory_topic"]
        here = self._state.now()
        try:
            if here is None:
                raise MessageError(f"where the trajectory starts is unknown: {self._state.problem()}")
            command = command_from_trajectory(message, self._layout, here.values, here.turns)
        except MessageError as error:
            self._node.warn("command", f"{topic}: {error}; the trajectory was ignored")
            return
        self._set(message.header.stamp, command, "")

    def _set(self, stamp: Time, command: Command | None, plan_id: str) -> None:
        # A zero stamp means: now, as for every trajectory controller.
        begin = stamp_seconds(stamp) or self._node.now()
        with self._lock:
            self._command = None if command is None else _Command(command, begin, plan_id)

    def plan(self, window: ObservationWindow, horizon: int) -> tuple[np.ndarray | None, str]:
        """What the robot will do in the `horizon` steps after the newest frame.

        Returns: (horizon, A) float32 and the plan's id. Without a command the robot stays where it is; (None, "")
        where that is not known.
        """
        embodiment = self._layout.embodiment
        with self._lock:
            command = self._command
        if command is None:
            if window.state is None:
                return None, ""
            stay = np.clip(window.state.values, embodiment.lower, embodiment.upper)
            return np.repeat(stay[None], horizon, axis=0), ""
        seen = stamp_seconds(window.header.stamp) or self._node.now()
        elapsed = seen - command.begin
        if elapsed < -10.0:  # the clock jumped back: this command belongs to another time
            with self._lock:
                self._command = None
            return self.plan(window, horizon)
        at = elapsed + embodiment.dt * np.arange(1, horizon + 1)
        plan = command.way.at(at).astype(np.float32)
        return np.clip(plan, embodiment.lower, embodiment.upper), command.plan_id
