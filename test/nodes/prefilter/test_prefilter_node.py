"""The prefilter behind its topics: what passes, what closes it, how it opens again, and what it says about itself."""

import math
import subprocess
import sys
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from prefilter_world import BAD, GO, HOME, RATES, Surroundings, command, moves, trajectory, verdict
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.msg import PrefilterStatus
from deepverse_ros.nodes.prefilter.node import PrefilterNode
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.finding import Finding

PASS, SLOW, STOP, FALLBACK, RECOVER = range(5)


def checks(status: PrefilterStatus) -> dict[str, tuple[bool, float, float]]:
    return {check.name: (check.ok, check.value, check.threshold) for check in status.checks}


def set_parameter(node: PrefilterNode, name: str, value: object) -> tuple[bool, str]:
    result = node.set_parameters([RosParameter(name, value=value)])[0]
    return result.successful, result.reason


def test_it_loads_no_torch():
    code = "import sys, deepverse_ros.nodes.prefilter.node; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_commands_pass_on_fresh_verdicts_and_hold_without_them(robot):
    world = Surroundings(robot).open()
    passed = world.drive(1.0)
    assert all(list(m.data) == GO.tolist() for m in passed)
    status = world.status[-1]
    assert (status.state, status.mode, status.text, status.speed_scale) == (PASS, PrefilterStatus.ENFORCE, "", 1)
    assert status.header.frame_id == "base_link"
    assert (status.first_offending_step, status.zone) == (-1, "")
    assert all(ok for ok, _, _ in checks(status).values())
    assert {"clock", "heartbeat_age", "verdict_age", "image_age", "limits", "rate"} <= set(checks(status))
    assert 0.05 <= status.image_age < 0.5
    world.judged = False
    world.drive_until(lambda: world.state == FALLBACK)
    assert not any(moves(m) for m in world.drive(0.5))
    assert not checks(world.status[-1])["image_age"][0]
    assert "seconds since the newest verdict" in world.status[-1].text
    world.judged = True
    world.open()


def test_a_bad_verdict_stops_and_says_what_is_in_the_way(robot):
    world = Surroundings(robot).open()
    world.finding = BAD
    world.drive_until(lambda: world.state == STOP)
    assert not any(moves(m) for m in world.drive(0.5))
    status = world.status[-1]
    assert (status.zone, status.first_offending_step, status.speed_scale) == ("person", 3, 0)
    assert status.text == BAD.text
    assert checks(status)["zone:person"] == (False, 40, 15)
    assert [bool(check.text) for check in status.checks] == [not check.ok for check in status.checks]
    world.finding = Finding(Action.SLOW, "near", 1, 20, 15, 0.5)
    world.drive_until(lambda: world.state == SLOW)
    np.testing.assert_allclose(world.drive(0.2)[-1].data, GO / 2)


def test_a_dead_world_model_ends_in_the_fallback_in_time(robot):
    world = Surroundings(robot, heartbeat_timeout=0.2).open()
    took = []
    for _ in range(4):
        world.alive = True
        world.open()
        world.alive = False
        world.drive(0.6)
        last = max(at for at, m in world.out if moves(m))
        took.append(next(at for at, _ in world.out if at > last) - world.last_beat)
    assert not checks(world.status[-1])["heartbeat_age"][0]
    print(f"from the last heartbeat to the fallback: {[round(1e3 * t) for t in took]} ms")
    # heartbeat_timeout, two ticks, and the way here; where the machine is busy, once of these.
    assert min(took) <= 0.2 + 2 * 0.02 + 0.01
    assert max(took) <= 0.6


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([math.nan] * 8, "joint_1 is nan at way point 0"),
        ([0.1] * 5, "(1, 5)"),
        ([99.0] + [0.0] * 7, "joint_1 is 99, allowed are -1.48 to 1.48"),
        ([], "(1, 0)"),
    ],
)
def test_commands_that_are_wrong_fall_back(robot, data, said):
    world = Surroundings(robot).open()
    begin = len(world.out)
    world.commands.publish(command(np.array(data)))
    robot.until(lambda: world.state == FALLBACK)
    robot.until(lambda: len(world.out) > begin and not moves(world.out[-1][1]))
    assert said in world.status[-1].text
    world.open()


