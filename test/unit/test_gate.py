"""The gate: what passes, what stops it, how it comes back, and that nothing ever passes without its verdict."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.errors import ConfigError
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command, Layout
from deepverse_ros.safety.finding import Action, Finding
from deepverse_ros.safety.gate import Gate
from deepverse_ros.safety.settings import CommandLimits, GateSettings
from deepverse_ros.safety.status import Mode, Send, State
from deepverse_ros.safety.verdict import Envelope, Verdict

RATES = Layout(
    ("x", "turn"), np.zeros(2, bool), np.full(2, -1.0), np.full(2, 1.0), np.full(2, np.inf), np.zeros(2),
    np.ones(2, bool),
)  # fmt: skip
JOINTS = replace(RATES, names=("a", "b"), position=np.ones(2, bool), max_rate=np.array([1.0, 1.0]))
CAR = Layout(
    ("steering", "throttle", "brake"), np.zeros(3, bool), np.array([-0.6, 0, 0]), np.array([0.6, 1, 1]),
    np.full(3, np.inf), np.array([np.nan, 0, 1]), np.array([False, True, False]),
)  # fmt: skip

CLEAR = Finding(Action.CLEAR)
BAD = Finding(Action.STOP, "wall", 3, 12, 5, 0.0, text="zone 'wall': 12 points at step 3, 5 count")
OUT = replace(BAD, leads_out=True, gain=0.1)
HALF = Finding(Action.SLOW, "desk", 2, 9, 5, 0.5, text="zone 'desk'")
CAPPED = Finding(Action.LIMIT, "desk", 2, 9, 5, 1.0, {"x": 0.2, "*": 0.4})

GO = np.array([0.5, 0.1])


class World:
    """A gate, the time, and the parts around it; by default all is well."""

    def __init__(self, layout=RATES, mode=Mode.ENFORCE, limits=None, measured=None, **changes):
        self.layout = layout
        self.gate = Gate(layout, GateSettings(**changes), limits, mode)
        self.steady, self.ros = 50.0, 1000.0
        self.alive, self.measured = True, measured
        self.decision = None

    @property
    def now(self):
        return Now(self.steady, self.ros)

    def wait(self, seconds, ros=None):
        """Time passes, with a heartbeat, a measured state and a tick every 20 ms; the decisions of the ticks."""
        out = []
        steps = max(1, round(seconds / 0.02))
        for _ in range(steps):
            self.steady += seconds / steps
            self.ros += (seconds if ros is None else ros) / steps
            if self.alive:
                self.gate.on_heartbeat(self.now)
            if self.measured is not None:
                self.gate.on_measured(np.array(self.measured, float), self.now)
            out.append(self.gate.tick(self.now))
        self.decision = out[-1]
        return out

    def command(self, values=GO, **more):
        self.decision = self.gate.on_command(Command.setpoint(np.array(values, float), **more), self.now)
        return self.decision

    def trajectory(self, *values, times=None, **more):
        times = np.arange(1, len(values) + 1) if times is None else times
        command = Command(np.array(values, float), np.array(times, float), **more)
        self.decision = self.gate.on_command(command, self.now)
        return self.decision

    def verdict(self, finding=CLEAR, center=GO, width=0.05, *, image_age=0.1, age=0.0, valid_for=1.0, horizon=1.6,
                begun=0.0, times=None):  # fmt: skip
        center = np.atleast_2d(np.array(center, float))
        times = np.linspace(0, horizon, len(center) + 1)[1:] if times is None else np.array(times, float)
        envelope = Envelope(self.ros - begun, times, center, np.full(self.layout.size, width))
        made = Verdict(self.ros - age, self.ros - image_age, valid_for, envelope, finding)
        self.decision = self.gate.on_verdict(made, self.now)
        return self.decision

    def drive(self, seconds, finding=CLEAR, values=GO, every=0.02):
        """A stream of one command at 50 Hz and a verdict on it at 10 Hz; the decisions on the commands."""
        out = []
        for k in range(max(1, round(seconds / every))):
            if k % 5 == 0:
                self.verdict(finding, values)
            out.append(self.command(values))
            self.wait(every)
        return out

    def ready(self, **more):
        """Until commands pass."""
        self.wait(0.02)
        self.drive(0.6, **more)
        assert self.gate.state == State.PASS, self.gate.tick(self.now).status.reason
        return self

    @property
    def state(self):
        return self.gate.state

    def check(self, name):
        return next(c for c in self.decision.status.checks if c.name == name)


def sent(decision):
    return decision.command.values[-1].tolist()


# --- passing --------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_anything_came():
    world = World()
    decision = world.gate.tick(world.now)
    assert (decision.send, decision.status.state) == (Send.NOTHING, State.FALLBACK)
    assert "no sign of life" in decision.status.reason


def test_a_stream_with_its_verdicts_passes_as_it_is():
    world = World().ready()
    command = Command.setpoint(GO)
    decision = world.gate.on_command(command, world.now)
    assert decision.send == Send.COMMAND
    assert decision.command is command
    status = decision.status
    assert (status.state, status.reason, status.scale, status.zone) == (State.PASS, "", 1.0, "")
    assert all(c.ok for c in status.checks)
    assert {"clock", "heartbeat_age", "command_age", "verdict_age", "image_age", "envelope", "limits", "rate"} <= {
        c.name for c in status.checks
    }
    assert status.image_age == pytest.approx(status.verdict_age + 0.1)
    assert all(d.send == Send.COMMAND for d in world.drive(2.0))


def test_it_starts_closed_and_opens_after_the_release():
    world = World(release_count=3, release_time=0.25)
    world.wait(0.02)
    sends = [d.send for d in world.drive(0.6)]
    opened = sends.index(Send.COMMAND)
    assert set(sends[:opened]) == {Send.HOLD}
    assert set(sends[opened:]) == {Send.COMMAND}
    assert 0.24 <= opened * 0.02 <= 0.3


def test_a_command_waits_for_its_own_verdict_and_passes_with_it():
    world = World().ready()
    other = GO + np.array([0, 0.2])
    decision = world.command(other)
    assert decision.send == Send.HOLD
    assert sent(decision) == [0.0, 0.0]
    assert "waits for a verdict of its own, 4 half-widths off" in decision.status.reason
    assert decision.status.state == State.PASS
    world.wait(0.04)
    assert world.decision.send == Send.HOLD
    decision = world.verdict(center=other)
    assert (decision.send, sent(decision)) == (Send.COMMAND, other.tolist())


@pytest.mark.parametrize(("away", "passes"), [(0.0, True), (0.049, True), (0.051, False), (-0.051, False)])
def test_the_envelope_is_a_half_width_around_the_imagined_command(away, passes):
    world = World().ready()
    assert (world.command(GO + np.array([away, 0])).send == Send.COMMAND) == passes


def test_a_command_never_rides_on_the_verdict_of_another():
    world = World().ready()
    for k in range(20):
        world.verdict()  # always on the first command
        assert world.command(GO + np.array([0, 0.2])).send in (Send.HOLD,), k
        world.wait(0.02)
    assert world.state == State.FALLBACK  # waiting for so long is a fault
    assert not world.check("envelope").ok


def test_the_newest_image_decides_and_on_one_image_the_gravest():
    world = World().ready()
    world.verdict(CLEAR, image_age=0.02)
    world.verdict(BAD, image_age=0.3)  # late: an older image
    assert world.command().send == Send.COMMAND
    world.verdict(BAD, image_age=0.02)
    assert world.command().send == Send.STOP


# --- the way ahead is not clear -------------------------------------------------------------------------------------


def test_a_bad_verdict_stops_the_robot_at_once_and_says_why():
    world = World().ready()
    decision = world.verdict(BAD)
    assert (decision.send, sent(decision)) == (Send.STOP, [0.0, 0.0])
    assert decision.status.state == State.STOP
    assert (decision.status.zone, decision.status.step) == ("wall", 3)
    assert "12 points at step 3" in decision.status.reason
    wall = world.check("zone:wall")
    assert (wall.ok, wall.value, wall.threshold) == (False, 12, 5)
    assert {d.send for d in world.drive(1.0, BAD)} == {Send.STOP}


def test_it_ends_by_better_verdicts_in_a_row():
    world = World(release_count=3, release_time=0.2).ready()
    world.drive(0.2, BAD)
    world.drive(0.1)
    world.drive(0.1, BAD)  # starts again
    sends = [d.send for d in world.drive(0.6)]
    opened = sends.index(Send.COMMAND)
    assert 0.2 <= opened * 0.02 <= 0.32
    assert world.state == State.PASS


def test_a_single_bad_verdict_withholds_but_needs_no_release_where_more_make_a_stop():
    world = World(trigger_count=2).ready()
    assert world.verdict(BAD).send == Send.HOLD
    assert world.state == State.PASS
    assert world.command().send == Send.HOLD
    world.wait(0.02)
    world.verdict(CLEAR)
    assert world.command().send == Send.COMMAND
    world.verdict(BAD)
    world.wait(0.02)
    world.verdict(BAD)
    assert world.state == State.STOP


def test_bad_verdicts_have_to_last_where_a_time_is_set():
    world = World(trigger_time=0.1).ready()
    sends = [d.send for d in world.drive(0.3, BAD)]
    assert Send.COMMAND not in sends
    assert 4 <= sends.index(Send.STOP) <= 7


def test_only_the_operator_ends_a_latched_stop():
    world = World(latch_stop=True).ready()
    world.drive(0.1, BAD)
    assert world.gate.release(world.now)[0] is False  # it is still bad
    assert {d.send for d in world.drive(2.0)} == {Send.STOP}
    assert "operator" in world.decision.status.reason
    world.alive = False
    world.wait(0.5)  # a fault in between is no way round
    assert world.state == State.FALLBACK
    world.alive = True
    assert Send.COMMAND not in {d.send for d in world.drive(1.0)}
    assert world.gate.release(world.now) == (True, "released: clear commands pass at reduced speed")
    assert world.drive(0.1)[-1].send == Send.SCALED
    world.drive(0.5)
    assert world.state == State.PASS


def test_release_opens_nothing_that_a_verdict_forbids():
    world = World().ready()
    assert world.gate.release(world.now) == (False, "nothing is stopped")
    world.drive(0.2, BAD)
    world.command()
    done, text = world.gate.release(world.now)
    assert not done
    assert "wall" in text
    world.alive = False
    world.wait(0.4)
    done, text = world.gate.release(world.now)
    assert not done
    assert "sign of life" in text
    world.alive = True
    world.wait(0.5)  # commands have ceased, which an operator may well do first
    assert world.gate.release(world.now)[0]
    world.command()
    assert world.gate.release(world.now)[0]
    assert world.state == State.RECOVER
    assert Send.COMMAND not in {d.send for d in world.drive(0.2, BAD)}
    assert world.state == State.STOP


def test_commands_that_lead_out_of_a_stop_pass_slowly():
    world = World(recover_scale=0.2).ready()
    world.drive(0.2, BAD)
    back = -GO
    sends = world.drive(0.6, OUT, back)
    assert world.state == State.RECOVER
    assert sends[-1].send == Send.SCALED
    assert sent(sends[-1]) == pytest.approx((0.2 * back).tolist())
    assert world.drive(0.02, BAD, GO)[0].send != Send.SCALED  # forward is still forbidden
    assert world.state == State.STOP
    world.drive(0.2, OUT, back)
    assert Send.COMMAND not in {d.send for d in world.drive(0.2, CLEAR, back)}
    world.drive(0.4, CLEAR, back)
    assert world.state == State.PASS


def test_a_verdict_that_leads_out_opens_nothing_but_a_stop():
    world = World().ready()
    world.verdict(OUT)
    assert world.state == State.STOP  # first of all it is a stop


# --- slower ---------------------------------------------------------------------------------------------------------


def test_slow_and_limited_rates():
    world = World().ready()
    decision = world.verdict(HALF)
    assert (decision.send, sent(decision)) == (Send.SCALED, [0.25, 0.05])
    assert (decision.status.state, decision.status.scale) == (State.SLOW, 0.5)
    world = World().ready()
    decision = world.verdict(CAPPED)
    assert sent(decision) == pytest.approx([0.2, 0.04])  # x may be 0.2; both are slowed by the same share
    assert decision.status.state == State.SLOW


def test_faster_again_only_after_the_release():
    world = World(release_count=2, release_time=0.3).ready()
    world.drive(0.2, HALF)
    sends = [d.send for d in world.drive(0.6)]
    assert 0.28 <= sends.index(Send.COMMAND) * 0.02 <= 0.34
    assert set(sends[: sends.index(Send.COMMAND)]) == {Send.SCALED}


def test_brakes_and_steering_are_not_made_weaker():
    world = World(CAR).ready(values=np.array([0.2, 0.5, 0.3]))
    assert sent(world.verdict(HALF, [0.2, 0.5, 0.3])) == [0.2, 0.25, 0.3]
    assert sent(world.verdict(BAD, [0.2, 0.5, 0.3])) == [0.2, 0.0, 1.0]  # to rest, steering as it was


# --- positions ------------------------------------------------------------------------------------------------------


def arm(**changes):
    return World(JOINTS, measured=(0.0, 0.0), command_timeout=0.0, **changes)


def test_a_trajectory_waits_passes_once_and_is_watched_while_it_runs():
    world = arm()
    world.wait(0.5)
    assert world.state == State.PASS  # idle
    decision = world.trajectory((0.5, 0.0), (0.5, 0.5))
    assert (decision.send, sent(decision)) == (Send.HOLD, [0.0, 0.0])
    center = [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5)]
    decision = world.verdict(center=center, times=[0, 1, 2])
    assert decision.send == Send.COMMAND
    assert decision.command.times.tolist() == [1, 2]
    assert {d.send for d in world.wait(0.3)} == {Send.NOTHING}
    world.verdict(center=center, times=[0, 1, 2], begun=0.3)
    assert {d.send for d in world.wait(0.36)} == {Send.NOTHING}
    late = world.wait(0.3)  # its verdict has grown old
    stopped = next(d for d in late if d.send != Send.NOTHING)
    assert stopped.send == Send.HOLD
    assert stopped.status.state == State.FALLBACK
    assert "seconds since that verdict's image: 0.5" in stopped.status.reason
    assert sent(stopped) == pytest.approx([0.35, 0.0], abs=0.02)  # where its way had led by then
    assert sent(late[-1]) == sent(stopped)  # and there it stays


def test_a_running_trajectory_is_compared_at_its_own_time():
    world = arm(image_timeout=2.0, verdict_timeout=2.0)
    world.wait(0.5)
    world.trajectory((0.9, 0.0))
    way = [(0.0, 0.0), (0.9, 0.0)]
    assert world.verdict(center=way, times=[0, 1], horizon=1, valid_for=0.5).send == Send.COMMAND
    world.wait(0.4)
    # A verdict on the same trajectory begun only now is one on another future.
    world.verdict(center=way, times=[0, 1])
    world.wait(0.2)
    assert world.state == State.FALLBACK


def test_a_trajectory_is_done_where_the_robot_says_so_and_then_nothing_is_missing():
    world = arm()
    world.wait(0.5)
    world.trajectory((0.1, 0.0), times=[0.2])
    world.verdict(center=[(0, 0), (0.1, 0), (0.1, 0)], times=[0, 0.2, 1.6])
    world.wait(0.1)
    world.measured = (0.1, 0.0)
    world.wait(3.0)
    assert world.state == State.PASS
    assert world.decision.send == Send.NOTHING


def test_a_stopped_trajectory_goes_on_from_where_it_stopped_and_slower_if_told_so():
    world = arm(release_time=0.1, stop_action="hold")
    world.wait(0.5)
    way = {"center": [(0, 0), (0.8, 0.0)], "times": [0, 1.6]}
    world.trajectory((0.8, 0.0), times=[1.6])
    world.verdict(**way)
    world.wait(0.4)
    decision = world.verdict(BAD, begun=0.4, **way)
    assert (decision.send, sent(decision)) == (Send.HOLD, pytest.approx([0.2, 0.0], abs=1e-9))
    rest = {"center": [(0.2, 0), (0.8, 0.0)], "times": [0, 1.2]}
    for _ in range(2):
        world.wait(0.1)
        world.verdict(**rest)
    assert (world.decision.send, world.state) == (Send.SCALED, State.PASS)
    assert world.decision.command.times == pytest.approx([1.2])
    world.wait(0.2)
    decision = world.verdict(HALF, begun=0.2, **rest)
    assert decision.command.times == pytest.approx([2.0])
    assert sent(decision) == [0.8, 0.0]
    world.wait(0.2)
    decision = world.verdict(BAD, center=[(0.3, 0), (0.8, 0.0)], times=[0, 2.0], begun=0.2)
    assert sent(decision) == pytest.approx([0.35, 0.0])


def test_a_spike_between_the_imagined_steps_is_not_covered():
    world = arm(limits=CommandLimits(rate_slack=1.0))
    world.wait(0.5)
    center = [(0, 0)] * 3
    world.trajectory((0, 0), (0.1, 0), (0, 0), times=[0.2, 0.3, 0.4])
    assert world.verdict(center=center, times=[0, 0.2, 1.6]).send == Send.HOLD
    assert world.trajectory((0, 0), (0.04, 0), (0, 0), times=[0.2, 0.3, 0.4]).send == Send.COMMAND


def test_a_command_that_waited_too_long_is_dropped_and_not_sent_later():
    world = arm(pending_timeout=0.5)
    world.wait(0.5)
    world.trajectory((0.5, 0.0))
    world.wait(0.35)
    assert world.state == State.FALLBACK
    assert "no verdict" in world.decision.status.reason
    world.wait(1.0)
    assert world.state == State.PASS
    assert world.gate.counts.expired == 1
    assert world.verdict(center=[(0, 0), (0.5, 0)], times=[0, 1]).send == Send.NOTHING


def test_the_robot_does_not_jump_to_a_setpoint_that_moved_on_while_it_was_held():
    world = World(JOINTS, measured=(0.0, 0.0))
    world.wait(0.02)
    targets = []
    for k in range(60):
        wanted = np.array([0.01 * k, 0.0])  # half of the largest rate
        if k % 5 == 0:
            world.verdict(center=wanted, width=0.06)
        decision = world.command(wanted)
        targets.append(sent(decision)[0] if decision.command else targets[-1])
        world.wait(0.02)
        if world.decision.command is not None:
            targets[-1] = sent(world.decision)[0]
    assert world.state == State.PASS
    assert max(np.diff(targets)) <= 2 * 0.02 * 1.0 * 1.11
    assert targets[-1] == pytest.approx(0.59)


def test_a_slow_stream_of_positions_keeps_its_share_of_the_largest_rate():
    world = World(JOINTS, measured=(0.0, 0.0), image_timeout=5.0, verdict_timeout=5.0)
    world.wait(0.02)
    world.drive(0.6, values=np.zeros(2))
    assert world.state == State.PASS
    slow = replace(HALF, scale=0.1)
    for k in range(50):
        wanted = np.array([0.01 * k, 0.0])
        world.verdict(slow, center=wanted)
        world.command(wanted)
        world.wait(0.02)
    assert 0.08 <= sent(world.command(wanted))[0] <= 0.115  # 1 s at a tenth of 1 rad/s


def test_positions_hold_at_the_last_target_and_stop_where_the_robot_is():
    for fallback, expected in (("hold", [0.02, 0.0]), ("stop", [0.015, 0.0])):
        world = World(JOINTS, measured=(0.0, 0.0), fallback=fallback, position_tolerance=0.0)
        world.wait(0.02)
        world.drive(0.6, values=np.zeros(2))
        world.verdict(center=(0.02, 0))
        assert world.command((0.02, 0)).send == Send.COMMAND
        world.measured = (0.015, 0.0)
        world.wait(0.1)
        world.alive = False
        world.wait(0.3)
        assert world.state == State.FALLBACK
        assert sent(world.decision) == pytest.approx(expected)
        world.measured = (0.5, 0.5)
        world.wait(0.1)
        assert sent(world.decision) == pytest.approx(expected)  # no creeping along


def test_without_joint_states_nothing_moves_a_robot():
    world = World(JOINTS)
    world.wait(0.02)
    world.verdict(center=(0, 0))
    decision = world.command((0, 0))
    assert decision.send == Send.NOTHING
    assert not world.check("start").ok


# --- what must not be gone by ----------------------------------------------------------------------------------------


def test_a_heartbeat_that_was_under_way_for_long_or_comes_again_is_no_sign_of_life():
    for late in (0.25, 1.0):
        world = World().ready()
        world.alive = False
        for _ in range(20):
            world.gate.on_heartbeat(world.now, stamp=world.ros - late)
            world.drive(0.02)
        assert world.state == State.FALLBACK
        assert not world.check("heartbeat_age").ok
    world = World().ready()
    world.alive, stamp = False, world.ros
    for _ in range(15):
        world.gate.on_heartbeat(world.now, stamp=stamp)
        world.drive(0.02)
    assert not world.check("heartbeat_age").ok
    for _ in range(15):
        world.gate.on_heartbeat(world.now, stamp=world.ros + 5.0)
        world.drive(0.02)
    assert not world.check("heartbeat_age").ok
    world.ros -= 100.0  # a simulation begins again
    for _ in range(40):
        world.gate.on_heartbeat(world.now, stamp=world.ros - 0.01)
        world.drive(0.02)
    assert world.state == State.PASS


def moving_arm(**changes):
    """On its way to (0.5, 0), 0.2 of it commanded and 0.18 done."""
    world = arm(**changes)
    world.wait(0.5)
    world.trajectory((0.5, 0.0))
    world.verdict(center=[(0, 0), (0.5, 0)], times=[0, 1])
    world.wait(0.2)
    world.measured = None
    world.gate.on_measured(np.array([0.09, 0.0]), world.now, stamp=world.ros)
    return world


@pytest.mark.parametrize(
    ("measured", "age", "goes_to"),
    [
        ((0.09, 0.0), 0.0, 0.09),
        ((0.05, 0.0), 0.3, 0.1),  # old: the robot would go back to where it was
        ((3.0, 0.0), 0.0, 0.1),  # beyond its limits
        ((-0.9, 0.0), 0.0, 0.1),  # it cannot lag so far behind
    ],
)
def test_a_stop_goes_to_no_place_where_the_robot_cannot_be(measured, age, goes_to):
    world = moving_arm()
    world.gate._motion.forget_stamps()
    world.gate._motion._measured = None
    world.gate.on_measured(np.array(measured), world.now, stamp=world.ros - age)
    decision = world.verdict(BAD, center=[(0, 0), (0.5, 0)], times=[0, 1], begun=0.2)
    assert (decision.send, sent(decision)) == (Send.STOP, [pytest.approx(goes_to), 0.0])


def test_joint_states_that_come_again_grow_old():
    world = moving_arm()
    stamp = world.ros
    for _ in range(15):
        world.wait(0.02)
        world.gate.on_measured(np.array([0.09, 0.0]), world.now, stamp=stamp)
    assert world.gate._motion.measured(world.now, 0.2) is None


def test_a_stopped_trajectory_goes_on_from_where_the_robot_was_stopped():
    world = arm(release_time=0.1, position_tolerance=0.01)
    world.wait(0.5)
    world.trajectory((0.8, 0.0), times=[1.6])
    world.verdict(center=[(0, 0), (0.8, 0.0)], times=[0, 1.6])
    world.wait(0.3)
    world.measured = (0.05, 0.0)  # it has lagged, as if something were in its way
    world.wait(0.02)
    assert sent(world.verdict(BAD, center=[(0.16, 0), (0.8, 0.0)], times=[0, 1.3])) == [0.05, 0.0]
    for _ in range(3):
        world.wait(0.1)
        world.verdict(center=[(0.16, 0), (0.8, 0.0)], times=[0, 1.28], width=0.05)
    assert world.state == State.STOP  # nobody imagined the way from 0.05 on
    decisions = []
    for _ in range(2):
        decisions += world.wait(0.1)
        decisions.append(world.verdict(center=[(0.05, 0), (0.8, 0.0)], times=[0, 1.2], width=0.05))
    assert world.state == State.PASS
    onward = next(d for d in decisions if d.send in (Send.COMMAND, Send.SCALED))
    assert sent(onward) == [0.8, 0.0]
    assert onward.command.start.tolist() == [0.05, 0.0]


def test_an_envelope_of_everything_is_a_damaged_one():
    world = World().ready()
    decision = world.verdict(width=1.5)
    assert decision.status.state == State.FALLBACK
    assert "half_width of x is 1.5, at most half of its range, 1" in decision.status.reason


def test_a_verdict_that_calls_itself_clear_and_still_asks_for_less_speed_gets_it():
    world = World().ready()
    assert sent(world.verdict(replace(CLEAR, scale=0.5))) == (GO / 2).tolist()
    world = World().ready()
    assert sent(world.verdict(replace(CLEAR, max_rate={"x": 0.25}))) == (GO / 2).tolist()


def test_the_way_out_keeps_the_largest_rates_too():
    world = World(recover_scale=1.0).ready()
    world.drive(0.2, BAD)
    back = -GO
    last = world.drive(0.2, replace(OUT, max_rate={"x": 0.1}), back)[-1]
    assert sent(last) == pytest.approx([-0.1, -0.02])


def test_a_car_that_was_only_watched_is_braked_when_enforcing_begins():
    world = World(CAR, mode=Mode.MONITOR)
    world.wait(0.1)
    assert world.command((0.2, 0.5, 0.0)).send == Send.COMMAND
    world.gate.set_mode(Mode.ENFORCE, world.now)
    decision = world.gate.tick(world.now)
    assert (decision.send, sent(decision)) == (Send.HOLD, [0.2, 0.0, 1.0])  # the wheel stays where it was
    world = World(CAR)
    world.wait(0.1)
    assert sent(world.command((0.2, 0.5, np.nan))) == [0.0, 0.0, 1.0]


def test_enforcing_does_not_take_over_what_monitoring_would_have_stopped():
    world = arm(release_time=0.1, mode=Mode.MONITOR)
    world.wait(0.5)
    way = {"center": [(0, 0), (0.8, 0.0)], "times": [0, 1.6]}
    world.verdict(**way)
    assert world.trajectory((0.8, 0.0), times=[1.6]).status.would == Send.COMMAND
    world.wait(0.2)
    world.measured = (0.1, 0.0)
    world.verdict(BAD, begun=0.2, **way)
    world.wait(0.1)
    for _ in range(4):
        world.verdict(center=[(0.1, 0), (0.8, 0.0)], times=[0, 1.4])
        world.wait(0.06)
    assert world.state == State.PASS
    world.gate.set_mode(Mode.ENFORCE, world.now)  # the robot went on all the time, the gate has lost where it is
    assert world.gate.tick(world.now).status.state == State.FALLBACK


def test_enforcing_begins_closed_however_good_the_verdicts_were():
    world = World(mode=Mode.MONITOR).ready()
    world.drive(1.0)
    world.command(GO + np.array([0, 0.3]))  # no verdict answers for it, and it passes
    world.gate.set_mode(Mode.ENFORCE, world.now)
    assert world.command().send == Send.HOLD
    assert Send.COMMAND not in {d.send for d in world.drive(0.2)}
    world.drive(0.3)
    assert world.state == State.PASS


def test_after_a_failure_a_latched_stop_is_still_one():
    world = World(latch_stop=True).ready()
    world.drive(0.2, BAD)
    world.gate.fail("ValueError: something", world.now)
    assert world.state == State.FALLBACK
    assert "ValueError" in world.gate.tick(world.now).status.reason
    assert Send.COMMAND not in {d.send for d in world.drive(1.0)}
    assert world.state == State.STOP


def test_what_could_not_be_read_closes_the_gate():
    world = World().ready()
    decision = world.gate.on_command(Command.setpoint(GO), world.now, problem="the frame is 'map'")
    assert (decision.send, decision.status.state) == (Send.HOLD, State.FALLBACK)
    assert "the frame is 'map'" in decision.status.reason
    world.drive(0.6)
    decision = world.gate.on_wrong_verdict("names are missing", world.now)
    assert decision.status.state == State.FALLBACK
    assert "names are missing" in decision.status.reason


# --- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "check", "within"),
    [("model", "heartbeat_age", 0.22), ("commands", "command_age", 0.27), ("clock", "clock", 0.52)],
)
def test_a_timer_notices_what_does_not_come_any_more(fault, check, within):
    world = World().ready()
    world.command()
    world.alive = fault != "model"
    took = 0.0
    while world.state == State.PASS:
        world.verdict()
        if fault != "commands":
            world.command()
        world.wait(0.02, ros=0.0 if fault == "clock" else None)
        took += 0.02
    assert took <= within + 1e-9
    assert world.state == State.FALLBACK
    wrong = world.check(check)
    assert not wrong.ok
    assert wrong.value > wrong.threshold
    assert (world.decision.send, sent(world.decision)) == (Send.HOLD, [0.0, 0.0])
    world.alive = True
    world.drive(0.6)
    assert world.state == State.PASS


@pytest.mark.parametrize("by", [-1.0, -0.001, 0.6, 1e6])
def test_a_jump_of_the_clock_closes_the_gate_and_what_came_before_is_void(by):
    world = World().ready()
    world.verdict()
    world.command()
    world.ros += by
    decision = world.gate.tick(world.now)
    assert (decision.send, decision.status.state) == (Send.HOLD, State.FALLBACK)
    assert "clock" in decision.status.reason
    assert world.command().send == Send.HOLD  # on the verdict from before
    world.drive(0.8)
    assert world.state == State.PASS


@pytest.mark.parametrize("rate", [0.3, 1.0, 5.0])
def test_a_simulated_clock_may_run_at_another_rate(rate):
    world = World(verdict_timeout=2.0, image_timeout=2.0)
    world.wait(0.02)
    for _ in range(40):
        world.verdict(valid_for=5.0)
        world.command()
        world.wait(0.02, ros=0.02 * rate)
    assert world.state == State.PASS


@pytest.mark.parametrize("now", [Now(np.nan, 1.0), Now(1.0, np.nan), Now(np.inf, np.inf), Now(0.0, 0.0)])
def test_a_clock_that_says_nonsense_closes_the_gate(now):
    world = World().ready()
    world.verdict()
    assert world.gate.on_command(Command.setpoint(GO), now).send not in (Send.COMMAND, Send.SCALED)
    assert world.state == State.FALLBACK
    world.drive(0.8)
    assert world.state == State.PASS


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        ({"image_age": 0.6}, "seconds since that verdict's image: 0.6, at most 0.5"),
        ({"age": 0.6}, "seconds since the newest verdict"),
        ({"age": 0.15, "valid_for": 0.1}, "seconds since the newest verdict: 0.46, at most 0.1"),
        ({"horizon": 0.1}, "no verdict answers"),
        ({"begun": 1.5}, "no verdict answers"),
        ({"begun": -5.0}, "no verdict answers"),
    ],
)
def test_a_verdict_that_is_old_or_does_not_look_ahead_answers_for_nothing(verdict, reason):
    world = World(verdict_timeout=0.4, wait_timeout=0.3).ready()
    world.wait(0.5)  # the good ones are gone
    sends = []
    for k in range(17):
        if k % 10 == 0 or "image_age" in verdict or "age" not in verdict:
            world.verdict(**verdict)
        sends.append(world.command().send)
        if k < 16:
            world.wait(0.02)
    assert not {Send.COMMAND, Send.SCALED} & set(sends)
    assert world.state == State.FALLBACK
    if "valid_for" not in verdict:
        assert reason in world.decision.status.reason


def broken(**changes):
    envelope = Envelope(1000.0, np.array([1.6]), GO[None], np.full(2, 0.05))
    good = Verdict(1000.0, 999.9, 1.0, envelope, CLEAR)
    parts = {k[9:]: v for k, v in changes.items() if k.startswith("envelope_")}
    rest = {k: v for k, v in changes.items() if not k.startswith("envelope_")}
    return replace(good, envelope=replace(envelope, **parts), **rest)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"stamp": np.nan}, "stamp is nan"),
        ({"image_stamp": np.inf}, "image_stamp is inf"),
        ({"valid_for": 0.0}, "valid_for is 0.0"),
        ({"envelope_start": np.nan}, "start is not finite"),
        ({"envelope_center": np.full((1, 2), np.nan)}, "center is not finite"),
        ({"envelope_center": np.zeros((1, 3))}, r"expected times \(H,\), center \(H, 2\)"),
        ({"envelope_center": np.zeros((2, 2))}, "expected times"),
        ({"envelope_times": np.zeros((1, 1))}, "expected times"),
        ({"envelope_times": np.zeros(0), "envelope_center": np.zeros((0, 2))}, "expected times"),
        ({"envelope_times": np.array([-1.0])}, "times must rise"),
        ({"envelope_half_width": np.full(2, np.inf)}, "half_width is not finite"),
        ({"envelope_half_width": np.full(2, -1.0)}, "half_width is below 0"),
        ({"finding": replace(HALF, scale=np.nan)}, "finding.scale is nan"),
        ({"finding": replace(HALF, scale=2.0)}, "scale must be within 0 and 1"),
        ({"finding": replace(CAPPED, max_rate={"x": -1.0})}, "max_rate above 0"),
        ({"stamp": 1001.0}, "stamped 1 s ahead of the clock"),
        ({"image_stamp": 1000.2}, "stamped 0.2 s ahead"),
    ],
)
def test_a_verdict_that_is_wrong_closes_the_gate(changes, problem):
    world = World()
    world.ros -= 0.62
    world.ready()
    world.ros, world.steady = 1000.0, world.steady + 1000.0 - world.ros
    world.gate.on_heartbeat(world.now)
    decision = world.gate.on_verdict(broken(**changes), world.now)
    assert decision.status.state == State.FALLBACK
    assert re.search(problem, decision.status.reason), decision.status.reason
    assert world.command().send == Send.HOLD
    assert world.gate.counts.verdicts_wrong == 1
    world.drive(0.6)
    assert world.state == State.PASS


@pytest.mark.parametrize(
    "values", [(np.nan, 0), (np.inf, 0), (2.0, 0), (0.1,), (0.1, 0.1, 0.1), ((0.1, 0.1), (0.1, 0.1))]
)
def test_a_command_that_is_wrong_falls_back_and_good_ones_come_back(values):
    world = World().ready()
    decision = world.command(values)
    assert (decision.send, decision.status.state) == (Send.HOLD, State.FALLBACK)
    assert sent(decision) == [0.0, 0.0]
    assert decision.status.reason
    world.drive(0.6)
    assert world.state == State.PASS
    assert world.gate.counts.refused == 1


def test_a_command_older_than_the_one_before_it_is_left_out():
    world = World().ready()
    world.verdict()
    assert world.command(stamp=world.ros - 0.01).send == Send.COMMAND
    world.verdict(center=(0.1, 0))
    decision = world.command((0.1, 0), stamp=world.ros - 0.05)
    assert decision.send == Send.NOTHING
    assert world.state == State.PASS
    assert world.gate.counts.out_of_order == 1


@pytest.mark.parametrize(
    ("fallback", "first", "later"),
    [
        ("hold", (Send.HOLD, [0, 0]), (Send.HOLD, [0, 0])),
        ("stop", (Send.STOP, [0, 0]), (Send.STOP, [0, 0])),
        ("last_safe", (Send.LAST_SAFE, [0.5, 0.1]), (Send.HOLD, [0, 0])),
        ("scale", (Send.LAST_SAFE, [0.5, 0.1]), (Send.HOLD, [0, 0])),
    ],
)
def test_the_fallbacks(fallback, first, later):
    world = World(fallback=fallback, last_safe_time=0.1, ramp_time=0.1).ready()
    world.command()
    world.alive = False
    world.verdict()
    after = [d for d in world.wait(0.5) if d.status.state == State.FALLBACK]
    assert (after[0].send, sent(after[0])) == first
    assert (after[-1].send, sent(after[-1])) == later
    going_on = [sent(d)[0] for d in after if d.send == Send.LAST_SAFE]
    assert len(going_on) <= 6
    assert going_on == sorted(going_on, reverse=True)
    if fallback == "scale":
        assert len(set(going_on)) >= 4


def test_a_trajectory_is_ramped_down_on_its_way():
    world = arm(fallback="scale", ramp_time=0.2)
    world.wait(0.5)
    world.trajectory((0.8, 0.0), times=[1.6])
    world.verdict(center=[(0, 0), (0.8, 0.0)], times=[0, 1.6])
    world.alive = False
    after = [d for d in world.wait(0.8) if d.status.state == State.FALLBACK]
    lasts = [d.command.times[-1] for d in after if d.send == Send.LAST_SAFE]
    assert len(lasts) >= 8
    assert lasts[-1] > 3 * lasts[0]
    assert after[-1].send == Send.HOLD
    assert 0.15 < sent(after[-1])[0] < 0.21  # 0.2 s at full speed, then about half as far again


@pytest.mark.parametrize("fallback", ["last_safe", "scale"])
def test_nothing_goes_on_that_had_been_halted_or_forbidden(fallback):
    world = World(fallback=fallback).ready()
    world.drive(0.1, BAD)
    world.alive = False
    assert {tuple(sent(d)) for d in world.wait(0.5) if d.command} == {(0.0, 0.0)}
    assert world.state == State.FALLBACK
    world = World(fallback=fallback).ready()
    world.command()
    world.alive = False
    world.wait(0.2)
    decision = world.verdict(BAD)  # the fault and the bad verdict come together
    assert (decision.send, sent(decision)) == (Send.HOLD, [0.0, 0.0])


def test_a_command_to_rest_ends_what_would_go_on():
    world = World(fallback="last_safe", last_safe_time=5.0, command_timeout=5.0).ready()
    world.command()
    world.alive = False
    world.wait(0.3)
    assert world.decision.send == Send.LAST_SAFE
    assert sent(world.command((0, 0))) == [0.0, 0.0]
    assert {tuple(sent(d)) for d in world.wait(0.2)} == {(0.0, 0.0)}


# --- monitor --------------------------------------------------------------------------------------------------------


def test_monitoring_changes_nothing_and_says_what_it_would_have_done():
    world = World(mode=Mode.MONITOR)
    for values in ((0.5, 0.1), (np.nan, 0.0), (9.0, 0.0), (0.1,)):
        command = Command.setpoint(np.array(values))
        decision = world.gate.on_command(command, world.now)
        assert decision.send == Send.COMMAND
        assert decision.command is command
        assert decision.status.would == Send.HOLD
        assert decision.status.reason
    assert {d.send for d in world.wait(0.3)} == {Send.NOTHING}
    world.ready()
    assert world.command().status.would == Send.COMMAND
    world.verdict(BAD)
    assert world.decision.send == Send.NOTHING
    decision = world.command()
    assert (decision.send, decision.status.would, decision.status.state) == (Send.COMMAND, Send.STOP, State.STOP)
    assert world.gate.counts.withheld >= 5


def test_enforcing_takes_over_smoothly_where_all_is_well():
    world = World(mode=Mode.MONITOR).ready()
    world.gate.set_mode(Mode.ENFORCE, world.now)
    assert {d.send for d in world.drive(0.5)} == {Send.COMMAND}


def test_enforcing_begins_with_a_halt_where_something_passed_that_should_not():
    world = World(JOINTS, mode=Mode.MONITOR, measured=(0.0, 0.0), command_timeout=0.0)
    world.wait(0.5)
    world.trajectory((0.9, 0.0))  # without any verdict
    world.measured = (0.3, 0.0)
    world.wait(0.3)
    world.gate.set_mode(Mode.ENFORCE, world.now)
    decision = world.gate.tick(world.now)
    assert (decision.send, decision.status.state) == (Send.HOLD, State.FALLBACK)
    assert sent(decision) == pytest.approx([0.3, 0.0])


def test_monitoring_can_be_switched_on_live():
    world = World().ready()
    world.drive(0.2, BAD)
    world.gate.set_mode(Mode.MONITOR, world.now)
    assert world.command().send == Send.COMMAND
    world.gate.set_mode(Mode.ENFORCE, world.now)
    assert world.command().send == Send.STOP


# --- settings -------------------------------------------------------------------------------------------------------


def test_settings_are_checked_and_may_change_while_it_runs():
    with pytest.raises(ConfigError, match=r"verdict_timeout is 0\.0; allowed: 0\.01 to 10\.0"):
        GateSettings(verdict_timeout=0.0)
    with pytest.raises(ConfigError, match="fallback is 'panic'; allowed: hold, stop, scale, last_safe"):
        GateSettings(fallback="panic")
    with pytest.raises(ConfigError, match=r"release_count is 1\.5; expected a whole number"):
        GateSettings(release_count=1.5)
    with pytest.raises(ConfigError, match="command_timeout is 0, but x is a rate"):
        Gate(RATES, GateSettings(command_timeout=0.0))
    world = World().ready()
    with pytest.raises(ConfigError, match="command_timeout is 0"):
        world.gate.settings = GateSettings(command_timeout=0.0)
    world.gate.settings = GateSettings(image_timeout=0.05)
    world.wait(0.02)
    assert world.command().send == Send.HOLD


# --- whatever happens -----------------------------------------------------------------------------------------------

choices = np.array([[0.0, 0.0], [0.5, 0.0], [0.52, 0.0], [-0.5, 0.3]])
ages = st.sampled_from([-0.2, 0.0, 0.1, 0.4, 0.7])
waits = st.sampled_from([0.0, 0.001, 0.02, 0.02, 0.1, 0.4])
findings = st.sampled_from([CLEAR, CLEAR, CLEAR, HALF, CAPPED, BAD, OUT])
events = st.one_of(
    st.tuples(st.just("command"), st.integers(0, 3)),
    st.tuples(st.just("command"), st.integers(0, 3)),
    st.tuples(st.just("wrong command"), st.sampled_from([np.nan, np.inf, 7.0])),
    st.tuples(st.just("verdict"), st.integers(0, 3), findings, ages, ages, st.sampled_from([0.1, 0.4, 1.0])),
    st.tuples(st.just("verdict"), st.integers(0, 3), st.just(CLEAR), st.just(0.0), st.just(0.0), st.just(1.0)),
    st.tuples(st.just("wrong verdict"), st.integers(0, 3)),
    st.tuples(st.just("heartbeat")),
    st.tuples(st.just("tick")),
    st.tuples(st.just("well"), st.integers(0, 3), st.integers(1, 30)),
    st.tuples(st.just("jump"), st.sampled_from([-5.0, -0.01, 0.3, 5.0])),
    st.tuples(st.just("freeze"), waits),
    st.tuples(st.just("release")),
    st.tuples(st.just("settings"), st.sampled_from(["hold", "stop", "scale", "last_safe"])),
)


class Oracle:
    """What is known to have happened, and by it whether a command may pass; written without the gate's own parts."""

    def __init__(self, gate):
        self.gate = gate
        self.verdicts, self.beat, self.jumped = [], None, False

    def may_pass(self, values, now, settings):
        """Whether a fresh verdict on these values allows them, with the model alive and the clock steady."""
        if self.beat is None or now.steady - self.beat > settings.heartbeat_timeout or self.jumped:
            return False
        for verdict, at in self.verdicts:
            elapsed = max(now.ros - at.ros, now.steady - at.steady)
            age, image_age = at.ros - verdict.stamp + elapsed, at.ros - verdict.image_stamp + elapsed
            fresh = age <= min(verdict.valid_for, settings.verdict_timeout) and image_age <= settings.image_timeout
            near = np.abs(values - verdict.envelope.center[0]) <= verdict.envelope.half_width + 1e-6
            allows = verdict.finding.action != Action.STOP or verdict.finding.leads_out
            if fresh and near.all() and allows:
                return True
        return False


