"""Tracking the goal images of a topic: the newest picture is the goal until it is withdrawn (continuous MPC)."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from sensor_msgs.msg import Image

from deepverse_ros.action import PlanToGoal
from deepverse_ros.errors import MessageError, ShapeError
from deepverse_ros.model.observation import Goal
from deepverse_ros.nodes.messages.goal import goal_from_images
from deepverse_ros.nodes.perception.observation_source import read_goal
from deepverse_ros.nodes.planner.goal_controller import GoalController
from deepverse_ros.nodes.planner.goal_task import GoalTask, Result, stopped_result
from deepverse_ros.nodes.planner.robot import POLL, Robot
from deepverse_ros.nodes.runtime.latest_slot import LatestSlot
from deepverse_ros.nodes.runtime.lifecycle import RobotNode

ENDLESS = 2**32 - 1
"""Plans to try for a goal that is tracked: it ends otherwise."""


@dataclass
class TrackingTask(GoalTask):
    """Goal images of the topic, one after the other, until one is withdrawn.

    pictures: the newest one. changed: what is pursued shall end, because the newest picture shows another place; the
    task goes on. It is set and read on the worker's thread only.
    """

    request: PlanToGoal.Goal = field(default_factory=lambda: PlanToGoal.Goal(max_plans=ENDLESS))
    pictures: LatestSlot[Image] = field(default_factory=LatestSlot)
    changed: bool = False

    def ended(self) -> bool:
        return super().stopped() or self.result is not None

    def stopped(self) -> bool:
        return super().stopped() or self.changed

    def pause(self, seconds: float) -> bool:
        return super().pause(seconds) or self.changed

    @property
    def stop_code(self) -> int:
        return super().stop_code if super().stopped() else Result.PREEMPTED


class GoalImageTracker:
    """Keeps the robot at the goal that the newest picture shows. `run` blocks until the task is ended.

    A goal that was reached is watched and pursued again when the tool has left it. Where no plan is accepted, no image
    comes or planning fails, the robot holds for `retry_period` and tries again. A newer picture is the same goal while
    it shows the tool within `goal_change`; otherwise it replaces the goal, also while a plan is executed, but not
    before that one ran for `goal_dwell`: a film of a goal that moves must not keep the robot from moving.

    Args: aim: called with each goal that is pursued from then on.
    """

    def __init__(self, node: RobotNode, robot: Robot, task: TrackingTask, aim: Callable[[Goal], None]) -> None:
        self._node = node
        self._task = task
        self._aim = aim
        self._others = robot.on_idle
        self._robot = replace(robot, on_idle=self._on_idle)
        self._controller: GoalController | None = None
        self._goal: Goal | None = None
        self._newest: Goal | None = None
        self._read: Image | None = None
        self._begins, self._not_before = False, 0.0
        task.feedback = self._on_feedback

    def run(self) -> Result:
        task = self._task
        while not task.ended():
            try:
                self._read_picture()
                if self._newest is None:
                    text = "the goal image cannot be used"
                    return Result(code=Result.INVALID_GOAL, text=text, final_distance=math.nan)
                self._pursue(self._newest)
            except Exception as error:  # such as the GPU's: the goal stays, and what failed may work again
                self._robot.hold()
                self._node.warn_unexpected("tracking", f"{task.name}: the robot holds, as planning failed", error)
                task.pause(self._node.parameters["retry_period"])
        return stopped_result(task.stop_code) if self._controller is None else self._controller.stop()

    def _pursue(self, goal: Goal) -> None:
        """Go there and stay, until the tool has left it or another goal is shown; or wait where that is impossible."""
        task = self._task
        self._goal = goal
        self._aim(goal)
        if self._controller is None:
            self._controller = GoalController(self._robot, task, goal)
        self._controller.set_goal(goal)
        if task.changed:
            task.changed, task.halted = False, True
        result = self._controller.run()
        self._begins, self._not_before = False, 0.0  # nothing is executed any more
        if task.stopped():
            return
        self._node.get_logger().info(f"{task.name}: {result.text}")
        if result.reached:
            self._controller.wait_until_left()
        else:
            end = time.monotonic() + self._node.parameters["retry_period"]
            while time.monotonic() < end and not task.pause(POLL):
                self._on_idle()

    def _on_feedback(self, feedback: PlanToGoal.Feedback) -> None:
        self._begins = feedback.verdict.accepted

    def _on_idle(self) -> None:
        self._others()
        if self._begins:  # the plan that was accepted is executed from now on
            self._begins, self._not_before = False, time.monotonic() + self._node.parameters["goal_dwell"]
        if time.monotonic() < self._not_before:
            return
        self._read_picture()
        goal, newest = self._goal, self._newest
        if goal is not None and newest is not None and newest is not goal and self._is_another(newest, goal):
            self._task.changed = True

    def _is_another(self, newest: Goal, goal: Goal) -> bool:
        moved = float(np.linalg.norm(newest.tool_position - goal.tool_position))
        alike = newest.out_of_distribution == goal.out_of_distribution
        return not (alike and moved <= self._node.parameters["goal_change"])

    def _read_picture(self) -> None:
        """Have the newest picture read, unless that was done, or it has the same pixels as the one before."""
        message = self._task.pictures.peek()
        if message is None or message is self._read:
            return
        if self._read is None or not _same_pixels(message, self._read):
            try:
                picture = goal_from_images(message, Image())
                self._newest = read_goal(self._robot.model, self._robot.input.latest_window, *picture)
            except ShapeError as error:  # where the camera stands may be known later
                self._node.warn("goal_image", f"~/goal_image: {error}")
                return
            except MessageError as error:
                self._node.warn("goal_image", f"~/goal_image: {error}; the picture was ignored")
        self._read = message


def _same_pixels(one: Image, other: Image) -> bool:
    shape = ("height", "width", "encoding", "step")
    return all(getattr(one, name) == getattr(other, name) for name in shape) and one.data == other.data
