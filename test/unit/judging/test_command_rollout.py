"""What commands mean over time: trajectories, set-points and rates, and the envelopes of their verdicts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepverse_ros.errors import ConfigError
from deepverse_ros.judging.command_rollout import CommandRollout
from deepverse_ros.judging.tracked_command import TrackedCommand
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command, Layout

ARM = Embodiment.load("arm")
LAYOUT = Layout.of(ARM)
HOME = np.array(ARM.home)
AHEAD = ARM.dt * np.arange(1, 9)


def rate_layout() -> Layout:
    most = LAYOUT.max_rate
    size = LAYOUT.size
    return Layout(
        LAYOUT.names, np.zeros(size, bool), -most, most, np.full(size, np.inf), np.zeros(size), np.ones(size, bool)
    )


def moved(*first: float) -> np.ndarray:
    """Way points that differ from home in the first joint."""
    out = np.repeat(HOME[None], len(first), 0)
    out[:, 0] += first
    return out


def trajectory(*first: float, seconds: float = 0.5) -> TrackedCommand:
    times = seconds * np.arange(1, len(first) + 1)
    return TrackedCommand(Command(moved(*first), times, LAYOUT.names, 0.0, HOME))


def test_a_trajectory_is_driven_from_where_it_is():
    course = CommandRollout(ARM, LAYOUT)
    waiting = trajectory(0.5, 0.0)
    np.testing.assert_allclose(course.plan(waiting, 7.0, HOME, AHEAD)[:5, 0], [0.2, 0.4, 0.4, 0.2, 0.0], atol=1e-6)
    begun = TrackedCommand(waiting.command, begun=7.0)
    np.testing.assert_allclose(course.plan(begun, 7.2, HOME, AHEAD)[:4, 0], [0.4, 0.4, 0.2, 0.0], atol=1e-6)
    early = course.plan(begun, 6.9, HOME, AHEAD)  # an image of before it began
    np.testing.assert_allclose(early[:2, 0], [0.1, 0.3], atol=1e-6)


def test_a_set_point_is_gone_to_straight_and_as_fast_as_allowed():
    course = CommandRollout(ARM, LAYOUT)
    target = HOME.copy()
    target[:2] += (1.483, 0.5)
    plan = course.plan(TrackedCommand(Command.setpoint(target)), 0.0, HOME, AHEAD)
    np.testing.assert_allclose(plan[:, 0], np.minimum(1.483 * AHEAD, 1.483), rtol=1e-5)
    np.testing.assert_allclose(plan[:, 1], 0.6 + np.minimum(0.5 * AHEAD, 0.5), rtol=1e-5)
    here = course.plan(TrackedCommand(Command.setpoint(HOME)), 0.0, HOME, AHEAD)
    np.testing.assert_allclose(here, np.repeat(HOME[None], 8, 0), rtol=1e-6)


def test_rates_add_up_within_the_limits_and_so_does_what_they_may_be_off():
    course = CommandRollout(ARM, rate_layout(), rates=True, half_width={"joint_positions": 0.1})
    rate = np.zeros(8)
    rate[[0, 3]] = 0.5, -1.0
    plan = course.plan(TrackedCommand(Command.setpoint(rate)), 0.0, HOME, AHEAD)
    np.testing.assert_allclose(plan[:, 0], 0.5 * AHEAD, rtol=1e-5)
    np.testing.assert_allclose(plan[:, 3], np.maximum(-1.4 - AHEAD, -2.094), rtol=1e-5)
    np.testing.assert_allclose(course.deviation(AHEAD)[:, 0], 0.1 * AHEAD)
    envelope = course.envelope(TrackedCommand(Command.setpoint(rate)), 3.0, 1.6)
    assert (envelope.center == rate).all()


@pytest.mark.parametrize("elapsed", [0.0, 0.13, 0.5, 0.9])
def test_the_envelope_holds_the_command_that_it_is_of_and_little_more(elapsed):
    course = CommandRollout(ARM, LAYOUT, half_width={"joint_positions": 0.02, "gripper_state": 0.1}, time_slack=0.01)
    watched = TrackedCommand(trajectory(0.5, 0.0, 0.3).command, begun=4.0)
    envelope = course.envelope(watched, 4.0 + elapsed, 1.6)
    assert not envelope.problem(8)
    times = np.concatenate([[0.0], watched.command.times[watched.command.times > elapsed] - elapsed])
    path = watched.command.at(elapsed + times)
    assert envelope.excess(times, path, 0.0) == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(envelope.half_width[[0, 7]], [0.02, 0.1])
    np.testing.assert_allclose(course.deviation(AHEAD)[:, 0], 0.02)  # the robot goes no other way for being late
    assert envelope.excess(times, path + 0.019, 0.0) < 1
    assert envelope.excess(times, path + 0.021, 0.0) > 1
    # 10 ms later in the world model's eyes than in the gate's.
    assert envelope.excess(times, path, 0.01) < 1


def test_a_halt_leaves_the_rest_and_a_passed_command_goes_on_from_there():
    whole = trajectory(0.5, 1.0)
    begun = whole.continued(Command(whole.command.values, whole.command.times, LAYOUT.names), 10.0)
    assert begun is not None
    assert begun.begun == 10.0
    assert np.array_equal(begun.command.start, HOME)
    hold = Command.setpoint(moved(0.25)[0], LAYOUT.names)
    assert begun.continued(hold, 10.25) is None
    rest = begun.halted(10.25)
    np.testing.assert_allclose(rest.command.times, [0.25, 0.75])
    np.testing.assert_allclose(rest.command.start[0], 0.25)
    slower = rest.continued(Command(moved(0.5, 1.0), np.array([0.5, 1.5]), LAYOUT.names), 12.0)
    assert slower is not None
    np.testing.assert_allclose(slower.command.at(0.25)[0], 0.375)
    assert whole.continued(Command(moved(0.5, 0.9), whole.command.times, LAYOUT.names), 10.0) is None


def test_a_trajectory_that_was_slowed_down_and_halted_waits_at_its_own_pace():
    whole = trajectory(0.2, 0.4, 0.6, 0.8)
    half = whole.continued(whole.command.remaining(0.0, 0.5), 10.0)
    assert half.command.duration == pytest.approx(4.0)
    rest = half.halted(11.5)  # three quarters of a second of its own
    assert rest.begun is None
    np.testing.assert_allclose(rest.command.times, [0.25, 0.75, 1.25])
    np.testing.assert_allclose(rest.command.start[0], HOME[0] + 0.3)
    slower = rest.continued(rest.command.remaining(0.0, 0.25), 20.0)
    np.testing.assert_allclose(slower.halted(24.0).command.times, [0.25])
    # The last way alone.
    last = slower.halted(24.0).continued(slower.halted(24.0).command.remaining(0.0, 0.5), 30.0)
    np.testing.assert_allclose(last.halted(30.25).command.times, [0.125])


def test_a_finished_hold_that_passes_again_begins_again():
    hold = Command(HOME[None], np.array([0.2]), LAYOUT.names)
    watched = TrackedCommand(hold)
    for now in (10.0, 10.5, 11.0, 11.5):
        watched = watched.continued(hold, now)
        assert (watched.begun, watched.pace) == (now, 1.0)
    assert watched.halted(20.0).command.duration == 0
    assert watched.halted(20.0).continued(hold, 21.0) is None  # of what is done nothing is left that could pass


SECONDS = st.sampled_from([1e-9, 0.2, 2e9]) | st.floats(0.01, 10.0)
SHARES = st.sampled_from([1e-9, 1.0]) | st.floats(0.01, 1.0)


@given(steps=st.lists(SECONDS, min_size=1, max_size=3), speeds=st.lists(SHARES, min_size=1, max_size=4),
       waits=st.lists(st.just(0.0) | SECONDS, min_size=4, max_size=4))  # fmt: skip
def test_whatever_passes_of_a_trajectory_and_however_long_it_takes_it_has_a_pace(steps, speeds, waits):
    times = np.unique(np.cumsum(steps))
    whole = TrackedCommand(Command(moved(*np.linspace(0.1, 0.3, len(times))), times, LAYOUT.names, 0.0, HOME))
    now, watched = 10.0, whole
    for speed, wait in zip(speeds, waits, strict=False):
        now += wait
        passed = watched.halted(now).command.remaining(0.0, speed) if wait else whole.command
        watched = watched.continued(passed, now) or watched.halted(now)
        assert 0 < watched.pace < math.inf
        assert np.isfinite(watched.command.values).all()
        assert (np.diff(watched.halted(now).command.times) >= 0).all()


@pytest.mark.parametrize(
    ("width", "said"), [({"wings": 0.1}, "'wings' is no modality"), ({"gripper_state": -1.0}, "must be 0 or more")]
)
def test_half_widths_that_do_not_fit_are_named(width, said):
    with pytest.raises(ConfigError, match=said):
        CommandRollout(ARM, LAYOUT, half_width=width)
