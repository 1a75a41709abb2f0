"""What the gate sends keeps to the robot's limits and rates, whatever came in, and to what is known."""

from dataclasses import replace

import numpy as np
import pytest
from gate_world import BAD, CAPPED, CAR, CLEAR, GO, HALF, JOINTS, OUT, RATES, World, arm, moving_arm, sent

from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.commands import Command
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.halts import Halts
from deepverse_ros.safety.status import Mode, Send, State

QUICK = replace(CAR, max_rate=np.array([1.5, 4.0, 8.0]))
TURN = np.array([0.45, 0.5, 0.0])


def told(decisions):
    return [sent(d) for d in decisions if d.command is not None]


# --- rates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["stop", "fallback"])
def test_a_gate_that_opens_again_steers_no_faster_than_the_largest_rate(reason):
    world = World(QUICK).ready(values=np.array([0.0, 0.5, 0.0]))
    if reason == "stop":
        world.drive(0.2, BAD, np.array([0.0, 0.5, 0.0]))
    else:
        world.alive = False
        world.drive(0.4, values=np.array([0.0, 0.5, 0.0]))
        world.alive = True
    assert world.state == {"stop": State.STOP, "fallback": State.FALLBACK}[reason]
    values = [sent(world.command([0.0, 0.5, 0.0]))]
    for k in range(60):
        if k % 5 == 0:
            world.verdict(center=TURN)
        # The sender has turned the wheel meanwhile, as fast as it may.
        values += told([world.command([min(0.03 * k, 0.45), 0.5, 0.0]), *world.wait(0.02)])
    way = np.array(values)
    assert way[-1].tolist() == TURN.tolist()
    assert np.abs(np.diff(way[:, 0])).max() <= 1.5 * 1.1 * 0.02 + 1e-9
    assert np.diff(way[:, 1]).max() <= 4.0 * 1.1 * 0.02 + 1e-9
    assert -np.diff(way[:, 2]).min() <= 8.0 * 1.1 * 0.02 + 1e-9


def test_what_comes_to_rest_does_so_at_once():
    world = World(QUICK).ready(values=TURN)
    assert sent(world.verdict(BAD, TURN)) == [0.45, 0.0, 1.0]
    world = World(QUICK).ready(values=TURN)
    world.verdict(center=[0.45, 0.0, 1.0])
    decision = world.command([0.45, 0.0, 1.0])
    assert (decision.send, sent(decision)) == (Send.COMMAND, [0.45, 0.0, 1.0])
    assert world.verdict(HALF, [0.45, 0.0, 1.0]).send == Send.NOTHING  # nothing of it is made weaker


def test_a_rate_that_changes_its_sign_rests_first_and_then_speeds_up_as_slowly_as_any():
    base = replace(RATES, max_rate=np.array([1.0, 1.0]))
    world = World(base).ready(values=np.array([0.0, 0.0]))
    for k in range(26):
        world.drive(0.02, values=np.array([0.02 * k, 0.01 * k]))
    world.drive(0.2, values=GO)
    assert told([world.decision, world.command(GO)])[-1] == GO.tolist()
    world.drive(0.2, BAD)
    way = np.array(told(world.drive(2.5, values=-GO)))
    assert (np.diff(way[:, 0]) <= 1e-9).all()
    assert (np.diff(way[:, 0]) >= -0.022 - 1e-9).all()
    assert way[-1].tolist() == (-GO).tolist()
    moving = way[way[:, 0] < 0]
    np.testing.assert_allclose(moving[:, 1] / moving[:, 0], GO[1] / GO[0])  # the way stays the same


def test_after_a_ramp_to_rest_the_last_command_is_what_was_really_sent():
    base = replace(RATES, max_rate=np.array([1.0, 1.0]))
    world = World(base, fallback="scale", ramp_time=1.0, release_count=1, release_time=0.0).ready()
    world.drive(0.6)
    world.alive = False
    slower = [sent(d)[0] for d in world.wait(0.5) if d.send == Send.LAST_SAFE]
    assert 0 < slower[-1] < 0.45
    world.alive = True
    world.wait(0.02)
    world.verdict()
    after = told([world.command()])[-1][0]
    assert after - slower[-1] <= 0.02 * 1.1 * 2 + 1e-9


# --- places ---------------------------------------------------------------------------------------------------------


def test_a_stop_where_the_robot_is_stays_within_the_limits():
    world = arm()
    world.wait(0.5)
    world.measured = (0.99, 0.0)
    world.wait(0.1)
    world.trajectory((1.0, 0.0), times=[0.5])
    world.verdict(center=[(0.99, 0), (1.0, 0)], times=[0, 0.5])
    world.measured = (1.04, 0.0)  # a calibration that is a little off
    world.wait(0.1)
    assert world.verdict(BAD, center=[(1.0, 0), (1.0, 0)], times=[0, 0.5]).send == Send.STOP
    values = np.array(told([world.decision, *world.wait(1.2)]))
    assert (np.abs(values) <= 1.0).all()


