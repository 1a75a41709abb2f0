"""What a message costs is bounded before it is read, and what it says is shown on one line."""

import array
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from flooder import trajectory as long_trajectory
from hypothesis import given
from hypothesis import strategies as st
from prefilter_world import BAD, NAMES, PATIENT, RATES, verdict
from rclpy.parameter import Parameter as RosParameter
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.errors import MessageError, printable
from deepverse_ros.msg import CommandEnvelope, CommandFinding, CommandVerdict, PrefilterCheck, PrefilterStatus
from deepverse_ros.nodes.messages.command_verdict import command_verdict_from_msg, command_verdict_to_msg, most_bytes
from deepverse_ros.nodes.prefilter.node import PrefilterNode
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.message_bounds import MOST_NAMES, bound_of, bytes_problem, trajectory_problem
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.status import Mode
from deepverse_ros.safety.verdict import MOST_TIMES, Envelope, Verdict

FLOODER = Path(__file__).parents[1] / "flooder.py"


@given(
    frame=st.text(st.characters(min_codepoint=1, max_codepoint=300), max_size=9),
    names=st.lists(st.text(st.characters(min_codepoint=1, max_codepoint=300), max_size=9), max_size=9),
    points=st.integers(0, 40),
)
def test_a_trajectory_is_counted_without_being_read(frame, names, points):
    message = JointTrajectory(header=Header(frame_id=frame), joint_names=names)
    message.points = [JointTrajectoryPoint(positions=[1.0] * len(names)) for _ in range(points)]
    data = bytes(serialize_message(message))
    assert trajectory_problem(data, points) == ""
    if points:
        assert trajectory_problem(data, points - 1) == f"it has {points} points; allowed: {points - 1}"


def test_a_trajectory_may_be_cut_or_false_anywhere():
    data = bytes(serialize_message(long_trajectory(3)))
    for cut in range(len(data)):
        assert isinstance(trajectory_problem(data[:cut], 1), str)
    assert trajectory_problem(data[:20], 1) == "it ends before its points"
    many = JointTrajectory(joint_names=[f"j{i}" for i in range(MOST_NAMES + 1)])
    assert f"names {MOST_NAMES + 1} joints" in trajectory_problem(bytes(serialize_message(many)), 1)
    heavy = JointTrajectory(points=[JointTrajectoryPoint(effort=[0.0] * 10_000)])
    assert "bytes; allowed" in trajectory_problem(bytes(serialize_message(heavy)), 1)


def test_a_node_that_was_busy_reads_all_joint_states_that_wait_at_once(robot):
    """One a turn, it would be behind by its whole queue for as long as it is busy."""
    node = robot.start(partial(RobotNode, "hearer", []), alone=True)
    heard, turns, busy = [], [], threading.Event()

    def hear(message):
        turns.append(len(heard))
        heard.append(message.header.stamp.sec)
        busy.wait(5.0)

    node.subscribe(JointState, "joints", hear, qos.joints_input(), drain=True)
    quick = node.subscribe(Header, "quick", lambda _: turns.append("other"), qos.command())
    publisher = robot.peer.create_publisher(JointState, "joints", qos.sensor_output())
    other = robot.peer.create_publisher(Header, quick.topic_name, qos.command())
    robot.until(lambda: publisher.get_subscription_count() and other.get_subscription_count())
    for k in range(20):
        message = JointState()
        message.header.stamp.sec = k
        publisher.publish(message)
        robot.spin(0.01)
    other.publish(Header())
    robot.spin(0.1)
    busy.set()
    robot.until(lambda: "other" in turns, 10.0)
    assert heard == list(range(20))
    assert turns == [*range(20), "other"]


