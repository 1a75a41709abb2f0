"""Checkpoints are read whole and right, or refused with the reason."""

import json
import os
import tracemalloc
import warnings
from pathlib import Path

import pytest
import torch

from deepverse_ros.errors import CheckpointError
from deepverse_ros.model.checkpoint import config_checksum, require_embodiment, seal, write_calibration
from deepverse_ros.model.config import REMOVED, WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment


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
    """Of somebody who makes the checksum anew."""
    config = path / "config.json"
    values = json.loads(config.read_text()) | changes
    config.write_text(json.dumps(values | {"config_sha256": config_checksum(values)}))


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


def test_options_that_were_removed_are_read_where_they_were_off(saved: Path) -> None:
    values = json.loads((saved / "config.json").read_text())["model"]
    assert not values["dynamics"].keys() & REMOVED.keys()
    edit(saved, model=values | {"dynamics": values["dynamics"] | {"sketch": False, "refinements": 0}})
    assert WorldModel.load(saved, "cpu").config == WorldModelConfig.model_validate(values)
    edit(saved, model=values | {"dynamics": values["dynamics"] | {"sketch": False, "refinements": 1}})
    with pytest.raises(CheckpointError, match=r"dynamics\.refinements"):
        WorldModel.load(saved)


def test_a_checkpoint_for_another_robot_is_refused(saved: Path) -> None:
    model = WorldModel.load(saved)
    require_embodiment(model.embodiment.name, "arm")
    with pytest.raises(CheckpointError, match="for embodiment 'arm', but 'drone'"):
        require_embodiment(model.embodiment.name, "drone")


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_a_flipped_bit_of_the_config_is_refused(saved: Path) -> None:
    """Whichever byte of the calibration it hits: a bound that was 0.01 must not become 0.00 or 0.31."""
    config = saved / "config.json"
    text = config.read_text()
    begin = text.index("[", text.index("goal_error_z")) + 1
    for offset in range(begin, begin + 10):
        for bit in range(8):
            flip(config, offset, bit)
            if json_differs(config, text):
                with pytest.raises(CheckpointError, match=r"config\.json"):
                    WorldModel.load(saved, "cpu")
            config.write_text(text)


def json_differs(config: Path, text: str) -> bool:
    try:
        return json.loads(config.read_text()) != json.loads(text)
    except ValueError:
        return True


def test_no_flipped_bit_makes_a_config_pass_as_one_of_before_there_were_checksums(saved: Path) -> None:
    config = saved / "config.json"
    text = config.read_text()
    for word in ('"format_version": 5', '"config_sha256"', '"calibration"', '"weights_sha256"'):
        begin = text.index(word)
        for offset in range(begin, begin + len(word)):
            for bit in range(8):
                flip(config, offset, bit)
                with pytest.raises(CheckpointError):
                    WorldModel.load(saved, "cpu")
                config.write_text(text)


def older(path: Path) -> None:
    config = path / "config.json"
    values = json.loads(config.read_text()) | {"format_version": 4}
    del values["config_sha256"]
    config.write_text(json.dumps(values))


def test_an_older_checkpoint_is_read_with_a_warning_that_names_what_adds_the_checksum(saved: Path) -> None:
    before = WorldModel.load(saved, "cpu")
    older(saved)
    with pytest.warns(UserWarning, match=f"no checksum.*deepverse checksum {saved}"):
        again = WorldModel.load(saved, "cpu")
    assert (again.calibration, again.provenance) == (before.calibration, before.provenance)
    seal(saved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert WorldModel.load(saved, "cpu").calibration == before.calibration


def test_a_config_edited_on_purpose_is_taken_after_it_was_checked(saved: Path) -> None:
    config = saved / "config.json"
    config.write_text(config.read_text().replace('"level": 0.9', '"level": 0.8'))
    with pytest.raises(CheckpointError, match=f"deepverse checksum {saved}"):
        WorldModel.load(saved, "cpu")
    seal(saved)
    assert WorldModel.load(saved, "cpu").calibration["level"] == 0.8  # type: ignore[index]
    config.write_text(config.read_text().replace('"level": 0.8', '"level": 1.8'))
    with pytest.raises(CheckpointError, match=r"calibration: level: .*less than 1, got 1\.8"):
        seal(saved)


@pytest.mark.parametrize(
    ("calibration", "field"),
    [
        ({"level": float("nan"), "goal_error_z": [0.1]}, "level"),
        ({"level": 0.9, "goal_error_z": [float("nan")]}, "goal_error_z.0"),
        ({"level": 0.9, "goal_error_z": [-0.1]}, "goal_error_z.0"),
        ({"level": 0.9, "goal_error_z": ["0.1"]}, "goal_error_z.0"),
        ({"level": 0.9, "goal_error_z": []}, "goal_error_z"),
        ({"level": 0.9, "goal_errors_z": [0.1]}, "goal_errors_z"),
        ({"level": 0.9, "ends": [{"steps": 2, "further": [0.1], "spread": []}]}, "ends.0"),
        ([0.9], "calibration"),
    ],
)
def test_a_calibration_that_is_none_is_refused_by_field(saved: Path, calibration: object, field: str) -> None:
    edit(saved, calibration=calibration)
    with pytest.raises(CheckpointError, match=f"config.json.*{field}"):
        WorldModel.load(saved, "cpu")


def test_a_network_beyond_the_file_of_weights_is_refused_before_it_takes_memory(saved: Path) -> None:
    values = json.loads((saved / "config.json").read_text())["model"]
    values["dynamics"] |= {"width": 16384, "layers": 64}  # about 250 GB
    edit(saved, model=values)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="do not fit"):
        WorldModel.load(saved, "cpu")
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


def test_a_header_of_weights_that_tells_more_than_there_is_is_refused(saved: Path) -> None:
    header = json.dumps({"a": {"dtype": "F16", "shape": [10**12], "data_offsets": [0, 2 * 10**12]}}).encode()
    (saved / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: truncated.*2000000000000 bytes"):
        WorldModel.load(saved, "cpu")
    (saved / "model.safetensors").write_bytes((10**12).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        WorldModel.load(saved, "cpu")


def test_weights_that_are_not_finite_are_refused(saved: Path) -> None:
    model = WorldModel.load(saved, "cpu")
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    model.save(saved)
    with pytest.raises(CheckpointError, match="not finite"):
        WorldModel.load(saved, "cpu")
