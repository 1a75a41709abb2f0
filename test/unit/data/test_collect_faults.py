"""A killed worker, a full disk and two at work in one folder end in an error that says so, and nothing is lost."""

import json
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from episodes_made import make_episode
from trainings_made import config

from deepverse_ros import files
from deepverse_ros.data.collect import collect
from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.errors import BusyError, ConfigError, DeepverseError, WorkerError, WriteError
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.config import TrainingConfig
from deepverse_ros.training.engine.resumption import require_unchanged
from deepverse_ros.training.engine.state import CsvLog, load_state, save_state
from deepverse_ros.training.trainer import train


def test_a_collection_whose_worker_is_killed_ends_and_goes_on_later(tmp_path: Path) -> None:
    arm, failed = Embodiment.load("arm"), list[Exception]()

    def collecting() -> None:
        try:
            collect(arm, 5000, 3, tmp_path, workers=2, frames=3, size=(32, 32))
        except DeepverseError as error:
            failed.append(error)

    thread = threading.Thread(target=collecting)
    thread.start()
    store = EpisodeStore(tmp_path)
    deadline = time.monotonic() + 60
    while len(store) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(failed[0], WorkerError)
    assert sum(1 for _ in store) == len(store) >= 2
    assert {p.suffix for p in tmp_path.iterdir()} == {".h5"}


