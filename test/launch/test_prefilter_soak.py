"""The prefilter's process for a long time: its memory, its states, and what its log says.

50 commands a second, and 30 heartbeats, joint states and verdicts on as many images, while an obstacle comes and goes.
DEEPVERSE_SOAK_SECONDS is the length; `make soak` takes half an hour.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from arm_launch import launched, until
from commander import RATE, Commander
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.msg import PrefilterStatus
from deepverse_ros.nodes import qos

SECONDS = float(os.environ.get("DEEPVERSE_SOAK_SECONDS", "20"))
WARM_UP = min(60.0, SECONDS / 4)
EVERY, FOR = 8.0, 2.0
"""Seconds from one obstacle to the next, and for which it is there."""
MOST_GROWTH = 20 * 2**20
PATIENCE = 2.0
# Longer than by default: a machine that stands still for half a second is no fault here.
TIMEOUTS = dict.fromkeys(("heartbeat_timeout", "command_timeout", "verdict_timeout", "image_timeout"), PATIENCE)


@contextmanager
def joint_states(commander: Commander) -> Iterator[None]:
    """Published 30 times a second."""
    arm = Embodiment.load("arm")
    publisher = commander.node.create_publisher(JointState, "joint_states", qos.sensor_output())
    names, home = [*arm.joint_names, "gripper_joint"], [float(v) for v in arm.home]
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(1 / 30):
            header = Header(stamp=commander.node.get_clock().now().to_msg(), frame_id="base_link")
            publisher.publish(JointState(header=header, name=names, position=home))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(2.0)


def prefilter_process(launch: subprocess.Popen) -> psutil.Process:
    children = psutil.Process(launch.pid).children(recursive=True)
    return next(p for p in children if "prefilter_node" in " ".join(p.cmdline()))


@pytest.mark.timeout(SECONDS + 240)
def test_a_long_run_leaks_nothing_and_loses_nothing(tmp_path):
    params, log = tmp_path / "prefilter.yaml", tmp_path / "log"
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": TIMEOUTS}}))
    obstacle = [str(t) for begin in np.arange(5.0, SECONDS, EVERY) for t in (begin, begin + FOR)]
    source = [sys.executable, str(Path(__file__).parent / "verdict_source.py"), "--rate", "30", *obstacle]
    source += ["--valid-for", str(PATIENCE)]
    arguments = ["command_type:=float64_multi_array", "command_values:=rates", f"params:={params}"]
    with launched(log, "prefilter.launch.py", arguments) as launch:
        until(lambda: "prefilter is active" in log.read_text(), 60.0, "starting the prefilter")
        process = prefilter_process(launch)
        commander, model = Commander(), subprocess.Popen(source)
        try:
            with joint_states(commander):
                until(lambda: commander.state == PrefilterStatus.PASS, 30.0, "commands that pass")
                first, sent, out = len(commander.status), len(commander.sent), len(commander.out)
                time.sleep(WARM_UP)
                memory, looks, end = [], [time.monotonic()], time.monotonic() + SECONDS - WARM_UP
                process.cpu_percent()
                while looks[-1] < end:
                    memory.append(process.memory_info().rss)
                    time.sleep(0.05)
                    looks.append(time.monotonic())
                load, files = process.cpu_percent(), process.num_fds()
                status, sent, out = commander.status[first:], len(commander.sent) - sent, commander.out[out:]
        finally:
            model.kill()
            model.wait(5)
            commander.close()
    share = max(len(memory) // 10, 1)
    growth = np.median(memory[-share:]) - np.median(memory[:share])
    stamps = [m.header.stamp.sec + m.header.stamp.nanosec * 1e-9 for m in status]
    states = [m.state for m in status]
    pauses = np.diff(stamps)
    stood = np.diff(looks).max()  # how long the machine let this process stand
    stops = sum(b == PrefilterStatus.STOP != a for a, b in pairwise(states))
    passing = states.count(PrefilterStatus.PASS) / len(states)
    moving = sum(rate > 0 for _, rate in out)
    print(
        f"{SECONDS:.0f} s: memory {memory[-1] / 2**20:.1f} MiB, {growth / 2**20:+.2f} MiB since {WARM_UP:.0f} s; "
        f"{sent} commands, {moving} passed in {passing:.0%} of the time; {len(status)} status messages, "
        f"{(pauses > 0.25).sum()} pauses over 0.25 s, longest {pauses.max():.2f} s, of this test {stood:.2f} s; "
        f"{stops} stops at {len(obstacle) // 2} obstacles; {load:.0f} % of a core, {files} open files"
    )
    assert growth < MOST_GROWTH
    assert set(states) <= {PrefilterStatus.PASS, PrefilterStatus.STOP}, sorted(set(states))
    assert stops >= len(obstacle) // 2 - 1  # the last one may begin after the end
    assert pauses.max() < 1.0
    assert sent > 0.8 * RATE * SECONDS
    assert moving > 0.9 * passing * sent
    said = log.read_text()
    for word in ("[WARN]", "[ERROR]", "[FATAL]", "Traceback", "failed"):
        assert word not in said, said[-2000:]
