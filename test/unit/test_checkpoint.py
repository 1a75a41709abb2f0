"""Checkpoints are read whole and right, or refused with the reason."""

import json
import os
from pathlib import Path

import pytest
import torch

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import CheckpointError
from deepverse_ros.model.checkpoint import require_embodiment, write_calibration
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(Embodiment.load("arm")))
    model.calibration = {"level": 0.9, "goal_error_z": [0.01] * 8}
    model.provenance = {"episodes": 3}
    model.save(tmp_path / "model")
    return tmp_path / "model"


def test_what_is_saved_comes_back_in_sixteen_bits(saved: Path) -> None:
    torch.manual_seed(0)
    original = WorldModel(WorldModelConfig.small_test(Embodiment.load("arm")))
    loaded = WorldModel.load(saved, "cpu", torch.float32)
    assert loaded.config == original.config
    assert loaded.calibration == {"level": 0.9, "goal_error_z": [0.01] * 8}
    assert loaded.provenance == {"episodes": 3}
    for name, tensor in original.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=2e-3, rtol=2e-3)


def test_lists_of_numbers_stand_on_one_line_and_words_stay_as_they_are(saved: Path) -> None:
    model = WorldModel.load(saved, "cpu")
    model.provenance = {"history": "[ 1, 2 ] of\n[ 3 ]", "words": ["[ a", "b ]"], "none": [], "nested": [[1, 2], [3]]}
    model.save(saved)
    assert WorldModel.load(saved, "cpu").provenance == model.provenance
    text = (saved / "config.json").read_text()
    assert '"goal_error_z": [0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]' in text


def edit(path: Path, **changes: object) -> None:
    config = path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


@pytest.mark.parametrize("replaced", [0, 1])
def test_a_writer_that_is_killed_leaves_a_checkpoint_whole(
    saved: Path, monkeypatch: pytest.MonkeyPatch, replaced: int
) -> None:
    """Before the first of its files takes its place the old checkpoint is there, after it the new one."""
    model = WorldModel.load(saved, "cpu")
    model.provenance = {"episodes": 4}
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    replace, calls = os.replace, []

    def killed(source: Path, target: Path) -> None:
        if len(calls) == replaced:
            raise KeyboardInterrupt
        calls.append(source)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            model.save(saved)
    assert WorldModel.load(saved, "cpu").provenance == {"episodes": 3 + replaced}
    write_calibration(saved, {"level": 0.8})
    after = WorldModel.load(saved, "cpu")
    assert after.calibration == {"level": 0.8}
    assert after.provenance == {"episodes": 3 + replaced}


def test_a_missing_folder_and_missing_files_are_named(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="models/nowhere"):
        WorldModel.load("models/nowhere")
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        WorldModel.load(saved)


def test_a_truncated_file_is_refused(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        WorldModel.load(saved)


def test_a_tampered_file_is_refused(saved: Path) -> None:
    weights = saved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        WorldModel.load(saved)


def test_another_version_is_refused_with_the_fix(saved: Path) -> None:
    edit(saved, format_version=99)
    with pytest.raises(CheckpointError, match=r"format_version is 99.*train the model again"):
        WorldModel.load(saved)


def test_a_config_that_is_no_world_model_is_refused_by_field(saved: Path) -> None:
    values = json.loads((saved / "config.json").read_text())["model"]
    edit(saved, model=values | {"height": 100})
    with pytest.raises(CheckpointError, match=r"height \(100\)"):
        WorldModel.load(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        WorldModel.load(saved)


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    values = json.loads((saved / "config.json").read_text())["model"]
    values["dynamics"]["layers"] = 3
    edit(saved, model=values)
    with pytest.raises(CheckpointError, match=r"do not fit.*layers\.2"):
        WorldModel.load(saved)


def test_a_checkpoint_for_another_robot_is_refused(saved: Path) -> None:
    model = WorldModel.load(saved)
    require_embodiment(model, "arm")
    with pytest.raises(CheckpointError, match="for embodiment 'arm', but 'drone'"):
        require_embodiment(model, "drone")