def test_a_trajectory_waits_for_its_verdict_and_is_sent_without_what_nobody_judged(robot):
    world = Surroundings(robot, JointTrajectory, verdict_timeout=0.5, wait_timeout=1.0)
    world.judged = False
    goal = HOME + np.array([0.4, 0, 0, 0, 0, 0, 0, -0.5])
    world_model = {"center": np.stack([HOME, goal, goal]), "times": (0.0, 1.0, 3.0)}

    def wait(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            world.around()
            robot.spin(0.02)

    wait(0.6)
    assert world.state == PASS  # nothing is commanded
    message = trajectory(goal, seconds=1.0, stamp=world.now)
    message.joint_names.append(message.joint_names.pop(0))  # another order
    message.points[0].positions.append(message.points[0].positions.pop(0))
    message.points[0].velocities = [9.0] * 8
    message.points[0].effort = [math.nan] * 8
    world.commands.publish(message)
    wait(0.15)
    assert not world.out  # it is at rest, and is left alone
    assert "waits for a verdict" in world.status[-1].text
    begin = len(world.out)
    world.verdicts.publish(verdict(world.now, **world_model))
    robot.until(lambda: any(m.points[0].positions[-1] > 0.3 for _, m in world.out[begin:]))
    sent = world.out[-1][1]
    assert sent.points[0].positions == message.points[0].positions
    assert sent.points[0].time_from_start == message.points[0].time_from_start
    assert (sent.header.stamp.sec, sent.header.stamp.nanosec) == (0, 0)  # it begins now, not when it was sent
    assert not len(sent.points[0].velocities)
    assert not len(sent.points[0].effort)
    wait(0.8)  # its verdict grows old on the way
    assert world.state == FALLBACK
    held = np.array(world.out[-1][1].points[0].positions)
    assert 0.1 < held[-1] < 0.4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.joint_names.__setitem__(0, "elbow"), "unknown: elbow"),
        (lambda m: m.joint_names.__setitem__(0, "joint_2"), "missing: joint_1"),
        (lambda m: m.points[0].positions.pop(), "point 0 has 7 positions; joint_names has 8 entries"),
        (lambda m: m.points.clear(), "points is empty"),
        (lambda m: m.points.extend(m.points * 1000), "it has 1001 points; allowed: 1000"),
        (lambda m: m.points[0].positions.__setitem__(3, math.inf), "joint_4 is inf"),
    ],
)
def test_trajectories_that_are_wrong_are_named(robot, change, said):
    world = Surroundings(robot, JointTrajectory)
    message = trajectory(HOME)
    change(message)
    world.drive_until(lambda: said in world.status[-1].text, message=message)
    assert world.state == FALLBACK


def test_monitoring_lets_everything_through_and_can_be_ended_live(robot):
    world = Surroundings(robot, mode="monitor")
    world.judged = False
    wrong = command(np.array([math.nan, 1.0]))
    passed = world.drive(0.3, wrong)
    assert len(passed) > 5
    assert all(len(m.data) == 2 for m in passed)
    assert (world.state, world.status[-1].mode) == (FALLBACK, PrefilterStatus.MONITOR)
    assert all(moves(m) for m in world.drive(0.3))
    assert set_parameter(world.node, "mode", "enforce") == (True, "")
    robot.until(lambda: world.status[-1].mode == PrefilterStatus.ENFORCE)
    world.drive(0.1)
    assert not any(moves(m) for m in world.drive(0.3))
    world.judged = True
    world.open()
    assert set_parameter(world.node, "mode", "monitor") == (True, "")
    world.judged = False
    world.drive(0.8)
    assert all(moves(m) for m in world.drive(0.2))


def test_the_operators_release(robot):
    world = Surroundings(robot, latch_stop=True).open()
    world.finding = BAD
    world.drive_until(lambda: world.state == STOP)
    world.finding = Finding(Action.CLEAR)
    world.drive(1.0)
    assert world.state == STOP
    assert "until the operator releases it" in world.status[-1].text
    client = world.peer.create_client(Trigger, "prefilter/release")
    robot.until(client.service_is_ready)
    answer = client.call_async(Trigger.Request())
    world.drive_until(answer.done)
    assert answer.result().success, answer.result().message
    slow = world.drive(0.1)
    assert any(0 < m.data[0] < 0.5 for m in slow)
    world.open()
    answer = client.call_async(Trigger.Request())
    world.drive_until(answer.done)
    assert (answer.result().success, answer.result().message) == (False, "nothing is stopped")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("verdict_timeout", 0.0, "Min: 0.01, Max: 10.0"),
        ("verdict_timeout", math.nan, "value: nan"),
        ("trigger_count", 0, "Min: 1, Max: 100"),
        ("fallback", "go on", "hold, stop, scale, last_safe"),
        ("mode", "off", "monitor, enforce"),
        ("command_timeout", 0.0, "joint_1 is a rate"),
        ("require_stamp", True, "a Float64MultiArray has no stamp"),
        ("embodiment", "drone", "deactivate and clean up"),
    ],
)
def test_parameters_that_are_wrong_are_refused_while_it_runs(robot, name, value, said):
    node = robot.start(PrefilterNode, embodiment="arm", **RATES)
    done, reason = set_parameter(node, name, value)
    assert not done
    assert said in reason


