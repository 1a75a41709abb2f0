"""The robot as the planner works with it: what it shows, what it is told, and the model that knows it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from std_msgs.msg import Header

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.model.observation import Belief
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.nodes.base import RobotNode
from deepverse_ros.nodes.conversions import MessageError
from deepverse_ros.nodes.observation_input import ObservationInput
from deepverse_ros.nodes.plan_outputs import PlanOutputs
from deepverse_ros.nodes.planner_parameters import Settings
from deepverse_ros.planning.recalibration import Recalibration
from deepverse_ros.planning.verdict import Reason, rejected

POLL = 0.02
"""Seconds between two looks at the clock while the robot moves or an image is awaited."""


@dataclass(frozen=True)
class Robot:
    """Everything is used on the worker's thread.

    meanwhile: called again and again while the robot moves or an image is awaited.
    """

    node: RobotNode
    model: WorldModel
    input: ObservationInput
    outputs: PlanOutputs
    recalibration: Recalibration
    meanwhile: Callable[[], None]

    def settings(self) -> Settings:
        return Settings.of(self.node.parameters)

    def now(self) -> float:
        """The node's clock, seconds."""
        return self.node.now()

    def joints(self) -> np.ndarray | None:
        """Where the robot is (A,); None where that is not known."""
        try:
            return self.input.joints_now()
        except MessageError:
            return None

    def hold(self) -> None:
        """Command the robot to stay where it is."""
        self.outputs.hold(self.joints())

    def newest_image(self) -> float:
        """When the newest image arrived (time.monotonic()); 0 before the first."""
        newest = self.input.slot.peek()
        return 0.0 if newest is None else newest.received

    def hold_blind(self, plan_id: str, problem: str, seconds: float) -> None:
        """Hold because nothing usable was seen for so many seconds, and say so in a verdict."""
        self.hold()
        stale = self.node.parameters["stale_timeout"]
        # Since when is unknown where no image ever came.
        seconds = seconds if math.isfinite(seconds) else math.nan
        verdict = rejected(Reason.STALE_INPUT, problem, value=seconds, threshold=stale, plan_id=plan_id)
        self.outputs.verdict(verdict, Header())


class Rest:
    """Whether the joints have stopped: over one step of the model they move by less than a fiftieth of the most."""

    def __init__(self, embodiment: Embodiment) -> None:
        self._dt, self._still = embodiment.dt, 0.02 * embodiment.max_step
        self._since = -math.inf
        self._joints: np.ndarray | None = None

    def reached(self, elapsed: float, joints: np.ndarray | None) -> bool:
        """Args: elapsed seconds and joints (A,) now. Joints that are not known are taken to stand."""
        if joints is None or elapsed - self._since < self._dt:
            return joints is None
        before, self._since, self._joints = self._joints, elapsed, joints
        return before is not None and bool((np.abs(joints - before) <= self._still).all())


def tool_of(belief: Belief) -> np.ndarray:
    """(3,) metres: where the model reads the tool now."""
    return belief.tool_position[0].float().cpu().numpy()
