"""Recordings of others become episodes of a store; a format is a class, and an entry in `IMPORTERS`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepverse_ros import files
from deepverse_ros.data.importers.episode_folder import EpisodeFolder
from deepverse_ros.data.importers.importer import Importer
from deepverse_ros.data.store import Episode, EpisodeStore
from deepverse_ros.errors import EmbodimentError, EpisodeError, ResourceError
from deepverse_ros.robot.embodiment import Embodiment

IMPORTERS: tuple[Importer, ...] = (EpisodeFolder(),)
"""Asked in this order; the first that knows a path reads it."""


def detect(path: str | Path) -> Importer:
    """The importer of a file or folder.

    Raises: ResourceError where there is nothing; EpisodeError naming the formats that are known.
    """
    place = Path(path)
    if not place.exists():
        raise ResourceError(f"{place}: no such file or folder")
    for importer in IMPORTERS:
        if importer.detect(place):
            return importer
    known = "; ".join(f"{importer.name}: {importer.description}" for importer in IMPORTERS)
    raise EpisodeError(f"{place}: holds recordings of no format that is known. {known}")


def import_episodes(
    path: str | Path, embodiment: Embodiment, out: str | Path, progress: Callable[[int], None] | None = None
) -> EpisodeStore:
    """Read recordings into the store `out`, after the episodes that are there.

    What an import that fails has written is removed again, so that it can be repeated.

    Args:
        path: a file or folder of a format in `IMPORTERS`.
        embodiment: the robot that the recordings show.
        progress: called with how many episodes are imported, after each.
    Raises: as `detect`; EpisodeError where a recording is damaged, there is none, or `path` is `out`; EmbodimentError
    where one is not of this robot; BusyError where somebody else works in `out`; WriteError, such as on a full disk.
    """
    importer = detect(path)
    store = EpisodeStore(out)
    if Path(path).resolve() == store.directory.resolve():
        raise EpisodeError(f"{path}: cannot be imported into itself")
    written: list[Path] = []
    with files.locked(store.directory, "an import"):
        first = _next_index(store)
        try:
            for number, episode in enumerate(importer.episodes(Path(path), embodiment)):
                fitting = _fitting(episode, embodiment, f"{path}: episode {number}")
                written.append(store.write(first + number, fitting))
                if progress is not None:
                    progress(len(written))
            if not written:
                raise EpisodeError(f"{path}: has no episode ({importer.name}: {importer.description})")
        except BaseException:
            for file in written:
                file.unlink(missing_ok=True)
            raise
    return store


def _next_index(store: EpisodeStore) -> int:
    """Behind the last one; a number that was left out stays so."""
    return max((int(path.stem.removeprefix("episode_")) + 1 for path in store.paths()), default=0)


def _fitting(episode: Episode, embodiment: Embodiment, name: str) -> Episode:
    """The episode with all that training asks for. Raises: EmbodimentError or EpisodeError naming what is missing."""
    if episode.embodiment != embodiment.name:
        raise EmbodimentError(f"{name}: shows '{episode.embodiment}', not '{embodiment.name}'")
    if abs(episode.dt - embodiment.dt) > 1e-6:
        raise EmbodimentError(
            f"{name}: its frames are {episode.dt:g} s apart, those of '{embodiment.name}' {embodiment.dt:g} s"
        )
    if episode.actions.shape[1] != embodiment.action_dim:
        raise EmbodimentError(
            f"{name}: has {episode.actions.shape[1]} values an action, '{embodiment.name}' has {embodiment.action_dim}"
        )
    if not np.isfinite(episode.camera_to_world).all():
        raise EpisodeError(f"{name}: camera_to_world: holds a value that is not finite")
    episode = _with_tool(episode, embodiment)
    wanted = {m.name: m.dim for m in (*embodiment.modalities, *embodiment.measured)} | {"tool_position": 3}
    for state, dim in wanted.items():
        values = episode.state.get(state, np.empty((len(episode), 0)))
        if values.shape[1] != dim:
            raise EmbodimentError(
                f"{name}: state '{state}': has {values.shape[1] or 'no'} values, '{embodiment.name}' has {dim}"
            )
        if not np.isfinite(values).all():
            raise EpisodeError(f"{name}: state '{state}': holds a value that is not finite")
    return episode


def _with_tool(episode: Episode, embodiment: Embodiment) -> Episode:
    """With the tool's position from the robot's links, where it was not recorded and they are described."""
    body = embodiment.body
    if "tool_position" in episode.state or body is None or embodiment.tool_frame not in body.frames:
        return episode
    moving = {link.modality for link in body.links if link.modality is not None}
    if not moving <= episode.state.keys():
        return episode
    poses = body.forward_kinematics({name: episode.state[name] for name in moving})
    tool = poses[embodiment.tool_frame][..., :3, 3].astype(np.float32)
    return replace(episode, state={**episode.state, "tool_position": tool})
