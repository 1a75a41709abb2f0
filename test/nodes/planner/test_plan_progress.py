"""How far a plan is, by what a prefilter lets through of it."""

from dataclasses import replace

import numpy as np
import pytest
from std_msgs.msg import Header

from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.command_formats import TrajectoryFormat
from deepverse_ros.nodes.planner.plan_progress import Progress
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command, Layout, in_layout_order

ARM = Embodiment.load("arm")
JOINTS = JointLayout(ARM, "gripper_joint", 0.0, 1.0)
LAYOUT = Layout.of(ARM)
FORMAT = TrajectoryFormat(LAYOUT, JOINTS)
START = np.asarray(ARM.home, float)
PLAN = START + np.linspace(0, 0.4, 9)[1:, None]
COMMAND = Command(PLAN, 0.2 * np.arange(1, 9), LAYOUT.names, 0.0, START)


def passed(course: Progress, command: Command, now: float) -> Progress:
    """After it came through messages, as the prefilter sends it."""
    read = FORMAT.read(FORMAT.write(command, Header().stamp), None)
    assert not read.problem
    return course.passed(in_layout_order(read.command, LAYOUT)[0], now)


def test_a_plan_begins_when_it_passes():
    course = Progress.of(COMMAND, 10.0, waits=True)
    assert course.duration == pytest.approx(1.6)
    assert (course.elapsed(10.7), course.kept(10.7)) == (0.0, pytest.approx(0.7))
    course = passed(course, COMMAND, 10.7)
    assert course.elapsed(11.2) == pytest.approx(0.5)
    assert course.kept(11.2) == 0.0
    assert course.elapsed(12.8) == pytest.approx(2.1)  # half a second after its end
    # A hold where it has arrived ends nothing.
    assert passed(course, Command.setpoint(PLAN[-1], LAYOUT.names), 12.8).elapsed(13.0) == pytest.approx(2.3)


def test_a_slower_pass_a_halt_and_what_is_left():
    course = passed(Progress.of(COMMAND, 10.0, waits=True), COMMAND.remaining(0.0, 0.5), 10.0)
    assert course.elapsed(11.0) == pytest.approx(0.5)
    halted = passed(course, Command.setpoint(PLAN[2], LAYOUT.names), 11.0)
    assert halted.elapsed(15.0) == pytest.approx(0.5)
    again = passed(halted, Command.setpoint(PLAN[2], LAYOUT.names), 14.0)
    assert again.kept(15.0) == pytest.approx(4.0)
    going_on = passed(halted, COMMAND.remaining(0.5, 1.0), 15.0)
    assert going_on.elapsed(15.4) == pytest.approx(0.9)
    other = replace(COMMAND, values=np.flip(PLAN, 0))
    assert passed(going_on, other, 15.4).elapsed(16.0) == pytest.approx(0.9)
    assert going_on.passed(None, 15.4).elapsed(16.0) == pytest.approx(0.9)


def test_without_a_prefilter_it_goes_on_at_once():
    course = Progress.of(COMMAND, 10.0, waits=False)
    assert course.elapsed(10.5) == pytest.approx(0.5)
    assert course.kept(10.5) == pytest.approx(0.0)