@given(
    st.sampled_from([RATES, JOINTS]), st.lists(st.tuples(waits, events), min_size=1, max_size=40),
    st.sampled_from(["hold", "stop", "scale", "last_safe"]), st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_no_command_ever_passes_without_a_fresh_verdict_that_covers_it(layout, happened, fallback, trigger_count):  # noqa: C901, PLR0912
    gate_settings = GateSettings(fallback=fallback, trigger_count=trigger_count, release_time=0.05)
    gate = Gate(layout, gate_settings, CommandLimits(rate_slack=1.0))
    oracle, now, newest = Oracle(gate), Now(10.0, 500.0), None
    last_moved_at, safe_until = -np.inf, -np.inf

    def judge_decision(decision):
        nonlocal safe_until, last_moved_at
        assert (decision.command is None) == (decision.send == Send.NOTHING)
        if decision.command is not None:
            assert np.isfinite(decision.command.values).all()
            assert decision.command.values.shape == (1, 2)
        if decision.send in (Send.COMMAND, Send.SCALED):
            assert newest is not None, "nothing good has come"
            assert oracle.may_pass(newest, now, gate.settings), decision
            assert decision.status.state in (State.PASS, State.SLOW, State.RECOVER)
            if decision.send == Send.COMMAND:
                assert np.array_equal(decision.command.values[0], newest)
            elif layout is RATES:
                assert (np.abs(decision.command.values[0]) <= np.abs(newest) + 1e-9).all()
            last_moved_at = now.steady
        elif decision.send == Send.LAST_SAFE:
            # Only what was moving before, and only for a moment.
            limit = gate.settings.last_safe_time if gate.settings.fallback == "last_safe" else gate.settings.ramp_time
            assert decision.status.state == State.FALLBACK
            assert now.steady - last_moved_at <= limit + 0.45 + gate.settings.heartbeat_timeout + 0.25
        elif layout is RATES and decision.command is not None:
            assert (decision.command.values == 0).all()

    def verdict(which, finding, age, image_age, valid_for):
        envelope = Envelope(now.ros, np.array([1.6]), choices[which][None], np.full(2, 0.05))
        made = Verdict(now.ros - age, now.ros - image_age, valid_for, envelope, finding)
        oracle.verdicts.append((made, now))
        return gate.on_verdict(made, now)

    def command(values):
        nonlocal newest
        newest = values
        return gate.on_command(Command.setpoint(values), now)

    for seconds, event in happened:
        now = Now(now.steady + seconds, now.ros + seconds)
        kind, *rest = event
        if kind == "jump":
            judge_decision(gate.tick(now))
            now = Now(now.steady, now.ros + rest[0])
            if rest[0] < 0 or rest[0] > 0.5:
                oracle.verdicts.clear()
                oracle.jumped, newest = True, None
            judge_decision(gate.tick(now))
            oracle.jumped = False
        elif kind == "freeze":
            now = Now(now.steady + rest[0], now.ros)
            judge_decision(gate.tick(now))
        elif kind == "command":
            judge_decision(command(choices[rest[0]]))
        elif kind == "wrong command":
            judge_decision(gate.on_command(Command.setpoint(np.array([rest[0], 0.0])), now))
        elif kind == "verdict":
            judge_decision(verdict(*rest))
        elif kind == "wrong verdict":
            judge_decision(
                gate.on_verdict(
                    Verdict(now.ros, now.ros, 1.0, Envelope(now.ros, np.ones(1), np.full((1, 2), np.nan), GO), CLEAR),
                    now,
                )
            )
        elif kind == "heartbeat":
            oracle.beat = now.steady
            judge_decision(gate.on_heartbeat(now))
        elif kind == "tick":
            judge_decision(gate.tick(now))
        elif kind == "release":
            gate.release(now)
        elif kind == "settings":
            gate.settings = replace(gate.settings, fallback=rest[0])
        else:
            for _ in range(rest[1]):
                now = Now(now.steady + 0.02, now.ros + 0.02)
                gate.on_measured(np.zeros(2), now)
                oracle.beat = now.steady
                judge_decision(gate.on_heartbeat(now))
                judge_decision(verdict(rest[0], CLEAR, 0.0, 0.05, 1.0))
                judge_decision(command(choices[rest[0]]))


@given(st.lists(st.tuples(waits, events), max_size=20), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_whatever_happened_good_times_open_the_gate_again(happened, which):
    gate = Gate(RATES)
    now = Now(10.0, 500.0)

    def verdict(which, finding, age, image_age, valid_for):
        envelope = Envelope(now.ros, np.array([1.6]), choices[which][None], np.full(2, 0.05))
        gate.on_verdict(Verdict(now.ros - age, now.ros - image_age, valid_for, envelope, finding), now)

    for seconds, (kind, *rest) in happened:
        now = Now(now.steady + seconds, now.ros + seconds + (rest[0] if kind == "jump" else 0.0))
        if kind == "command":
            gate.on_command(Command.setpoint(choices[rest[0]]), now)
        elif kind == "wrong command":
            gate.on_command(Command.setpoint(np.array([rest[0], 0.0])), now)
        elif kind == "verdict":
            verdict(*rest)
        else:
            gate.tick(now)
    for _ in range(60):
        now = Now(now.steady + 0.02, now.ros + 0.02)
        gate.on_heartbeat(now)
        verdict(which, CLEAR, 0.0, 0.02, 1.0)
        decision = gate.on_command(Command.setpoint(choices[which]), now)
    assert decision.send == Send.COMMAND, decision.status.reason
