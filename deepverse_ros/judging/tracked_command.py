"""A command on its way: when it began, how far it is, and what passed of it."""

from dataclasses import dataclass, replace

import numpy as np

from deepverse_ros.judging.command_stream import Stream
from deepverse_ros.safety.commands import Command

SAME = 1e-3
"""In each value's unit (rad, m, shares): two last way points that are so near are one."""
SLOWEST = 1e-4
"""Least share of its pace at which a command can be told to pass from one that is done."""


@dataclass(frozen=True, eq=False)
class TrackedCommand:
    """The newest command.

    command: in the layout's order; its start: where the robot was, or was told to be, when it came.
    begun: ROS seconds at which its time 0 was executed; None while it waits, and for a set-point or rate, which holds
        at once.
    pace: share of its own pace at which it is executed, and which `command` has.
    stream: that it goes on with, if any.
    """

    command: Command
    plan_id: str = ""
    begun: float | None = None
    pace: float = 1.0
    stream: Stream | None = None

    def elapsed(self, now: float) -> float:
        """Seconds of it that are done at `now` (ROS seconds); below 0 before it began."""
        return 0.0 if self.begun is None else now - self.begun

    def halted(self, now: float) -> "TrackedCommand":
        """It waits again: what is left of it begins where it was, at its own pace, as whoever sent it wants it."""
        if self.begun is None:
            return self
        left = self.command.remaining(max(self.elapsed(now), 0.0), 1 / self.pace)
        return replace(self, command=left, begun=None, pace=1.0)

    def ends_like(self, other: Command) -> bool:
        """Whether another command, in the layout's order, leads to the same place."""
        return bool(np.allclose(other.values[-1], self.command.values[-1], atol=SAME))

    def continued(self, passed: Command, now: float) -> "TrackedCommand | None":
        """It passed, as `passed`, at `now`; None where that is something else, such as a hold."""
        # What passed is this command only where it ends at the same place and is of the same kind.
        if not self.ends_like(passed) or (passed.duration > 0) != (self.command.duration > 0):
            return None
        # What is left of it now runs at the pace at which it passed; a set-point has no time that could begin.
        left = self.halted(now).command
        if passed.duration == 0:
            return replace(self, command=replace(passed, start=left.start), begun=None)
        return replace(self, command=replace(passed, start=left.start), begun=now, pace=_pace(left, passed))


def _pace(whole: Command, passed: Command) -> float:
    """Share of the pace of `whole` at which it passed, by the time from the last way point but one to the last."""
    # The last part is the one that both have, however much of the way is done.
    single = min(len(whole.times), len(passed.times)) == 1
    left, takes = (c.duration if single else float(c.times[-1] - c.times[-2]) for c in (whole, passed))
    share = left / takes if takes > 0 else 0.0
    if not SLOWEST <= share <= 1 / SLOWEST:
        return 1.0  # it was done and passes as it came
    return 1.0 if single and share >= 0.9 else share  # what is left of a single way is not known so exactly
