"""Pursuing one goal image: look, plan, have the plan judged, execute it only when accepted, look again."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from deepverse_ros.action import PlanToGoal
from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import DeepverseError
from deepverse_ros.model.observation import Belief, Goal
from deepverse_ros.nodes.conversions import MessageError
from deepverse_ros.nodes.observation_input import Sight
from deepverse_ros.nodes.planner_parameters import Settings
from deepverse_ros.nodes.verdicts import verdict_to_msg
from deepverse_ros.planning.mpc import Mpc, PlanResult
from deepverse_ros.planning.verdict import Reason, Verdict, rejected

Result: TypeAlias = PlanToGoal.Result
DRIFT = 0.25
"""Share of the largest step that joints may have moved between the image that a plan rests on and its execution."""
POLL = 0.02
"""Seconds between two looks at the clock while the robot moves or an image is awaited."""


@dataclass
class GoalTask:
    """One goal image that was asked for, by the action or by the topic.

    tolerance: metres that count as reached, max_plans: plans to try; None: the node's parameters.
    feedback: called after each plan's verdict.
    """

    name: str
    image: Image
    tolerance: float | None = None
    max_plans: int | None = None
    feedback: Callable[[PlanToGoal.Feedback], None] = lambda feedback: None
    result: Result | None = None
    _code: int | None = None
    _wake: threading.Event = field(default_factory=threading.Event)
    _done: threading.Event = field(default_factory=threading.Event)

    def stop(self, code: int) -> None:
        """Ask for an end with this result code; the first one counts."""
        if self._code is None:
            self._code = code
        self._wake.set()

    def stopped(self) -> bool:
        return self._wake.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait; True as soon as an end is asked for."""
        return self._wake.wait(seconds)

    def finish(self, result: Result | None = None) -> None:
        self.result = result or stopped_result(self._code if self._code is not None else Result.NODE_STOPPED)
        self._done.set()

    def wait(self) -> Result:
        """Block until the result is there."""
        self._done.wait()
        assert self.result is not None
        return self.result

    @property
    def stop_code(self) -> int:
        assert self._code is not None
        return self._code


def stopped_result(code: int) -> Result:
    texts = {
        Result.CANCELED: "canceled by the client; the robot holds",
        Result.PREEMPTED: "preempted by a newer goal",
        Result.NODE_STOPPED: "the planner was deactivated; the robot holds",
    }
    return Result(code=code, message=texts[code], final_distance=math.nan)


class Robot(Protocol):
    """What a pursuit asks of its node; every call is made on the worker's thread."""

    def settings(self) -> Settings: ...
    def input_age(self) -> float: ...
    def newest_received(self) -> float: ...
    def see(self) -> Sight: ...
    def joints_now(self) -> np.ndarray | None: ...
    def observe(self, sight: Sight) -> Belief: ...
    def encode_goal(self, image: Image) -> Goal: ...
    def mpc(self) -> Mpc: ...
    def publish_verdict(self, verdict: Verdict, header: Header) -> None: ...
    def publish_thoughts(self, result: PlanResult, sight: Sight, belief: Belief, goal: Goal) -> None: ...
    def send(self, plan: np.ndarray, plan_id: str, steps: int) -> None: ...
    def hold(self) -> None: ...
    def serve_proposal(self) -> None: ...
    def now(self) -> float: ...


