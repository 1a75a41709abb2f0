"""Does memory help where the arm comes back: the same returns, imagined with memory and without.

In a revisit the arm shows one place, stands before it for longer than the model's window, and goes away again. What it
uncovers then was last seen before the window.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from deepverse_ros.data.collect import collect
from deepverse_ros.data.store import Episode, EpisodeStore
from deepverse_ros.errors import EpisodeError
from deepverse_ros.evaluation.prediction.evaluate import EVALUATION_SEEDS
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.simulation import robots

DEFINITIONS = {
    "mse": "of the last imagined frame, colours in [0, 1]; median over episodes",
    "uncovered": "pixels of the last frame that differ by more than 0.1 in a colour from every observed frame of the "
    "window and by less than that from a frame before it",
    "gain_db": "how much lower the median error is with memory, in dB; above 0 memory helps",
    "better": "share of episodes in which the uncovered pixels are better with memory",
}
_CHANGED = 0.1
_BACK_M = 0.05


def collect_revisits(model: WorldModel, out: Path, count: int, seed: int) -> EpisodeStore:
    """Simulate `count` revisits; the same seed gives the same ones. Raises: as `collect`."""
    size = (model.config.width, model.config.height)
    frames = robots.of(model.embodiment).revisit_frames
    return collect(
        model.embodiment, count, EVALUATION_SEEDS + seed, out, workers=os.cpu_count() or 1, frames=frames, size=size,
        revisit=True,
    )  # fmt: skip


def newest_before_return(episode: Episode, horizon: int) -> int | None:
    """The frame from which the arm is back after `horizon` steps and not before; None where there is none."""
    tool = episode.state["tool_position"]
    away = np.linalg.norm(tool - tool[0], axis=-1) > _BACK_M
    if not away.any():
        return None
    back = int(np.flatnonzero(away)[-1]) + 1
    newest = back - horizon
    return newest if back < len(tool) and newest >= 0 and away[newest] else None


def evaluate_revisits(
    model: WorldModel, episodes: Iterable[Episode], progress: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Errors of the frame of each return, with memory and without, over all pixels and over the uncovered ones.

    Raises: EpisodeError if no episode shows a return that uncovers something.
    """
    horizon = model.config.horizon
    errors: dict[str, list[list[float]]] = {"all": [], "uncovered": []}
    for episode in episodes:
        newest = newest_before_return(episode, horizon)
        if newest is not None and newest >= model.config.context:
            truth = _frames(episode, [newest + horizon]).rgb[0, 0]
            hidden = _uncovered(model, episode, newest, truth)
            pictures = [_imagined(model, episode, newest, memory) for memory in (True, False)]
            gaps = [(picture - truth).square().mean(0) for picture in pictures]
            errors["all"].append([float(gap.mean()) for gap in gaps])
            if hidden.any():
                errors["uncovered"].append([float(gap[hidden].mean()) for gap in gaps])
        progress()
    if not errors["uncovered"]:
        raise EpisodeError("no episode shows a return that uncovers something; collect them with revisit=True")
    result: dict[str, Any] = {"episodes": len(errors["all"]), "definitions": DEFINITIONS}
    for region, pairs in errors.items():
        remembered, forgotten = np.median(np.array(pairs), axis=0)
        result[region] = {
            "mse_with_memory": float(remembered),
            "mse_without": float(forgotten),
            "gain_db": float(10 * np.log10(forgotten / remembered)),
        }
    result["uncovered"]["better"] = float(
        np.mean([remembered < forgotten for remembered, forgotten in errors["uncovered"]])
    )
    return result


def _imagined(model: WorldModel, episode: Episode, newest: int, with_memory: bool) -> Tensor:
    """(3, H, W) the last imagined frame of the return that begins at `newest`."""
    context, horizon = model.config.context, model.config.horizon
    memory = model.new_memory() if with_memory else None
    first = context - 1 if with_memory else newest
    for last in range(first, newest + 1):
        frames = list(range(last - context + 1, last + 1))
        joints = np.concatenate([episode.state[m.name] for m in model.embodiment.modalities], -1)[frames[1:]]
        belief = model.observe(_frames(episode, frames), joints[None].astype(np.float32))
        if memory is not None:
            model.remember(memory, belief, last * episode.dt)
    plan = episode.actions[None, newest : newest + horizon]
    return model.imagine(belief, plan, memory).rgb[0, -1].float().cpu()


def _frames(episode: Episode, frames: list[int]) -> Observation:
    depth = episode.depth[frames].astype(np.float32) / 1000
    known = np.where(depth > 0, depth, np.nan)
    return Observation.from_numpy(episode.rgb[frames], known, episode.intrinsics, episode.camera_to_world[0])


def _uncovered(model: WorldModel, episode: Episode, newest: int, truth: Tensor) -> Tensor:
    """(H, W) what only frames from before the window show as it is in the end."""
    before = newest - model.config.context + 1
    differs = (_frames(episode, list(range(newest + 1))).rgb[0] - truth).abs().amax(1) > _CHANGED
    return differs[before:].all(0) & ~differs[:before].all(0)
