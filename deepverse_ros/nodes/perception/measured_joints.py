"""Where the joints are: what any number of publishers say, merged by name, with an age for each joint."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from deepverse_ros.errors import printable
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.perception.frame_history import TimedRing
from deepverse_ros.nodes.perception.robot_state import RobotState

TURN = 2 * math.pi
AHEAD, BEHIND, LATE = 0.5, 3.0, 0.2
"""Seconds by which a stamp may go on faster than time itself, and slower (messages come in bursts where a node is busy,
and a simulation may be slow), and by which it may be before the newest one."""
OWN_CLOCK = 1e9
"""Seconds behind ROS time from where on a stamp counts from a beginning of its own, such as a microcontroller's start,
and says only what came first."""
OVER = 0.5
"""Radians beyond its limits from where on a joint that goes round may be on another turn than before."""
MOST_TURNS, JUMP = 20.0, 1.0
"""Whole turns that a joint may be wound up, and radians that it moves at most from one measurement to the next: what is
sent to the robot goes by its turns, so a damaged position must not make some."""
SPEED_TIME = 0.05
"""Seconds, at least, over which a speed is measured."""
MOST_NAMES, MOST_SAMPLES = 1000, 3000
"""Names in a message, and measurements of one joint, that are kept."""


@dataclass
class _Joint:
    """turning: (lower, upper) of a joint for which a whole turn more is the same place; None for others."""

    name: str
    ring: TimedRing[float]
    turning: tuple[float, float] | None
    position: float = math.nan
    stamp: float = -math.inf
    received: float = -math.inf
    other: tuple[float, float] | None = None
    turn: float | None = None
    strange: str = ""
    heard: bool = False

    def add(self, position: float, stamp: float, received: float) -> None:
        if not math.isfinite(position):
            self.strange = f"{self.name} is {position}"
            return
        if self.heard and not self._goes_on(self.stamp, self.received, stamp, received):
            if self.stamp - LATE <= stamp <= self.stamp:
                if stamp < self.stamp:
                    self.ring.add(stamp, position)
                return
            # Another time. One alone is ignored, or whoever sends wrong stamps would take the joint from all others;
            # where the next one goes on from there, it was the clock that jumped.
            before, self.other = self.other, (stamp, received)
            if before is None or not self._goes_on(*before, stamp, received):
                return
            self.ring.clear()
        was = self.position if stamp - self.stamp < AHEAD else math.nan
        self.other, self.heard, self.strange = None, True, ""
        self.position, self.stamp, self.received = position, stamp, received
        self.ring.add(stamp, position)
        self._choose_turn(was)

    @staticmethod
    def _goes_on(stamp: float, received: float, next_stamp: float, next_received: float) -> bool:
        """Whether a stamp goes on with time since the one before; the same one again does not."""
        faster = (next_stamp - stamp) - (next_received - received)
        return next_stamp > stamp and -BEHIND < faster < AHEAD

    def _choose_turn(self, before: float) -> None:
        """Args: before: the position of just now, NaN where there was none."""
        if self.turning is None:
            self.turn = 0.0
            return
        lower, upper = self.turning
        if self.turn is not None and lower - OVER <= self.position - self.turn <= upper + OVER:
            return
        turn = TURN * round((self.position - (lower + upper) / 2) / TURN)
        fits = lower <= self.position - turn <= upper and not lower <= self.position <= upper
        turn = turn if fits and abs(turn) <= MOST_TURNS * TURN else 0.0
        if self.turn is None or not self._jumped(before, turn):
            self.turn = turn

    def _jumped(self, before: float, turn: float) -> bool:
        """Whether neither its count nor, on that turn, its place goes on from where it was: it was not turned."""
        moved = abs(self.position - before)
        return moved > JUMP and abs(moved - abs(turn - (self.turn or 0.0))) > JUMP

    def age(self, ros: float, steady: float) -> float:
        """Seconds, by arrival or by its stamp, whichever is more."""
        if not self.heard:
            return math.inf
        late = ros - self.stamp
        return max(steady - self.received, late if late < OWN_CLOCK else 0.0)

    def speed(self) -> float:
        before = self.ring.last(self.stamp - SPEED_TIME)
        if before is None or self.stamp - before[0] > AHEAD:
            return 0.0
        return (self.position - before[1]) / (self.stamp - before[0])


@dataclass
class MeasuredJoints:
    """Takes in joint states of any publisher, and says where the robot is and was. Thread-safe.

    A message updates the joints that it names, in any order; whatever else it names is somebody else's, and one without
    positions says nothing. A joint's value counts for `timeout` seconds after it came, and after its stamp. A stamp
    that was there before is no new measurement.

    A position beyond a joint's limits that lies within them less some whole turns is taken as that; it then stays on
    this turn, whatever is measured, until it is `OVER` beyond the limits on it.

    Args: span: seconds that are remembered.
    """

    layout: JointLayout
    span: float = 10.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        embodiment, columns = self.layout.embodiment, self.layout.columns()
        units = np.concatenate([[m.units] * m.dim for m in embodiment.modalities])
        limits = np.stack([embodiment.lower, embodiment.upper], 1).astype(float)
        self._joints = {
            name: _Joint(
                name,
                TimedRing(self.span, most=MOST_SAMPLES),
                tuple(limits[column]) if units[column] == "rad" else None,
            )
            for name, column in zip(self.layout.names(), columns, strict=True)
        }
        self._columns = columns
        self._foreign: tuple[str, ...] = ()

    def add(self, names: Sequence[str], positions: Sequence[float], stamp: float, received: float) -> str:
        """Args: stamp: ROS seconds; received: steady seconds.

        Returns: what is wrong with the message, which was ignored then; empty where nothing is.
        """
        if not len(positions):
            return ""
        if len(names) > MOST_NAMES:
            return f"name has {len(names)} entries; at most {MOST_NAMES} are read"
        own = [i for i, name in enumerate(names) if name in self._joints]
        if not own:
            self._foreign = tuple(printable(name, 40) for name in names[:8])
            return ""
        if len(names) != len(positions):
            return f"position has {len(positions)} values; name has {len(names)} entries"
        if len({names[i] for i in own}) != len(own):
            return f"name has a joint twice: {_listed([names[i] for i in own])}"
        with self._lock:
            for i in own:
                self._joints[names[i]].add(float(positions[i]), stamp, received)
        return ""

    def state(self, ros: float, steady: float, timeout: float) -> RobotState | None:
        """Where the robot is; None unless each joint was measured within the last `timeout` seconds.

        Args: ros, steady: this moment by both clocks, seconds.
        """
        with self._lock:
            joints = self._joints.values()
            if not joints or any(j.age(ros, steady) > timeout for j in joints):
                return None
            return self._state([(j.position, j.turn or 0.0, j.speed()) for j in joints])

    def at(self, stamp: float, tolerance: float) -> np.ndarray | None:
        """(A,) float32: where the robot was at `stamp`; None unless each joint has a measurement within `tolerance`."""
        with self._lock:
            near = [joint.ring.nearest(stamp, tolerance) for joint in self._joints.values()]
            if not near or any(n is None for n in near):
                return None
            turns = [joint.turn or 0.0 for joint in self._joints.values()]
            return self._state([(n[1], t, 0.0) for n, t in zip(near, turns, strict=True) if n is not None]).values

    def _state(self, joints: list[tuple[float, float, float]]) -> RobotState:
        """Args: position, turn and speed of each."""
        positions, turns, speeds = np.array(joints).T
        values = self.layout.values(dict(zip(self._joints, positions - turns, strict=True)))
        out = RobotState(values, np.zeros(len(values)), np.zeros(len(values)))
        out.turns[self._columns], out.speed[self._columns] = turns, speeds
        if self.layout.has_gripper_joint:
            out.speed[self._columns[-1]] /= self.layout.gripper_open - self.layout.gripper_closed
        return out

    def problem(self, ros: float, steady: float, timeout: float) -> str:
        """Which joints are unknown, and why; empty where all are known."""
        with self._lock:
            old = [j for j in self._joints.values() if j.age(ros, steady) > timeout]
            if not old:
                return ""
            parts = [j.strange for j in old if j.strange][:3]
            usable = [j for j in old if not j.strange]
            if never := [j.name for j in usable if not j.heard]:
                others = f" (there: {_listed(self._foreign)})" if self._foreign and len(never) == len(old) else ""
                parts.append(f"nothing has been heard of {_listed(never)}{others}")
            # What has come just now is late; the rest has not come for as long as it is old.
            late = {j.name: ros - j.stamp for j in usable if j.heard and steady - j.received <= 0.5 * timeout}
            if silent := {j.name: j.age(ros, steady) for j in usable if j.heard and j.name not in late}:
                have = "have" if len(silent) > 1 else "has"
                parts.append(f"{_listed(list(silent))} {have} been silent for {max(silent.values()):.1f} s")
            if late:
                come = "come" if len(late) > 1 else "comes"
                parts.append(f"{_listed(list(late))} {come} with stamps that are {max(late.values()):.1f} s old")
            return "; ".join(parts)

    def age(self, ros: float, steady: float) -> float:
        """Seconds, of the joint that was not heard of for longest; infinite where one never was, 0 without joints."""
        with self._lock:
            return max((j.age(ros, steady) for j in self._joints.values()), default=0.0)

    def forget(self) -> None:
        """As if nothing had come yet."""
        with self._lock:
            for joint in self._joints.values():
                self._joints[joint.name] = _Joint(joint.name, TimedRing(self.span, most=MOST_SAMPLES), joint.turning)
            self._foreign = ()


def _listed(names: Sequence[str]) -> str:
    if len(names) <= 3:
        return ", ".join(names)
    return f"{', '.join(names[:2])}, … and {names[-1]} ({len(names)} joints)"
