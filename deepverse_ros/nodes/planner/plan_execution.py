"""An accepted plan on its way: sent once, and compared with what was imagined for it until the robot rests."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from std_msgs.msg import Header

from deepverse_ros.errors import MessageError
from deepverse_ros.model.belief import Belief
from deepverse_ros.nodes.perception.observation_source import ObservationWindow
from deepverse_ros.nodes.perception.robot_state import RobotState
from deepverse_ros.nodes.planner.keeper import Kept
from deepverse_ros.nodes.planner.parameters import Settings
from deepverse_ros.nodes.planner.robot import POLL, Robot, StandstillDetector, tool_of
from deepverse_ros.planning.search.result import PlanResult
from deepverse_ros.planning.verdicts.monitor import Deviation, PathMonitor
from deepverse_ros.planning.verdicts.verdict import Reason, rejected


@dataclass(frozen=True)
class Executed:
    """How a plan ended.

    result: the plan and what was imagined for it. after: time.monotonic() after which images show where it led.
    steps: so many were executed; 0 where something ended it that says nothing about what was imagined. kept: who let
    nothing of it pass any more, where that ended it. failure: why the controller did not execute it to its end, empty
    where it did.
    """

    result: PlanResult
    after: float
    steps: int
    kept: Kept | None = None
    failure: str = ""


class Execution:
    """Follows one plan. Where an image shows the tool off the imagined path, the robot holds and a verdict says so.

    belief: what the plan rests on. start: where it begins. pause: waits so many seconds, True when an end is asked for.
    """

    def __init__(
        self, robot: Robot, result: PlanResult, belief: Belief, start: RobotState, settings: Settings,
        pause: Callable[[float], bool],
    ) -> None:  # fmt: skip
        assert result.plan is not None
        self._start = start
        self._robot, self._settings, self._pause = robot, settings, pause
        self._result, self._plan, self._id = result, result.plan, result.verdict.plan_id
        self._steps = min(settings.execute_steps, len(result.plan))
        self._dt = robot.model.embodiment.dt
        self._monitor = self._path_monitor(belief)

    def _path_monitor(self, belief: Belief) -> PathMonitor | None:
        result, calibration = self._result, self._robot.recalibration.calibration
        if not self._settings.monitor_path or calibration is None or calibration.path_error_z is None:
            return None
        steps, bounds = self._steps, calibration.path_bound(result.tool_std)
        return PathMonitor(
            tool_of(belief), result.tool_path[:steps], bounds[:steps], self._dt, self._settings.timing_tolerance
        )

    def run(self) -> Executed:
        """Send the plan, and return when the robot rests (or settle_timeout has passed), or must not go on.

        Where a prefilter stands between, the plan's time is that of what passes.
        """
        robot, settings, output = self._robot, self._settings, self._robot.interface.output
        last = robot.now()
        robot.interface.send(self._plan, self._id, self._steps, self._start)
        watch = None if self._monitor is None else _Watch(robot, self._monitor)
        steps, end = self._steps, self._steps * self._dt + settings.settle_time
        rest, stopped = StandstillDetector(robot.model.embodiment, robot.interface.layout), math.inf
        while True:
            now = robot.now()
            elapsed = output.elapsed(now) if now < stopped else end + now - stopped
            if elapsed >= end + settings.settle_timeout:
                break
            if now < stopped and output.kept(now) > settings.pass_timeout:
                kept = robot.interface.keeper.why()
                text = (
                    f"plan {self._id} was kept from going on for {output.kept(now):.1f} s and is given up: {kept.text}"
                )
                robot.node.warn("kept", text)
                robot.hold()
                return replace(self._ended(0), kept=kept)
            if elapsed >= end and rest.reached(elapsed, robot.state()):
                break
            if self._pause(POLL):
                return self._ended(0)
            if now < stopped and (failure := robot.interface.failure()):
                return self._given_up(failure)
            if robot.now() < last:  # the clock jumped back: what was begun belongs to another time
                robot.hold()
                return self._ended(0)
            last = robot.now()
            if self._blind(watch):
                return self._ended(0)
            left = None if watch is None else watch.look()
            if left is not None:
                self._stop(*left)
                watch, steps, stopped = None, left[0].step + 1, robot.now() + settings.settle_time
            robot.on_idle()
        return self._ended(steps)

    def _ended(self, steps: int) -> Executed:
        return Executed(self._result, time.monotonic(), steps)

    def _given_up(self, failure: str) -> Executed:
        """Hold, as the controller does not do what was imagined."""
        self._robot.hold()
        verdict = rejected(Reason.CONTROLLER_FAILED, failure, plan_id=self._id)
        self._robot.outputs.verdict(verdict, Header())
        return replace(self._ended(0), failure=failure)

    def _blind(self, watch: "_Watch | None") -> bool:
        """Hold where nothing shows any more what the robot does."""
        if problem := self._robot.input.state.problem():
            self._robot.hold_blind(self._id, problem, self._robot.input.state.age(), "state_timeout")
            return True
        stale = self._settings.stale_timeout
        unseen, unwatched = self._robot.input.age(), 0.0 if watch is None else watch.blind()
        problem = self._robot.input.stale()
        if not problem and unwatched > stale:
            needed = (
                f"images need stamps of this node's clock, the robot's state, and one {self._dt} s before them "
                "(monitor_path: false does without)"
            )
            problem = (
                f"no image could be compared with the imagined path for {unwatched:.2f} s, stale_timeout is {stale} s: "
                f"{self._robot.input.health.clock_problem or needed}"
            )
        if not problem:
            return False
        self._robot.hold_blind(self._id, problem, max(unseen, unwatched))
        return True

    def _stop(self, deviation: Deviation, window: ObservationWindow) -> None:
        self._robot.hold()
        calibration = self._robot.recalibration.calibration
        assert calibration is not None
        text = (
            f"the tool is {deviation.metres:.3f} m from its imagined path in step {deviation.step}, "
            f"at most {deviation.bound:.3f} m is expected ({calibration.percent}); the plan is stopped"
        )
        verdict = rejected(
            Reason.LEFT_IMAGINED_PATH, text, value=deviation.metres, threshold=deviation.bound,
            first_offending_step=deviation.step, plan_id=self._id, level=calibration.level,
        )  # fmt: skip
        self._robot.outputs.verdict(verdict, window.header)


class _Watch:
    """Compares each new image with the imagined path, from the beginning of the plan to its end."""

    def __init__(self, robot: Robot, monitor: PathMonitor) -> None:
        self._robot, self._monitor = robot, monitor
        self._received = 0.0
        self._compared = time.monotonic()

    def look(self) -> tuple[Deviation, ObservationWindow] | None:
        """What the newest image shows, if it is new and shows that the path was left."""
        received = self._robot.newest_image()
        if received <= self._received:
            return None
        self._received = received
        try:
            window = self._robot.input.latest_window()
        except MessageError:  # counts as not seen
            return None
        # A frame alone is read less sharply than what the bounds were calibrated with.
        if window is None or window.camera_problem or not window.actions.shape[1]:
            return None
        output = self._robot.interface.output
        if output.elapsed(self._robot.now()) <= 0:  # the plan waits to be let through: there is nothing to compare yet
            self._compared = time.monotonic()
            return None
        elapsed = output.elapsed(window.stamp)
        if not 0 < elapsed <= self._monitor.duration:
            return None
        belief = window.observed_by(self._robot.model)
        self._compared = time.monotonic()
        deviation = self._monitor.check(tool_of(belief), elapsed)
        return (deviation, window) if deviation.left else None

    def blind(self) -> float:
        """Seconds since an image was last compared; 0 after the plan's end."""
        over = self._robot.interface.output.elapsed(self._robot.now()) > self._monitor.duration
        return 0.0 if over else time.monotonic() - self._compared
