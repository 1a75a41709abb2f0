"""prefilter.launch.py with processes of their own: what it costs a command, and a world model that is killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from arm_launch import launched, until
from commander import RATE, Commander

from deepverse_ros.msg import PrefilterStatus

HERE = Path(__file__).parent


def start_model() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(HERE / "verdict_source.py")])


@pytest.fixture(scope="module")
def prefilter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    log = tmp_path_factory.mktemp("prefilter") / "log"
    with launched(log, "prefilter.launch.py", ["command_type:=float64_multi_array", "command_values:=rates"]):
        until(lambda: "prefilter is active" in log.read_text(), 60.0, "starting the prefilter")
        yield


@pytest.fixture
def commander(prefilter: None) -> Iterator[Commander]:
    commander = Commander()
    yield commander
    commander.close()


def passes_for(commander: Commander, seconds: float) -> bool:
    """Whether commands have passed without a pause for so long."""
    since = time.monotonic() - seconds
    rates = [rate for at, rate in list(commander.out) if at > since]
    return len(rates) > 0.8 * RATE * seconds and min(rates) > 0


def test_what_the_parameter_file_says_holds_unless_an_argument_says_otherwise(tmp_path):
    # The first test here: the others' prefilter, which has the same name, is not there yet.
    file, log = tmp_path / "vehicle.yaml", tmp_path / "log"
    said = {"mode": "monitor", "embodiment": "vehicle", "command_type": "vehicle_control", "joint_states_topic": ""}
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": said}}))
    with launched(log, "prefilter.launch.py", [f"params:={file}", "mode:=enforce"]):
        until(lambda: "prefilter is active" in log.read_text(), 60.0, "starting the prefilter")
    assert "enforce: commands of vehicle (vehicle_control): steering, throttle, brake" in log.read_text()


def test_a_killed_world_model_ends_in_the_fallback_within_300_ms(commander):
    took = []
    for _ in range(3):
        model = start_model()
        try:
            until(lambda: passes_for(commander, 0.5), 30.0, "commands that pass")
            model.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            assert model.wait(5) == -signal.SIGKILL
        finally:
            model.kill()
        time.sleep(1.0)
        last = max(at for at, rate in commander.out if rate > 0)
        took.append(next(at for at, rate in commander.out if at > last) - killed)
        assert commander.state == PrefilterStatus.FALLBACK
    print(f"from kill -9 to the fallback on command_out: {[round(1e3 * t) for t in took]} ms")
    assert min(took) <= 0.3
    # Where this machine is busy with other things, a tick may come late.
    assert max(took) <= 0.6


def test_what_it_costs_a_command(commander):
    model = start_model()
    try:
        until(lambda: commander.state == PrefilterStatus.PASS, 30.0, "commands that pass")
        begin = time.monotonic()
        time.sleep(10.0)
    finally:
        model.kill()
        model.wait(5)
    out = list(commander.out)
    heard = {rate: at for at, rate in out}
    left = {rate: stamp for (_, rate), stamp in zip(out, commander.out_stamps, strict=False)}  # more may have come
    through = [r for r, at in commander.sent.items() if at > begin and r in heard and r in commander.direct]
    assert len(through) > 300
    figures = {
        "from its publisher to command_out": [left[r] - commander.sent_stamps[r] for r in through],
        "heard through it": [heard[r] - commander.sent[r] for r in through],
        "heard without it": [commander.direct[r] - commander.sent[r] for r in through],
    }
    for name, seconds in figures.items():
        p50, p99 = 1e3 * np.quantile(seconds, [0.5, 0.99])
        print(f"{name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms over {len(seconds)} commands")
    # At rest it is 2 and 10 ms; here other work may take the cores.
    assert np.quantile(figures["from its publisher to command_out"], 0.5) <= 0.01
    memory = [p.info["memory_info"].rss for p in _processes() if "prefilter_node" in " ".join(p.info["cmdline"] or ())]
    print(f"memory: {max(memory, default=0) / 2**20:.0f} MiB")


def _processes() -> Iterator[Any]:
    return psutil.process_iter(["cmdline", "memory_info"])


def test_it_starts_without_a_world_model_and_lets_nothing_through(commander):
    until(lambda: commander.state == PrefilterStatus.FALLBACK and len(commander.sent) > 50, 20.0, "commands")
    begin = len(commander.out) + 5  # what was under way from the test before
    time.sleep(1.0)
    assert commander.state == PrefilterStatus.FALLBACK
    assert len(commander.out) > begin
    assert all(rate == 0 for _, rate in commander.out[begin:])
