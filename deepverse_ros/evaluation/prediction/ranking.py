"""Whether coarse scores order plans as the fine level's costs do.

The planner's first round of plans in each scene, a true later frame of the scene as the goal, and the rank correlation
of two ways of scoring them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.data.store import Episode
from deepverse_ros.errors import EpisodeError
from deepverse_ros.evaluation.prediction.evaluate import windows_of
from deepverse_ros.evaluation.prediction.uncertainty import spearman
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.objectives.base import Objective
from deepverse_ros.planning.objectives.goal_image import GoalImage
from deepverse_ros.planning.search.icem import Icem, IcemConfig

Score = Callable[[Belief, np.ndarray, Objective], Tensor]
"""(belief, plans (N, H, A), objective) -> (N,) scores, lower is better."""

DEFINITIONS = {
    "rank_correlation": "Spearman rank correlation of coarse scores and fine costs (GoalImage) of each scene's plans; "
    "the goal is the true frame at the end of a window, the plans are drawn like the planner's first round; null where "
    "either is constant",
}


def fine_cost(model: WorldModel) -> Score:
    """The objective of the futures that the fine level imagines."""

    def score(belief: Belief, plans: np.ndarray, objective: Objective) -> Tensor:
        return objective(model.imagine(belief, plans), torch.from_numpy(plans))

    return score


def rank_correlation(
    model: WorldModel,
    episodes: Iterable[Episode],
    coarse: Score,
    fine: Score | None = None,
    plans: int = 256,
    seed: int = 0,
) -> dict[str, Any]:
    """Score `plans` plans in one window of every episode both ways.

    Args: coarse, fine: how plans are scored; fine is `fine_cost(model)` if not given. seed: of windows and plans.
    Returns: {"median", "mean", "min", "per_scene", "n_scenes", "n_plans"}; the first three None where no scene has a
    correlation. Raises: EpisodeError if no episode is long enough.
    """
    fine = fine or fine_cost(model)
    config = model.config
    sampler = Icem(model.embodiment, IcemConfig(samples=plans, horizon=config.horizon))
    rng = np.random.default_rng(seed)
    found: list[float | None] = []
    for number, episode in enumerate(episodes):
        windows = windows_of(model, episode, stride=1)
        if windows is None:
            continue
        start = int(rng.integers(len(windows)))
        one = windows.only(start)
        belief = model.observe(one.seen, one.past)
        last = start + config.context + config.horizon - 1
        depth = np.where(episode.depth[last] > 0, episode.depth[last] / np.float32(1000), np.float32(np.nan))
        objective = GoalImage(
            model.encode_goal(episode.rgb[last], depth, episode.intrinsics, episode.camera_to_world[last])
        )
        now = start + config.context - 1
        sampler.reset(np.concatenate([episode.state[m.name][now] for m in model.embodiment.modalities]), seed + number)
        candidates = sampler.ask()
        scores = (score(belief, candidates, objective).detach().float().cpu().numpy() for score in (coarse, fine))
        found.append(spearman(*scores))
    if not found:
        raise EpisodeError(f"nothing to rank: no episode has {config.context + config.horizon} frames")
    known = np.array([value for value in found if value is not None])
    return {
        "median": float(np.median(known)) if len(known) else None,
        "mean": float(known.mean()) if len(known) else None,
        "min": float(known.min()) if len(known) else None,
        "per_scene": found,
        "n_scenes": len(found),
        "n_plans": plans,
    }