@contextmanager
def disk_of(kilobytes: int) -> Iterator[None]:
    """Files end at this size, as on a full disk: writing more fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_episode_that_finds_no_room_is_an_error_and_leaves_the_old_one(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.write(0, make_episode(1))
    with disk_of(64), pytest.raises(WriteError, match=r"episode_000000\.h5: could not be written: File too large"):
        store.write(0, make_episode(2, 8, 64, 64))
    assert store.read(0).seed == 1
    assert [p.name for p in tmp_path.iterdir()] == ["episode_000000.h5"]
    store.write(0, make_episode(2, 8, 64, 64))
    assert store.read(0).seed == 2


def test_a_collection_that_finds_no_room_ends_with_the_reason(tmp_path: Path) -> None:
    with disk_of(16), pytest.raises(WriteError, match=r"episode_00000\d\.h5: could not be written: File too large"):
        collect(Embodiment.load("arm"), 4, 3, tmp_path, workers=1, frames=6, size=(64, 64))
    assert not list(tmp_path.iterdir())


def test_states_checkpoints_and_logs_that_find_no_room_leave_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "codec.state.safetensors"
    save_state(path, {"a": torch.ones(3)})
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(Embodiment.load("arm")))
    model.provenance = {"episodes": 1}
    model.save(tmp_path / "model")
    model.provenance = {"episodes": 2}
    log = CsvLog(tmp_path / "codec.csv", 0)
    with disk_of(8):
        with pytest.raises(WriteError, match=r"codec\.state\.safetensors: could not be written"):
            save_state(path, {"a": torch.ones(30_000)})
        with pytest.raises(WriteError, match=r"model\.safetensors: could not be written"):
            model.save(tmp_path / "model")
        with pytest.raises(WriteError, match=r"codec\.csv: could not be written"):
            log.write(1, {f"loss_{k}": 0.5 for k in range(2000)})
    state = load_state(path, {"a": torch.Size([3])})
    assert state is not None
    assert state["a"].tolist() == [1, 1, 1]
    assert WorldModel.load(tmp_path / "model", "cpu").provenance == {"episodes": 1}
    assert not list(tmp_path.rglob("*.tmp"))


def test_only_one_works_in_a_folder(tmp_path: Path) -> None:
    arm = Embodiment.load("arm")
    with files.locked(tmp_path, "a collection"):
        with pytest.raises(BusyError, match=rf"{tmp_path}: a collection \(process {os.getpid()}\) works there"):
            collect(arm, 1, 0, tmp_path, workers=1, frames=3, size=(32, 32))
        with pytest.raises(BusyError, match="a training another folder"):
            train(config(tmp_path), tmp_path, device="cpu")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / files.LOCK).write_text("a training (process 1)")  # left by one that was killed
    with files.locked(tmp_path, "a training"):
        assert str(os.getpid()) in (tmp_path / files.LOCK).read_text()


def test_a_process_that_is_killed_leaves_no_folder_locked(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(20)
    with pytest.raises(BusyError, match=str(process.pid)), files.locked(tmp_path, "a training"):
        pass
    process.kill()
    process.join()
    with files.locked(tmp_path, "a training"):
        pass


def hold(folder: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with files.locked(folder, "a training"):
        ready.set()
        signal.pause()


def begun(out: Path, **changes: object) -> TrainingConfig:
    """A run folder as a training leaves it that was stopped in its first stage."""
    settings = config(out / "data", **changes)
    out.mkdir(exist_ok=True)
    (out / "training.json").write_text(settings.model_dump_json())
    save_state(out / "codec.state.safetensors", {"step": torch.tensor(3)})
    return settings


def test_going_on_with_another_config_names_what_differs_and_how_to_go_on(tmp_path: Path) -> None:
    settings = begun(tmp_path)
    other = settings.model_dump(mode="json")
    other["seed"] = 7
    other["codec"] |= {"learning_rate": 0.5, "validate_every": 3}
    other["network"]["dynamics"]["layers"] = 3
    with pytest.raises(ConfigError) as raised:
        train(TrainingConfig.model_validate(other), tmp_path, resume=True, device="cpu")
    text = str(raised.value)
    layers, rate = settings.network.dynamics.layers, settings.codec.learning_rate
    for part in (
        f"seed: {settings.seed} -> 7", f"codec.learning_rate: {rate!r} -> 0.5",
        f"network.dynamics.layers: {layers} -> 3", "--accept-changes", str(tmp_path / "training.json"), "--out",
    ):  # fmt: skip
        assert part in text
    assert "validate_every" not in text  # changes nothing of what is trained
    assert TrainingConfig.load(tmp_path / "training.json") == settings  # to go on as it began


def test_a_run_of_before_an_option_was_removed_goes_on(tmp_path: Path) -> None:
    settings = begun(tmp_path)
    values = json.loads(settings.model_dump_json())
    values["network"]["dynamics"] |= {"sketch": False, "refinements": 0}
    (tmp_path / "training.json").write_text(json.dumps(values))
    require_unchanged(settings, tmp_path / "training.json")
    assert TrainingConfig.load(tmp_path / "training.json") == settings
    values["network"]["dynamics"]["refinements"] = 1
    (tmp_path / "training.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"network\.dynamics\.refinements: 1 -> None"):
        require_unchanged(settings, tmp_path / "training.json")


def test_a_config_that_cannot_be_compared_is_named(tmp_path: Path) -> None:
    settings = begun(tmp_path)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(ConfigError, match=r"training\.json: not valid JSON"):
        train(settings, tmp_path, resume=True, device="cpu")


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "codec.state.safetensors"
    shapes = {"weight.0": torch.Size([4]), "step": torch.Size([])}
    state = {"weight.0": torch.ones(4), "step": torch.tensor(3)}
    assert load_state(path, shapes) is None
    save_state(path, state)
    assert load_state(path, shapes) is not None
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:4], b"", whole[:-3] + b"\x01" + whole[-2:], b"\xff" * 40):
        path.write_bytes(damaged)
        with pytest.raises(DeepverseError, match=r"codec\.state\.safetensors"):
            load_state(path, shapes)
    for changed in ({"weight.0": torch.full((4,), np.nan)}, {"optimizer.0.kick": torch.ones(4)}):
        save_state(path, state | changed)
        with pytest.raises(DeepverseError, match=r"codec\.state\.safetensors: \W?(weight|optimizer)\.0"):
            load_state(path, shapes)


def test_half_a_row_at_the_end_of_a_log_is_left_out(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "a.csv", 0)
    log.write(10, {"loss": 0.5})
    log.write(20, {"loss": float("nan")})
    with (tmp_path / "a.csv").open("a") as file:
        file.write("30,lo")
    CsvLog(tmp_path / "a.csv", 30)
    assert (tmp_path / "a.csv").read_text().split() == ["step,name,value", "10,loss,0.5", "20,loss,NaN"]
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DeepverseError, match=r"a\.csv: not UTF-8"):
        CsvLog(tmp_path / "a.csv", 30)
