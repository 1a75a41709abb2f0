"""Plans of others: each gets the verdict that a plan of our own would get."""

import time

import numpy as np
from std_msgs.msg import Header

from deepverse_ros.model.observation import Goal
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import ActionPlan
from deepverse_ros.nodes.base import RobotNode
from deepverse_ros.nodes.conversions import MessageError
from deepverse_ros.nodes.observation_input import ObservationInput
from deepverse_ros.nodes.plan_outputs import PlanOutputs
from deepverse_ros.nodes.planner_parameters import mpc_config
from deepverse_ros.nodes.plans import plan_from_msg
from deepverse_ros.nodes.slot import LatestSlot
from deepverse_ros.planning.mpc import Mpc
from deepverse_ros.planning.recalibration import Recalibration
from deepverse_ros.planning.verdict import Reason, Verdict, rejected


class Proposals:
    """The newest proposed plan, and its judgement. `put` may be called from any thread, `serve` on the worker's."""

    def __init__(
        self,
        node: RobotNode,
        model: WorldModel,
        seen: ObservationInput,
        outputs: PlanOutputs,
        recalibration: Recalibration,
    ) -> None:
        self._node, self._model, self._input, self._outputs = node, model, seen, outputs
        self._recalibration = recalibration
        self._slot: LatestSlot[tuple[ActionPlan, float]] = LatestSlot()

    def put(self, message: ActionPlan) -> None:
        self._slot.put((message, time.monotonic()))

    def serve(self, goal: Goal | None, may_execute: bool) -> None:
        """Judge the plan that waits, if one does, against `goal`; publish its verdict and imagined outcome."""
        waiting = self._slot.take()
        if waiting is None:
            return
        message, asked = waiting
        header = Header()
        verdict, plan = self._judge(message, goal, header)
        verdict = verdict.with_(plan_id=message.id, latency_ms=(time.monotonic() - asked) * 1e3)
        self._outputs.verdict(verdict, header)
        if may_execute and verdict.accepted and plan is not None:
            self._outputs.send(plan, message.id, len(plan))

    def _judge(self, message: ActionPlan, goal: Goal | None, header: Header) -> tuple[Verdict, np.ndarray | None]:
        """header: filled in with that of the image that the verdict rests on."""
        try:
            plan = plan_from_msg(message, self._model.embodiment)
        except MessageError as error:
            self._node.warn("proposal", f"~/proposed_plan: {error}")
            return rejected(Reason.INVALID_PLAN, str(error)), None
        if goal is None:
            return rejected(Reason.MISSES_GOAL, "there is no goal image to judge the plan against"), plan
        age, stale = self._input.age(), self._node.parameters["stale_timeout"]
        sight = self._input.sight() if age <= stale else None
        if sight is None or sight.joints is None:
            problem = f"the newest image is {age:.2f} s old; stale_timeout is {stale} s"
            if sight is not None:
                problem = "the joints are unknown: no usable joint states have arrived"
            return rejected(Reason.STALE_INPUT, problem, value=age, threshold=stale), plan
        header.stamp, header.frame_id = sight.header.stamp, sight.header.frame_id
        belief = self._model.observe(sight.observation, sight.actions)
        mpc = Mpc(self._model, mpc_config(self._node.parameters, self._model.config.horizon))
        mpc.calibration = self._recalibration.calibration
        verdict, future = mpc.judge_plan(belief, goal, plan, sight.joints)
        if future is not None:
            self._outputs.outcome(future, sight, belief, verdict.with_(plan_id=message.id))
        return verdict, plan
