"""Commands: what is wrong with one is named with value and limit; what is sent later or slower is the same way."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepverse_ros.errors import ConfigError, ShapeError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command, Layout, check
from deepverse_ros.safety.settings import CommandLimits

ARM = Layout.of(Embodiment.load("arm"))
HOME = np.array(Embodiment.load("arm").home)
LIMITS = CommandLimits()
NOW = 100.0
TWO = Layout(
    ("a", "b"), np.ones(2, bool), np.full(2, -1.0), np.full(2, 1.0), np.array([1.0, 2.0]), np.zeros(2), np.ones(2, bool)
)
RATES = replace(TWO, position=np.zeros(2, bool))


def trajectory(*values, times=None, **more):
    times = np.arange(1, len(values) + 1) if times is None else times
    return Command(np.array(values, float), np.array(times, float), **more)


def failed(command, layout=TWO, limits=LIMITS, reference=(0.0, 0.0), **more):
    """The check that fails, or None where the command is good."""
    reference = None if reference is None else np.array(reference, float)
    good, checks = check(command, layout, limits, NOW, reference, **more)
    wrong = [c for c in checks if not c.ok]
    assert (good is None) == bool(wrong)
    assert all(c.text for c in wrong)
    assert not any(c.text for c in checks if c.ok)
    return wrong[0] if wrong else None


def test_the_layout_of_a_robot():
    assert ARM.names == (*Embodiment.load("arm").joint_names, "gripper_state")
    assert ARM.stays
    assert ARM.max_rate[0] == pytest.approx(1.483)
    car = Layout.of(
        Embodiment.load("vehicle"), {"steering": None, "throttle": 0.0, "brake": 1.0}, unscaled=("steering", "brake")
    )
    assert not car.stays
    assert car.scaled.tolist() == [False, True, False]
    assert np.isnan(car.rest[0])
    drone = Layout.of(Embodiment.load("drone"), {"velocity": 0.0})
    assert drone.names[:4] == ("position[0]", "position[1]", "position[2]", "velocity[0]")
    assert drone.position.tolist() == [True] * 3 + [False] * 3 + [True]
    assert drone.max_rate[6] == np.inf
    with pytest.raises(ShapeError, match="'wheels' is no modality of 'arm'"):
        Layout.of(Embodiment.load("arm"), {"wheels": 0.0})


def test_a_layout_that_is_wrong_is_named():
    with pytest.raises(ShapeError, match=r"upper: expected \(2,\), got \(3,\)"):
        replace(TWO, upper=np.ones(3))
    with pytest.raises(ShapeError, match="lower must be below upper"):
        replace(TWO, upper=-np.ones(2))
    with pytest.raises(ShapeError, match="each once"):
        replace(TWO, names=("a", "a"))


def test_a_good_command_comes_back_in_the_layouts_order_and_from_where_the_robot_is():
    good, checks = check(trajectory((0.2, 0.1), names=("b", "a"), start=np.ones(2)), TWO, LIMITS, NOW, np.zeros(2))
    assert good is not None
    assert good.values.tolist() == [[0.1, 0.2]]
    assert good.names == ("a", "b")
    assert good.start.tolist() == [0.0, 0.0]
    assert len({c.name for c in checks}) == len(checks)


WRONG = [
    (Command.setpoint(np.zeros(2), ("a", "wheel")), "names", "unknown: wheel"),
    (Command.setpoint(np.zeros(1), ("a",)), "names", "missing: b"),
    (Command.setpoint(np.zeros(3), ("a", "b", "a")), "names", "stand twice"),
    (Command.setpoint(np.zeros(3)), "shape", r"expected values \(K, 2\).* got \(1, 3\)"),
    (Command(np.zeros(2), np.zeros(1)), "shape", r"got \(2,\)"),
    (Command(np.zeros((0, 2)), np.zeros(0)), "shape", r"got \(0, 2\)"),
    (Command(np.zeros((2, 2)), np.zeros(1)), "shape", r"\(2, 2\), \(1,\)"),
    (Command(np.array([["a", "b"]]), np.zeros(1)), "shape", "no array of numbers"),
    (trajectory((0, 0), start=np.zeros(3)), "shape", r"and \(3,\)"),
    (Command.setpoint(np.array([0, np.nan])), "finite", "b is nan at way point 0"),
    (trajectory((0, 0), (np.inf, 0)), "finite", "a is inf at way point 1"),
    (trajectory((0, 0), times=[np.nan]), "finite", "a time, stamp or start"),
    (trajectory((0, 0), start=np.array([0, np.nan])), "finite", "a time, stamp or start"),
    (Command.setpoint(np.zeros(2), stamp=np.nan), "finite", "a time, stamp or start"),
    (trajectory((0, 0), times=[-1]), "times", "rise from 0 or later"),
    (trajectory((0, 0), (0, 0), times=[1, 1]), "times", "least step is 0"),
    (Command(np.zeros((1001, 2)), np.arange(1001.0)), "points", "1e\\+03, at most 1e\\+03"),
    (Command.setpoint(np.zeros(2), stamp=NOW - 0.3), "command_stamp", "the command is old.*: 0.3, at most 0.2"),
    (Command.setpoint(np.zeros(2), stamp=NOW + 0.3), "command_stamp", "stamped 0.3 s ahead"),
    (Command.setpoint(np.array([0, 1.1])), "limits", "b is 1.1, allowed are -1 to 1"),
    (trajectory((0, 0), (-1.2, 0)), "limits", "a is -1.2, allowed are -1 to 1"),
    (trajectory((0.5, 0), times=[0.4]), "rate", "a changes by 1.25 per second, at most 1"),
    (trajectory((0, 0), (0, 0.9), times=[1, 1.4]), "rate", "b changes by 2.25 per second, at most 2"),
    (trajectory((0.5, 0), (0.5, 0), times=[0, 1]), "rate", "a changes by 5 per second"),
]


@pytest.mark.parametrize(("command", "name", "text"), WRONG)
def test_what_is_wrong_is_named(command, name, text):
    wrong = failed(command)
    assert wrong is not None
    assert wrong.name == name
    assert re.search(text, wrong.text), wrong.text


@pytest.mark.parametrize(
    "command",
    [
        Command.setpoint(np.array([0.9, -0.9])),
        Command.setpoint(np.ones(2) * 1.001),  # rounding
        Command.setpoint(np.zeros(2), stamp=NOW - 0.19),
        trajectory((0.5, 0.5), (0.0, -0.5), times=[0.5, 1.0]),
        trajectory((0.05, 0.0), (0.5, 0), times=[0, 1]),  # begins where the robot is, nearly
        Command([[0.1, 0.2]], [0.0]),  # lists are arrays too
    ],
)
def test_good_commands_pass(command):
    assert failed(command) is None


def test_a_stamp_may_be_required():
    strict = CommandLimits(require_stamp=True)
    assert failed(Command.setpoint(np.zeros(2)), limits=strict).name == "command_stamp"
    assert failed(Command.setpoint(np.zeros(2), stamp=NOW), limits=strict) is None


def test_positions_need_a_known_start_and_rates_do_not():
    assert failed(Command.setpoint(np.zeros(2)), reference=None).name == "start"
    assert failed(trajectory((0, 0), start=np.zeros(2)), reference=None) is None
    assert failed(Command.setpoint(np.zeros(2)), RATES, reference=None) is None


@pytest.mark.parametrize(
    ("before", "after", "since", "wrong"),
    [
        (0.0, 0.02, 0.02, False),
        (0.0, 0.03, 0.02, True),  # 1.5 per second
        (0.0, 0.02, 0.001, False),  # two at once: as far apart as usual
        (0.0, 0.5, 1.0, False),
        (0.9, 0.0, 0.02, False),  # to a halt as fast as it likes
        (0.9, 0.4, 0.02, False),
        (0.9, -0.4, 0.02, True),  # but not to the other side
        (0.4, 0.9, 0.02, True),
    ],
)
def test_how_fast_a_rate_may_change(before, after, since, wrong):
    previous = Command.setpoint(np.array([before, 0]))
    found = failed(Command.setpoint(np.array([after, 0])), RATES, previous=previous, since=since)
    assert (found is not None) == wrong
    if wrong:
        assert found.name == "rate"
        assert found.value > found.threshold == pytest.approx(1.1)


def test_positions_of_a_stream_have_rates_in_both_directions():
    previous = Command.setpoint(np.array([0.9, 0]))
    assert failed(Command.setpoint(np.zeros(2)), previous=previous, since=0.02).name == "rate"


def test_a_target_that_goes_on_with_the_one_before_is_gone_to_in_the_time_that_it_takes_from_where_the_robot_is_held():
    def at(x: float) -> Command:
        return trajectory((x, 0.0), times=[0.02])

    good, _ = check(at(0.51), TWO, LIMITS, NOW, np.array([0.1, 0.0]), previous=at(0.50), since=0.02)
    assert good.times.tolist() == [pytest.approx(0.41)]
    near, _ = check(at(0.51), TWO, LIMITS, NOW, np.array([0.50, 0.0]), previous=at(0.50), since=0.02)
    assert near.times.tolist() == [0.02]  # as it is told
    # What nothing leads to is refused: it is the sender who wants it there so soon.
    assert failed(at(0.51)).name == "rate"
    assert failed(at(0.51), previous=at(0.2), since=0.02).name == "rate"
    assert failed(at(0.51), previous=at(0.50), since=3.0).name == "rate"
    assert failed(at(0.51), previous=trajectory((0.3, 0.0), (0.5, 0.0)), since=0.02).name == "rate"


ways = st.integers(2, 5).flatmap(lambda k: arrays(float, (k, 2), elements=st.floats(-1, 1)))


@given(ways, st.floats(0, 6), st.floats(0.1, 1), st.floats(0, 20))
def test_what_remains_of_a_command_is_the_same_way_slower(values, elapsed, speed, later):
    command = trajectory(*values, start=np.zeros(2))
    rest = command.remaining(elapsed, speed)
    assert np.allclose(rest.at(later), command.at(elapsed + later * speed), atol=1e-9)
    assert (rest.fastest() <= command.fastest() * speed + 1e-9).all()


@given(ways)
def test_a_good_command_stays_good_when_checked_again(values):
    good, _ = check(trajectory(*values * 0.4), TWO, LIMITS, NOW, np.zeros(2))
    assert good is not None
    again, _ = check(good, TWO, LIMITS, NOW, np.zeros(2))
    assert again is not None
    assert np.array_equal(again.values, good.values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_age": 0.0}, "max_age is 0.0; allowed: 0.001 to 10.0"),
        ({"max_age": float("nan")}, "max_age is nan; expected a finite number"),
        ({"max_points": 1.5}, "max_points is 1.5; expected a whole number"),
        ({"require_stamp": 1}, "require_stamp is 1; allowed: true, false"),
        ({"period": "fast"}, "period is 'fast'; expected a finite number"),
        ({"period": True}, "period is True; expected"),
    ],
)
def test_settings_name_what_is_allowed(changes, message):
    with pytest.raises(ConfigError, match=message):
        CommandLimits(**changes)
