"""What a robot does to things, thousands of times: episodes of a simulated robot with hardly any pictures.

Where everything is follows from the physics alone; a camera is asked only at the frames from which things are imagined,
for what a reader of pictures would find there. Half of the episodes are what the robot's episodes are, the others plans
of the length that is imagined, which go right through a thing or get past it: things go farther by them, and more of
them fall or tip over.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import torch

from deepverse_ros import files, geometry, processes
from deepverse_ros.data import sealed_hdf5
from deepverse_ros.data.collect import scene_seed
from deepverse_ros.errors import EpisodeError
from deepverse_ros.model.things.ground import COLUMNS, ROWS, HeightMap, map_heights
from deepverse_ros.model.things.slots import MOST, SURFACE
from deepverse_ros.model.things.surface import surface_of
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation import robots

STEPS = 8
"""Frames that are left at least after one that is looked at."""
_FIRST, _EVERY = 3, 5
_LEAVE = 0.25  # of the plans that get past a thing instead
_EPISODES = 100  # of a file
_SIZE = 128
_FORMAT, _VERSION = "deepverse_ros/practice", 2
_TYPES = {
    "commanded": "float32", "measured": "float32", "poses": "float32", "touched": "uint8", "surface": "float16",
    "pixels": "uint16", "ground": "float16",
}  # fmt: skip


@dataclass(frozen=True)
class Practice:
    """E episodes of T frames, of which S are looked at: those of `looks(T)`. Metres, in the robot's true base frame.

    commanded (E, T, A) and measured (E, T, K) float32: as in `Episode`, the latter as the robot measures itself; poses
    (E, T, 8, 7) float32: x y z of a thing's middle, then the quaternion x y z w, NaN where there is none; touched
    (E, T, 8) uint8: 1 where the robot touched it since the frame before; surface (E, S, 8, 32, 3) float16, see
    `surface_of`; pixels (E, S, 8) uint16 that show a thing; ground (E, S, ROWS, COLUMNS) float16, see `HeightMap`: as
    it was seen by then, filled.
    """

    commanded: np.ndarray
    measured: np.ndarray
    poses: np.ndarray
    touched: np.ndarray
    surface: np.ndarray
    pixels: np.ndarray
    ground: np.ndarray

    def __len__(self) -> int:
        return len(self.poses)

    def split(self, validation: int) -> tuple["Practice", "Practice"]:
        """To train on, and the last `validation` episodes. Raises: EpisodeError where none is left to train on."""
        if validation >= len(self):
            raise EpisodeError(
                f"practice.validation: {validation} episodes are to be held out, and there are {len(self)}: none is "
                "left to train on"
            )
        cut = len(self) - validation
        parts = (
            Practice(**{name: getattr(self, name)[some] for name in _TYPES})
            for some in (slice(None, cut), slice(cut, None))
        )
        return next(parts), next(parts)


def looks(frames: int) -> range:
    """The frames of an episode that are looked at; a camera has seen the ground in its first frame too."""
    return range(_FIRST, frames - STEPS, _EVERY)


def practise(
    embodiment: Embodiment,
    episodes: int,
    seed: int,
    out: str | Path,
    workers: int = 2,
    frames: int = 24,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Let a robot practise for episodes 0..episodes-1 of `seed`, in the directory `out`. Returns: the files.

    An episode depends only on (seed, its number, frames): good files that are already there are kept, so that what was
    interrupted continues where it stopped.

    Args: progress: called with (episodes done, episodes in all) now and after every file.
    Raises: EmbodimentError for a robot that has no simulation; ValueError for counts below 1 or too few frames;
    BusyError where another practice works in `out`; WorkerError where a process was killed; WriteError, such as on a
    full disk. What is written by then stays.
    """
    robots.of(embodiment)
    for name, value in (("episodes", episodes), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name}: must be at least 1, got {value}")
    if not looks(frames):
        raise ValueError(f"frames: must be at least {_FIRST + STEPS + 1}, got {frames}")
    directory = Path(out)
    counts = [min(_EPISODES, episodes - first) for first in range(0, episodes, _EPISODES)]
    paths = [directory / f"practice_{i:06d}.h5" for i in range(len(counts))]
    with files.locked(directory, "a practice"):
        missing = [i for i, n in enumerate(counts) if not _is_done(paths[i], embodiment, seed, i, n, frames)]
        done = episodes - sum(counts[i] for i in missing)
        if progress:
            progress(done, episodes)
        if missing:
            work = [(str(paths[i]), i * _EPISODES, counts[i]) for i in missing]
            try:
                with processes.workers(min(workers, len(work)), _start_worker, embodiment, seed, frames) as pool:
                    for count in pool.imap_unordered(_work, work):
                        done += count
                        if progress:
                            progress(done, episodes)
            finally:
                for left in directory.glob(".practice_*.tmp"):  # what a worker was writing when it was ended
                    left.unlink(missing_ok=True)
    return paths


