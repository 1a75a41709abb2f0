"""How far the robot is on a trajectory that it was sent, at once or when and as fast as a prefilter lets it pass."""

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepverse_ros.judging.tracked_command import TrackedCommand
from deepverse_ros.nodes.messages.command_formats import CommandFormat
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.safety.commands import Command, in_layout_order

PARAMETERS = (
    Parameter(
        "passed_command_topic",
        "",
        "Where a prefilter sends what passes (a command as the planner's): a plan begins when it is there, and is as "
        "fast; empty: nothing stands between planner and robot.",
    ),
    Parameter(
        "pass_timeout",
        5.0,
        "A plan that a prefilter has kept from going on for so long is given up (s).",
        0.1,
        60.0,
        dynamic=True,
    ),
)


@dataclass(frozen=True, eq=False)
class Progress:
    """Where a trajectory is, by what passed of it.

    tracked: what is left of it, and since when that is executed. duration: seconds of all of it. since: ROS seconds
    since when it has waited, if it does.
    """

    tracked: TrackedCommand
    duration: float
    since: float

    @classmethod
    def of(cls, sent: Command, now: float, waits: bool) -> "Progress":
        """Args: waits: whether it begins when it passes, and not at once."""
        return cls(TrackedCommand(sent, begun=None if waits else now), sent.duration, now)

    def elapsed(self, now: float) -> float:
        """Seconds of it that are done at `now`, or have passed since its end."""
        tracked = self.tracked
        return self.duration - tracked.pace * (tracked.command.duration - tracked.elapsed(now))

    def kept(self, now: float) -> float:
        """Seconds for which it has not gone on."""
        return now - self.since if self.tracked.begun is None else 0.0

    def passed(self, command: Command | None, now: float) -> "Progress":
        """The robot was sent what is left of it, at some pace, or something else: then it is halted.

        Args: command: in the layout's order; None for what is no command of this robot, such as a hold without points.
        """
        tracked = self.tracked
        if command is not None:
            if self.elapsed(now) >= self.duration and tracked.ends_like(command):  # a hold where it has arrived
                return self
            following = tracked.continued(command, now)
            if following is not None:
                return replace(self, tracked=following)
        # A halt is sent again and again.
        return self if tracked.begun is None else replace(self, tracked=tracked.halted(now), since=now)


class PlanProgress:
    """Follows the plan that was sent last, by what passes.

    waits: whether a prefilter stands between, so that a plan begins when it passes.

    Args: reader: for nothing else; it reads what passes.
    """

    def __init__(self, node: RobotNode, reader: CommandFormat) -> None:
        self._node = node
        self._reader = reader
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        topic = node.parameters["passed_command_topic"]
        self.waits = bool(topic)
        kind = reader.message_type
        self._subscription = (
            node.subscribe(kind, topic, self._on_passed, qos.command(), bound=reader.bound) if topic else None
        )

    def destroy(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)

    def begin(self, sent: Command, turns: np.ndarray) -> None:
        """A plan is about to be sent. Args: turns (A,): with which it is."""
        with self._lock:
            self._reader.turns = turns
            self._progress = Progress.of(sent, self._node.now(), self.waits)

    def elapsed(self, now: float) -> float:
        """Seconds of the plan that are done at `now` (ROS seconds), or have passed since its end."""
        with self._lock:
            return self._progress.elapsed(now) if self._progress is not None else 0.0

    def kept(self, now: float) -> float:
        """Seconds for which it has not gone on."""
        with self._lock:
            return self._progress.kept(now) if self._progress is not None else 0.0

    def _on_passed(self, message: Any) -> None:
        now = self._node.now()
        with self._lock:
            progress = self._progress
            if progress is None:
                return
            # A gripper that messages do not hold is where the plan has it at the end.
            incoming = self._reader.read(message, progress.tracked.command.values[-1])
            command = None if incoming.problem else in_layout_order(incoming.command, self._reader.layout)[0]
            self._progress = progress.passed(command, now)
