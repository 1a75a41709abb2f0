"""The fault injector between real topics, what it does to messages of every type, and to processes."""

import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
from prefilter_world import HOME, command, heartbeat, joint_state, trajectory, verdict
from rclpy.lifecycle import TransitionCallbackReturn
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray

from deepverse_ros.errors import MessageError
from deepverse_ros.msg import VehicleControl
from deepverse_ros.nodes.fault_injection.corruptions import corrupt
from deepverse_ros.nodes.fault_injection.node import FaultInjector
from deepverse_ros.nodes.messages.command_verdict import command_verdict_from_msg
from deepverse_ros.nodes.messages.depth_decoding import depth_from_image
from deepverse_ros.nodes.messages.image import image_from_array
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.safety.faults import KINDS, Schedule

COMMANDS = {"name": "commands", "type": "std_msgs/msg/Float64MultiArray", "input": "given", "output": "faulty"}
NOW = 1000.0


def pictures() -> dict[str, Any]:
    header = heartbeat(NOW)
    return {
        "depth": image_from_array(np.linspace(1, 3, 48, dtype=np.float32).reshape(6, 8), "32FC1", header),
        "picture": image_from_array(np.arange(144, dtype=np.uint8).reshape(6, 8, 3), "rgb8", header),
    }


def messages() -> dict[str, Any]:
    return {
        **pictures(),
        "joints": joint_state(NOW),
        "trajectory": trajectory(HOME, HOME * 0.9, stamp=NOW),
        "array": command(),
        "twist": TwistStamped(header=heartbeat(NOW)),
        "vehicle": VehicleControl(header=heartbeat(NOW), throttle=0.3),
        "verdict": verdict(NOW),
        "heartbeat": heartbeat(NOW),
        "clock": Clock(clock=Time(sec=int(NOW))),
    }


def damaged(kind: str, message: Any, amount: float | None = None, first: Any = None) -> Any:
    size = KINDS[kind].default if amount is None else amount
    return corrupt(kind, message, size, np.random.default_rng(0), message if first is None else first)


@pytest.mark.parametrize("name", list(messages()))
def test_every_kind_leaves_the_message_as_it_is_and_gives_one_of_the_same_type(name):
    images = ("depth", "picture")
    for kind, spec in KINDS.items():
        if spec.group in ("transport", "process") or (spec.group == "image" and name not in images):
            continue
        message, before = messages()[name], messages()[name]
        out = damaged(kind, message)
        assert message == before, kind
        assert type(out) is type(message), kind


@pytest.mark.parametrize("kind", ["nan", "inf", "huge", "negated", "biased", "noisy", "shortened", "lengthened"])
@pytest.mark.parametrize("name", ["joints", "trajectory", "array", "verdict"])
def test_numbers_are_changed(kind, name):
    assert damaged(kind, messages()[name]) != messages()[name]


def test_numbers_as_they_are_after_it():
    data = np.array(damaged("nan", command()).data)
    assert np.isnan(data).sum() == 1
    assert list(damaged("biased", command(np.zeros(2)), 0.5).data) == [0.5, 0.5]
    assert list(damaged("huge", command(np.ones(2)), 10.0).data) == [10.0, 10.0]
    assert len(damaged("shortened", command()).data) == 7
    assert np.isnan(np.frombuffer(bytes(damaged("nan", pictures()["depth"]).data), np.float32)).any()


def test_stamps_frames_and_names():
    moved = damaged("stamp_past", verdict(NOW), 2.0)
    assert stamp_seconds(moved.header.stamp) == pytest.approx(NOW - 2)
    assert stamp_seconds(moved.image_stamp) == pytest.approx(NOW - 2.05)
    assert stamp_seconds(damaged("stamp_future", heartbeat(NOW), 2.0).stamp) == pytest.approx(NOW + 2)
    assert stamp_seconds(damaged("stamp_zero", joint_state(NOW)).header.stamp) == 0
    assert damaged("wrong_frame", verdict(NOW)).header.frame_id == "elsewhere"
    assert damaged("wrong_name", joint_state(NOW)).name[0] == "somebody_else"
    assert len(damaged("missing_name", trajectory(HOME)).joint_names) == 7
    assert damaged("repeated_name", trajectory(HOME)).joint_names[0] == "gripper_joint"
    assert damaged("swapped_names", verdict(NOW)).envelope.names == verdict(NOW).envelope.names[::-1]
    old = Clock(clock=Time(sec=7))
    assert damaged("clock_freeze", Clock(clock=Time(sec=9)), first=old) == old
    assert damaged("clock_back", Clock(clock=Time(sec=9))).clock.sec == 4
    stuck = damaged("stick", joint_state(NOW + 1, HOME * 2), first=joint_state(NOW))
    assert stamp_seconds(stuck.header.stamp) == NOW + 1
    assert list(stuck.position) == list(HOME)


@pytest.mark.parametrize("kind", ["wrong_encoding", "zero_size", "cut_data", "black"])
def test_a_damaged_depth_image_is_refused_where_it_is_read(kind):
    with pytest.raises(MessageError):
        depth_from_image(damaged(kind, pictures()["depth"]))


