"""Reading real recordings, and naming what is wrong with damaged ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from droid_recording import write_recording

from deepverse_ros.data.importers import droid
from deepverse_ros.errors import EpisodeError, ResourceError

REAL = droid.data_directory() / "droid"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real recordings at {REAL}; set DEEPVERSE_REAL_DATA")


@pytest.fixture
def annotation(tmp_path: Path) -> Path:
    """Four frames of 32x16 pixels with ten joint states."""
    frames = np.zeros((4, 16, 32, 3), np.uint8)
    return write_recording(tmp_path, "7", frames, [[0.0] * 7] * 10, [0.0] * 4 + [1.0] * 6)


def change(annotation: Path, **values: object) -> None:
    content = json.loads(annotation.read_text())
    content.update({f"observation.state.{k}" if k != "videos" else k: v for k, v in values.items()})
    annotation.write_text(json.dumps(content))


def test_an_episode_is_read_whole(annotation):
    recording = droid.read_recording(annotation)
    assert recording.name == "val/7"
    assert recording.rgb.shape == (4, 16, 32, 3)
    assert recording.joints.shape == (10, 7)
    assert (recording.dt, recording.state_dt) == (pytest.approx(0.2), pytest.approx(1 / 15))
    assert (recording.gripper[0], recording.gripper[-1]) == (1.0, 0.0)  # 1 is open here, 0 was in the file
    assert recording.text == "wave"


def test_an_episode_is_found_by_file_video_folder_and_name(annotation, monkeypatch, tmp_path):
    root = annotation.parents[2]
    data = tmp_path / "data"
    data.mkdir()
    (data / "droid").symlink_to(root)
    monkeypatch.setenv("DEEPVERSE_REAL_DATA", str(data))
    assert droid.find_annotation(annotation) == annotation
    assert droid.find_annotation(root / "videos" / "val" / "7") == annotation
    assert droid.find_annotation("val/7").samefile(annotation)
    with pytest.raises(ResourceError, match="val/8"):
        droid.find_annotation("val/8")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"joint_position": [[0.0] * 7] * 30}, "30 joint states do not belong to the 4 frames"),
        ({"joint_position": [[0.0] * 6] * 10}, r"shape \(10, 6\)"),
        ({"joint_position": [[0.0] * 7] * 3}, "3 joint states do not belong to the 4 frames"),
        ({"joint_position": "none"}, "not a list of numbers"),
        ({"gripper_position": [float("nan")] * 10}, "not finite"),
        ({"videos": []}, "camera 0 is not among its 0 videos"),
    ],
)
def test_an_inconsistent_annotation_is_refused_with_its_name(annotation, values, said):
    if "joint_position" in values and len(values["joint_position"]) == 30:
        change(annotation, gripper_position=[0.0] * 30)
    change(annotation, **values)
    with pytest.raises(EpisodeError, match=said) as raised:
        droid.read_recording(annotation)
    assert str(annotation) in str(raised.value)


def test_damaged_and_missing_files_are_named(annotation):
    video = annotation.parents[2] / "videos" / "val" / "7" / "0.mp4"
    video.write_bytes(video.read_bytes()[:200])
    with pytest.raises(EpisodeError, match=r"0\.mp4"):
        droid.read_recording(annotation)
    video.unlink()
    with pytest.raises(ResourceError, match=r"0\.mp4: not found"):
        droid.read_recording(annotation)
    annotation.write_text("{")
    with pytest.raises(EpisodeError, match="not valid JSON"):
        droid.read_recording(annotation)


@needs_real_data
@pytest.mark.parametrize("camera", [0, 1, 2])
def test_a_real_episode(camera):
    recording = droid.read_recording(REAL / "annotation" / "val" / "199.json", camera)
    assert recording.rgb.shape == (33, 192, 320, 3)
    assert len(recording.joints) == 97
    assert np.abs(np.diff(recording.joints, axis=0)).max() < 0.3  # rad in a fifteenth of a second
    assert 10 < recording.rgb.mean() < 245


@needs_real_data
def test_every_real_episode_is_consistent():
    annotations = sorted(REAL.glob("annotation/*/*.json"))
    assert annotations
    for annotation in annotations:
        recording = droid.read_recording(annotation)
        assert 3 * len(recording.rgb) - 2 <= len(recording.joints) <= 3 * len(recording.rgb)
