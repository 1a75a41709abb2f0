"""The coarse level: cheap, consistent with itself, unsure where its heads differ."""

import math

import pytest
import torch

from deepverse_ros.errors import ShapeError
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.coarse import CoarseFuture
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.objectives.base import WeightedSum
from deepverse_ros.planning.objectives.certainty import Certainty
from deepverse_ros.planning.objectives.goal_image import GoalImage
from deepverse_ros.planning.objectives.smoothness import Smoothness
from deepverse_ros.robot.embodiment import Embodiment


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(Embodiment.load("arm")))
    model.coarse.fit_pool(torch.randn(2000, model.config.token_dim))
    for parameter in model.coarse.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.prepare(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def belief(model: WorldModel) -> Belief:
    return model.observe(Observation(torch.rand(1, 4, 3, 64, 64)), 0.2 * torch.randn(1, 3, 8))


def test_shapes_and_what_is_read(model: WorldModel, belief: Belief) -> None:
    plans = 0.2 * torch.randn(7, 5, 8)
    future = model.imagine_coarse(belief, plans)
    assert future.readout["tool_position"].shape == (7, 5, 3)
    assert future.readout["clearance"].shape == future.uncertainty.shape == (7, 5)
    assert future.embedding.shape == (7, 5, belief.embedding.shape[-1])
    assert (future.uncertainty > 0).all()
    some = future.select([2, 5])
    torch.testing.assert_close(some.readout["tool_position"], future.readout["tool_position"][[2, 5]])


def test_a_plan_costs_the_same_alone_as_among_others(model: WorldModel, belief: Belief) -> None:
    plans = 0.2 * torch.randn(9, 5, 8)
    goal = model.encode_goal((torch.rand(64, 64, 3) * 255).byte().numpy())
    objective = WeightedSum([(1.0, GoalImage(goal)), (1.0, Certainty()), (0.1, Smoothness(model.embodiment))])
    costs = model.rank(belief, plans, objective)
    assert costs.shape == (9,)
    assert torch.isfinite(costs).all()
    alone = torch.cat([model.rank(belief, plan[None], objective) for plan in plans])
    torch.testing.assert_close(costs, alone, atol=1e-5, rtol=1e-4)


def test_thousands_of_plans_are_ranked_as_each_alone(model: WorldModel, belief: Belief) -> None:
    plans = 0.2 * torch.randn(3000, 5, 8)
    objective = GoalImage(model.encode_goal((torch.rand(64, 64, 3) * 255).byte().numpy()))
    costs = model.rank(belief, plans, objective)
    assert costs.shape == (3000,)
    some = torch.arange(0, 3000, 97)
    torch.testing.assert_close(costs[some], model.rank(belief, plans[some], objective), atol=1e-5, rtol=1e-4)
    assert model.rank(belief, plans[costs.argsort()[:9]], objective).argmin() == 0


def test_a_later_action_does_not_change_an_earlier_frame(model: WorldModel, belief: Belief) -> None:
    plans = 0.2 * torch.randn(1, 6, 8)
    changed = plans.clone()
    changed[:, 4:] += 0.5
    a, b = (model.imagine_coarse(belief, p).embedding for p in (plans, changed))
    torch.testing.assert_close(a[:, :4], b[:, :4])
    assert not torch.allclose(a[:, 4:], b[:, 4:], atol=1e-3)


def test_heads_that_agree_are_surer_than_heads_that_differ(model: WorldModel, belief: Belief) -> None:
    plans = 0.2 * torch.randn(4, 5, 8)

    def uncertainty() -> torch.Tensor:
        return model.imagine_coarse(belief, plans).uncertainty

    kept = [p.data.clone() for p in model.coarse.parameters()]
    last = model.coarse.read[-1]
    last.weight.data[3], last.bias.data[3] = 0, -3  # what each head expects is the same everywhere
    apart = uncertainty()
    for parameter in (*model.coarse.weights, *model.coarse.biases):
        parameter.data[1:] = parameter.data[:1]
    together = uncertainty()
    for parameter, value in zip(model.coarse.parameters(), kept, strict=True):
        parameter.data = value
    torch.testing.assert_close(together, torch.full_like(together, math.exp(-3)))
    assert (together < apart).all()


def test_the_pool_keeps_the_leading_components_at_unit_variance(model: WorldModel) -> None:
    coarse = model.coarse
    kept, dim = coarse.basis.shape[1], model.config.token_dim
    torch.manual_seed(1)
    hidden = torch.randn(4000, kept)
    tokens = hidden @ torch.randn(kept, dim) + 3.0 + 0.001 * torch.randn(4000, dim)
    before = coarse.mean.clone(), coarse.basis.clone()
    coarse.fit_pool(tokens)
    pooled = coarse.pool(tokens[:, None])
    torch.testing.assert_close(torch.cov(pooled.T), torch.eye(kept), atol=0.02, rtol=0)
    # All that varies is kept: the hidden numbers can be read back linearly.
    solved = torch.linalg.lstsq(pooled, hidden).solution
    torch.testing.assert_close(pooled @ solved, hidden, atol=0.05, rtol=0)
    # A component's direction is no matter of rounding: its largest entry points up.
    largest = coarse.basis.gather(0, coarse.basis.abs().argmax(0, keepdim=True))
    assert bool((largest > 0).all())
    coarse.mean.copy_(before[0])
    coarse.basis.copy_(before[1])


def test_wrong_plans_are_refused_as_on_the_fine_level(model: WorldModel, belief: Belief) -> None:
    def no_objective(future: CoarseFuture, plans: torch.Tensor) -> torch.Tensor:
        raise AssertionError("not asked")

    with pytest.raises(ShapeError, match="plans"):
        model.rank(belief, torch.zeros(2, 0, 8), no_objective)
    with pytest.raises(ShapeError, match="plans"):
        model.rank(belief, torch.zeros(2, 3, 7), no_objective)
