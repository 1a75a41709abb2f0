"""Verdicts on commands survive the way through a message; one that is wrong is named, whatever is in it."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message

from deepverse_ros.errors import MessageError
from deepverse_ros.msg import CommandFinding, CommandVerdict
from deepverse_ros.nodes.messages.command_verdict import command_verdict_from_msg, command_verdict_to_msg
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.commands import Layout
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.verdict import Envelope, Verdict

NAMES = Layout.of(Embodiment.load("arm")).names
HOME = np.array(Embodiment.load("arm").home)
FINDING = Finding(
    Action.LIMIT, "low", 2, 17, 5, 0.75, {"gripper_state": 1.0, "*": 0.8}, 0.25, True, 0.125, "zone 'low': 17 points"
)


def verdict(**changes) -> Verdict:
    envelope = Envelope(
        100.25, np.array([0.0, 0.5, 1.5]), HOME + np.arange(3.0)[:, None] / 16, np.arange(8.0) / 100, 0.0625
    )
    return replace(Verdict(100.5, 100.125, 0.75, envelope, FINDING, "plan-7"), **changes)


def message(**changes) -> CommandVerdict:
    out = command_verdict_to_msg(verdict(), NAMES, "base_link", "arm", 12.5)
    for name, value in changes.items():
        part = next(p for p in (out, out.envelope, out.finding) if name in p.get_fields_and_field_types())
        setattr(part, name, value)
    return out


def test_nothing_is_lost_on_the_way():
    sent = verdict()
    wire = deserialize_message(serialize_message(message()), CommandVerdict)
    assert wire.header.frame_id == "base_link"
    assert wire.latency_ms == 12.5
    got = command_verdict_from_msg(wire, NAMES, "base_link")
    assert (got.stamp, got.image_stamp, got.valid_for, got.plan_id) == (100.5, 100.125, 0.75, "plan-7")
    assert got.finding == FINDING
    assert got.envelope.start == 100.25
    for name in ("times", "center", "half_width", "time_slack"):
        assert np.array_equal(getattr(got.envelope, name), getattr(sent.envelope, name)), name
    assert not got.envelope.tube
    ends = replace(sent.envelope, times=np.array([0.0, 1.6]), center=sent.envelope.center[:2], tube=True)
    tube = command_verdict_from_msg(command_verdict_to_msg(verdict(envelope=ends), NAMES, "", "arm"), NAMES).envelope
    assert tube.tube
    with pytest.raises(MessageError, match="center must have 2 rows"):
        command_verdict_from_msg(message(tube=True), NAMES)


def test_a_finding_without_anything_in_it():
    wire = command_verdict_to_msg(verdict(finding=Finding(Action.CLEAR)), NAMES, "", "arm")
    assert command_verdict_from_msg(wire, NAMES).finding == Finding(Action.CLEAR)
    assert wire.finding.time_to_enter == math.inf


def test_the_constants_are_those_of_the_actions():
    assert {a.name: getattr(CommandFinding, a.name) for a in Action} == {a.name: int(a) for a in Action}


def test_values_may_come_in_another_order():
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    whole = message().envelope
    turned = message(
        names=[NAMES[i] for i in order],
        center=np.array(whole.center).reshape(3, 8)[:, order].ravel().tolist(),
        half_width=np.array(whole.half_width)[order].tolist(),
    )
    got = command_verdict_from_msg(turned, NAMES).envelope
    assert np.array_equal(got.center, verdict().envelope.center)
    assert np.array_equal(got.half_width, verdict().envelope.half_width)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"names": list(NAMES[:7])}, "missing 'gripper_state'"),
        ({"names": [*NAMES[:7], "wheel"]}, "unknown 'wheel'"),
        ({"names": [*NAMES, "joint_1"]}, "a name that stands twice"),
        ({"times": []}, "times has 0 values; expected 1 to"),
        ({"times": [0.0, 1.0]}, "center has 24 values; expected 16 for 2 times and 8 names"),
        ({"times": [0.0, 1.0, 0.5]}, "envelope.times must rise"),
        ({"times": [0.0, math.nan, 1.0]}, "envelope.times is not finite"),
        ({"half_width": [0.1] * 7}, "half_width has 7 values; expected 8"),
        ({"half_width": [-0.1] * 8}, "half_width is below 0"),
        ({"time_slack": math.nan}, "time_slack is not finite"),
        ({"center": [math.inf] * 24}, "envelope.center is not finite"),
        ({"valid_for": 0.0}, "valid_for is 0.0, must be above 0"),
        ({"valid_for": math.nan}, "valid_for is nan"),
        ({"action": 4}, "action is 4; expected 0 to 3"),
        ({"scale": 1.5}, "scale must be within 0 and 1"),
        ({"scale": math.nan}, "finding.scale is nan"),
        ({"max_rates": [0.1]}, "max_rates has 1 values; max_rate_names has 2"),
        ({"max_rates": [0.0, 0.1]}, "max_rate above 0"),
        ({"max_rates": [math.nan, 0.1]}, "max_rate above 0"),
        ({"max_rate_names": ["wheel", "*"]}, "max_rate_names has the unknown 'wheel'"),
        ({"time_to_enter": math.nan}, "time_to_enter is nan"),
        ({"gain": math.nan}, "gain is nan"),
        ({"embodiment": "drone"}, "embodiment is 'drone'; this robot is 'arm'"),
        ({"embodiment": ""}, "embodiment is ''; this robot is 'arm'"),
        ({"times": [0.001 * k for k in range(2001)]}, "times has 2001 values; expected 1 to 2000"),
        ({"times": [0.0, 1.0, 61.0]}, "times ends at 61 s, at most 60"),
        ({"center": [1e12] * 24}, r"envelope.center has 1e\+12, at most 1e\+09"),
        ({"names": [*NAMES] * 30}, "names has 240 values; at most 200"),
        ({"max_rate_names": ["*"] * 300, "max_rates": [1.0] * 300}, "max_rate_names has 300 values; at most 200"),
    ],
)
def test_what_is_wrong_is_named(changes, said):
    with pytest.raises(MessageError, match=r"^verdict .*" + said):
        command_verdict_from_msg(message(**changes), NAMES, "base_link", "arm")


def test_no_speed_is_a_stop_on_the_wire_too():
    assert command_verdict_from_msg(message(scale=0.0), NAMES).finding.action == Action.STOP
    still = Finding(Action.SLOW, scale=0.0)
    assert command_verdict_to_msg(verdict(finding=still), NAMES, "", "arm").finding.action == CommandFinding.STOP


def test_a_verdict_of_another_frame_is_another_robots():
    with pytest.raises(MessageError, match=r"frame_id is 'base_link'; this robot's base frame is 'odom'"):
        command_verdict_from_msg(message(), NAMES, "odom")


def test_a_rate_that_stands_twice_counts_as_the_lesser():
    twice = message(max_rate_names=["joint_1", "joint_1"], max_rates=[0.5, 0.25])
    assert command_verdict_from_msg(twice, NAMES).finding.max_rate == {"joint_1": 0.25}
    with pytest.raises(MessageError, match="max_rate above 0"):
        command_verdict_from_msg(message(max_rate_names=["*", "*"], max_rates=[math.nan, 0.5]), NAMES)


def test_a_verdict_with_a_problem_is_not_sent():
    with pytest.raises(MessageError, match="valid_for is -1"):
        command_verdict_to_msg(verdict(valid_for=-1.0), NAMES, "base_link", "arm")
    with pytest.raises(MessageError, match=r"envelope: expected .*; names are joint_1"):
        command_verdict_to_msg(verdict(), NAMES[:7], "base_link", "arm")


numbers = st.lists(st.floats(width=64), max_size=30)
some_names = st.lists(st.sampled_from([*NAMES, "*", "", "wheel"]), max_size=10)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "names": some_names,
            "times": numbers,
            "center": numbers,
            "half_width": numbers,
            "time_slack": st.floats(),
            "valid_for": st.floats(),
            "action": st.integers(0, 255),
            "scale": st.floats(width=32),
            "max_rate_names": some_names,
            "max_rates": numbers,
            "time_to_enter": st.floats(width=32),
            "first_offending_step": st.integers(-(2**31), 2**31 - 1),
            "points": st.integers(0, 2**32 - 1),
        },
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_comes_is_read_or_named(changes):
    try:
        got = command_verdict_from_msg(message(**changes), NAMES)
    except MessageError:
        return
    assert not got.problem(len(NAMES))


def test_reading_verdicts_needs_no_torch():
    code = "import sys, deepverse_ros.nodes.messages.command_verdict; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
