"""Several processes, or micro-batches, learn what one process learns from the whole batch."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from trainings_made import QUIET, config, episode

from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.errors import ConfigError, DeviceError
from deepverse_ros.training.config import TrainingConfig
from deepverse_ros.training.engine.distributed import joined
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.trainer import train

ROOT = Path(__file__).parents[3]
STAGES = ("codec", "picture", "dynamics", "decoder", "outcome", "coarse")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes that are started here: another number of threads adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = EpisodeStore(tmp_path_factory.mktemp("episodes"))
    for i in range(8):
        store.write(i, episode(i))
    return store.directory


def exact(data: Path, accumulate: int = 1, **changes: object) -> TrainingConfig:
    """A short training in float32, whose batches have four parts."""
    whole = config(data, batch=8, precision="float32", **changes).model_dump(mode="json")
    for stage in STAGES:
        whole[stage]["accumulate"] = accumulate
    return TrainingConfig.model_validate(whole)


def command(settings: TrainingConfig, out: Path, *more: str, processes: int = 1) -> subprocess.Popen[str]:
    """`deepverse train` in as many processes as said, which talk over the loopback device only."""
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.parent / f"{out.name}.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["torch.distributed.run", "--nproc-per-node", str(processes), "--master-addr", "127.0.0.1"]
    torchrun += ["--master-port", str(port), "-m"]
    module = torchrun if processes > 1 else []
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "COLUMNS": "160",
    }
    arguments = ["deepverse_ros.cli", "train", str(file), "--out", str(out), "--device", "cpu", *more]
    return subprocess.Popen(
        [sys.executable, "-m", *module, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment,
    )  # fmt: skip


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    """What the command printed. It must end with `code`."""
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == code, printed
    return printed


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until the process has written `path`."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.02)


def states(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {stage: load_file(run / f"{stage}.state.safetensors") for stage in STAGES}


def differences(a: Path, b: Path, stage: str) -> torch.Tensor:
    """Between all weights of two runs, the averaged ones included."""
    first, second = states(a)[stage], states(b)[stage]
    names = [k for k in first if k.startswith(("weight.", "average."))]
    assert first.keys() == second.keys()
    return torch.cat([(first[k] - second[k]).float().flatten() for k in names])


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31), st.integers(0, 10_000))
def test_the_parts_of_a_draw_are_the_whole(size: int, parts: int, seed: int, step: int) -> None:
    batch = size * parts

    def drawn(part: int, parts: int) -> list[np.ndarray]:
        draw = Draw.of_step(seed, step, part, parts)
        first, again = draw.integers(0, 1000, batch), draw.integers(3, 9, batch, 2)
        return [first, again, draw.uniform(batch, 3).numpy(), draw.normal(batch, 2, 5).numpy()]

    shared_out = zip(*(drawn(part, parts) for part in range(parts)), strict=True)
    for whole, pieces in zip(drawn(0, 1), shared_out, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(pieces))


def test_a_batch_without_equal_parts_is_refused_before_anything_is_done(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch: 7 examples cannot be split into 2"):
        Draw.of_step(0, 0, 1, 2).normal(7)
    with pytest.raises(ConfigError, match=r"codec\.batch: 8 .*accumulate \(3\) x processes \(1\).* multiple of 3"):
        train(exact(data, accumulate=3), tmp_path / "run", device="cpu", console=QUIET)
    assert not (tmp_path / "run").exists()
    # Half of the outcome's batch are true frames, half are imagined ones.
    with pytest.raises(ConfigError, match=r"outcome\.batch: 8 .*multiple of 16"):
        exact(data, accumulate=4).outcome.require_divisible("outcome", 2)


def test_two_processes_learn_what_one_does(data: Path, tmp_path: Path) -> None:
    """Equal to the bit to two micro-batches in one process; to one whole batch but for the order of float32 sums.

    Adam divides a gradient by its size, so where there is next to none, rounding decides whole steps of single weights,
    and a stage that learns from an earlier one's output inherits that, some 30 times as large. So the mean over all
    weights is what counts: six steps move each by up to 2e-2.
    """
    printed = finished(command(exact(data), tmp_path / "two", processes=2))
    assert printed.count("checkpoint: ") == printed.count("outcome 6: ") == 1
    train(exact(data, accumulate=2), tmp_path / "micro", device="cpu", console=QUIET)
    train(exact(data), tmp_path / "one", device="cpu", console=QUIET)
    for stage in STAGES:
        assert differences(tmp_path / "two", tmp_path / "micro", stage).abs().max() == 0
        off = differences(tmp_path / "two", tmp_path / "one", stage).square().mean().sqrt()
        assert off < (2e-5 if stage in ("codec", "picture") else 5e-4)


def test_ctrl_c_ends_all_processes_and_another_number_of_them_goes_on(data: Path, tmp_path: Path) -> None:
    settings = exact(data, save_every=1)
    long = settings.model_copy(update={"codec": settings.codec.model_copy(update={"steps": 40_000})})
    stopped = command(long, tmp_path / "run", processes=2)
    wait_for(tmp_path / "run" / "codec.state.safetensors", stopped)
    stopped.send_signal(signal.SIGINT)  # torchrun passes it on to every process
    printed, _ = stopped.communicate(timeout=120)
    assert stopped.returncode != 0
    assert printed.count("stopped at codec step ") == 1
    step = int(load_file(tmp_path / "run" / "codec.state.safetensors")["step"])
    assert f"stopped at codec step {step};" in printed
    assert not list((tmp_path / "run").glob("*.tmp"))

    ends = {"codec": settings.codec.model_copy(update={"steps": step + 2})}
    printed = finished(command(settings.model_copy(update=ends), tmp_path / "run", "--resume", "--accept-changes"))
    assert f"codec: resumed at step {step}" in printed
    assert int(states(tmp_path / "run")["codec"]["step"]) == step + 2


def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    settings = exact(data, save_every=3)
    longer = {"codec": settings.codec.model_copy(update={"steps": 60})}
    settings = settings.model_copy(update=longer)
    train(settings, tmp_path / "whole", device="cpu", console=QUIET)
    killed = command(settings, tmp_path / "cut")
    wait_for(tmp_path / "cut" / "codec.state.safetensors", killed)
    killed.kill()
    finished(killed, -signal.SIGKILL)
    assert 3 <= int(load_file(tmp_path / "cut" / "codec.state.safetensors")["step"]) < 60, "killed too late to tell"
    printed = finished(command(settings, tmp_path / "cut", "--resume"))
    assert "codec: resumed at step" in printed
    for stage in STAGES:
        assert differences(tmp_path / "whole", tmp_path / "cut", stage).abs().max() == 0
    # The log holds every step once, also those that were logged before the kill and done again after it.
    steps = [row.split(",")[:2] for row in (tmp_path / "cut" / "codec.csv").read_text().splitlines()]
    assert len({tuple(s) for s in steps}) == len(steps)


def test_one_gpu_is_refused_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(DeviceError, match="'cuda:1' is one GPU, but 2 processes"), joined("cuda:1"):
        pass
