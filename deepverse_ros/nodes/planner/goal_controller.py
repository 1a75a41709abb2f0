"""Pursuing one goal: look, plan, have the plan judged, execute it only when accepted, look again."""

import math
import time
from dataclasses import replace

import numpy as np

from deepverse_ros.action import PlanToGoal
from deepverse_ros.errors import MessageError
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.observation import Goal
from deepverse_ros.nodes.messages.plan_verdict import verdict_to_msg
from deepverse_ros.nodes.perception.observation_source import ObservationWindow
from deepverse_ros.nodes.planner.goal_task import GoalTask, Result, stopped_result
from deepverse_ros.nodes.planner.keeper import Kept
from deepverse_ros.nodes.planner.parameters import Settings, mpc_config
from deepverse_ros.nodes.planner.plan_execution import Executed, Execution
from deepverse_ros.nodes.planner.robot import POLL, Robot, StandstillDetector, tool_of
from deepverse_ros.planning.search.mpc import Mpc
from deepverse_ros.planning.search.result import PlanResult
from deepverse_ros.planning.verdicts.verdict import Reason, Verdict, rejected

DRIFT = 0.25
"""Share of the largest step that the robot may have moved between the image that a plan rests on and its execution."""
KEPT = 2
"""Plans in a row that are kept from going on for the same cause, after which more of them would change nothing."""
AWAY = 3
"""Looks in a row that must show the tool away from a goal that was reached: one alone may be the camera's noise."""


