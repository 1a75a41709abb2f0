"""How far the robot is on a plan that it was sent, at once or when and as fast as a prefilter lets it pass."""

import math
import threading
from dataclasses import dataclass, replace

from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter

PARAMETERS = (
    Parameter(
        "passed_command_topic",
        "",
        "Where a prefilter sends what passes (JointTrajectory): a plan begins when it is there, and is as fast; empty: "
        "nothing stands between planner and robot.",
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
_SAME = 1e-3  # rad, or share of the gripper's way, within which a last point is the plan's


@dataclass(frozen=True)
class _Progress:
    """Where a plan is: `done` of its seconds at ROS seconds `at`, and `speed` of them in every second from then on.

    end: its last positions by joint. step, duration: seconds of one of its steps, and of all.
    """

    end: dict[str, float]
    step: float
    duration: float
    done: float = 0.0
    at: float = 0.0
    speed: float = 0.0

    @classmethod
    def of(cls, sent: JointTrajectory, now: float, speed: float) -> "_Progress":
        end = dict(zip(sent.joint_names, sent.points[-1].positions, strict=True))
        duration = _seconds(sent.points[-1])
        return cls(end, duration / len(sent.points), duration, at=now, speed=speed)

    def elapsed(self, now: float) -> float:
        """Seconds of the plan that are done at `now`, or have passed since its end."""
        return self.done + self.speed * (now - self.at)

    def kept(self, now: float) -> float:
        """Seconds for which it has not gone on."""
        return now - self.at if self.speed == 0 else 0.0

    def passed(self, message: JointTrajectory, now: float) -> "_Progress":
        """The robot was sent what is left of the plan, at some pace, or something else: then the plan is halted."""
        done, points = self.elapsed(now), message.points
        last = dict(zip(message.joint_names, points[-1].positions, strict=False)) if points else {}
        if any(abs(last.get(name, math.inf) - value) > _SAME for name, value in self.end.items()):
            # A halt is sent again and again.
            return self if self.speed == 0 else replace(self, done=done, at=now, speed=0.0)
        if done >= self.duration:  # a hold where it has arrived
            return self
        times = [_seconds(point) for point in points]
        speed = self.step / (times[-1] - times[-2]) if len(times) > 1 else 1.0
        return replace(self, done=self.duration - speed * times[-1], at=now, speed=speed)


class PlanProgress:
    """Follows the plan that was sent last, by what passes.

    waits: whether a prefilter stands between, so that a plan begins when it passes.
    """

    def __init__(self, node: RobotNode) -> None:
        self._node, self._lock = node, threading.Lock()
        self._course: _Progress | None = None
        topic = node.parameters["passed_command_topic"]
        self.waits = bool(topic)
        self._subscription = node.subscribe(JointTrajectory, topic, self._on_passed, qos.command()) if topic else None

    def destroy(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)

    def begin(self, sent: JointTrajectory) -> None:
        """A plan is about to be sent."""
        speed = 0.0 if self.waits else 1.0
        with self._lock:
            self._course = _Progress.of(sent, self._node.now(), speed) if sent.points else None

    def elapsed(self, now: float) -> float:
        """Seconds of the plan that are done at `now` (ROS seconds), or have passed since its end."""
        with self._lock:
            return self._course.elapsed(now) if self._course is not None else 0.0

    def kept(self, now: float) -> float:
        """Seconds for which it has not gone on."""
        with self._lock:
            return self._course.kept(now) if self._course is not None else 0.0

    def _on_passed(self, message: JointTrajectory) -> None:
        now = self._node.now()
        with self._lock:
            if self._course is not None:
                self._course = self._course.passed(message, now)


def _seconds(point: JointTrajectoryPoint) -> float:
    return point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec
