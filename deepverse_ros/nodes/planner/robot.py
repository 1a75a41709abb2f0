"""The robot as the planner works with it: what it shows, what it is told, and the model that knows it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from std_msgs.msg import Header

from deepverse_ros.model.belief import Belief
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.nodes.perception.observation_source import ObservationSource
from deepverse_ros.nodes.perception.robot_state import RobotState
from deepverse_ros.nodes.planner.outputs import PlanOutputs
from deepverse_ros.nodes.planner.parameters import Settings
from deepverse_ros.nodes.planner.robot_interface import RobotInterface
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.planning.verdicts.recalibration import Recalibration
from deepverse_ros.planning.verdicts.verdict import Reason, rejected
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Layout

POLL = 0.02
"""Seconds between two looks at the clock while the robot moves or an image is awaited."""


@dataclass(frozen=True)
class Robot:
    """Everything is used on the worker's thread.

    on_idle: called again and again while the robot moves or an image is awaited.
    """

    node: RobotNode
    model: WorldModel
    input: ObservationSource
    interface: RobotInterface
    outputs: PlanOutputs
    recalibration: Recalibration
    on_idle: Callable[[], None]

    def settings(self) -> Settings:
        return Settings.of(self.node.parameters)

    def now(self) -> float:
        """The node's clock, seconds."""
        return self.node.now()

    def state(self) -> RobotState | None:
        """Where the robot is; None where that is not known, or not lately."""
        return self.input.state.now()

    def hold(self) -> None:
        """Command the robot to come to rest."""
        self.interface.hold(self.state())

    def newest_image(self) -> float:
        """When the newest image arrived (time.monotonic()); 0 before the first."""
        newest = self.input.slot.peek()
        return 0.0 if newest is None else newest.received

    def hold_blind(self, plan_id: str, problem: str, seconds: float, limit: str = "stale_timeout") -> None:
        """Hold because nothing usable came for so many seconds, and say so in a verdict. Args: limit: its parameter."""
        self.hold()
        # Since when is unknown where nothing ever came.
        seconds = seconds if math.isfinite(seconds) else math.nan
        threshold = self.node.parameters[limit]
        verdict = rejected(Reason.STALE_INPUT, problem, value=seconds, threshold=threshold, plan_id=plan_id)
        self.outputs.verdict(verdict, Header())


class StandstillDetector:
    """Whether the robot has stopped.

    Over one step of the model its places change by less than a fiftieth of the most, and its rates are that near to
    rest.

    Args: layout: of its commands.
    """

    def __init__(self, embodiment: Embodiment, layout: Layout) -> None:
        self._dt = embodiment.dt
        self._still = 0.02 * embodiment.max_step
        self._rest = np.where(layout.position, np.nan, layout.rest)
        self._since = -math.inf
        self._values: np.ndarray | None = None

    def reached(self, elapsed: float, state: RobotState | None) -> bool:
        """Args: elapsed: seconds. state: now; a robot of which nothing is known is taken to stand."""
        if state is None or elapsed - self._since < self._dt:
            return state is None
        before = self._values
        self._since = elapsed
        self._values = state.values
        if before is None:
            return False
        reference = np.where(np.isnan(self._rest), before, self._rest)
        return bool((np.abs(state.values - reference) <= self._still).all())


def tool_of(belief: Belief) -> np.ndarray:
    """(3,) metres: where the model reads the tool now."""
    return belief.tool_position[0].float().cpu().numpy()