def test_what_is_too_large_or_no_message_is_told_and_not_read(robot):
    node = robot.start(partial(RobotNode, "hearer", []))
    heard, refused = [], []
    bounds = {Image: lambda data: bytes_problem(data, 1000)}
    kinds = (JointTrajectory, JointState, Header, Image)
    publishers = {}
    for kind in kinds:
        topic = kind.__name__.lower()

        def refuse(_data, problem, topic=topic):
            refused.append((topic, problem))

        node.subscribe(kind, topic, heard.append, qos.command(), bound=bounds.get(kind), unreadable=refuse)
        publishers[kind] = robot.peer.create_publisher(kind, topic, qos.command())
    robot.until(lambda: all(p.get_subscription_count() for p in publishers.values()))
    large = (
        (long_trajectory(1001), "it has 1001 points; allowed: 1000"),
        (JointState(name=["a"] * 3000), "bytes; allowed: 16384"),
        (Header(frame_id="x" * 5000), "bytes; allowed: 4096"),
        (Image(data=array.array("B", bytes(1001))), "it has 1001 bytes; allowed: 1000"),
    )
    for message, problem in large:
        publishers[type(message)].publish(message)
        robot.until(lambda: refused, 10.0)
        (topic, said), *_ = refused
        assert problem in said
        assert f"/{topic}: a message was not read: {said}" in node.diagnostics.status().message
        refused.clear()
    assert heard == []
    publishers[JointState].publish(bytes(serialize_message(JointState(name=["a"])))[:-9])
    robot.until(lambda: refused, 10.0)
    assert "cannot be read" in refused[0][1]
    for kind in kinds:
        publishers[kind].publish(kind())
    robot.until(lambda: len(heard) == len(kinds), 10.0)


@pytest.mark.parametrize("kind", [JointTrajectory, JointState, Header, Float64MultiArray, Image, CommandVerdict])
def test_every_kind_has_a_bound_and_an_empty_one_is_within(kind):
    assert bound_of(kind)(bytes(serialize_message(kind()))) == ""
    assert bound_of(kind)(bytes(serialize_message(kind())) + bytes(2**27)) != ""


def test_the_longest_verdict_that_is_allowed_is_within_its_bound():
    times = np.linspace(0.0, 60.0, MOST_TIMES)
    envelope = Envelope(100.0, times, np.zeros((MOST_TIMES, len(NAMES))), np.zeros(len(NAMES)))
    finding = Finding(Action.LIMIT, "z" * 100, max_rate=dict.fromkeys(NAMES, 1.0), text="t" * 500)
    message = command_verdict_to_msg(
        Verdict(100.0, 100.0, 1.0, envelope, finding, "c" * 100), NAMES, "base_link", "arm"
    )
    data = bytes(serialize_message(message))
    assert bytes_problem(data, most_bytes(len(NAMES))) == ""
    assert command_verdict_from_msg(deserialize_message(data, CommandVerdict), NAMES).envelope.times.size == MOST_TIMES


@pytest.mark.parametrize(
    "message",
    [
        CommandVerdict(envelope=CommandEnvelope(names=[""] * 50_000)),
        CommandVerdict(envelope=CommandEnvelope(center=[0.0] * 50_000)),
        CommandVerdict(finding=CommandFinding(max_rate_names=[""] * 50_000)),
        CommandVerdict(finding=CommandFinding(max_rates=[0.0] * 50_000)),
        CommandVerdict(finding=CommandFinding(text="t" * 200_000)),
        PrefilterStatus(checks=[PrefilterCheck()] * 50_000),
        PrefilterStatus(checks=[PrefilterCheck(text="t" * 200_000)]),
    ],
    ids=["names", "center", "max_rate_names", "max_rates", "text", "checks", "text_of_a_check"],
)
def test_what_is_nested_in_a_message_counts_towards_its_bound(message):
    data = bytes(serialize_message(message))
    assert "bytes; allowed" in bound_of(type(message))(data)
    assert "bytes; allowed" in bytes_problem(data, most_bytes(len(NAMES)))


def test_as_many_nested_messages_as_the_bound_lets_through_are_read_at_once():
    message = PrefilterStatus(checks=[PrefilterCheck()] * 2700)
    data = bytes(serialize_message(message))
    assert bound_of(PrefilterStatus)(data) == ""
    begin = time.process_time()
    assert len(deserialize_message(data, PrefilterStatus).checks) == 2700
    assert time.process_time() - begin < 0.1  # 4 ms on a free core


class Timed(PrefilterNode):
    """Remembers when it ticked, and how long a verdict that says when it was sent has waited."""

    def on_tick(self) -> None:
        self.ticks.append(time.monotonic())
        super().on_tick()

    def on_verdict(self, message: CommandVerdict) -> None:
        if message.finding.text:
            self.waited.append(time.monotonic() - float(message.finding.text))
        super().on_verdict(message)


