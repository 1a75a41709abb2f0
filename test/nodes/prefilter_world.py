"""What surrounds a prefilter in tests: a sender of commands, a world model that judges them, and a robot."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.evaluation.prefilter.bag import wanted
from deepverse_ros.msg import CommandVerdict, PrefilterStatus
from deepverse_ros.nodes.messages.command_verdict import command_verdict_to_msg
from deepverse_ros.nodes.messages.time import duration, stamp_from_seconds
from deepverse_ros.nodes.prefilter.node import PrefilterNode
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.commands import Layout
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.verdict import Envelope, Verdict

ARM = Embodiment.load("arm")
NAMES = Layout.of(ARM).names
JOINTS = [*ARM.joint_names, "gripper_joint"]
HOME = np.array(ARM.home)
GO = np.array([0.5, 0.0, 0.2, 0.0, 0.0, 0.0, 0.1, 0.0])
"""rad/s: a command of rates."""
CLEAR = Finding(Action.CLEAR)
BAD = Finding(Action.STOP, "person", 3, 40, 15, 0.0, text="zone 'person': 40 points at step 3, 15 count")
PATIENT = dict.fromkeys(
    ("heartbeat_timeout", "verdict_timeout", "image_timeout", "command_timeout", "measured_timeout", "begin_delay"), 1.0
)
"""For tests that are not about time: on a busy machine, what a test sends may be late."""
RATES = {"command_type": "float64_multi_array", "command_values": "rates"}


def command(values: np.ndarray = GO) -> Float64MultiArray:
    return Float64MultiArray(data=np.asarray(values, float).tolist())


def trajectory(*targets: np.ndarray, seconds: float = 1.0, stamp: float = 0.0) -> JointTrajectory:
    """Way points (8,), each `seconds` after the one before."""
    points = [
        JointTrajectoryPoint(positions=[float(v) for v in target], time_from_start=duration((k + 1) * seconds))
        for k, target in enumerate(targets)
    ]
    return JointTrajectory(header=Header(stamp=stamp_from_seconds(stamp)), joint_names=list(JOINTS), points=points)


def verdict(
    now: float, finding: Finding = CLEAR, center: np.ndarray = GO, times: Any = (1.6,), width: float = 0.02,
    image_age: float = 0.05, valid_for: float = 1.0, names: tuple[str, ...] = NAMES, frame: str = "base_link",
    robot: str = "arm",
) -> CommandVerdict:  # fmt: skip
    """Args: now: ROS seconds. center: (A,) or (len(times), A), in the order of the A names."""
    widths = np.full(len(names), width)
    envelope = Envelope(now, np.array(times, float), np.atleast_2d(center).astype(float), widths)
    made = Verdict(now, now - image_age, valid_for, envelope, finding, "c1")
    return command_verdict_to_msg(made, names, frame, robot, 10.0)


def heartbeat(now: float) -> Header:
    return Header(stamp=stamp_from_seconds(now), frame_id="base_link")


def joint_state(now: float, values: np.ndarray = HOME) -> JointState:
    header = Header(stamp=stamp_from_seconds(now), frame_id="base_link")
    return JointState(header=header, name=JOINTS, position=[float(v) for v in values])


class Surroundings:
    """Everything around a prefilter on real topics; by default all is well. `robot` is the fixture of that name."""

    def __init__(self, robot: Any, kind: type = Float64MultiArray, **parameters: Any) -> None:
        self.robot, self.peer = robot, robot.peer
        own = {Float64MultiArray: RATES, JointTrajectory: {"command_timeout": 0.0}}
        defaults = {"embodiment": "arm"} | PATIENT | own.get(kind, {})
        self.node: PrefilterNode = robot.start(PrefilterNode, alone=True, **{**defaults, **parameters})
        publisher = self.peer.create_publisher
        self.commands = publisher(kind, "prefilter/command_in", qos.command())
        self.verdicts = publisher(CommandVerdict, "world_model/command_verdict", qos.command())
        self.heartbeats = publisher(Header, "world_model/heartbeat", qos.command())
        self.states = publisher(JointState, "joint_states", qos.sensor_output())
        self.out: list[tuple[float, Any]] = []
        self.peer.create_subscription(
            kind, "prefilter/command_out", lambda m: self.out.append((time.monotonic(), m)), qos.command()
        )
        self.status: list[PrefilterStatus] = robot.hear(PrefilterStatus, "prefilter/status")
        self.finding, self.alive, self.judged = CLEAR, True, True
        self.measured = HOME
        self.commanded: Callable[[], Any] = command
        self.judgement: Callable[[], CommandVerdict] = lambda: verdict(self.now, self.finding)
        ends = [self.commands, self.verdicts, self.heartbeats]
        ends += [self.states] if self.node._embodiment.joint_names else []
        robot.until(lambda: all(end.get_subscription_count() for end in ends))
        passed = self.node.parameters["command_output"] != "topic"  # to an action, which has no subscriptions
        robot.until(lambda: (passed or self.node._out.get_subscription_count()) and self.status)
        self.last_beat = 0.0

    @property
    def now(self) -> float:
        return self.peer.get_clock().now().nanoseconds * 1e-9

    def around(self) -> None:
        """One heartbeat, verdict and joint state."""
        if self.alive:
            self.last_beat = time.monotonic()
            self.heartbeats.publish(heartbeat(self.now))
        self.states.publish(joint_state(self.now, self.measured))
        if self.judged:
            self.verdicts.publish(self.judgement())

    def drive(self, seconds: float, message: Any = None) -> list[Any]:
        """A command with all that belongs to it every 20 ms. Returns: what came out meanwhile."""
        begin = len(self.out)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.around()
            self.commands.publish(self.commanded() if message is None else message)
            self.robot.spin(0.02)
        return [m for _, m in self.out[begin:]]

    def drive_until(self, condition: Any, timeout: float = 10.0, message: Any = None) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, self.status[-1].text
            self.drive(0.02, message)

    def open(self) -> "Surroundings":
        """Until commands pass."""
        self.drive_until(lambda: self.status[-1].state == PrefilterStatus.PASS and self.out and moves(self.out[-1][1]))
        return self

    @property
    def state(self) -> int:
        return self.status[-1].state


def moves(message: Any) -> bool:
    return wanted(message)[0]