class GoalController:
    """Receding-horizon control to one goal. `run` blocks until the goal has a result.

    After that, `wait_until_left` blocks until the goal is left again, and `set_goal` sets another one for the next
    `run`.
    """

    def __init__(self, robot: Robot, task: GoalTask, goal: Goal) -> None:
        self._robot = robot
        self._task = task
        self._goal = goal
        self._accepted = self._rejected = 0
        self._distance = math.nan
        self._problem = ""
        self._kept: list[Kept] = []
        """Of the last plans, one after the other and for one cause."""

    def set_goal(self, goal: Goal) -> None:
        """Pursue this goal from the next `run` on; its plans are counted on."""
        self._goal = goal

    def run(self) -> Result:
        robot, task = self._robot, self._task
        request = task.request
        parameters = robot.node.parameters
        # What was searched before, with these seeds, need not be searched again.
        seed = parameters["seed"] + self._tried
        mpc = Mpc(robot.model, mpc_config(parameters, robot.model.config.horizon), seed=seed)
        executed: Executed | None = None
        self._kept = []
        self._wait_until_still()
        while not task.stopped():
            window = self._look(0.0 if executed is None else executed.after)
            if window is None:
                if task.stopped():
                    break
                robot.hold()
                return self._end(Result.NO_OBSERVATION, self._problem)
            belief = window.observed_by(robot.model)
            if executed is not None and not belief.out_of_distribution:
                self._learn(executed, tool_of(belief))
            executed = None
            settings = robot.settings()
            left = (request.max_plans or settings.max_plans) - self._tried
            ended = self._ended(belief, settings, left)
            if ended is not None:
                robot.hold()
                return ended
            result = self._plan(mpc, window, belief, left, settings)
            if task.stopped():
                break
            if not result.verdict.accepted or result.plan is None:
                robot.hold()
                return self._end(Result.NO_ACCEPTED_PLAN, f"{result.verdict.reason.value}: {result.verdict.text}")
            if self._withdrawn(window, result.verdict):
                continue
            assert window.state is not None
            executed = Execution(robot, result, belief, window.state, settings, task.pause).run()
            self._note(executed.kept)
            if executed.failure:
                return self._end(Result.CONTROLLER_FAILED, f"{executed.failure}; the robot holds")
        return self.stop()

    def _ended(self, belief: Belief, settings: Settings, left: int) -> Result | None:
        """The result where the goal is reached, or another plan would change nothing."""
        if self._is_there(belief, settings):
            return self._end(Result.REACHED, f"the tool is {self._distance:.3f} m from the goal")
        if left <= 0 or len(self._kept) >= KEPT:
            return self._end(Result.NOT_REACHED, self._short_of_it())
        return None

    def wait_until_left(self) -> None:
        """Look on, without a command, until the tool has left the goal that was reached, or an end is asked for."""
        robot, task, away, after = self._robot, self._task, 0, 0.0
        while away < AWAY and not task.stopped():
            robot.on_idle()
            window = self._look(after)
            if window is None:
                continue
            after = window.received
            belief = window.observed_by(robot.model)
            away = 0 if self._is_there(belief, robot.settings()) else away + 1
            task.pause(robot.model.embodiment.dt)

    def stop(self) -> Result:
        """Hold, and say why it ends; for a task that was asked to end."""
        self._robot.hold()
        result = stopped_result(self._task.stop_code)
        return self._end(result.code, result.text)

    def _is_there(self, belief: Belief, settings: Settings) -> bool:
        goal, wanted = self._goal, self._task.request.goal_tolerance
        self._distance = float(np.linalg.norm(tool_of(belief) - goal.tool_position))
        known = not (belief.out_of_distribution or goal.out_of_distribution)
        return known and self._distance <= (wanted if wanted > 0 else settings.reached_tolerance)

    def _wait_until_still(self) -> None:
        """Wait until a robot that was halted stands still: a plan made before that would be withdrawn."""
        if not self._task.halted:
            return
        self._task.halted = False
        robot, begin = self._robot, time.monotonic()
        rest = StandstillDetector(robot.model.embodiment, robot.interface.layout)
        while (elapsed := time.monotonic() - begin) < robot.node.parameters["settle_timeout"]:
            if rest.reached(elapsed, robot.state()) or self._task.pause(POLL):
                break

    def _note(self, kept: Kept | None) -> None:
        """Args: kept: who kept the last plan from going on, if anybody did."""
        self._kept = [] if kept is None else [*(k for k in self._kept if k.cause == kept.cause), kept]

    def _short_of_it(self) -> str:
        kept = self._kept
        text = f"{self._tried} plan{'s were' if self._tried != 1 else ' was'} used; {self._distance:.3f} m are left"
        if not kept:
            return text
        which = "the last one was" if len(kept) == 1 else f"the last {len(kept)} were"
        return f"{text}; {which} accepted but kept from going on for pass_timeout: {kept[-1].text}"

    @property
    def _tried(self) -> int:
        return self._accepted + self._rejected

    def _end(self, code: int, text: str) -> Result:
        return Result(
            reached=code == Result.REACHED,
            code=code,
            text=text,
            final_distance=float(self._distance),
            plans_accepted=self._accepted,
            plans_rejected=self._rejected,
        )

    def _look(self, after: float) -> ObservationWindow | None:
        """The first usable frame that arrived later than `after` (time.monotonic()); None at the time limit."""
        robot, task = self._robot, self._task
        begin, reported, tried = time.monotonic(), False, 0.0
        self._problem = "no new image has arrived since the last plan"
        while not task.stopped():
            settings = robot.settings()
            stale, received = robot.input.stale(), robot.newest_image()
            if not stale and received > max(after, tried):
                tried = received
                try:
                    window, self._problem = robot.input.newest()
                    if window is not None and not self._problem:
                        return window
                except MessageError as error:
                    self._problem = str(error)
            elif stale:
                self._problem = stale
                if not reported:
                    robot.hold_blind(task.name, stale, robot.input.age())
                    reported = True
            if time.monotonic() - begin > settings.observation_timeout:
                return None
            robot.on_idle()
            task.pause(POLL)
        return None

    def _plan(self, mpc: Mpc, window: ObservationWindow, belief: Belief, left: int, settings: Settings) -> PlanResult:
        assert window.state is not None

        def on_verdict(verdict: Verdict) -> None:
            if verdict.accepted:
                self._accepted += 1
            else:
                self._rejected += 1
            self._robot.outputs.verdict(verdict, window.header)
            self._task.feedback(
                PlanToGoal.Feedback(
                    iteration=self._tried,
                    best_score=float(verdict.score),
                    estimated_distance=self._distance,
                    verdict=verdict_to_msg(verdict, window.header),
                )
            )

        mpc.calibration = self._robot.recalibration.calibration
        mpc.config = replace(mpc.config, max_replans=min(mpc.config.max_replans, left - 1))
        result = mpc.plan(
            belief,
            self._goal,
            window.state.values,
            deadline=time.monotonic() + settings.planning_timeout,
            plan_id=f"{self._task.name}.{self._tried}",
            on_verdict=on_verdict,
            stop=self._task.stopped,
        )
        self._robot.outputs.publish_search(result, window, belief, self._goal, mpc.calibration)
        return result

    def _learn(self, executed: Executed, tool: np.ndarray) -> None:
        """Recalibrate by a plan that led the tool to (3,), metres."""
        result, last, recalibration = executed.result, executed.steps - 1, self._robot.recalibration
        if last < 0:
            return
        error = float(np.linalg.norm(tool - result.tool_path[last]))
        if recalibration.observe(error, last, float(result.tool_std[last]), self._goal.tool_std):
            self._robot.node.get_logger().info(
                f"plan {result.verdict.plan_id} ended {error:.3f} m from where it was imagined; bounds of the goal "
                f"distance are now {recalibration.factor:.2f} times the calibrated ones "
                f"({recalibration.missed} of {recalibration.executed} plans missed theirs)"
            )

    def _withdrawn(self, window: ObservationWindow, verdict: Verdict) -> bool:
        """Whether an accepted plan is void because the robot left its start meanwhile, or nobody knows whether it did.

        Says so in a second verdict.
        """
        now, start = self._robot.state(), window.state
        assert start is not None
        limit = DRIFT * self._robot.model.embodiment.max_step
        if now is None:
            reason, why = Reason.STALE_INPUT, self._robot.input.state.problem()
        elif bool((np.abs(now.values + now.turns - start.values - start.turns) <= limit).all()):
            return False
        else:
            reason, why = Reason.INVALID_PLAN, "the robot moved while the plan was made"
        self._accepted, self._rejected = self._accepted - 1, self._rejected + 1
        text = f"{why}; the plan is withdrawn"
        self._robot.outputs.verdict(rejected(reason, text, plan_id=verdict.plan_id), window.header)
        return True