def test_a_hold_within_the_limits_where_only_the_measured_place_is_known():
    world = World(JOINTS, mode=Mode.MONITOR, measured=(0.0, 1.04), command_timeout=0.0)
    world.wait(0.5)
    world.trajectory((0.9, 0.0))
    world.gate.set_mode(Mode.ENFORCE, world.now)
    assert sent(world.gate.tick(world.now)) == [0.0, 1.0]


def test_joint_states_that_cease_close_the_gate_and_hold_the_robot_on_its_way():
    world = moving_arm(image_timeout=5.0, verdict_timeout=5.0)
    decisions = world.wait(0.3)
    closed = next(d for d in decisions if d.status.state == State.FALLBACK)
    check = next(c for c in closed.status.checks if c.name == "measured_age")
    assert not check.ok
    assert check.threshold == 0.2 < check.value < 0.23
    assert "measured" in closed.status.reason
    assert (closed.send, sent(closed)) == (
        Send.HOLD,
        pytest.approx([0.205, 0.0], abs=0.006),
    )  # where the way had led, not 0.09
    assert sent(world.wait(1.0)[-1]) == sent(closed)
    world.trajectory((0.5, 0.0))
    assert world.verdict(center=[(0.2, 0), (0.5, 0)], times=[0, 1]).send == Send.HOLD


def test_it_opens_again_when_the_robot_is_measured_again():
    world = moving_arm()
    world.wait(0.5)
    assert world.state == State.FALLBACK
    world.measured = (0.21, 0.0)
    world.wait(1.5)
    assert world.state == State.PASS


def test_rates_need_no_measured_place():
    world = World(RATES).ready()
    assert "measured_age" not in {c.name for c in world.command().status.checks}


def test_what_broke_the_gate_does_not_lose_the_way_that_the_robot_is_on():
    world = moving_arm()
    world.gate.fail("ValueError: something", world.now)
    assert sent(world.gate.tick(world.now)) == pytest.approx([0.09, 0.0])  # measured just now
    world = moving_arm(measured_timeout=0.03)
    world.steady, world.ros = world.steady + 0.04, world.ros + 0.04
    world.gate.fail("ValueError: something", world.now)
    decision = world.gate.tick(world.now)
    assert (decision.send, sent(decision)) == (Send.HOLD, pytest.approx([0.12, 0.0]))  # nobody says; it was on its way


def test_monitoring_keeps_in_mind_where_what_passed_has_led():
    world = World(JOINTS, mode=Mode.MONITOR, measured=(0.0, 0.0), command_timeout=0.0)
    world.wait(0.5)
    world.trajectory((0.8, 0.0))  # without any verdict
    world.measured = None
    world.wait(0.5)
    world.gate.set_mode(Mode.ENFORCE, world.now)
    decision = world.gate.tick(world.now)
    assert (decision.send, sent(decision)) == (Send.HOLD, pytest.approx([0.4, 0.0]))


def test_where_nothing_at_all_is_known_nothing_is_sent():
    world = World(JOINTS, command_timeout=0.0)
    world.wait(0.1)
    assert world.trajectory((0.8, 0.0)).send == Send.NOTHING
    assert {d.send for d in world.wait(0.5)} == {Send.NOTHING}
    assert "nobody has said yet where the robot is" in world.decision.status.reason


# --- verdicts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_however_many_clear_verdicts_there_are_on_an_image_the_stop_decides(first):
    world = World(release_count=1, release_time=0.0).ready()
    image = world.ros
    made = [BAD] + [CLEAR] * 200 if first else [CLEAR] * 200 + [BAD]
    for k, finding in enumerate(made):
        world.steady, world.ros = world.steady + 1e-4, world.ros + 1e-4
        world.verdict(finding, image_age=world.ros - image, width=0.02 + 1e-4 * k)
    assert world.state == State.STOP
    assert world.command().send == Send.STOP


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_limits_on_one_image_both_count(order):
    world = World().ready()
    image = world.ros
    findings = [
        replace(CAPPED, max_rate={"x": 0.1}),
        replace(CAPPED, max_rate={"turn": 0.05}),
        replace(HALF, scale=0.9),
    ]
    for finding in findings[::order]:
        world.verdict(finding, image_age=world.ros - image)
    assert sent(world.drive(0.02)[0] if world.decision.command is None else world.decision) == pytest.approx(
        [0.1, 0.02]
    )


@pytest.mark.parametrize("order", [1, -1])
def test_a_stop_that_leads_nowhere_decides_over_one_that_leads_out(order):
    world = World().ready()
    world.drive(0.2, BAD)
    image = world.ros
    for finding in [OUT, BAD][::order]:
        world.verdict(finding, center=-GO, image_age=world.ros - image)
    assert world.command(-GO).send == Send.STOP
    assert world.state == State.STOP


@pytest.mark.parametrize("action", list(Action))
def test_no_speed_at_all_is_a_stop(action):
    finding = Finding(action, "desk", 2, 9, 5, 0.0, {"x": 0.2} if action == Action.LIMIT else {})
    assert finding.action == Action.STOP
    world = World(latch_stop=True).ready()
    decision = world.verdict(finding)
    assert (decision.send, decision.status.state) == (Send.STOP, State.STOP)
    assert not world.check("zone:desk").ok


