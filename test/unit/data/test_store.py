"""An episode comes back as it was written, or the file that is damaged is named."""

import os
import warnings
import zlib

import h5py
import numpy as np
import pytest
from episodes_made import make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.errors import EpisodeError


def assert_same(a, b):
    assert (a.embodiment, a.dt, a.seed, a.kind) == (b.embodiment, b.dt, b.seed, b.kind)
    assert sorted(a.state) == sorted(b.state)
    assert (a.segmentation is None) == (b.segmentation is None)
    if a.segmentation is not None:
        assert a.segmentation.dtype == b.segmentation.dtype == np.uint8
        np.testing.assert_array_equal(a.segmentation, b.segmentation)
    pairs = [(getattr(a, n), getattr(b, n)) for n in ("rgb", "depth", "actions", "intrinsics", "camera_to_world")]
    for x, y in pairs + [(a.state[n], b.state[n]) for n in a.state]:
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    kind=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8),
    segmented=st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, seed, size, kind, segmented):
    store = EpisodeStore(tmp_path_factory.mktemp("store"))
    episode = make_episode(seed, *size, kind=kind, segmented=segmented)
    assert_same(store.read(store.write(4, episode)), episode)
    assert_same(store.read(4), episode)


def test_a_file_describes_itself(tmp_path):
    path = EpisodeStore(tmp_path).write(0, make_episode())
    with h5py.File(path) as file:
        assert "deepverse_ros/episode" in file.attrs["header"]
        assert "millimetres" in file["depth"].attrs["units"]
        assert "rad" in file["state/joint_positions"].attrs["units"]
        assert all(file[name].fletcher32 for name in ("rgb", "depth", "actions", "state/joint_positions"))


def test_a_segmentation_is_packed_and_describes_itself(tmp_path):
    path = EpisodeStore(tmp_path).write(0, make_episode(segmented=True))
    with h5py.File(path) as file:
        assert "robot" in file["segmentation"].attrs["units"]
        assert file["segmentation"].fletcher32
        assert file["segmentation"].compression == "lzf"


def test_an_episode_without_segmentation_is_the_same_file_as_ever(tmp_path):
    """So that a collection that is continued, and a package that knows of no segmentation, find what they know."""
    path = EpisodeStore(tmp_path).write(0, make_episode())
    with h5py.File(path) as file:
        assert "segmentation" not in file.attrs["header"]
        assert set(file) == {"rgb", "depth", "actions", "intrinsics", "camera_to_world", "state"}


@pytest.mark.parametrize(("said", "match"), [("1", "expected true or false"), ("false", None), ("true", "is missing")])
def test_a_header_that_speaks_of_a_segmentation_is_checked(tmp_path, said, match):
    store = EpisodeStore(tmp_path)
    path = store.write(0, make_episode())
    rewrite_header(path, lambda text: text.replace('"seed"', f'"segmentation": {said}, "seed"'))
    if match is None:
        assert store.read(0).segmentation is None
    else:
        with pytest.raises(EpisodeError, match=match):
            store.read(0)


def rewrite_header(path, change):
    """As somebody does who makes the checksums anew."""
    path.write_bytes(path.read_bytes()[512:])
    with h5py.File(path, "r+") as file:
        text = change(file.attrs["header"])
        file.attrs["header"], file.attrs["header_crc32"] = text, zlib.crc32(text.encode())


def test_episodes_come_in_order_and_other_files_are_left_alone(tmp_path):
    store = EpisodeStore(tmp_path)
    assert len(store) == 0
    assert list(EpisodeStore(tmp_path / "nowhere")) == []
    for index in (10, 2, 1234567):
        store.write(index, make_episode(index))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "episode_x.h5").write_text("not one of ours")
    assert [e.seed for e in store] == [2, 10, 1234567]
    assert len(store) == 3


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_byte_of_a_picture(path):
    with h5py.File(path) as file:
        offset = file["rgb"].id.get_chunk_info(1).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 20] ^= 0xFF
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def change_the_header(path):
    with h5py.File(path, "r+") as file:
        file.attrs["header"] = file.attrs["header"].replace('"seed": 1', '"seed": 7')


def lose_an_array(path):
    with h5py.File(path, "r+") as file:
        del file["depth"]


def lose_a_frame(path):
    with h5py.File(path, "r+") as file:
        actions = file["actions"][:-1]
        del file["actions"]
        file["actions"] = actions


@pytest.mark.parametrize(
    "damage", [truncate, flip_a_byte_of_a_picture, empty, change_the_header, lose_an_array, lose_a_frame]
)
def test_a_damaged_file_is_named_and_skipped(tmp_path, damage):
    store = EpisodeStore(tmp_path)
    for index in range(3):
        store.write(index, make_episode(index))
    damage(store.path(1))
    with pytest.raises(EpisodeError, match=r"episode_000001\.h5"):
        store.read(1)
    with pytest.warns(UserWarning, match=r"episode_000001\.h5"):
        seeds = [e.seed for e in store]
    assert seeds == [0, 2]
    assert store.skipped == [store.path(1)]
    store.write(1, make_episode(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [e.seed for e in store] == [0, 1, 2]
    assert store.skipped == []


def test_a_missing_episode_and_a_foreign_file_are_named(tmp_path):
    store = EpisodeStore(tmp_path)
    with pytest.raises(EpisodeError, match="no such episode"):
        store.read(3)
    with h5py.File(store.path(0), "w") as file:
        file["rgb"] = np.zeros(3)
    with pytest.raises(EpisodeError, match=r"episode_000000\.h5"):
        store.read(0)


def test_another_version_is_refused_by_number(tmp_path, monkeypatch):
    store = EpisodeStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("deepverse_ros.data.store.VERSION", 99)
        store.write(0, make_episode())
    with pytest.raises(EpisodeError, match="version 99"):
        store.read(0)


def test_a_write_that_fails_leaves_the_old_episode_and_no_litter(tmp_path, monkeypatch):
    store = EpisodeStore(tmp_path)
    store.write(0, make_episode(1))

    def full_disk(_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        store.write(0, make_episode(2))
    monkeypatch.undo()
    assert store.read(0).seed == 1
    assert [p.name for p in tmp_path.iterdir()] == ["episode_000000.h5"]


def test_what_a_killed_writer_left_is_cleaned_and_never_read(tmp_path):
    store = EpisodeStore(tmp_path)
    path = store.write(0, make_episode(1))
    (tmp_path / ".episode_000001.h5.4711.tmp").write_bytes(path.read_bytes()[:100])
    assert [e.seed for e in store] == [1]
    assert store.clean() == 1
    assert [p.name for p in tmp_path.iterdir()] == ["episode_000000.h5"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rgb", np.zeros((3, 8, 12), np.uint8)),
        ("rgb", np.zeros((3, 8, 12, 3), np.float32)),
        ("depth", np.zeros((3, 8, 11), np.uint16)),
        ("segmentation", np.zeros((3, 8, 11), np.uint8)),
        ("segmentation", np.zeros((3, 8, 12), np.int32)),
        ("actions", np.zeros((2, 8), np.float32)),
        ("actions", np.zeros(8, np.float32)),
        ("camera_to_world", np.zeros((4, 4), np.float32)),
        ("state", {"clearance": np.zeros((3, 1))}),
        ("state", {"clearance": np.zeros(3, np.float32)}),
    ],
)
def test_an_inconsistent_episode_cannot_be_made(field, value):
    from dataclasses import replace

    with pytest.raises(EpisodeError, match=field if field != "state" else "clearance"):
        replace(make_episode(), **{field: value})
