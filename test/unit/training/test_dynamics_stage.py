"""What the dynamics' training leaves out, spoils and repeats, by its settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.batches.windows import EncodedEpisodes
from deepverse_ros.training.config import DynamicsStageConfig
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.stages.dynamics import DynamicsStage

ARM = Embodiment.load("arm")
COUNT, FRAMES, SIZE = 4, 16, 64
NOTHING_SPOILT = {
    "proprioception_dropout": 0.0, "pose_dropout": 0.0, "action_dropout": 0.0, "context_noise": 0.0, "rollout": 1,
}  # fmt: skip


def recorded(rng: np.random.Generator, count: int = COUNT) -> Episodes:
    """Episodes of random numbers; the camera stands elsewhere in each frame."""
    low, high = torch.tensor(ARM.lower), torch.tensor(ARM.upper)
    values = [low + (high - low) * torch.from_numpy(rng.random((count, FRAMES, 8), np.float32)) for _ in range(3)]
    motion = torch.from_numpy(rng.normal(0, 0.1, (count, FRAMES, 6)).astype(np.float32))
    return Episodes(
        ARM,
        np.zeros((count, FRAMES, SIZE, SIZE, 3), np.uint8),
        np.zeros((count, FRAMES, SIZE, SIZE), np.uint16),
        *values,
        torch.from_numpy(rng.normal(0, 0.3, (count, FRAMES, 3)).astype(np.float32)),
        torch.full((count, FRAMES), torch.nan),
        torch.tensor([[60.0, 0, 32], [0, 60.0, 32], [0, 0, 1]]).expand(count, 3, 3),
        geometry.pose_from_motion(motion),
        torch.zeros(count, 3),
    )


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return recorded(np.random.default_rng(0))


def stage(episodes: Episodes, **settings: object) -> DynamicsStage:
    torch.manual_seed(0)
    config = WorldModelConfig.small_test(ARM, SIZE)
    model = WorldModel(config)
    with torch.no_grad():
        for parameter in model.dynamics.parameters():  # fresh layers that begin at zero would hide what they are given
            parameter.add_(0.05 * torch.randn_like(parameter))
    latents = torch.randn(COUNT, FRAMES, config.tokens, config.token_dim).half()
    encoded = EncodedEpisodes(episodes, latents, config)
    given = DynamicsStageConfig.model_validate(
        {"steps": 2, "batch": 4, "learning_rate": 1e-3} | NOTHING_SPOILT | settings
    )
    return DynamicsStage(model, given, encoded, encoded, precision="float32")


def losses(made: DynamicsStage, step: int = 0) -> dict[str, Tensor]:
    return made.loss(step, Draw.of_step(0, step))


def of_first_pass(episodes: Episodes, **settings: object) -> float:
    return float(losses(stage(episodes, **settings))["one_step"])


@pytest.mark.parametrize(
    ("setting", "changed"), [("proprioception_dropout", "states"), ("pose_dropout", "camera_to_world")]
)
def test_what_is_left_out_is_not_learned_from(episodes: Episodes, setting: str, changed: str) -> None:
    others = replace(episodes, **{changed: getattr(recorded(np.random.default_rng(1)), changed)})
    assert of_first_pass(episodes, **{setting: 0.0}) != of_first_pass(others, **{setting: 0.0})
    assert of_first_pass(episodes, **{setting: 1.0}) == of_first_pass(others, **{setting: 1.0})


def test_an_action_without_one_of_its_modalities_is_learned_from(episodes: Episodes) -> None:
    without = of_first_pass(episodes, action_dropout=1.0)
    assert np.isfinite(without)
    assert without != of_first_pass(episodes)


def test_the_noise_of_the_context_is_as_strong_as_it_is_set(episodes: Episodes) -> None:
    apart = [abs(of_first_pass(episodes, context_noise=noise) - of_first_pass(episodes)) for noise in (0.01, 1.0)]
    assert 0 < apart[0] < apart[1]


def test_later_passes_follow_their_own_predictions(episodes: Episodes) -> None:
    once, twice = (losses(stage(episodes, rollout=passes)) for passes in (1, 2))
    assert once["rollout"] == once["one_step"] == twice["one_step"]
    assert twice["rollout"] != twice["one_step"]
    assert twice["total"] > once["total"]
