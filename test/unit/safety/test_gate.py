"""The gate: what passes, what stops it, how it comes back, and what monitoring changes."""

from dataclasses import replace

import numpy as np
import pytest
from gate_world import BAD, CAPPED, CAR, CLEAR, GO, HALF, JOINTS, OUT, RATES, World, arm, sent

from deepverse_ros.errors import ConfigError
from deepverse_ros.safety.commands import Command
from deepverse_ros.safety.gate import Gate
from deepverse_ros.safety.settings import GateSettings
from deepverse_ros.safety.status import Mode, Send, State

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
    assert "the nearest was made for one that differs by 0.2 in turn" in decision.status.reason
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
    assert sent(decision) == pytest.approx([0.292, 0.0])  # from 0.27, where its way had led, by a step of 0.022
    assert sent(world.wait(0.1)[-1]) == pytest.approx([0.3, 0.0])


def test_monitoring_can_be_switched_on_live():
    world = World().ready()
    world.drive(0.2, BAD)
    world.gate.set_mode(Mode.MONITOR, world.now)
    assert world.command().send == Send.COMMAND
    world.gate.set_mode(Mode.ENFORCE, world.now)
    assert world.command().send == Send.STOP


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
    for k in range(1, 5):
        world.wait(0.06)
        world.measured = (0.1 + 0.03 * k, 0.0)
        world.verdict(center=[world.measured, (0.8, 0.0)], times=[0, 1.4])
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
