"""Training is deterministic, resumes exactly, learns, and ends in a usable checkpoint."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from trainings_made import FRAMES, QUIET, SIZE, config, episode

from deepverse_ros import resources
from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.errors import ConfigError, EmbodimentError, EpisodeError
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.batches.dataset import Episodes, window_actions
from deepverse_ros.training.config import TrainingConfig
from deepverse_ros.training.engine import loop
from deepverse_ros.training.trainer import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = EpisodeStore(tmp_path_factory.mktemp("episodes"))
    for i in range(10):
        store.write(i, episode(i))
    return store.directory


def bodiless(folder: Path) -> str:
    """A file of an arm without a body: what moves in these pictures is no arm, so nobody must draw one there."""
    values = yaml.safe_load(resources.find("config/embodiments/arm.yaml").read_text())
    del values["body"]
    path = folder / "arm.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def value_at(log: Path, name: str) -> float:
    """The last value of that name in a log."""
    rows = [row.split(",") for row in log.read_text().split()]
    return [float(value) for _, what, value in rows[1:] if what == name][-1]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


def test_the_same_seed_gives_the_same_weights_and_another_does_not(data: Path, tmp_path: Path) -> None:
    a, b = (weights(train(config(data), tmp_path / name, device="cpu", console=QUIET)) for name in "ab")
    assert all(torch.equal(a[k], b[k]) for k in a)
    c = weights(train(config(data, seed=1), tmp_path / "c", device="cpu", console=QUIET))
    assert any(not torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize("stage", ["codec", "picture", "dynamics", "decoder", "outcome", "coarse"])
def test_an_interrupted_run_resumes_to_the_weights_of_an_uninterrupted_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    whole = weights(train(config(data), tmp_path / "whole", device="cpu", console=QUIET))
    original = loop._StageTrainer.step

    def ctrl_c_during_step_five(self: loop._StageTrainer, step: int, stop: bool) -> object:
        if self.stage.name == stage and step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, step, stop)

    with monkeypatch.context() as patch:
        patch.setattr(loop._StageTrainer, "step", ctrl_c_during_step_five)
        with pytest.raises(loop.Interrupted, match=f"{stage} step 5"):
            train(config(data), tmp_path / "cut", device="cpu", console=QUIET)
    with pytest.raises(FileExistsError, match="--resume"):
        train(config(data), tmp_path / "cut", device="cpu", console=QUIET)
    resumed = weights(train(config(data), tmp_path / "cut", resume=True, device="cpu", console=QUIET))
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_training_learns_to_follow_the_action(data: Path, tmp_path: Path) -> None:
    longer = config(data, steps=100, batch=8, embodiment=bodiless(tmp_path))
    out = tmp_path / "run"
    checkpoint = train(longer, out, device="cpu", console=QUIET)
    model = WorldModel.load(checkpoint)
    assert model.calibration is not None
    assert len(model.calibration["tool_error_q"]) == len(model.calibration["goal_error_z"]) == 8
    rows = [r.split(",") for r in (out / "dynamics.csv").read_text().split()]
    losses = [float(value) for step, name, value in rows[1:] if name == "one_step"]
    # At first the network predicts that nothing changes.
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    before, after = (value_at(out / f"{stage}.csv", "val_psnr8") for stage in ("dynamics", "decoder"))
    assert after > before + 0.1
    for picture in ("curves.png", "samples.png"):
        assert (out / picture).stat().st_size > 1000


def test_past_actions_are_measured_and_future_ones_commanded(data: Path) -> None:
    episodes = Episodes.load(EpisodeStore(data), Embodiment.load("arm"), (SIZE, SIZE), FRAMES)
    got = window_actions(episodes, np.array([2]), np.array([1]), 12, 4)[0]
    torch.testing.assert_close(got[:3], episodes.measured[2, 2:5])
    torch.testing.assert_close(got[3:], episodes.commanded[2, 4:12])


def test_damaged_and_short_episodes_are_skipped_and_counted(data: Path, tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    for i in range(3):
        store.write(i, episode(i))
    store.write(3, episode(3, frames=5))
    path = store.paths()[1]
    path.write_bytes(path.read_bytes()[:-2000])
    episodes = Episodes.load(store, Embodiment.load("arm"), (SIZE, SIZE), FRAMES)
    assert len(episodes) == 2
    assert episodes.skipped == 2


def test_a_training_on_fewer_episodes_than_are_held_out_says_what_to_do(data: Path, tmp_path: Path) -> None:
    few = config(data)
    few = few.model_copy(update={"data": few.data.model_copy(update={"validation": 10})})
    with pytest.raises(EpisodeError, match=r"data\.validation: 10 .* there are 10: .* such as to 1"):
        train(few, tmp_path, device="cpu", console=QUIET)


def test_data_of_another_robot_is_refused(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.write(0, episode(0, embodiment="drone"))
    with pytest.raises(EmbodimentError, match=r"'drone'.*'arm'"):
        Episodes.load(store, Embodiment.load("arm"), (SIZE, SIZE), FRAMES)
    with pytest.raises(EpisodeError, match="no readable episode"):
        Episodes.load(EpisodeStore(tmp_path / "empty"), Embodiment.load("arm"), (SIZE, SIZE), FRAMES)


def test_a_wrong_field_of_a_training_config_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump({"embodiment": "arm", "data": {"directory": "x", "episodez": 3}}))
    with pytest.raises(ConfigError, match=r"bad\.yaml.*data\.episodez"):
        TrainingConfig.load(file)


def test_the_shipped_config_is_valid() -> None:
    shape = TrainingConfig.load("config/training/arm.yaml").model_config_()
    assert (shape.height, shape.width, shape.context, shape.horizon) == (128, 128, 4, 8)
