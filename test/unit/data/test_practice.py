"""A practice depends on its seed alone, continues where it stopped, and tells what happened to things."""

import os
from pathlib import Path

import numpy as np
import pytest

from deepverse_ros.data import practice as module
from deepverse_ros.data.practice import Practice, Practising, looks, practise, read
from deepverse_ros.errors import EpisodeError
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
FRAMES = 13


@pytest.fixture(scope="module")
def practised(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]]]:
    """Five episodes in files of two, by two workers, and the calls of their progress function."""
    calls: list[tuple[int, int]] = []
    out = tmp_path_factory.mktemp("practice")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_EPISODES", 2)
        practise(ARM, 5, 7, out, workers=2, frames=FRAMES, progress=lambda *done: calls.append(done))
    return out, calls


def equal(a: Practice, b: Practice) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n), equal_nan=n == "poses") for n in vars(a))


def test_an_episode_depends_on_seed_and_number_alone(practised: tuple[Path, list[tuple[int, int]]]) -> None:
    """Another process, another order, alone: the same numbers."""
    everything = read(practised[0], ARM)
    assert len(everything) == 5
    practising = Practising(ARM)
    try:
        for index in (4, 1):
            stored = Practice(**{name: values[index : index + 1] for name, values in vars(everything).items()})
            assert equal(practising.record(7, index, FRAMES), stored)
        assert not np.array_equal(practising.record(8, 1, FRAMES).measured, everything.measured[1:2])
    finally:
        practising.close()


def test_progress_counts_what_is_there(practised: tuple[Path, list[tuple[int, int]]]) -> None:
    assert sorted(done for done, _ in practised[1]) in ([0, 2, 4, 5], [0, 1, 3, 5], [0, 2, 3, 5])
    assert {total for _, total in practised[1]} == {5}


def test_a_practice_continues_and_mends(
    practised: tuple[Path, list[tuple[int, int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EPISODES", 2)
    whole = read(practised[0], ARM)
    paths = practise(ARM, 3, 7, tmp_path, workers=1, frames=FRAMES)
    assert len(read(tmp_path, ARM)) == 3
    before = [path.stat().st_mtime_ns for path in paths]
    practise(ARM, 3, 7, tmp_path, workers=1, frames=FRAMES)
    assert [path.stat().st_mtime_ns for path in paths] == before
    os.truncate(paths[0], 2000)
    with pytest.raises(EpisodeError, match=r"practice_000000\.h5"):
        read(tmp_path, ARM)
    (tmp_path / ".practice_000009.h5.1.tmp").write_bytes(b"left by a killed writer")
    practise(ARM, 5, 7, tmp_path, workers=1, frames=FRAMES)
    assert equal(read(tmp_path, ARM), whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"practice_00000{k}.h5" for k in range(3)]
    practise(ARM, 1, 8, tmp_path, workers=1, frames=FRAMES)
    assert paths[0].stat().st_mtime_ns != before[0]


def test_what_is_told_of_things_hangs_together(practised: tuple[Path, list[tuple[int, int]]]) -> None:
    """Surfaces lie about middles, what is touched is there, and joints and ground are known everywhere."""
    data = read(practised[0], ARM)
    there = np.isfinite(data.poses[:, :, :, 0])
    assert there.any()
    assert (there == there[:, :1]).all()
    assert not data.touched[~there].any()
    assert not data.touched[:, 0].any()
    seen = data.pixels > 12
    assert seen.any()
    assert not seen[~there[:, list(looks(FRAMES))]].any()
    reach = np.linalg.norm(data.surface[seen].astype(float), axis=-1)
    assert 0.005 < reach.mean() < 0.15
    assert reach.max() < 0.4
    assert np.isfinite(data.measured).all()
    assert np.isfinite(data.ground.astype(float)).all()


def test_every_second_episode_is_a_plan_that_goes_through_a_thing_or_past_it() -> None:
    practising = Practising(ARM)
    try:
        episodes = [practising.record(9, index, FRAMES) for index in range(1, 32, 2)]
    finally:
        practising.close()
    moved = []
    for episode in episodes:
        place = episode.poses[0, ..., :3]
        first, last = place[looks(FRAMES)[0]], place[looks(FRAMES)[0] + module.STEPS]
        moved.append(np.nan_to_num(np.linalg.norm(last - first, axis=-1)).max() > 0.06)
        np.testing.assert_array_equal(episode.commanded[0, -1], episode.commanded[0, -2])
    assert 0.5 <= np.mean(moved) <= 0.95


def test_what_cannot_be_practised_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frames: must be at least 12"):
        practise(ARM, 1, 0, tmp_path, frames=11)
    with pytest.raises(EpisodeError, match="nothing was practised"):
        read(tmp_path, ARM)
