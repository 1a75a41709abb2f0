"""What the heads of the coarse level learn from: episodes that each drew for itself, with replacement."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_dynamics_stage import recorded
from torch import Tensor

from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.batches.windows import EncodedEpisodes
from deepverse_ros.training.config import CoarseStageConfig
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.stages.coarse import CoarseStage

EPISODES, WINDOWS, SEED = 12, 3, 4


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return recorded(np.random.default_rng(0), EPISODES)


@pytest.fixture(scope="module")
def stage(episodes: Episodes) -> CoarseStage:
    torch.manual_seed(0)
    config = WorldModelConfig.small_test(Embodiment.load("arm"), 64)
    latents = torch.randn(EPISODES, episodes.tool.shape[1], config.tokens, config.token_dim).half()
    encoded = EncodedEpisodes(episodes, latents, config)
    settings = CoarseStageConfig(steps=2, batch=4, learning_rate=1e-3, windows=WINDOWS)
    return CoarseStage(WorldModel(config), settings, encoded, encoded, SEED, "fp32")


@pytest.fixture(scope="module")
def counts(stage: CoarseStage) -> Tensor:
    """(heads, M) how often each head has drawn each lesson."""
    bootstrap = stage.train.bootstrap
    return torch.stack([torch.bincount(rows, minlength=len(stage.train.now)) for rows in bootstrap])


def episode_of(stage: CoarseStage, episodes: Episodes) -> Tensor:
    """(M,) the episode of each lesson, by the tool's true way, which the other plan of the same moment has not."""
    lessons, steps = stage.train, stage.train.tool.shape[1]
    ways = episodes.tool.unfold(1, steps, 1).transpose(2, 3)  # (episodes, starts, steps, 3)
    own = (lessons.tool[:, None, None] == ways).all(-1).all(-1).any(-1)  # (M, episodes)
    moment = (lessons.now[:, None] == lessons.now[None]).all(-1)  # (M, M)
    known = (moment.float() @ own.float()) > 0
    assert (known.sum(1) == 1).all()
    assert own.any(1).sum() == len(lessons.now) // 2
    return known.float().argmax(1)


def test_each_head_draws_whole_episodes_with_replacement(stage, episodes, counts):
    episode = episode_of(stage, episodes)
    lessons = 2 * WINDOWS  # the executed plan and another one of each window
    times = torch.stack([counts[:, episode == k] for k in range(EPISODES)], 1)
    assert times.shape == (stage.module.heads, EPISODES, lessons)
    assert (times == times[..., :1]).all()
    of_episode = times[..., 0]
    assert (of_episode.sum(1) == EPISODES).all()
    assert (of_episode == 0).any(1).all()
    assert (of_episode > 1).any(1).all()
    assert len({tuple(row.tolist()) for row in of_episode}) == stage.module.heads


def test_a_head_learns_nothing_from_what_it_has_not_drawn(stage, counts, monkeypatch):
    def gradients() -> list[Tensor]:
        stage.module.zero_grad()
        for step in range(5):
            stage.loss(step, Draw.of_step(0, step))["total"].backward()
        return [weight.grad.clone() for weight in stage.module.weights]

    before, lessons = gradients(), stage.train
    strange = counts[0] == 0
    ahead = lessons.ahead.clone()
    ahead[strange] += 5.0
    monkeypatch.setattr(stage, "train", replace(lessons, ahead=ahead))
    after = gradients()
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(old[0], new[0])
    assert any(not torch.allclose(old[1:], new[1:]) for old, new in zip(before, after, strict=True))
