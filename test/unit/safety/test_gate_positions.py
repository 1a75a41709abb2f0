"""The gate of a robot that is told positions: trajectories, stops on the way, and where the robot really is."""

from dataclasses import replace

import numpy as np
import pytest
from gate_world import BAD, CLEAR, HALF, JOINTS, World, arm, arrived_arm, moving_arm, sent

from deepverse_ros.safety.commands import Command
from deepverse_ros.safety.settings import CommandLimits
from deepverse_ros.safety.status import Send, State
from deepverse_ros.safety.verdict import Envelope, Verdict


def test_a_trajectory_waits_passes_once_and_is_watched_while_it_runs():
    world = arm()
    world.wait(0.5)
    assert world.state == State.PASS  # idle
    decision = world.trajectory((0.5, 0.0), (0.5, 0.5))
    assert decision.send == Send.NOTHING  # it is at rest, and is left alone
    assert "waits for a verdict" in decision.status.reason
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
    world = arrived_arm()
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
    assert world.verdict(center=center, times=[0, 0.2, 1.6]).send == Send.NOTHING
    assert "waits for a verdict" in world.decision.status.reason
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
        targets.append(sent(decision)[0] if decision.command else (targets or [0.0])[-1])
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


@pytest.mark.parametrize(
    ("measured", "age", "goes_to", "state"),
    [
        ((0.09, 0.0), 0.0, 0.09, State.STOP),
        ((0.05, 0.0), 0.3, 0.1, State.FALLBACK),  # old: the robot would go back to where it was
        ((3.0, 0.0), 0.0, 0.1, State.FALLBACK),  # beyond its limits
        ((-0.9, 0.0), 0.0, 0.1, State.STOP),  # it cannot lag so far behind
    ],
)
def test_a_stop_goes_to_no_place_where_the_robot_cannot_be(measured, age, goes_to, state):
    world = moving_arm()
    world.gate._motion.forget_stamps()
    world.gate._motion._measured = None
    world.gate.on_measured(np.array(measured), world.now, stamp=world.ros - age)
    decision = world.verdict(BAD, center=[(0, 0), (0.5, 0)], times=[0, 1], begun=0.2)
    assert (decision.status.state, sent(decision)) == (state, [pytest.approx(goes_to), 0.0])


def test_a_robot_that_others_moved_meanwhile_is_not_sent_back():
    world = arrived_arm()
    world.wait(2.0)
    world.measured = (0.6, 0.2)  # somebody has moved it by hand
    world.wait(0.1)
    assert world.trajectory((0.8, 0.2)).send == Send.NOTHING  # nor anywhere else, while that waits
    assert world.verdict(center=[(0.6, 0.2), (0.8, 0.2)], times=[0, 1.0]).send == Send.COMMAND


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
    first = world.verdict(BAD, center=[(0.16, 0), (0.8, 0.0)], times=[0, 1.3])
    way = [sent(first)[0], *(sent(d)[0] for d in world.wait(0.2))]
    assert max(np.abs(np.diff([0.16, *way]))) <= 2 * 0.02 * 1.1 + 1e-9  # no quicker than any other way
    assert way[-1] == 0.05
    for _ in range(3):
        world.wait(0.1)
        world.verdict(center=[(0.16, 0), (0.8, 0.0)], times=[0, 1.28], width=0.05)
    assert world.state != State.PASS  # nobody imagined the way from 0.05 on
    decisions = []
    for _ in range(3):
        decisions += world.wait(0.1)
        decisions.append(world.verdict(center=[(0.05, 0), (0.8, 0.0)], times=[0, 1.2], width=0.05))
    assert world.state == State.PASS
    onward = next(d for d in decisions if d.send in (Send.COMMAND, Send.SCALED))
    assert sent(onward) == [0.8, 0.0]
    assert onward.command.start.tolist() == pytest.approx([0.05, 0.0])


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_a_stream_of_set_points_passes_within_a_tube_and_goes_on_after_a_hold(seconds):
    """Each set-point in time 0 or a step's: half of the largest rate, one verdict in half a second."""
    world = World(JOINTS, measured=(0.0, 0.0), verdict_timeout=2.0, image_timeout=2.0, wait_timeout=1.0)
    world.wait(0.02)
    went = [0.0]

    def stream(k: int) -> bool:
        wanted = np.array([0.01 * k, 0.0])
        decision = world.gate.on_command(Command(wanted[None], np.array([seconds])), world.now)
        world.wait(0.02)
        target = world.gate._motion.target()
        went.append(went[-1] if target is None else target[0])
        world.measured = (went[-1], 0.0)
        return decision.send in (Send.COMMAND, Send.SCALED)

    def tube(begin: float, end: float) -> None:
        envelope = Envelope(world.ros, np.array([0.0, 1.6]), np.array([[begin, 0.0], [end, 0.0]]), np.full(2, 0.02),
                            tube=True)  # fmt: skip
        world.gate.on_verdict(Verdict(world.ros, world.ros - 0.3, 1.5, envelope, CLEAR), world.now)

    for k in range(40):
        if k % 20 == 0:
            tube(0.0, 0.4)
        stream(0)
    assert world.state == State.PASS
    assert all(stream(k) for k in range(43))
    assert not any(stream(k) for k in range(43, 60))  # nobody has looked so far
    assert went[-1] == pytest.approx(0.42, abs=0.011)
    tube(0.38, 1.0)
    assert all(stream(k) for k in range(60, 95))
    assert went[-1] == pytest.approx(0.94, abs=0.02)
    assert max(np.diff(went)) <= 3 * 0.02 * 1.11  # it catches up no faster than it may
    tube(0.97, 1.0)  # the robot is not on the way there
    assert not stream(98)
