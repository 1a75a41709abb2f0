"""Returns of the simulated arm, imagined with memory and without."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deepverse_ros.data.store import Episode
from deepverse_ros.errors import EpisodeError
from deepverse_ros.evaluation.prediction.revisit import collect_revisits, evaluate_revisits, newest_before_return
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(Embodiment.load("arm"), size=128))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.prepare(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def returns(model: WorldModel, tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    return list(collect_revisits(model, tmp_path_factory.mktemp("revisits"), 3, seed=0))


def test_the_window_ends_before_the_arm_comes_back(returns: list[Episode]) -> None:
    for episode in returns:
        newest = newest_before_return(episode, 8)
        assert newest is not None
        tool = episode.state["tool_position"]
        apart = np.linalg.norm(tool - tool[0], axis=-1)
        assert apart[newest - 3 : newest + 1].min() > 0.05
        assert apart[newest + 8] < 0.05


def test_memory_changes_the_figures_and_a_perfect_memory_would_win(model: WorldModel, returns: list[Episode]) -> None:
    figures = evaluate_revisits(model, returns)
    assert figures["episodes"] == 3
    for region in ("all", "uncovered"):
        assert figures[region]["mse_with_memory"] != figures[region]["mse_without"]
        assert np.isfinite(figures[region]["gain_db"])
    assert 0 <= figures["uncovered"]["better"] <= 1
    # Pixels are copied from the recalled frame where the decoder's weights say so.
    last = model.codec.decoder.full2
    kept = last.weight.data.clone(), last.bias.data.clone()
    last.weight.data.zero_()
    last.bias.data.zero_()
    last.bias.data[5] = 50.0  # the older frame, for colours
    copied = evaluate_revisits(model, returns)
    last.weight.data, last.bias.data = kept
    assert copied["uncovered"]["mse_with_memory"] < 0.1 * copied["uncovered"]["mse_without"]


def test_episodes_without_a_return_are_named(model: WorldModel, returns: list[Episode], tmp_path: Path) -> None:
    del tmp_path
    with pytest.raises(EpisodeError, match="no episode shows a return"):
        evaluate_revisits(model, [])
    still = returns[0]
    same = {name: np.repeat(value[:1], len(still), 0) for name, value in still.state.items()}
    stands = Episode(**{**still.__dict__, "state": same})
    assert newest_before_return(stands, 8) is None