def read(directory: str | Path, embodiment: Embodiment) -> Practice:
    """All that was practised in a directory.

    Raises: EpisodeError naming a file that is damaged or of another robot, or where there is none.
    """
    paths = sorted(Path(directory).glob("practice_*.h5"))
    if not paths:
        raise EpisodeError(f"{directory}: nothing was practised there")
    parts = []
    for path in paths:
        try:
            parts.append(_read(path, embodiment)[1])
        except (EpisodeError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise EpisodeError(f"{path}: {error}") from error
    shapes = {tuple(getattr(part, name).shape[1:] for name in _TYPES) for part in parts}
    if len(shapes) > 1:
        raise EpisodeError(f"{directory}: episodes of different lengths: {sorted(s[0][0] for s in shapes)} frames")
    return Practice(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _TYPES})


class Practising:
    """Simulates episodes one after the other with the same renderer."""

    def __init__(self, embodiment: Embodiment) -> None:
        self._embodiment = embodiment
        self._simulation = robots.of(embodiment).simulate(width=_SIZE, height=_SIZE)

    def record(self, seed: int, index: int, frames: int) -> Practice:
        """Episode `index` of `seed`, E = 1."""
        simulation = self._simulation
        commanded = self._begin(seed, index, frames)
        poses = np.full((frames, MOST, 7), np.nan, np.float32)
        touched = np.zeros((frames, MOST), np.uint8)
        measured, surfaces, pixels, grounds = [], [], [], []
        ground = np.full((ROWS, COLUMNS), np.nan, np.float32)
        for t in range(frames):
            state, found = simulation.state(), simulation.object_poses
            measured.append(np.concatenate([state[m.name] for m in self._embodiment.measured]))
            poses[t, : len(found)] = found
            poses[t, :, :3] -= simulation.base_position
            if t:
                touched[t, : len(found)] = simulation.touched
            if t == 0 or t in looks(frames):
                surface, shown, seen = self._look(poses[t, :, :3])
                ground = np.fmax(ground, seen)
            if t in looks(frames):
                surfaces.append(surface)
                pixels.append(shown)
                grounds.append(HeightMap(torch.from_numpy(ground)[None]).filled().heights[0].numpy())
            if t + 1 < frames:
                simulation.step(commanded[t])
        arrays = (commanded, np.stack(measured), poses, touched, *map(np.stack, (surfaces, pixels, grounds)))
        named = zip(_TYPES.items(), arrays, strict=True)
        return Practice(**{name: array.astype(dtype)[None] for (name, dtype), array in named})

    def _begin(self, seed: int, index: int, frames: int) -> np.ndarray:
        """Put robot and things where an episode begins. Returns: (frames, A) what the robot is then commanded."""
        simulation, scene, rng = self._simulation, scene_seed(seed, index), np.random.default_rng([seed, index])
        pair = simulation.begin_pair(scene, rng, STEPS) if index % 2 else None
        if pair is None:
            return simulation.begin_episode(scene, rng, frames, False).actions
        # The plan begins at the first frame that is looked at, and the robot stays where it ends.
        plan = pair.leaves if rng.random() < _LEAVE else pair.moves
        before = len(pair.approach) - _FIRST
        for action in pair.approach[:before]:
            simulation.step(action)
        commanded = np.concatenate([pair.approach[before:], plan])[:frames]
        return np.pad(commanded, ((0, frames - len(commanded)), (0, 0)), mode="edge")

    def _look(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the camera sees now. Returns: surface (8, 32, 3), pixels (8,), ground (ROWS, COLUMNS)."""
        simulation = self._simulation
        _, depth, segmentation = simulation.render_segmented()
        camera = geometry.Intrinsics.from_matrix(simulation.intrinsics, _SIZE, _SIZE)
        pose = torch.from_numpy(simulation.camera_to_world).float()
        points = geometry.unproject(torch.from_numpy(depth), camera, pose)[None]
        points = points - torch.from_numpy(simulation.base_position).float()
        labels = np.where(segmentation > 1, segmentation - 1, 0).astype(np.uint8)
        middles = torch.from_numpy(np.nan_to_num(positions))[None]
        surface = surface_of(points, torch.from_numpy(labels)[None], middles)[0].numpy()
        ground = map_heights(points, torch.from_numpy(segmentation == 0)[None]).heights[0].numpy()
        return surface, np.bincount(labels.ravel(), minlength=MOST + 1)[1 : MOST + 1], ground

    def close(self) -> None:
        """Free the renderer."""
        self._simulation.close()


def _header(embodiment: Embodiment, seed: int, first: int, frames: int) -> str:
    """What a file is of. A robot that was described otherwise practises otherwise."""
    robot = f"{embodiment.name} {zlib.crc32(embodiment.model_dump_json().encode()):08x}"
    return f"{_FORMAT} {_VERSION}: {robot}, seed {seed}, from {first}, {frames} frames"


def _is_done(path: Path, embodiment: Embodiment, seed: int, index: int, count: int, frames: int) -> bool:
    """Whether this file is there, undamaged and of this very practice."""
    if not path.exists():
        return False
    try:
        header, practice = _read(path, embodiment)
    except (EpisodeError, OSError, KeyError, ValueError, RuntimeError):
        return False
    return header == _header(embodiment, seed, index * _EPISODES, frames) and len(practice) == count


def _read(path: Path, embodiment: Embodiment) -> tuple[str, Practice]:
    with sealed_hdf5.opened(path) as file:
        header = sealed_hdf5.header(file, "practice")
        if not header.startswith(_header(embodiment, 0, 0, 0).split(",")[0] + ","):
            raise EpisodeError(f"expected what {embodiment.name} practised, got {files.shown(header)}")
        reader = sealed_hdf5.Reader(file)
        arrays = {name: reader.array(name, dtype) for name, dtype in _TYPES.items()}
    episodes, frames = arrays["poses"].shape[:2]
    seen = (episodes, len(looks(frames)))
    shapes = {
        "commanded": (episodes, frames, embodiment.action_dim),
        "measured": (episodes, frames, embodiment.state_dim),
        "poses": (episodes, frames, MOST, 7),
        "touched": (episodes, frames, MOST),
        "surface": (*seen, MOST, SURFACE, 3),
        "pixels": (*seen, MOST),
        "ground": (*seen, ROWS, COLUMNS),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise EpisodeError(f"{name}: expected {shape}, got {arrays[name].shape}")
    return header, Practice(**arrays)


class _Worker:
    """What a worker process keeps from one file to the next."""

    current: ClassVar["_Worker"]

    def __init__(self, embodiment: Embodiment, seed: int, frames: int) -> None:
        torch.set_num_threads(1)  # the workers share the cores
        self._embodiment, self._seed, self._frames = embodiment, seed, frames
        self._practising = Practising(embodiment)

    def write(self, path: Path, first: int, count: int) -> None:
        episodes = [self._practising.record(self._seed, first + i, self._frames) for i in range(count)]

        def fill(file: h5py.File) -> None:
            file.attrs["practice"] = _header(self._embodiment, self._seed, first, self._frames)
            for field in fields(Practice):
                array = np.concatenate([getattr(episode, field.name) for episode in episodes])
                file.create_dataset(field.name, data=array, compression="lzf", shuffle=True)

        sealed_hdf5.write(path, fill)


def _start_worker(embodiment: Embodiment, seed: int, frames: int) -> None:
    _Worker.current = _Worker(embodiment, seed, frames)


def _work(item: tuple[str, int, int]) -> int:
    path, first, count = item
    _Worker.current.write(Path(path), first, count)
    return count
