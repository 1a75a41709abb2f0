"""Which windows of episodes are scored: as many in which a thing moves as others, where there are enough of both."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from deepverse_ros.data.store import Episode
from deepverse_ros.evaluation.prediction.things import MOVED_LITTLE
from deepverse_ros.model.things.slots import MOST


@dataclass(frozen=True)
class Drawn:
    """The windows of some episodes.

    first: of each episode (B,) first frames.
    plans: of each episode (B, H, A), commanded.
    moving: share of all windows in which a thing moves; None where nobody knows where the things are.
    """

    first: list[np.ndarray]
    plans: list[np.ndarray]
    moving: float | None


def starts(frames: int, window: int, stride: int) -> np.ndarray:
    """(B,) first frames of the windows in an episode."""
    return np.arange(0, max(frames - window + 1, 0), stride)


def thing_poses(episode: Episode) -> np.ndarray | None:
    """(T, 8, 7): metres and a quaternion x y z w of the first 8 things, NaN beyond them; None where nobody knows."""
    if "object_poses" not in episode.state:
        return None
    values = episode.state["object_poses"]
    known = values.reshape(len(values), values.shape[1] // 7, 7)[:, :MOST]
    out = np.full((len(values), MOST, 7), np.nan, np.float32)
    out[:, : known.shape[1]] = known
    return out


def thing_positions(episode: Episode) -> np.ndarray | None:
    """(T, K, 3) metres in the base frame, of the first 8 things at most; None where nobody knows."""
    for name, width in (("object_poses", 7), ("object_positions", 3)):
        if name in episode.state:
            values = episode.state[name]
            return values.reshape(len(values), values.shape[1] // width, width)[:, :MOST, :3]
    return None


def drawn_windows(episodes: Iterable[Episode], context: int, horizon: int, stride: int, seed: int) -> Drawn:
    """Choose windows of episodes: those that begin every `stride` frames.

    Of episodes that tell what their pictures show, as many as that would be are drawn from those that begin at any
    frame, half of them with a thing that moves; fewer where there are too few of either kind. It stays with every
    `stride` frames where one kind is missing, or more than half of the windows would be one episode's.
    """
    first, plans, moves = [], [], []
    known = told = True
    for episode in episodes:
        begin = starts(len(episode), context + horizon, 1)
        things = thing_positions(episode)
        known, told = known and things is not None, told and episode.segmentation is not None
        first.append(begin)
        plans.append(episode.actions[begin[:, None] + context - 1 + np.arange(horizon)])
        moves.append(np.zeros(len(begin), bool) if things is None else _moves(things, begin + context - 1, horizon))
    count = [len(begin) for begin in first]
    if not sum(count):
        return Drawn(first, plans, None)
    moving, regular = np.concatenate(moves), np.concatenate(first) % stride == 0
    chosen = regular
    if known and told:
        chosen = _halved(moving, regular, np.repeat(np.arange(len(count)), count), seed)
    keep = np.split(chosen, np.cumsum(count)[:-1])
    return Drawn(
        [begin[k] for begin, k in zip(first, keep, strict=True)],
        [plan[k] for plan, k in zip(plans, keep, strict=True)],
        float(moving[chosen].mean()) if known else None,
    )


def _moves(things: np.ndarray, newest: np.ndarray, horizon: int) -> np.ndarray:
    """(B,) whether a thing of (T, K, 3) ends elsewhere than it was in the newest seen frames (B,)."""
    travel = np.linalg.norm(things[newest + horizon] - things[newest], axis=-1)
    return (travel >= MOVED_LITTLE).any(-1)


def _halved(moving: np.ndarray, regular: np.ndarray, of_episode: np.ndarray, seed: int) -> np.ndarray:
    """(N,) which windows are taken. Args: moving, regular (N,) bool; of_episode (N,)."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(moving), np.flatnonzero(~moving)]
    size = min(int(regular.sum()) // 2, *(len(group) for group in groups))
    chosen = np.zeros(len(moving), bool)
    for group in groups:
        chosen[rng.permutation(group)[:size]] = True
    largest = np.bincount(of_episode[chosen], minlength=1).max()
    return chosen if size and 2 * largest <= chosen.sum() else regular
