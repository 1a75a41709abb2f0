"""What no reader may do: wait for a pipe, follow a link out of a file, take the memory that a header asks for."""

import json
import os
import socket
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from droid_recording import write_recording
from episodes_made import make_episode
from file_damage import laughs, sparse

from deepverse_ros import files, resources
from deepverse_ros.data.importers import droid
from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.errors import ConfigError, DeepverseError, EmbodimentError, EpisodeError, ResourceError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.faults import Schedule
from deepverse_ros.safety.zones import Zones
from deepverse_ros.training.config import TrainingConfig

READERS: dict[str, Callable[[Path], object]] = {
    "robot.yaml": Embodiment.load,
    "zones.yaml": Zones.load,
    "faults.yaml": Schedule.load,
    "training.yaml": TrainingConfig.load,
    "training.json": TrainingConfig.load,
    "episode_000000.h5": lambda path: EpisodeStore(path.parent).read(path),
    "7.json": droid.read_recording,
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def plug(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target if target != "itself" else path)


def text(content: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("name", list(READERS))
@pytest.mark.parametrize(
    "make",
    [
        pipe, plug, Path.mkdir, link("/dev/zero"), link("/dev/random"), link("itself"), link("/nowhere"), sparse,
        text(""), text("\0" * 300), text(b"name: \xff\xfe"), text("[" * 100_000), text('{"a": ' * 3000), text(laughs()),
    ],
)  # fmt: skip
def test_what_is_no_file_of_its_kind_is_refused_by_its_name(
    tmp_path: Path, name: str, make: Callable[[Path], object]
) -> None:
    make(tmp_path / name)
    with pytest.raises(DeepverseError, match=name):
        READERS[name](tmp_path / name)


def arm(tmp_path: Path, old: str, new: str) -> Path:
    source = resources.find("config/embodiments/arm.yaml").read_text()
    assert old in source
    path = tmp_path / "robot.yaml"
    path.write_text(source.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dt: 0.2 ", "dt: .nan ", r"dt: .*finite.*got nan"),
        ("dt: 0.2 ", "dt: 1.0e+300 ", r"dt: .*60"),
        ("dt: 0.2 ", "dt: 2020-01-01 ", r"dt: .*number.*got '2020-01-01'"),
        ("dt: 0.2 ", "dt: 0.2\ndt: 0.3 ", r"the key 'dt' stands twice"),
        ("dt: 0.2 ", "dt: !!float x ", r"'x' is no float"),
        ("dt: 0.2 ", "dt: !!python/name:os.system x ", r"the tag .*os\.system' is not taken"),
        ("name: arm", "name: 2020-01-01", None),  # a date is text
        ("name: arm", 'name: "arm\\nERROR all is well"', r"name: .*pattern"),
        ("lower: [-2.967", "lower: [-.inf", r"modalities\.0\.lower\.0: "),
        ("lower: [-2.967", "lower: [-1.0e+300", r"modalities\.0\.lower\.0: "),
        ("max_rate: [1.483", "max_rate: [.nan", r"modalities\.0\.max_rate\.0: "),
        ("joint_1, joint_2,", "joint_2,", r"joints has 6 names for 7 values"),
        ("joint_1, joint_2,", "joint_2, joint_2,", r"joints: every name may stand once"),
        ("home: [0.0,", "home: [9.0,", r"home\.0: 9 is not within the limits"),
        ("radius: 0.11", "radius: .nan", r"body\.capsules\.0\.radius: "),
        ("origin: [0, 0, 0.1575]", "origin: [0, 0, .inf]", r"body\.links\.0\.origin\.2: "),
        ("fixed: true", "fixed: [true]", r"camera\.fixed: "),
    ],
)
def test_a_wrong_value_is_named_with_file_and_field(tmp_path: Path, old: str, new: str, said: str | None) -> None:
    path = arm(tmp_path, old, new)
    if said is None:
        assert Embodiment.load(path).name == "2020-01-01"
        return
    with pytest.raises(EmbodimentError, match=rf"(?s)robot\.yaml: .*({said})") as raised:
        Embodiment.load(path)
    assert len(str(raised.value)) < 2000


def test_aliases_are_taken_as_long_as_they_are_few(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}\n")
    assert files.read_yaml(path)["c"] == {"x": [1, 2], "y": 3}
    path.write_text("a: &a [1, *a]\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: .*\*a stands within itself"):
        files.read_yaml(path)
    path.write_text(laughs())
    tracemalloc.start()
    with pytest.raises(ConfigError, match=r"a\.yaml: .*more than 100000 values"):
        files.read_yaml(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_json_says_where_a_number_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content, said in (
        ('{"a": [{"b": NaN}]}', r"a\.0\.b: nan is not finite"), ('{"a": 1e999}', "a: inf is not finite"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"), ("[1]", "expected a mapping"), ('{"a": 1', "not valid JSON"),
        (f'{{"a": {"9" * 5000}}}', "not valid JSON"),
    ):  # fmt: skip
        path.write_text(content)
        with pytest.raises(ConfigError, match=rf"a\.json: .*{said}"):
            files.read_json(path)


# ---- episodes


def damaged(tmp_path: Path, damage: Callable[[h5py.File], object]) -> Path:
    """An episode without the seal, as of an earlier version, with one thing in it changed."""
    path = EpisodeStore(tmp_path).write(0, make_episode())
    path.write_bytes(path.read_bytes()[512:])
    assert len(EpisodeStore(tmp_path).read(0)) == 3  # as it was, it is read
    with h5py.File(path, "r+") as file:
        damage(file)
    return path


def elsewhere(file: h5py.File) -> None:
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as beside:
        beside["rgb"] = file["rgb"][()]
    del file["rgb"]
    file["rgb"] = h5py.ExternalLink(str(other), "rgb")


def raw_elsewhere(file: h5py.File) -> None:
    other = Path(file.filename).with_name("secret.bin")
    other.write_bytes(bytes(3 * 8 * 12 * 3))
    del file["rgb"]
    file.create_dataset("rgb", (3, 8, 12, 3), "uint8", external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 8, 12, 3), "uint8")
    layout[:] = h5py.VirtualSource("other.h5", "rgb", (3, 8, 12, 3))
    del file["rgb"]
    file.create_virtual_dataset("rgb", layout)


def soft(file: h5py.File) -> None:
    del file["actions"]
    file["actions"] = h5py.SoftLink("/state/joint_positions")


def huge(file: h5py.File) -> None:
    del file["rgb"]
    file.create_dataset("rgb", (100_000, 1000, 1000, 3), "uint8", chunks=(1, 1000, 1000, 3), compression="lzf")


def sparse_frames(file: h5py.File) -> None:
    del file["rgb"]
    file.create_dataset("rgb", (300, 1000, 1000, 3), "uint8", chunks=(1, 1000, 1000, 3), compression="lzf")


def bomb(file: h5py.File) -> None:
    """A chunk that holds a hundred megabytes where its shape has 288 bytes."""
    del file["rgb"]
    array = file.create_dataset("rgb", (3, 8, 12, 3), "uint8", chunks=(1, 8, 12, 3), compression="gzip")
    for k in range(3):
        array.id.write_direct_chunk((k, 0, 0, 0), zlib.compress(bytes(100 << 20)))


def header(**values: object) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        told = json.dumps(json.loads(file.attrs["header"]) | values)
        file.attrs["header"], file.attrs["header_crc32"] = told, zlib.crc32(told.encode())

    return damage


def not_finite(file: h5py.File) -> None:
    file["actions"][...] = np.nan


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (elsewhere, "rgb: is a link to elsewhere"), (raw_elsewhere, "rgb: its values are in another file"),
        (virtual, "rgb: its values are in another file"), (soft, "actions: is a link to elsewhere"),
        (huge, "rgb: shape .*more than 1073741824 bytes"), (sparse_frames, "rgb: 0 chunks stored of 300"),
        (bomb, "rgb: packed by filter 1"), (not_finite, "actions: .*not finite"),
        (header(dt=float("nan")), "dt: .*got nan"), (header(dt="0.2"), "dt: .*got '0.2'"), (header(seed=1.5), "seed"),
        (header(embodiment=["arm"]), "embodiment"), (header(state=["../rgb"]), "state"), (header(state=7), "state"),
        (header(frames=10**12), "frames"), (header(version="1"), "version"),
    ],
)  # fmt: skip
def test_an_episode_is_refused_before_it_takes_memory_or_leads_out_of_its_file(
    tmp_path: Path, damage: Callable[[h5py.File], object], said: str
) -> None:
    path = damaged(tmp_path, damage)
    tracemalloc.start()
    with pytest.raises(EpisodeError, match=rf"episode_000000\.h5: .*{said}"):
        EpisodeStore(tmp_path).read(path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    with pytest.warns(UserWarning, match="skipped"):
        assert list(EpisodeStore(tmp_path)) == []


def test_any_flipped_bit_of_an_episode_is_seen_before_hdf5_reads_it(tmp_path: Path) -> None:
    path = EpisodeStore(tmp_path).write(0, make_episode())
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for offset in [0, 3, 100, 511, 512, 520, *rng.integers(0, len(whole), 60)]:
        data = bytearray(whole)
        data[offset] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with pytest.raises(EpisodeError, match="its checksum does not match"):
            EpisodeStore(tmp_path).read(0)


# ---- recordings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"videos": [{"video_path": "/etc/passwd"}]}, r"videos\.0\.video_path: .*'/etc/passwd'"),
        ({"videos": [{"video_path": "../../x.mp4"}]}, r"videos\.0\.video_path: "),
        ({"videos": [{"video_path": 7}]}, r"videos\.0\.video_path: .*got 7"),
        ({"videos": ["a.mp4"]}, r"videos\.0\.video_path: "),
        ({"videos": {"0": 1}}, "camera 0 is not among"),
        ({"texts": {"a": 1}}, "texts: "),
        ({"observation.state.gripper_position": [10**400] * 10}, "gripper_position"),
        ({"observation.state.gripper_position": [1e18] * 10}, "gripper_position' holds 1e\\+18"),
    ],
)
def test_an_annotation_names_what_is_wrong_in_it(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    path = write_recording(tmp_path, "7", np.zeros((4, 16, 32, 3), np.uint8), [[0.0] * 7] * 10, [0.0] * 10)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(EpisodeError, match=rf"7\.json: .*{said}"):
        droid.read_recording(path)


def test_a_video_that_is_a_list_of_other_files_is_not_followed(tmp_path: Path) -> None:
    path = write_recording(tmp_path, "7", np.zeros((4, 16, 32, 3), np.uint8), [[0.0] * 7] * 10, [0.0] * 10)
    video = tmp_path / "videos" / "val" / "7" / "0.mp4"
    (tmp_path / "other.mp4").write_bytes(video.read_bytes())
    video.write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/other.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(EpisodeError, match=r"0\.mp4: not a readable video"):
        droid.read_recording(path)
    video.unlink()
    os.mkfifo(video)
    with pytest.raises(EpisodeError, match=r"0\.mp4: a named pipe"):
        droid.read_recording(path)
    video.unlink()
    with pytest.raises(ResourceError, match=r"0\.mp4: not found"):
        droid.read_recording(path)
