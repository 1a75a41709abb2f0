"""One goal that was asked for: its request, its end, and the results of goals that were not pursued to it."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from deepverse_ros.action import PlanToGoal

Result: TypeAlias = PlanToGoal.Result


@dataclass
class GoalTask:
    """One goal that was asked for, by the action or by the topic.

    request: its pictures or its place, and what replaces the node's parameters where it is not 0.
    feedback: called after each plan's verdict. halted: whether the robot was stopped for it in the middle of a plan and
    may still move. It is set and read on the worker's thread only.
    """

    name: str
    request: PlanToGoal.Goal
    feedback: Callable[[PlanToGoal.Feedback], None] = lambda feedback: None
    result: Result | None = None
    halted: bool = False
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
    """The result of a goal that somebody ended, by its code."""
    texts = {
        Result.CANCELED: "canceled or withdrawn; the robot holds",
        Result.PREEMPTED: "preempted by a newer goal",
        Result.NODE_STOPPED: "the planner was deactivated; the robot holds",
    }
    return Result(code=code, text=texts[code], final_distance=math.nan)


def failed_result(error: Exception) -> Result:
    """The result of a goal whose planning raised an error."""
    text = f"planning failed: {type(error).__name__}: {error}; the robot holds"
    return Result(code=Result.FAILED, text=text, final_distance=math.nan)
