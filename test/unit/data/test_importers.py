"""Recordings of a format become episodes of a store, or what is wrong with them is named and nothing stays."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pytest
from episodes_made import make_episode

from deepverse_ros.data.importers import registry
from deepverse_ros.data.importers.importer import Importer
from deepverse_ros.data.importers.registry import detect, import_episodes
from deepverse_ros.data.store import Episode, EpisodeStore
from deepverse_ros.errors import BusyError, EmbodimentError, EpisodeError, ResourceError
from deepverse_ros.files import locked
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.training.batches.dataset import Episodes

ARM = Embodiment.load("arm")
HOME = np.asarray(ARM.home, np.float32)


class NpzRecordings(Importer):
    """A folder of recordings, an .npz file each. As docs/guides/add_importer.md has it."""

    name = "npz"
    description = "a folder of .npz files with rgb, depth_m, joints, commands, intrinsics and camera_to_base"

    def detect(self, path: Path) -> bool:
        return path.is_dir() and any(path.glob("*.npz"))

    def episodes(self, path: Path, embodiment: Embodiment) -> Iterator[Episode]:
        for number, file in enumerate(sorted(path.glob("*.npz"))):
            try:
                with np.load(file) as arrays:
                    yield self._episode(arrays, number, embodiment)
            except (OSError, KeyError, ValueError, BadZipFile) as error:
                raise EpisodeError(f"{file}: {error}") from error

    def _episode(self, arrays: np.lib.npyio.NpzFile, number: int, embodiment: Embodiment) -> Episode:
        frames = len(arrays["rgb"])
        depth = np.nan_to_num(arrays["depth_m"], posinf=0.0)
        return Episode(
            embodiment=embodiment.name,
            dt=embodiment.dt,
            seed=number,
            kind="npz",
            rgb=arrays["rgb"],
            depth=np.clip(np.rint(1000 * depth), 0, 65535).astype(np.uint16),
            actions=arrays["commands"].astype(np.float32),
            state=embodiment.measured_values(arrays["joints"].astype(np.float32)),
            intrinsics=arrays["intrinsics"].astype(np.float32),
            camera_to_world=np.tile(arrays["camera_to_base"].astype(np.float32), (frames, 1, 1)),
        )


@pytest.fixture
def npz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "IMPORTERS", (*registry.IMPORTERS, NpzRecordings()))


def record(folder: Path, name: str, frames: int = 5, **changes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(frames)
    depth = rng.uniform(1, 3, (frames, 16, 24))
    depth[:, 0] = np.nan
    values = {
        "rgb": rng.integers(0, 256, (frames, 16, 24, 3), dtype=np.uint8),
        "depth_m": depth,
        "joints": HOME + rng.normal(0, 0.01, (frames, 8)),
        "commands": HOME + rng.normal(0, 0.01, (frames, 8)),
        "intrinsics": np.array([[20.0, 0, 12], [0, 20, 8], [0, 0, 1]]),
        "camera_to_base": np.eye(4),
    } | changes
    folder.mkdir(exist_ok=True)
    np.savez(folder / name, **values)
    return values


@pytest.mark.usefixtures("npz")
def test_an_own_format_is_a_class_and_an_entry(tmp_path: Path) -> None:
    recorded = [record(tmp_path / "lab", f"{n}.npz", frames) for n, frames in ((1, 5), (2, 7))]
    assert detect(tmp_path / "lab").name == "npz"
    done: list[int] = []
    store = import_episodes(tmp_path / "lab", ARM, tmp_path / "store", done.append)
    assert done == [1, 2]
    episodes = list(EpisodeStore(tmp_path / "store"))
    assert [len(episode) for episode in episodes] == [5, 7]
    for episode, values in zip(episodes, recorded, strict=True):
        np.testing.assert_array_equal(episode.rgb, values["rgb"])
        assert np.allclose(episode.depth[:, 1:] / 1000, values["depth_m"][:, 1:], atol=6e-4)
        assert (episode.depth[:, 0] == 0).all()
        assert np.allclose(episode.actions, values["commands"])
        assert np.allclose(episode.state["joint_positions"], values["joints"][:, :7])
        assert np.allclose(episode.state["gripper_state"], values["joints"][:, 7:])
    # Where the tool was is what kinematics says, and training takes the store as it is.
    tool = ArmKinematics(ARM).tool_position(recorded[0]["joints"][0])
    assert np.allclose(episodes[0].state["tool_position"][0], tool, atol=1e-5)
    loaded = Episodes.load(store, ARM, (16, 24), 5)
    assert (len(loaded), loaded.skipped) == (2, 0)


@pytest.mark.usefixtures("npz")
def test_what_is_there_stays_and_an_import_that_fails_leaves_nothing(tmp_path: Path) -> None:
    record(tmp_path / "lab", "1.npz")
    store = import_episodes(tmp_path / "lab", ARM, tmp_path / "store")
    before = store.read(0)
    (tmp_path / "lab" / "2.npz").write_bytes(b"no archive")
    with pytest.raises(EpisodeError, match=r"lab/2\.npz: "):
        import_episodes(tmp_path / "lab", ARM, tmp_path / "store")
    assert [path.name for path in store.paths()] == ["episode_000000.h5"]
    record(tmp_path / "lab", "2.npz", 6)
    import_episodes(tmp_path / "lab", ARM, tmp_path / "store")
    assert [len(episode) for episode in store] == [5, 5, 6]
    np.testing.assert_array_equal(store.read(0).rgb, before.rgb)
    with locked(store.directory, "a collection"), pytest.raises(BusyError):
        import_episodes(tmp_path / "lab", ARM, tmp_path / "store")


@pytest.mark.usefixtures("npz")
@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"commands": np.zeros((5, 7))}, EmbodimentError, "episode 0: has 7 values an action, 'arm' has 8"),
        ({"joints": np.full((5, 8), np.nan)}, EpisodeError, "state '.*': holds a value that is not finite"),
        ({"camera_to_base": np.full((4, 4), np.nan)}, EpisodeError, "camera_to_world: .* not finite"),
        ({"rgb": np.zeros((5, 16, 24))}, EpisodeError, r"1\.npz: rgb: expected \(T, H, W, 3\)"),
    ],
)
def test_a_recording_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, np.ndarray], error: type[Exception], said: str
) -> None:
    record(tmp_path / "lab", "1.npz", **changes)
    with pytest.raises(error, match=said):
        import_episodes(tmp_path / "lab", ARM, tmp_path / "store")
    assert not EpisodeStore(tmp_path / "store").paths()


def whole(seed: int) -> Episode:
    episode = make_episode(seed)
    opening = {"gripper_state": np.ones((len(episode), 1), np.float32)}
    return replace(episode, state=episode.state | opening)


def test_stores_of_several_machines_become_one(tmp_path: Path) -> None:
    for machine in ("a", "b"):
        store = EpisodeStore(tmp_path / machine)
        for index in range(2):
            store.write(3 * index, whole(ord(machine) + index))
        import_episodes(tmp_path / machine, ARM, tmp_path / "all")
    assert [episode.seed for episode in EpisodeStore(tmp_path / "all")] == [97, 98, 98, 99]


def test_episodes_of_another_robot_rate_or_measure_are_refused(tmp_path: Path) -> None:
    slow, other = replace(whole(0), dt=0.5), replace(whole(0), embodiment="drone")
    for number, (episode, said) in enumerate(
        ((slow, "0.5 s apart"), (other, "shows 'drone'"), (make_episode(0), "state 'gripper_state': has no values"))
    ):
        EpisodeStore(tmp_path / str(number)).write(0, episode)
        with pytest.raises(EmbodimentError, match=said):
            import_episodes(tmp_path / str(number), ARM, tmp_path / "out")


def test_what_cannot_be_imported_is_named_with_what_can(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="nowhere: no such file"):
        detect(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(EpisodeError, match=r"no format that is known\. episodes: the folder of an episode store"):
            import_episodes(path, ARM, tmp_path / "out")
    EpisodeStore(tmp_path / "own").write(0, whole(0))
    with pytest.raises(EpisodeError, match="into itself"):
        import_episodes(tmp_path / "own", ARM, tmp_path / "own")
