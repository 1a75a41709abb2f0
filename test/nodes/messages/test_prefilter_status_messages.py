"""The prefilter's status as a message: every check with its numbers and its sentence."""

import math

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from deepverse_ros.errors import MOST_TEXT
from deepverse_ros.msg import PrefilterStatus
from deepverse_ros.nodes.messages.prefilter_status import status_to_msg
from deepverse_ros.safety.check import Check
from deepverse_ros.safety.status import Mode, Send, State, Status


def status(*checks: Check, reason: str = "") -> Status:
    return Status(State.STOP, Mode.ENFORCE, Send.STOP, reason, scale=0.0, checks=checks)


def test_every_check_has_its_numbers_and_its_sentence():
    checks = (
        Check("clock", True),
        Check("image_age", False, 0.75, 0.5, "seconds since the image: 0.75, at most 0.5"),
    )
    sent = status_to_msg(status(*checks, reason="too old"), Header(frame_id="base_link"))
    got = deserialize_message(serialize_message(sent), PrefilterStatus)
    assert (got.state, got.mode, got.text, got.speed_scale) == (
        PrefilterStatus.STOP,
        PrefilterStatus.ENFORCE,
        "too old",
        0,
    )
    assert [(c.name, c.ok, c.text) for c in got.checks] == [(c.name, c.ok, c.text) for c in checks]
    assert math.isnan(got.checks[0].value)
    assert math.isnan(got.checks[0].threshold)
    assert (got.checks[1].value, got.checks[1].threshold) == (0.75, 0.5)


def test_a_check_may_measure_what_no_float32_holds():
    huge = status_to_msg(status(Check("rate", False, 1e300, math.inf, "too fast")), Header()).checks[0]
    assert huge.value == float(np.finfo(np.float32).max)
    assert huge.threshold == math.inf


def test_sentences_are_shown_on_one_line():
    made = status_to_msg(status(Check("a", False, text="b\n[INFO] c" * 500), reason="d\x1b[2J"), Header())
    for text in (made.text, made.checks[0].text):
        assert text.isprintable()
        assert len(text) <= MOST_TEXT


def test_a_status_without_checks():
    assert status_to_msg(status(), Header()).checks == []
