"""Every kind of fault on everything that the prefilter hears: no command passes that no fresh verdict answers for.

The real node, its messages and the real faults, with time that the test makes, so that a case takes a second.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import rclpy
from prefilter_world import (
    BAD,
    CLEAR,
    GO,
    HOME,
    JOINTS,
    NAMES,
    RATES,
    command,
    heartbeat,
    joint_state,
    trajectory,
)
from rclpy.parameter import Parameter as RosParameter
from rosgraph_msgs.msg import Clock
from strict_controller import refusal
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.fault_injection.corruptions import corrupt
from deepverse_ros.nodes.messages.command_verdict import command_verdict_to_msg
from deepverse_ros.nodes.messages.depth_decoding import depth_from_image
from deepverse_ros.nodes.messages.image import image_from_array
from deepverse_ros.nodes.messages.time import stamp_from_seconds, stamp_seconds
from deepverse_ros.nodes.prefilter.node import PrefilterNode
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.faults import KINDS, Channel, Fault
from deepverse_ros.safety.gate import Gate
from deepverse_ros.safety.settings import CommandLimits, GateSettings
from deepverse_ros.safety.verdict import Envelope, Verdict

TICK, BEGIN, END, LAST = 0.02, 1.5, 3.0, 5.0
FORBIDDEN = (2.2, 2.7)
"""Seconds in which the true verdicts say stop."""
WIDTH = 0.02
ROGUE = np.array([-1.0, 0.0, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0])
"""rad/s: what nobody ever judges."""
FIRST_ROS = 1000.0


class VirtualPrefilter(PrefilterNode):
    """The node, at a time that the test sets."""

    steady, ros = 100.0, FIRST_ROS

    def moment(self) -> Now:
        return Now(self.steady, self.ros)


@dataclass
class Recorder:
    """In the place of the publisher: what went out, and when."""

    node: VirtualPrefilter
    sent: list[tuple[float, Any]] = field(default_factory=list)
    listener: Callable[[Any], None] | None = None

    def publish(self, message: Any, rest: bool = False) -> None:
        self.sent.append((self.node.steady - 100.0, np.array(message.data) if hasattr(message, "data") else message))
        if self.listener is not None:
            self.listener(message)

    def stop(self) -> None:
        """There is no message for that."""


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


def started(namespace: str, **parameters: Any) -> Iterator[VirtualPrefilter]:
    """In a namespace of its own: a topic has one type only, and both nodes are there at once."""
    overrides = [RosParameter(name, value=v) for name, v in {"embodiment": "arm", **parameters}.items()]
    node = VirtualPrefilter(namespace=namespace, parameter_overrides=overrides)
    node.trigger_configure()
    node.trigger_activate()
    yield node
    node.destroy_node()


@pytest.fixture(scope="module")
def node() -> Iterator[VirtualPrefilter]:
    """For commands of rates."""
    yield from started("rates", **RATES)


@pytest.fixture(scope="module")
def follower() -> Iterator[VirtualPrefilter]:
    """For trajectories."""
    yield from started("trajectories", command_timeout=0.0)


def wanted(now: float) -> np.ndarray:
    return GO * (1 + 0.3 * np.sin(2 * now))


class Simulation:
    """The prefilter's world in time of its own, with one fault between BEGIN and END.

    where: image, commands, verdicts, heartbeat, joints or clock; model: everything that the world model says.
    """

    settings = GateSettings()

    def __init__(self, node: VirtualPrefilter, kind: str, where: str) -> None:
        node.gate = Gate(node.gate.layout, self.settings, CommandLimits())
        node._measured, node.steady, node.ros = None, 100.0, FIRST_ROS
        self.node, self.out = node, Recorder(node)
        node._out = self.out
        hit = ("verdicts", "heartbeat") if where == "model" else (where,)
        self.channels = {
            name: Channel(name, (_fault(kind),) if name in hit else (), 0, corrupt)
            for name in ("image", "commands", "verdicts", "heartbeat", "joints", "clock")
        }
        self.take = {
            "image": self.see, "commands": node.on_command, "verdicts": node.on_verdict,
            "heartbeat": node.on_heartbeat, "joints": node.on_joint_states, "clock": self.set_clock,
        }  # fmt: skip
        self.waiting: list[tuple[float, int, str, Any]] = []
        self.count = itertools.count()
        self.seen = FIRST_ROS
        self.verdicts: list[tuple[float, float, np.ndarray]] = []  # when, of which image, centre: the true clear ones

    def see(self, image: Any) -> None:
        """The world model: it rests on the newest image that can be read."""
        try:
            depth_from_image(image)
        except MessageError:
            return
        self.seen = max(self.seen, min(stamp_seconds(image.header.stamp), FIRST_ROS + self.now))

    def set_clock(self, message: Clock) -> None:
        self.node.ros = stamp_seconds(message.clock)

    def publish(self, name: str, message: Any) -> None:
        for due, out in self.channels[name].take(message, self.now):
            heapq.heappush(self.waiting, (due, next(self.count), name, out))

    def judge(self) -> None:
        ros, forbidden = FIRST_ROS + self.now, FORBIDDEN[0] <= self.now < FORBIDDEN[1]
        center = wanted(self.now)
        envelope = Envelope(ros, np.array([1.6]), center[None], np.full(8, WIDTH))
        verdict = Verdict(ros, self.seen, 1.0, envelope, BAD if forbidden else CLEAR)
        if not forbidden:
            self.verdicts.append((self.now, self.seen - FIRST_ROS, center))
        self.publish("verdicts", command_verdict_to_msg(verdict, NAMES, "base_link", "arm"))

    def step(self, number: int) -> None:
        self.now = round(number * TICK, 6)
        ros = FIRST_ROS + self.now
        self.node.steady = 100.0 + self.now
        self.publish("clock", Clock(clock=stamp_from_seconds(ros)))
        if number % 5 == 0:
            header = heartbeat(ros)
            pixels = np.full((4, 4), 2.0, np.float32)
            self.publish("image", image_from_array(pixels, "32FC1", header))
            self.publish("heartbeat", header)
        self.deliver()  # the model judges what it sees
        if number % 5 == 0:
            self.judge()
        self.publish("joints", joint_state(ros, self.robot()))
        self.send(number)
        self.deliver()
        self.node.on_tick()

    def robot(self) -> np.ndarray:
        """(8,) where it is."""
        return HOME

    def send(self, number: int) -> None:
        self.publish("commands", command(ROGUE if number % 25 == 13 else wanted(self.now)))

    def deliver(self) -> None:
        while self.waiting and self.waiting[0][0] <= self.now + 1e-9:
            _, _, name, message = heapq.heappop(self.waiting)
            self.take[name](message)

    def run(self) -> "Simulation":
        for number in range(round(LAST / TICK)):
            self.step(number)
        return self

    def covered(self, now: float, values: np.ndarray) -> bool:
        """Whether a fresh and true verdict lets this command pass; one tick of slack for the time of sending."""
        return any(
            now - 0.5 - TICK <= min(at, image) and at <= now + 1e-9 and (np.abs(values - center) <= WIDTH + 1e-6).all()
            for at, image, center in self.verdicts
        )

    def passed(self, begin: float, end: float) -> int:
        return sum(begin <= at < end and bool(np.abs(values).max() > 0) for at, values in self.out.sent)


class TrajectorySimulation(Simulation):
    """The same with trajectories, and a robot that goes where it is told; the model judges what is on its way."""

    settings = GateSettings(command_timeout=0.0)

    def __init__(self, node: VirtualPrefilter, kind: str, where: str) -> None:
        super().__init__(node, kind, where)
        self.now = 0.0
        self.begun, self.way = 0.0, (np.zeros(1), HOME[None])  # since when the robot is on which way
        self.newest: JointTrajectory | None = None  # what was sent last, and shall be judged
        self.executes = False
        self.wrong: list[str] = []
        self.moves: list[float] = []
        self.envelopes: list[tuple[float, float, Envelope]] = []
        self.out.listener = self.follow
        self.step_of_a_halt = 2 * 1.1 * TICK * node.gate.layout.max_rate + 0.01

    def robot(self) -> np.ndarray:
        times, values = self.way
        return np.stack([np.interp(self.now - self.begun, times, column) for column in values.T], -1)

    def follow(self, message: JointTrajectory) -> None:
        here = self.robot()
        if why := refusal(message, JOINTS):
            self.wrong.append(f"{why} at {self.now:.2f} s")
            return
        order = [list(message.joint_names).index(name) for name in JOINTS]
        values = np.array([p.positions for p in message.points])[:, order]
        times = np.array([p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points])
        way = np.concatenate([[0.0], times]), np.concatenate([here[None], values])
        # A halt is as far away as a robot may lag, at its largest rate.
        rests = len(values) == 1 and bool((np.abs(values[0] - here) <= self.step_of_a_halt).all())
        if not np.isfinite(values).all():
            self.wrong.append(f"{values} at {self.now:.2f} s")
        elif not rests:
            self.moves.append(self.now)
            if not self.way_is_covered(*way):
                self.wrong.append(f"a way to {values[-1]} at {self.now:.2f} s")
        self.executes, self.begun, self.way = not rests, self.now, way

    def way_is_covered(self, times: np.ndarray, values: np.ndarray) -> bool:
        return any(
            self.now - 0.5 - TICK <= min(at, image) and envelope.excess(times, values, 0.0) <= 1 + 1e-3
            for at, image, envelope in self.envelopes
        )

    def judge(self) -> None:
        ros, forbidden = FIRST_ROS + self.now, FORBIDDEN[0] <= self.now < FORBIDDEN[1]
        here, gone = self.robot(), self.now - self.begun
        times, values = self.way
        if self.executes:
            later = times > gone
            times, values = times[later] - gone, values[later]
        elif self.newest is not None:
            values = np.array([p.positions for p in self.newest.points])
            times = 0.4 * np.arange(1, len(values) + 1)
        else:
            times, values = np.zeros(0), values[:0]
        center = np.concatenate([here[None], values, (values[-1:] if len(values) else here[None])])
        envelope = Envelope(ros, np.array([0.0, *times, 3.0]), center, np.full(8, 0.05))
        verdict = Verdict(ros, self.seen, 1.0, envelope, BAD if forbidden else CLEAR)
        if not forbidden:
            self.envelopes.append((self.now, self.seen - FIRST_ROS, envelope))
        self.publish("verdicts", command_verdict_to_msg(verdict, NAMES, "base_link", "arm"))

    def send(self, number: int) -> None:
        ros = FIRST_ROS + self.now
        if number % 130 == 65:
            far = np.clip(HOME - 0.5, 0.0, 1.0)
            self.publish("commands", trajectory(far, seconds=1.0, stamp=ros))  # nobody judges it
        elif number % 30 == 10:
            turn = 0.2 * (1 + number // 30 % 2) * np.array([1, 0, 1, 0, 0, 0, 0, -1.0])
            self.newest = trajectory(HOME + turn / 2, HOME + turn, seconds=0.4, stamp=ros)
            self.publish("commands", self.newest)

    def passed(self, begin: float, end: float) -> int:
        return sum(begin <= at < end for at in self.moves)


def _fault(kind: str) -> Fault:
    if KINDS[kind].group == "process":  # to the prefilter: nothing comes any more
        kind = "silence"
    return Fault(kind=kind, topic="any", start=BEGIN, duration=END - BEGIN)


WHERE = {
    "transport": ("image", "commands", "verdicts", "heartbeat", "joints", "clock"),
    "stamp": ("image", "verdicts", "heartbeat", "joints", "clock"),
    "content": ("commands", "verdicts", "heartbeat", "joints"),
    "image": ("image",),
    "clock": ("clock",),
    "process": ("model",),
}
# A model that says with fresh stamps what was true before lies in a way that nobody but a second model could find.
LIES = {("stick", "verdicts")}
CASES = [(kind, where) for kind in KINDS for where in WHERE[KINDS[kind].group] if (kind, where) not in LIES]


@pytest.mark.parametrize(("kind", "where"), CASES)
def test_no_fault_lets_a_command_pass_that_no_fresh_verdict_answers_for(node, kind, where):
    world = Simulation(node, kind, where).run()
    assert world.passed(1.0, BEGIN) > 10, "nothing passed before the fault, so nothing is shown"
    for at, values in world.out.sent:
        assert np.isfinite(values).all()
        assert values.shape == (8,)
        rests = bool((values == 0).all())
        assert rests or world.covered(at, values), f"{values} at {at:.2f} s"
    # Where the true verdicts say stop, it is stopped as soon as they are known, and at the latest when they are old.
    assert world.passed(FORBIDDEN[0] + 0.5, FORBIDDEN[1]) == 0
    assert world.passed(LAST - 0.5, LAST) > 10, node._status


@pytest.mark.parametrize(("kind", "where"), CASES)
def test_no_fault_sends_a_trajectory_on_that_no_fresh_verdict_answers_for(follower, kind, where):
    world = TrajectorySimulation(follower, kind, where).run()
    assert world.passed(0.0, BEGIN), "nothing passed before the fault, so nothing is shown"
    assert world.wrong == []
    assert world.passed(FORBIDDEN[0] + 0.5, FORBIDDEN[1]) == 0
    assert world.passed(END, LAST) > 0, follower._status


CLOSES = [
    ("silence", "model"), ("kill", "model"), ("freeze", "heartbeat"), ("stamp_past", "verdicts"), ("nan", "commands"),
    ("wrong_frame", "verdicts"), ("swapped_names", "verdicts"), ("clock_freeze", "clock"), ("zero_size", "image"),
    ("clock_back", "clock"), ("delay", "verdicts"), ("shortened", "commands"), ("freeze", "image"),
    ("huge", "verdicts"), ("stamp_past", "heartbeat"), ("cut_data", "image"), ("negated", "verdicts"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "where"), CLOSES)
def test_what_cannot_be_trusted_closes_the_gate_within_half_a_second(node, kind, where):
    world = Simulation(node, kind, where).run()
    assert world.passed(1.0, BEGIN) > 10
    # Verdicts and images may be used for half a second.
    assert world.passed(BEGIN + 0.5 + 2 * TICK, END) == 0


def test_without_joint_states_nothing_runs_on_and_the_hold_is_one_that_a_controller_takes(follower):
    world = TrajectorySimulation(follower, "silence", "joints").run()
    assert world.wrong == []
    assert world.passed(0.0, BEGIN) > 0
    assert world.passed(BEGIN + 0.2 + 2 * TICK, END) == 0
    held = [m for at, m in world.out.sent if BEGIN + 0.2 <= at < END]
    assert held, "what passed must be told to stay"
    assert world.passed(END, LAST) > 0


def test_a_controller_that_others_use_is_not_told_the_same_at_every_tick(follower):
    world = TrajectorySimulation(follower, "silence", "model").run()
    # A halt goes by steps to where the robot is, and is then said once a second.
    assert sum(BEGIN + 1.0 <= at < END for at, _ in world.out.sent) <= 2


def test_rates_are_brought_to_rest_by_a_stream(node):
    world = Simulation(node, "silence", "model").run()
    assert sum(BEGIN + 1.0 <= at < END for at, _ in world.out.sent) >= 0.5 / TICK


def test_the_checks_of_this_test_find_what_is_wrong(node, monkeypatch):
    """With a gate that lets everything through, the property fails."""
    monkeypatch.setattr(node.gate.__class__, "_act", lambda self, *_: _everything(self))
    world = Simulation(node, "silence", "verdicts").run()
    assert any(np.abs(v).max() > 0 and not world.covered(at, v) for at, v in world.out.sent)


def _everything(gate: Gate) -> tuple[Any, Any, float]:
    from deepverse_ros.safety.status import Send

    newest = gate._newest
    return (Send.COMMAND, newest.original, 1.0) if newest else (Send.NOTHING, None, 1.0)