class Pursuit:
    """Receding-horizon control to one goal image. `run` blocks until the goal has a result."""

    def __init__(self, robot: Robot, task: GoalTask, embodiment: Embodiment) -> None:
        self._robot = robot
        self._task = task
        self._dt = embodiment.dt
        self._largest_drift = DRIFT * embodiment.max_step
        self._accepted = self._rejected = 0
        self._distance = math.nan
        self._problem = ""

    def run(self) -> Result:
        robot, task = self._robot, self._task
        try:
            goal = robot.encode_goal(task.image)
        except DeepverseError as error:
            return self._end(Result.INVALID_GOAL, f"goal image: {error}")
        mpc = robot.mpc()
        after = 0.0
        while not task.stopped():
            sight = self._look(after)
            if sight is None:
                if task.stopped():
                    break
                robot.hold()
                return self._end(Result.NO_OBSERVATION, self._problem)
            belief = robot.observe(sight)
            self._distance = float(np.linalg.norm(belief.tool_position[0].float().cpu().numpy() - goal.tool_position))
            settings = robot.settings()
            known = not (belief.out_of_distribution or goal.out_of_distribution)
            tolerance = task.tolerance or settings.reached_tolerance
            if known and self._distance <= tolerance:
                robot.hold()
                return self._end(Result.REACHED, f"the tool is {self._distance:.3f} m from the goal")
            left = (task.max_plans or settings.max_plans) - self._tried
            if left <= 0:
                robot.hold()
                return self._end(Result.NOT_REACHED, f"{self._tried} plans were used; {self._distance:.3f} m are left")
            result = self._plan(mpc, sight, belief, goal, left=left, settings=settings)
            if task.stopped():
                break
            if not result.verdict.accepted or result.plan is None:
                robot.hold()
                return self._end(Result.NO_ACCEPTED_PLAN, f"{result.verdict.reason.value}: {result.verdict.text}")
            if self._withdrawn(sight, result.verdict):
                continue
            after = self._execute(result.plan, result.verdict.plan_id, settings)
        robot.hold()
        result = stopped_result(task.stop_code)
        return self._end(result.code, result.message)

    @property
    def _tried(self) -> int:
        return self._accepted + self._rejected

    def _end(self, code: int, message: str) -> Result:
        return Result(
            reached=code == Result.REACHED,
            code=code,
            message=message,
            final_distance=float(self._distance),
            plans_accepted=self._accepted,
            plans_rejected=self._rejected,
        )

    def _look(self, after: float) -> Sight | None:
        """The first usable frame that arrived later than `after` (time.monotonic()); None at the time limit."""
        robot, task = self._robot, self._task
        begin, reported, tried = time.monotonic(), False, 0.0
        self._problem = "no image has arrived"
        while not task.stopped():
            settings = robot.settings()
            age, received = robot.input_age(), robot.newest_received()
            if age <= settings.stale_timeout and received > max(after, tried):
                tried = received
                try:
                    sight = robot.see()
                    if sight.joints is not None:
                        return sight
                    self._problem = "the joints are unknown: no usable joint states have arrived"
                except MessageError as error:
                    self._problem = str(error)
            elif age > settings.stale_timeout:
                seen = f"the newest image is {age:.2f} s old" if math.isfinite(age) else "no image has arrived lately"
                self._problem = f"{seen}; stale_timeout is {settings.stale_timeout} s"
                if not reported:
                    self._stale(age, settings)
                    reported = True
            if time.monotonic() - begin > settings.observation_timeout:
                return None
            robot.serve_proposal()
            task.pause(POLL)
        return None

    def _stale(self, age: float, settings: Settings) -> None:
        self._robot.hold()
        verdict = rejected(Reason.STALE_INPUT, self._problem, value=age, threshold=settings.stale_timeout)
        self._robot.publish_verdict(verdict.with_(plan_id=self._task.name), Header())

    def _plan(self, mpc: Mpc, sight: Sight, belief: Belief, goal: Goal, *, left: int, settings: Settings) -> PlanResult:
        assert sight.joints is not None

        def on_verdict(verdict: Verdict) -> None:
            if verdict.accepted:
                self._accepted += 1
            else:
                self._rejected += 1
            self._robot.publish_verdict(verdict, sight.header)
            self._task.feedback(
                PlanToGoal.Feedback(
                    iteration=self._tried,
                    best_score=float(verdict.score),
                    estimated_distance=self._distance,
                    verdict=verdict_to_msg(verdict, sight.header),
                )
            )

        mpc.config = replace(mpc.config, max_replans=min(mpc.config.max_replans, left - 1))
        result = mpc.plan(
            belief,
            goal,
            sight.joints,
            deadline=time.monotonic() + settings.planning_timeout,
            plan_id=f"{self._task.name}.{self._tried}",
            on_verdict=on_verdict,
            stop=self._task.stopped,
        )
        self._robot.publish_thoughts(result, sight, belief, goal)
        return result

    def _withdrawn(self, sight: Sight, verdict: Verdict) -> bool:
        """Whether an accepted plan is void because the robot left its start meanwhile; says so in a second verdict."""
        try:
            joints = self._robot.joints_now()
            drift = np.inf if joints is None else np.abs(joints - sight.joints)
            problem = "" if (drift <= self._largest_drift).all() else "the robot moved while the plan was made"
        except MessageError as error:
            problem = str(error)
        if problem:
            self._accepted, self._rejected = self._accepted - 1, self._rejected + 1
            text = f"{problem}; the plan is withdrawn"
            self._robot.publish_verdict(rejected(Reason.INVALID_PLAN, text, plan_id=verdict.plan_id), sight.header)
        return bool(problem)

    def _execute(self, plan: np.ndarray, plan_id: str, settings: Settings) -> float:
        """Send an accepted plan and watch until it is done. Returns: time.monotonic() after which images show it."""
        robot = self._robot
        steps = min(settings.execute_steps, len(plan))
        robot.send(plan, plan_id, steps)
        begin = last = robot.now()
        while robot.now() - begin < steps * self._dt + settings.settle_time:
            if self._task.pause(POLL):
                break
            if robot.now() < last:  # the clock jumped back: what was begun belongs to another time
                robot.hold()
                break
            last = robot.now()
            age = robot.input_age()
            if age > settings.stale_timeout:
                self._problem = f"the newest image is {age:.2f} s old; stale_timeout is {settings.stale_timeout} s"
                self._stale(age, settings)
                break
            robot.serve_proposal()
        return time.monotonic()
