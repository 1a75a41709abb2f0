"""How `ros2 launch deepverse_ros imagine.launch.py` ends: by Ctrl-C, and when it cannot start."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch

from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    WorldModel(WorldModelConfig.small_test(Embodiment.load("arm"))).save(path)
    return path


@contextmanager
def launched(log: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    command = ["ros2", "launch", "deepverse_ros", "imagine.launch.py", *arguments]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            yield process
        finally:
            for left in family(process):
                left.kill()
            process.wait(10)


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes of the launch's own session that still live."""
    found = []
    for candidate in psutil.process_iter():
        try:
            if os.getsid(candidate.pid) == process.pid and candidate.status() != psutil.STATUS_ZOMBIE:
                found.append(candidate)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def wait_for_text(log: Path, text: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while text not in log.read_text():
        assert time.monotonic() < end, f"'{text}' not within {seconds} s:\n{log.read_text()}"
        time.sleep(0.1)


def test_ctrl_c_leaves_nothing_behind(tmp_path, checkpoint):
    log = tmp_path / "log"
    with launched(log, "sim:=true", f"checkpoint:={checkpoint}", "device:=cpu") as process:
        wait_for_text(log, "sim is active")
        assert len(family(process)) >= 3
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert family(process) == []
    said = log.read_text()
    assert said.index("world_model is active") < said.index("sim is active")
    assert said.count("process has finished cleanly") == 2
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay:=val/nothing"], "recording 'val/nothing': not found"),
        (["replay:=val/899", "sim:=true"], "replay and sim were both given"),
        (["sim:=true", "checkpoint:=/nowhere"], "world_model could not be configured"),
    ],
)
def test_what_cannot_start_says_why_and_ends(tmp_path, checkpoint, arguments, said):
    log = tmp_path / "log"
    if not any(a.startswith("checkpoint") for a in arguments):
        arguments = [*arguments, f"checkpoint:={checkpoint}"]
    with launched(log, "device:=cpu", *arguments) as process:
        process.wait(120)
        assert said in log.read_text()
        assert family(process) == []