def test_parameters_take_effect_while_it_runs(robot):
    world = Surroundings(robot).open()
    assert set_parameter(world.node, "heartbeat_timeout", 5.0) == (True, "")
    world.alive = False
    assert all(moves(m) for m in world.drive(0.6))
    assert set_parameter(world.node, "heartbeat_timeout", 0.1) == (True, "")
    world.drive_until(lambda: world.state == FALLBACK)
    described = world.node.describe_parameter("verdict_timeout")
    assert described.floating_point_range[0].to_value == 10.0
    assert "Oldest verdict" in described.description


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"command_type": "twist"}, "'joint_1' of 'arm' is none of its values"),
        ({"command_type": "vehicle_control"}, "values are steering, throttle, brake; those of 'arm' are joint_1, "),
        ({"embodiment": "vehicle", "command_type": "vehicle_control", "rest": ["throttle=0"]}, "leaves out steering"),
        ({"embodiment": "vehicle", "command_type": "vehicle_control", "command_values": "rates"}, "use 'targets'"),
        ({"command_type": "joint_trajectory", "command_values": "rates"}, "no rates"),
        ({"embodiment": "vehicle", "command_type": "float64_multi_array", "rest": ["wheels=0"]}, "'wheels' is no mod"),
        ({"embodiment": "vehicle", "command_type": "float64_multi_array", "rest": ["brake"]}, "expected 'modality=num"),
        ({"embodiment": "drone", "command_type": "float64_multi_array", "command_values": "rates"}, "no max_rate"),
        ({**RATES, "command_timeout": 0.0}, "joint_1 is a rate"),
        ({**RATES, "require_stamp": True}, "has no stamp"),
        ({"gripper_open": 0.0}, "the same as gripper_closed"),
        ({"embodiment": ""}, "parameter 'embodiment' is empty; expected the robot"),
    ],
)
def test_what_does_not_fit_together_is_named(robot, capfd, parameters, said):
    node = robot.start(PrefilterNode, active=False, **{"embodiment": "arm", **parameters})
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert said in capfd.readouterr().err


def test_an_exception_in_the_gate_closes_it_and_it_comes_back(robot, monkeypatch):
    world = Surroundings(robot).open()

    def broken(*_args: object) -> None:
        raise ZeroDivisionError("something")

    with monkeypatch.context() as patch:
        patch.setattr(world.node.gate, "on_verdict", broken)
        begin = len(world.out)
        world.drive_until(lambda: "ZeroDivisionError: something" in world.status[-1].text)
        assert world.state == FALLBACK
        stopped = next(k for k, (_, m) in enumerate(world.out[begin:]) if not moves(m))
        assert not any(moves(m) for _, m in world.out[begin + stopped :])
    said = world.node.diagnostics.status()
    assert "the gate failed and is closed" in said.message
    world.open()


def test_deactivating_brings_the_robot_to_rest_and_lets_nothing_through(robot):
    world = Surroundings(robot).open()
    begin = len(world.out)
    world.node.trigger_deactivate()
    robot.until(lambda: len(world.out) > begin and not moves(world.out[-1][1]))
    assert world.drive(0.3) == []
    assert world.node.diagnostics.status().message == "inactive"
    world.node.trigger_activate()
    assert not any(moves(m) for m in world.drive(0.1))
    world.open()


def test_diagnostics_count_and_time_what_passes(robot):
    world = Surroundings(robot).open()
    world.drive(0.5)
    said = world.node.diagnostics.status()
    values = {v.key: v.value for v in said.values}
    assert said.level == DiagnosticStatus.OK
    assert values["state"] == "PASS"
    assert int(values["commands_passed"]) > 10
    assert 0 <= float(values["reject_rate"]) < 1
    print(f"added to a passing command: p50 {values['command_p50_ms']} ms, p95 {values['command_p95_ms']} ms")
    assert 0 < float(values["command_p50_ms"]) <= float(values["command_p95_ms"]) < 50
    world.verdicts.publish(verdict(world.now, image_age=3.0))
    broken = verdict(world.now)
    broken.envelope.names = ["wheel"]
    world.verdicts.publish(broken)
    robot.until(lambda: world.state == FALLBACK)
    assert "names is ['wheel']: unknown 'wheel'" in world.status[-1].text
    robot.spin(0.1)
    said = world.node.diagnostics.status()
    assert said.level == DiagnosticStatus.ERROR
    assert int(next(v.value for v in said.values if v.key == "verdicts_dropped")) == 2