def test_a_trajectory_that_waited_begins_no_later_than_the_verdict_allows():
    for begun, passes in ((0.0, True), (0.28, True), (0.32, False)):
        world = arm(begin_delay=0.3)
        world.wait(0.5)
        world.trajectory((0.5, 0.0))
        decision = world.verdict(center=[(0, 0), (0.5, 0)], times=[0, 1], begun=begun)
        assert (decision.send == Send.COMMAND) == passes


def test_a_stamp_an_hour_ahead_blinds_nobody():
    world = moving_arm(heartbeat_timeout=0.1)
    hour = world.ros + 3600.0
    assert not world.gate.on_measured(np.zeros(2), world.now, stamp=hour)
    world.gate.on_heartbeat(world.now, stamp=hour)
    world.command((0.1, 0.0), stamp=hour)
    made = world.verdict(image_age=-3600.0, center=[(0, 0), (0.5, 0)])
    assert made.status.state == State.FALLBACK
    assert world.gate.counts.ahead == 2
    world.alive = False
    for _ in range(100):
        world.wait(0.02)
        world.gate.on_heartbeat(world.now, stamp=world.ros)
        assert world.gate.on_measured(np.array([0.1, 0.0]), world.now, stamp=world.ros)
    assert world.state == State.PASS, world.decision.status.reason
    world.trajectory((0.5, 0.0), stamp=world.ros)
    assert world.verdict(center=[(0.1, 0), (0.5, 0)], times=[0, 1]).send == Send.COMMAND


def test_heartbeats_without_a_stamp_can_be_forbidden():
    world = World(require_heartbeat_stamp=True)
    world.wait(0.5)
    assert "no stamp" in world.decision.status.reason
    world.alive = False
    for _ in range(60):
        world.gate.on_heartbeat(world.now, stamp=world.ros)
        world.drive(0.02)
    assert world.state == State.PASS


# --- what is said ---------------------------------------------------------------------------------------------------


def test_an_operator_reads_what_the_command_differs_in():
    layout = replace(JOINTS, names=("joint_1", "joint_3"), units=("rad", "rad"))
    world = World(layout, measured=(0.0, 0.0), command_timeout=0.0, image_timeout=2.0)
    world.wait(0.5)
    world.trajectory((0.0, 0.3), times=[1.0])
    world.verdict(center=[(0, 0), (0.0, 0.18)], times=[0, 1])
    assert "the nearest was made for one that differs by 0.12 rad in joint_3" in world.decision.status.reason
    world.wait(0.4)
    assert world.state == State.FALLBACK
    assert "no verdict answers for this command: the nearest was made for" in world.decision.status.reason


def test_what_was_wrong_is_not_said_minutes_later():
    world = arm()
    world.wait(0.5)
    world.gate.on_command(Command.setpoint(np.zeros(2)), world.now, problem="the frame is 'map'")
    assert "the frame is 'map'" in world.gate.tick(world.now).status.reason
    world.gate.on_wrong_verdict("names are missing", world.now)
    world.wait(5.0)
    assert (world.state, world.decision.status.reason) == (State.PASS, "")
    world = World(release_count=1000)
    world.wait(0.02)
    world.drive(3.0)
    assert world.state == State.FALLBACK
    assert "ago" not in world.decision.status.reason


def test_a_verdict_without_an_image_says_so_and_its_age_is_not_a_number():
    world = World()
    world.wait(0.1)
    for _ in range(30):
        world.verdict(replace(BAD, text="no image has come"), image_age=world.ros)
        world.command()
        world.wait(0.02)
    assert np.isnan(world.decision.status.image_age)
    assert "the world model has seen no image: no image has come" in world.decision.status.reason


# --- how often ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "times"), [(1.0, 4), (0.0, 1), (4.0, 12)])
def test_a_controller_is_told_a_halt_once_and_again_slowly(rate, times):
    world = moving_arm(verdict_timeout=10.0, image_timeout=10.0)
    world.measured = (0.2, 0.0)
    world.verdict(BAD, center=[(0, 0), (0.5, 0)], times=[0, 1.0], begun=0.2)
    world.wait(0.2)
    halts = Halts(JOINTS)
    decisions = world.wait(3.1)
    assert {d.send for d in decisions} <= {Send.HOLD, Send.STOP}
    start = world.now
    due = [halts.due(d.command, rate, replace(start, steady=start.steady + 0.02 * k)) for k, d in enumerate(decisions)]
    assert due[0]
    assert sum(due) == times
    assert halts.due(Command.setpoint(np.array([0.5, 0.5])), rate, start)  # another place is told at once
    halts.over()
    assert halts.due(Command.setpoint(np.array([0.5, 0.5])), rate, start)


def test_rates_are_brought_to_rest_at_every_tick():
    world = World().ready()
    halts = Halts(RATES)
    assert all(halts.due(d.command, 0.0, world.now) for d in world.drive(1.0, BAD) if d.command is not None)
