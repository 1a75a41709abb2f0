"""Plans of others: each gets the verdict that a plan of our own would get."""

import math
import time
from typing import TypeAlias

import numpy as np
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.errors import MessageError
from deepverse_ros.model.observation import Goal
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import ActionPlan
from deepverse_ros.nodes.messages.plan import plan_from_msg, plan_from_trajectory
from deepverse_ros.nodes.perception.observation_source import ObservationSource, ObservationWindow
from deepverse_ros.nodes.perception.robot_state import RobotState
from deepverse_ros.nodes.planner.outputs import PlanOutputs
from deepverse_ros.nodes.planner.parameters import mpc_config
from deepverse_ros.nodes.planner.robot_interface import RobotInterface
from deepverse_ros.nodes.runtime.latest_slot import LatestSlot
from deepverse_ros.nodes.runtime.lifecycle import RobotNode, named
from deepverse_ros.planning.search.mpc import Mpc
from deepverse_ros.planning.verdicts.recalibration import Recalibration
from deepverse_ros.planning.verdicts.verdict import Reason, Verdict, rejected

Proposal: TypeAlias = ActionPlan | JointTrajectory


class Proposals:
    """The newest proposed plan of each kind, and its judgement.

    The `put_…` may be called from any thread, `serve` on the worker's.
    """

    def __init__(
        self,
        node: RobotNode,
        model: WorldModel,
        seen: ObservationSource,
        interface: RobotInterface,
        outputs: PlanOutputs,
        recalibration: Recalibration,
    ) -> None:
        self._node, self._model, self._input, self._outputs = node, model, seen, outputs
        self._interface = interface
        self._recalibration = recalibration
        self._plans: LatestSlot[tuple[Proposal, str, float]] = LatestSlot()
        self._trajectories: LatestSlot[tuple[Proposal, str, float]] = LatestSlot()
        self._unread: LatestSlot[str] = LatestSlot()
        self._count = 0

    def put_plan(self, message: ActionPlan) -> None:
        self._plans.put((message, message.id, time.monotonic()))

    def put_trajectory(self, message: JointTrajectory) -> None:
        """Its id is trajectory-SEC.NANOSEC of its stamp; without a stamp, trajectory-N, the Nth since `configure`."""
        self._count += 1
        stamp = message.header.stamp
        name = f"{stamp.sec}.{stamp.nanosec:09d}" if stamp.sec or stamp.nanosec else f"{self._count}"
        self._trajectories.put((message, f"trajectory-{name}", time.monotonic()))

    def put_unread(self, problem: str) -> None:
        """A plan came that was not read. Who proposes hears of it by a verdict without an id, as that was not read."""
        self._unread.put(problem)

    def serve(self, goal: Goal | None, may_execute: bool) -> None:
        """Judge the plans that wait, if any do, against `goal`; publish verdicts and imagined outcomes."""
        if (problem := self._unread.take()) is not None:
            self._outputs.verdict(rejected(Reason.INVALID_PLAN, f"the plan was not read: {problem}"), Header())
        for slot in (self._plans, self._trajectories):
            waiting = slot.take()
            if waiting is not None:
                self._serve(*waiting, goal, may_execute)

    def _serve(self, message: Proposal, plan_id: str, asked: float, goal: Goal | None, may_execute: bool) -> None:
        header, plan, start = Header(), None, None
        try:
            verdict, plan, start = self._judge(message, plan_id, goal, header)
        except Exception as error:  # who proposes must get a verdict, and what is pursued meanwhile must go on
            text = f"the plan could not be imagined: {named(error)}"
            self._node.warn_unexpected("proposal", f"{self._topic(message)}: the plan could not be imagined", error)
            verdict = rejected(Reason.TOO_UNCERTAIN, text)
        verdict = verdict.with_(plan_id=plan_id, latency_ms=(time.monotonic() - asked) * 1e3)
        self._outputs.verdict(verdict, header)
        if may_execute and verdict.accepted and plan is not None and start is not None:
            self._interface.send(plan, plan_id, len(plan), start)

    def _judge(
        self, message: Proposal, plan_id: str, goal: Goal | None, header: Header
    ) -> tuple[Verdict, np.ndarray | None, RobotState | None]:
        """header: filled in with that of the image that the verdict rests on.

        Returns: also what would be executed, and where it begins.
        """
        home = np.asarray(self._model.embodiment.home, np.float32)
        try:
            here = self._input.state.now()
            # What is wrong with the message is said wherever the robot is.
            self._plan(message, home, None if here is None else here.turns)
        except MessageError as error:
            self._node.warn("proposal", f"{self._topic(message)}: {error}")
            return rejected(Reason.INVALID_PLAN, str(error)), None, None
        if goal is None:
            return rejected(Reason.MISSES_GOAL, "there is no goal to judge the plan against"), None, None
        age, stale = self._input.age(), self._node.parameters["stale_timeout"]
        window, problem = self._look()
        if window is None or window.state is None or problem:
            if window is not None and window.state_problem:
                age, stale = self._input.state.age(), self._node.parameters["state_timeout"]
            age = age if math.isfinite(age) else math.nan
            return rejected(Reason.STALE_INPUT, problem, value=age, threshold=stale), None, None
        header.stamp, header.frame_id = window.header.stamp, window.header.frame_id
        plan = self._plan(message, window.state.values, window.state.turns)
        belief = window.observed_by(self._model)
        mpc = Mpc(self._model, mpc_config(self._node.parameters, self._model.config.horizon))
        mpc.calibration = self._recalibration.calibration
        verdict, future = mpc.judge_plan(belief, goal, plan, window.state.values)
        if future is not None:
            self._outputs.outcome(future, window, belief, verdict.with_(plan_id=plan_id))
        if verdict.accepted and (lost := self._input.state.problem()):  # while it was judged
            return rejected(Reason.STALE_INPUT, lost), None, None
        return verdict, plan, window.state

    def _plan(self, message: Proposal, start: np.ndarray, turns: np.ndarray | None) -> np.ndarray:
        """(H, A) at the model's step time, from `start` (A,) with `turns` (A,). Raises: MessageError."""
        if isinstance(message, ActionPlan):
            return plan_from_msg(message, self._model.embodiment, start)
        return plan_from_trajectory(message, self._input.layout, start, turns)

    def _look(self) -> tuple[ObservationWindow | None, str]:
        """The newest window, and what is wrong where there is none or no plan can be judged from it."""
        try:
            return self._input.newest()
        except MessageError as error:
            return None, str(error)

    @staticmethod
    def _topic(message: Proposal) -> str:
        return "~/proposed_plan" if isinstance(message, ActionPlan) else "~/proposed_trajectory"