@pytest.fixture
def prefilter(robot):
    def start(**parameters):
        Timed.ticks, Timed.waited = [], []
        node = robot.start(Timed, alone=True, **{"embodiment": "arm", **parameters})
        node.heard = robot.hear(PrefilterStatus, "prefilter/status")
        return node

    return start


def flood(robot, topic: str, kind: str, size: int, seconds: float = 1.5) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, FLOODER, topic, kind, str(size), "1000", str(seconds)])


FLOODS = {
    "too_long_trajectories": ("prefilter/command_in", "trajectory", 100_000),
    "longest_trajectories": ("prefilter/command_in", "trajectory", 1000),
    "verdicts": ("world_model/command_verdict", "verdict", 200_000),
}


@pytest.mark.parametrize("name", FLOODS)
def test_in_a_flood_the_prefilter_ticks_and_a_stop_is_heard(robot, prefilter, name):
    node = prefilter(**PATIENT, command_type="joint_trajectory")
    publisher = robot.peer.create_publisher(CommandVerdict, "world_model/command_verdict", qos.command())
    topic, kind, size = FLOODS[name]
    flooding = flood(robot, topic, kind, size)
    try:
        seen = "command_in" if "command_in" in topic else topic
        robot.until(lambda: node.gate.counts.commands > 5 or any(seen in key for key in node._warned), 30.0)
        node.ticks.clear()
        while flooding.poll() is None:
            message = verdict(robot.peer.get_clock().now().nanoseconds * 1e-9, BAD)
            message.finding.text = repr(time.monotonic())
            publisher.publish(message)
            robot.spin(0.05)
    finally:
        flooding.kill()
        flooding.wait()
    gaps = np.diff(node.ticks)
    assert len(gaps) > 20
    # Without bounds 2.9 s. The process of a test has much to collect (torch), and 2 cores are shared with the flood.
    assert np.quantile(gaps, 0.9) < 0.3
    assert gaps.max() < 1.0
    if kind != "verdict":  # which a flood of verdicts crowds out: then none is fresh, and the gate closes
        assert len(node.waited) > 5
        assert np.quantile(node.waited, 0.9) < 0.3


def test_a_command_that_is_not_read_must_not_pass_and_while_monitoring_passes_as_it_came(robot, prefilter):
    node = prefilter(**RATES, **PATIENT)
    out = robot.hear(Float64MultiArray, "prefilter/command_out")
    publisher = robot.peer.create_publisher(Float64MultiArray, "prefilter/command_in", qos.command())
    robot.until(lambda: publisher.get_subscription_count() and node._out.get_subscription_count())
    large = Float64MultiArray(data=array.array("d", bytes(80_000)))
    publisher.publish(large)
    robot.until(lambda: node.gate.counts.refused, 10.0)
    robot.spin(0.3)
    assert not any(len(m.data) == 10_000 for m in out)
    node.set_parameters([RosParameter("mode", value="monitor")])
    robot.until(lambda: node.gate.mode == Mode.MONITOR, 10.0)
    publisher.publish(large)
    robot.until(lambda: any(len(m.data) == 10_000 for m in out), 10.0)
    assert node.gate.counts.commands == 2


@given(st.text(max_size=3000), st.integers(10, 500))
def test_what_is_shown_is_one_line_and_has_an_end(text, most):
    shown = printable(text, most)
    assert shown.isprintable()
    assert len(shown) <= most
    if text.isprintable() and len(text) <= most:
        assert shown == text


def test_a_name_cannot_forge_a_line_of_a_log(robot):
    forged = "joint\n[INFO] [gate]: all is well\x1b[2J"
    node = robot.start(partial(RobotNode, "hearer", []))
    node.warn("key", f"no joint '{forged}'")
    status = node.diagnostics.status()
    for text in (str(MessageError(forged)), status.message, *(pair.value for pair in status.values)):
        assert text.isprintable()
    assert "joint\\n[INFO]" in str(MessageError(forged))
    assert str(MessageError("a" * 5000 + " expected b")).endswith("aaa expected b")


def test_the_texts_of_a_verdict_are_shown_on_one_line():
    message = verdict(100.0, BAD)
    message.finding.text = "t\n[INFO] forged" * 1000
    message.finding.zone = "zone\x1b[2J"
    message.command_id = "c\r"
    read = command_verdict_from_msg(message, NAMES)
    assert (read.finding.text + read.finding.zone + read.plan_id).isprintable()
    assert len(read.finding.text) <= 500
