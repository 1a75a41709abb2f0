"""Episodes of a simulated robot, collected by several processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from deepverse_ros import files, processes
from deepverse_ros.data.store import Episode, EpisodeStore
from deepverse_ros.errors import EpisodeError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.base import REVISIT

_FREE = 1  # of a generator's seed: which episodes are free is drawn apart, so that the others stay as they are


def collect(
    embodiment: Embodiment,
    episodes: int,
    seed: int,
    out: str | Path,
    *,
    workers: int = 2,
    frames: int = 24,
    size: tuple[int, int] = (128, 128),
    revisit: bool = False,
    free: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> EpisodeStore:
    """Collect episodes 0..episodes-1 of `seed` into the directory `out`.

    Episode i depends only on (seed, i, frames, size, revisit, free): good files that are already there are kept, so an
    interrupted collection continues where it stopped, and more episodes can be added later.

    Args:
        workers: processes.
        frames: frames an episode.
        size: width and height in pixels.
        revisit: in every episode the robot goes away for longer than a model's window, to where it hides an object,
            and comes back; takes at least the robot's `revisit_frames`.
        free: share of the other episodes in which the robot begins anywhere in its working space and seeks no contact.
        progress: called with (episodes done, episodes in all) now and after every episode.
    Raises: EmbodimentError for a robot that has no simulation; ValueError for counts below 1 or too few frames;
    BusyError where another collection works in `out`; WorkerError where a process was killed; WriteError, such as on a
    full disk. What is collected by then stays.
    """
    robot = robots.of(embodiment)
    for name, value in (("episodes", episodes), ("workers", workers), ("frames", frames), ("size", min(size))):
        if value < 1:
            raise ValueError(f"{name}: must be at least 1, got {value}")
    if revisit and frames < robot.revisit_frames:
        raise ValueError(f"frames: revisits take at least {robot.revisit_frames}, got {frames}")
    store = EpisodeStore(out)
    with files.locked(store.directory, "a collection"):
        _collect(store, embodiment, episodes, seed, workers, frames, size, revisit, free, progress)
    return store


def _collect(
    store: EpisodeStore, embodiment: Embodiment, episodes: int, seed: int, workers: int, frames: int,
    size: tuple[int, int], revisit: bool, free: float, progress: Callable[[int, int], None] | None,
) -> None:  # fmt: skip
    store.clean()
    missing = [i for i in range(episodes) if not _is_done(store, seed, i, frames, size, revisit)]
    done = episodes - len(missing)
    if progress:
        progress(done, episodes)
    if not missing:
        return
    options = (embodiment, str(store.directory), seed, frames, size, revisit, free)
    try:
        with processes.workers(min(workers, len(missing)), _start_worker, *options) as pool:
            for _ in pool.imap_unordered(_work, missing):
                done += 1
                if progress:
                    progress(done, episodes)
    finally:
        store.clean()  # of what a worker was writing when it was ended


class EpisodeGenerator:
    """Simulates episodes one after the other with the same renderer."""

    def __init__(self, embodiment: Embodiment, size: tuple[int, int] = (128, 128)) -> None:
        self._embodiment = embodiment
        self._simulation = robots.of(embodiment).simulate(width=size[0], height=size[1])

    def record(self, seed: int, index: int, frames: int, revisit: bool = False, free: float = 0.0) -> Episode:
        """Episode `index` of `seed`: (frames) pictures and what was commanded and measured; see `collect`."""
        rng = np.random.default_rng([seed, index])
        begins_anywhere = not revisit and bool(np.random.default_rng([seed, index, _FREE]).random() < free)
        simulation = self._simulation
        script = simulation.begin_episode(scene_seed(seed, index), rng, frames, revisit, begins_anywhere)
        pictures, depths, segmentations, states = [], [], [], []
        for t in range(frames):
            rgb, depth, segmentation = simulation.render_segmented()
            segmentations.append(segmentation)
            pictures.append(rgb)
            depths.append(np.clip(np.rint(depth * 1000), 0, 65535).astype(np.uint16))
            states.append(simulation.state())
            if t + 1 < frames:
                simulation.step(script.actions[t])
        return Episode(
            embodiment=self._embodiment.name,
            dt=self._embodiment.dt,
            seed=scene_seed(seed, index),
            kind=script.kind,
            rgb=np.stack(pictures),
            depth=np.stack(depths),
            actions=script.actions,
            state={name: np.stack([s[name] for s in states]) for name in states[0]},
            intrinsics=simulation.intrinsics.astype(np.float32),
            camera_to_world=np.repeat(simulation.camera_to_world[None].astype(np.float32), frames, axis=0),
            units={m.name: f"{m.units}, measured" for m in self._embodiment.measured},
            segmentation=np.stack(segmentations),
        )

    def close(self) -> None:
        """Free the renderer."""
        self._simulation.close()


def scene_seed(seed: int, index: int) -> int:
    """The seed of the scene of episode `index`, which the episode's file carries."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _is_done(store: EpisodeStore, seed: int, index: int, frames: int, size: tuple[int, int], revisit: bool) -> bool:
    """Whether the file of this episode is there, undamaged and of this very collection."""
    if not store.path(index).exists():
        return False
    try:
        episode = store.read(index)
    except EpisodeError:
        return False
    same_kind = (episode.kind == REVISIT) == revisit
    return same_kind and episode.seed == scene_seed(seed, index) and episode.rgb.shape == (frames, *size[::-1], 3)


class _Worker:
    """What a worker process keeps from one episode to the next."""

    current: ClassVar["_Worker"]

    def __init__(
        self, embodiment: Embodiment, out: str, seed: int, frames: int, size: tuple[int, int], revisit: bool,
        free: float,
    ) -> None:  # fmt: skip
        self._generator = EpisodeGenerator(embodiment, size)
        self._store = EpisodeStore(out)
        self._seed = seed
        self._frames = frames
        self._revisit = revisit
        self._free = free

    def record(self, index: int) -> None:
        self._store.write(index, self._generator.record(self._seed, index, self._frames, self._revisit, self._free))


def _start_worker(*options: Any) -> None:
    _Worker.current = _Worker(*options)


def _work(index: int) -> None:
    _Worker.current.record(index)