def test_bits_and_light_of_pictures():
    picture = pictures()["picture"]
    changed = np.array(damaged("bit_noise", picture, 0.5).data) != np.array(picture.data)
    assert 0.3 < changed.mean() < 0.7
    assert set(damaged("saturated", picture).data) == {255}
    assert set(damaged("black", picture).data) == {0}


def test_what_is_nested_in_a_verdict_is_met_too():
    names = list(verdict(NOW).envelope.names)
    for kind, wrong in {
        "wrong_name": ["somebody_else", *names[1:]],
        "missing_name": names[1:],
        "repeated_name": [names[-1], *names[1:]],
        "swapped_names": names[::-1],
    }.items():
        out = damaged(kind, verdict(NOW))
        assert list(out.envelope.names) == wrong, kind
        assert out.finding == verdict(NOW).finding, kind
        with pytest.raises(MessageError, match=r"envelope\.names") if kind != "swapped_names" else nullcontext():
            command_verdict_from_msg(out, tuple(names))
    moved = damaged("stamp_past", verdict(NOW), 2.0)
    assert stamp_seconds(moved.envelope.start) == pytest.approx(NOW - 2)
    short = damaged("shortened", verdict(NOW)).envelope
    assert (len(short.times), len(short.half_width)) == (0, len(names) - 1)
    biased = damaged("biased", verdict(NOW), 0.5)
    assert list(biased.envelope.center) == pytest.approx([v + 0.5 for v in verdict(NOW).envelope.center])
    assert biased.finding.scale == pytest.approx(verdict(NOW).finding.scale + 0.5)


def schedule(path: Path, *faults: dict, topics: tuple[dict, ...] = (COMMANDS,)) -> str:
    path.write_text(yaml.safe_dump({"topics": list(topics), "faults": list(faults)}))
    return str(path)


def test_topics_are_handed_on_with_the_faults_in_them(robot, tmp_path):
    path = schedule(
        tmp_path / "faults.yaml",
        {"kind": "delay", "topic": "commands", "amount": 0.3},
        {"kind": "huge", "topic": "commands", "amount": 2.0},
    )
    heard: list[float] = []
    robot.peer.create_subscription(Float64MultiArray, "faulty", lambda m: heard.append(time.monotonic()), qos.command())
    got = robot.hear(Float64MultiArray, "faulty", qos.command())
    give = robot.peer.create_publisher(Float64MultiArray, "given", qos.command())
    node = robot.start(FaultInjector, schedule=path)
    robot.until(lambda: give.get_subscription_count() and node._relays["commands"].get_subscription_count() == 2)
    sent = time.monotonic()
    give.publish(command(np.ones(3)))
    robot.until(lambda: heard and got)
    assert list(got[-1].data) == [2.0, 2.0, 2.0]
    assert 0.3 <= heard[-1] - sent < 1.0
    said = {v.key: v.value for v in node.diagnostics.status().values}
    assert (said["hit_commands"], said["faults"]) == ("1", "2")
    assert "delay commands" in node.diagnostics.status().message


@pytest.mark.parametrize(("kind", "status"), [("kill", None), ("suspend", psutil.STATUS_STOPPED)])
def test_processes_are_killed_and_suspended(robot, tmp_path, kind, status):
    path = schedule(
        tmp_path / "faults.yaml", {"kind": kind, "process": "victim", "start": 0.1, "duration": 0.5}, topics=()
    )
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        robot.start(FaultInjector, schedule=path, pids=[f"victim={victim.pid}"])
        if status is None:
            robot.until(lambda: victim.poll() is not None, 5.0)
            assert victim.returncode == -signal.SIGKILL
        else:
            process = psutil.Process(victim.pid)
            robot.until(lambda: process.status() == status, 5.0)
            robot.until(lambda: process.status() != status, 5.0)
    finally:
        victim.kill()
        victim.wait(5)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"pids": [""]}, "has no 'victim'"),
        ({"pids": ["victim=1"]}, "'victim=1'; expected name=pid of another process"),
        ({"pids": ["victim=-5"]}, "'victim=-5'"),
        ({"schedule": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_what_cannot_be_done_is_named(robot, tmp_path, capfd, parameters, said):
    path = schedule(tmp_path / "faults.yaml", {"kind": "kill", "process": "victim"})
    node = robot.start(FaultInjector, active=False, **{"schedule": path, **parameters})
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert said in capfd.readouterr().err


def test_a_type_that_is_not_there_is_named(robot, tmp_path, capfd):
    path = schedule(tmp_path / "faults.yaml", topics=({**COMMANDS, "type": "no_msgs/msg/Such"},))
    node = robot.start(FaultInjector, active=False, schedule=path)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "'no_msgs/msg/Such' is not known here" in capfd.readouterr().err


def test_the_example_can_be_configured(robot):
    node = robot.start(FaultInjector)
    assert set(node._relays) == {t.name for t in Schedule.load("config/safety/faults.yaml").topics}


def test_the_kinds_are_listed():
    code = "import sys; sys.argv.append('--list'); from deepverse_ros.nodes.fault_injection.node import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(KINDS)
    assert "delay" in done.stdout
    assert "(amount: s, 0.5 when left out)" in done.stdout
