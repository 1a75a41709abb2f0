"""The gate when something fails: what ceases or is wrong closes it, and what the robot is told then."""

import re
from dataclasses import replace

import numpy as np
import pytest
from gate_world import BAD, CAPPED, CLEAR, GO, HALF, World, arm, sent

from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command
from deepverse_ros.safety.status import Send, State
from deepverse_ros.safety.verdict import Envelope, Verdict


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
        ({"age": 0.6, "image_age": 0.6}, "seconds since the newest verdict"),
        ({"age": 0.15, "image_age": 0.2, "valid_for": 0.1}, "seconds since the newest verdict: 0.46, at most 0.1"),
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
        if k % 10 == 0 or "valid_for" not in verdict:
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


def test_an_envelope_of_everything_is_a_damaged_one():
    world = World().ready()
    decision = world.verdict(width=1.5)
    assert decision.status.state == State.FALLBACK
    assert "half_width of x is 1.5, at most half of its range, 1" in decision.status.reason


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
