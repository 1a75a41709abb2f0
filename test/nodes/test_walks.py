"""The walks of a frame and of a plan in docs/architecture.md are those that running nodes take."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from planner_world import QUICK, World, place, until
from sensor_msgs.msg import CameraInfo, Image
from trajectory_msgs.msg import JointTrajectory
from walk import Walk

from deepverse_ros.action import PlanToGoal
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.future import Future
from deepverse_ros.model.observation import Goal, Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import ActionPlan, PlanVerdict, PredictedFrames
from deepverse_ros.nodes.perception.camera_input import CameraInput
from deepverse_ros.nodes.perception.observation_source import ObservationWindow
from deepverse_ros.nodes.planner.goal_controller import GoalController
from deepverse_ros.nodes.planner.node import PlannerNode
from deepverse_ros.nodes.simulation.node import SimNode
from deepverse_ros.nodes.world_model.node import WorldModelNode
from deepverse_ros.nodes.world_model.outputs import Prediction
from deepverse_ros.planning.objectives.base import WeightedSum
from deepverse_ros.planning.search.result import PlanResult
from deepverse_ros.planning.verdicts.verdict import Verdict
from deepverse_ros.safety.commands import Command

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
MOST = 20
SIZE, ACTIONS = 64, 8
MODEL = [f for name, f in vars(WorldModel).items() if callable(f) and not name.startswith("_")]


def told(walk: str) -> set[str]:
    """The files that the page lists."""
    text = PAGE.read_text().split(f"### The walk of a {walk}\n")[1].split("\n#")[0]
    return set(re.findall(r"`([a-z_/]+\.py)`", text))


def check(walk: Walk, name: str) -> None:
    listed = "\n".join(f"{file}: {', '.join(sorted(functions))}" for file, functions in walk.files.items())
    assert told(name) == set(walk.files), listed
    assert len(walk.files) <= MOST


def test_the_walk_of_a_frame(robot, small_checkpoint):
    def walks(value: Any) -> bool:
        kinds = (Image, CameraInfo, ObservationWindow, Observation, Belief, Future, Prediction, PredictedFrames)
        return isinstance(value, kinds) or (
            isinstance(value, np.ndarray | torch.Tensor) and value.ndim >= 2 and SIZE in value.shape
        )

    begins = [getattr(CameraInput, name) for name in ("_on_image", "_on_depth", "_on_info")]
    walk = Walk([*begins, WorldModelNode._on_frame], MODEL, walks)
    with walk.watched():
        robot.start(SimNode, width=SIZE, height=SIZE)
        robot.start(WorldModelNode, checkpoint=str(small_checkpoint), device="cpu")
        frames = robot.hear(PredictedFrames, "world_model/predicted_frames")
        robot.until(lambda: len(frames) > 2)
        with walk.noted():
            before = len(frames)
            robot.until(lambda: len(frames) > before + 2)
    check(walk, "frame")


def test_the_walk_of_a_plan():
    """From the goal to the trajectory, where nobody listens to pictures; how the planner looks is a frame's walk."""

    def walks(value: Any) -> bool:
        kinds = (PlanToGoal.Goal, Goal, PlanResult, Verdict, PlanVerdict, ActionPlan, Command, JointTrajectory)
        return isinstance(value, kinds) or (
            isinstance(value, np.ndarray | torch.Tensor)
            and value.ndim >= 2
            and value.shape[-1] == ACTIONS
            and value.shape[0] > 1
        )

    walk = Walk([PlannerNode._run], [*MODEL, WeightedSum.__call__, GoalController._look], walks)
    with walk.watched():
        world = World("models/arm", size=128)
        try:
            world.set(**(QUICK | {"samples": 64, "iterations": 2, "goal_tolerance": 0.2}))
            for subscription in list(world.client.subscriptions):
                if subscription.topic_name in ("/planner/candidates", "/planner/imagined_outcome"):
                    world.client.destroy_subscription(subscription)
            until(lambda: world.client.heard["camera/image_raw"])
            with walk.noted():
                world.client.send(goal_position=place(0.45, -0.15, 0.3))
                until(lambda: world.client.heard["joint_trajectory"], 60.0)
        finally:
            world.close()
    check(walk, "plan")
