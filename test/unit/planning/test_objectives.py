"""Objectives: what they cost, and what must not change it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.objectives.base import BiasCorrectedFuture, Objective, WeightedSum, goal_distance
from deepverse_ros.planning.objectives.certainty import Certainty
from deepverse_ros.planning.objectives.clearance import Clearance
from deepverse_ros.planning.objectives.effort import Effort
from deepverse_ros.planning.objectives.goal_image import GoalImage
from deepverse_ros.planning.objectives.goal_position import GoalPosition
from deepverse_ros.planning.objectives.smoothness import Smoothness
from deepverse_ros.planning.objectives.straightness import Straightness
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")


@dataclass
class Imagined:
    """A future that says what a test wants it to say."""

    readout: dict[str, torch.Tensor]
    uncertainty: torch.Tensor = field(default_factory=lambda: torch.zeros(1, 1))
    embedding: torch.Tensor = field(default_factory=lambda: torch.zeros(1, 1, 4))

    def select(self, indices: Any) -> "Imagined":
        readout = {name: value[indices] for name, value in self.readout.items()}
        return Imagined(readout, self.uncertainty[indices], self.embedding[indices])


@dataclass
class Picture:
    """A goal image as the model reads it."""

    tool_position: np.ndarray
    embedding: torch.Tensor = field(default_factory=lambda: torch.tensor([0.0, 2.0, 0.0, 2.0]))
    tool_std: float = 0.01
    ood_score: float = 0.3
    out_of_distribution: bool = False
    frame: torch.Tensor | None = None


def metres(low: float = -2.0, high: float = 2.0) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


def arrays(*tail: int, low: float = -2.0, high: float = 2.0) -> st.SearchStrategy[torch.Tensor]:
    """(N, H, *tail) metres or radians."""
    shapes = st.tuples(st.integers(1, 4), st.integers(1, 6)).map(lambda shape: (*shape, *tail))
    return hnp.arrays(np.float32, shapes, elements=metres(low, high)).map(torch.from_numpy)


def random_future(count: int, horizon: int, seed: int) -> tuple[Imagined, torch.Tensor]:
    """A future of the fine level and its plans."""
    random = torch.Generator().manual_seed(seed)

    def draw(*tail: int) -> torch.Tensor:
        return torch.rand((count, horizon, *tail), generator=random)

    readout = {"tool_position": draw(3), "clearance": draw() - 0.3, "clearance_std": 0.1 * draw()}
    return Imagined(readout, draw(), draw(4)), draw(8)


GOAL = np.array([0.5, 0.2, 0.7])
EVERY: dict[str, Objective] = {
    "image": GoalImage(Picture(GOAL)),
    "position": GoalPosition(GOAL),
    "certainty": Certainty(),
    "clearance": Clearance(0.1),
    "effort": Effort(ARM),
    "smoothness": Smoothness(ARM),
    "straightness": Straightness(),
}
every = pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)


# ---- all of them


@every
@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 5), horizon=st.integers(1, 6), seed=st.integers(0, 2**16))
def test_every_plan_has_a_finite_cost_of_its_own(objective, count, horizon, seed):
    future, plans = random_future(count, horizon, seed)
    costs = objective(future, plans)
    assert costs.shape == (count,)
    assert torch.isfinite(costs).all()
    assert (costs >= 0).all()
    order = torch.randperm(count)
    torch.testing.assert_close(objective(future.select(order), plans[order]), costs[order])


@settings(max_examples=30, deadline=None)
@given(
    weights=st.lists(st.floats(-3, 3, width=32), min_size=len(EVERY), max_size=len(EVERY)),
    factor=st.floats(-3, 3, width=32),
)
def test_a_weighted_sum_is_linear_in_its_weights(weights, factor):
    future, plans = random_future(3, 5, 0)
    total = WeightedSum(list(zip(weights, EVERY.values(), strict=True)))(future, plans)
    parts = torch.stack([objective(future, plans) for objective in EVERY.values()])
    torch.testing.assert_close(total, torch.tensor(weights) @ parts, atol=1e-4, rtol=1e-4)
    scaled = WeightedSum([(factor * weight, one) for weight, one in zip(weights, EVERY.values(), strict=True)])
    torch.testing.assert_close(scaled(future, plans), factor * total, atol=1e-4, rtol=1e-4)
    nested = WeightedSum([(factor, WeightedSum(list(zip(weights, EVERY.values(), strict=True)))), (1.0, Certainty())])
    torch.testing.assert_close(nested(future, plans), factor * total + parts[2], atol=1e-4, rtol=1e-4)
    assert WeightedSum([])(future, plans).tolist() == [0.0, 0.0, 0.0]


# ---- goals


@settings(max_examples=50, deadline=None)
@given(tool=arrays(3), goal=hnp.arrays(np.float32, 3, elements=metres()), early=st.floats(0, 1, width=32))
def test_a_goal_position_costs_metres(tool, goal, early):
    future, plans = Imagined({"tool_position": tool}), torch.zeros(*tool.shape[:2], 8)
    distance = np.linalg.norm(tool.numpy() - goal, axis=-1)
    costs = GoalPosition(goal, early)(future, plans)
    np.testing.assert_allclose(costs, distance[:, -1] + early * distance.mean(1), atol=1e-5, rtol=1e-5)
    moved = Imagined({"tool_position": tool + 0.5})
    torch.testing.assert_close(GoalPosition(goal + 0.5, early)(moved, plans), costs, atol=1e-5, rtol=1e-5)
    there = Imagined({"tool_position": torch.from_numpy(goal).expand_as(tool)})
    assert GoalPosition(goal, early)(there, plans).tolist() == [0.0] * len(tool)
    image = GoalImage(Picture(goal), early, latent=0.0)
    torch.testing.assert_close(image(future, plans), costs)
    torch.testing.assert_close(goal_distance(future, Picture(goal)), torch.from_numpy(distance), atol=1e-5, rtol=1e-5)


def test_a_goal_position_may_be_that_of_another_thing():
    future = Imagined({"tool_position": torch.zeros(1, 2, 3), "object_position": torch.ones(1, 2, 3)})
    cost = GoalPosition(np.ones(3), readout="object_position")(future, torch.zeros(1, 2, 8))
    assert cost.tolist() == [0.0]
    with pytest.raises(ShapeError, match=r"'door'.*object_position, tool_position"):
        GoalPosition(np.ones(3), readout="door")(future, torch.zeros(1, 2, 8))


def test_early_arrival_and_the_look_of_the_goal_are_worth_something():
    tool = torch.zeros(3, 4, 3)
    tool[0, -1, 0] = 1.0  # arrives late
    tool[1, 1:, 0] = 1.0  # arrives early; the third never does
    embedding = torch.zeros(3, 4, 4)
    embedding[0, -1] = 1.0
    future, plans = Imagined({"tool_position": tool}, embedding=embedding), torch.zeros(3, 4, 8)
    cost = GoalImage(Picture(np.array([1.0, 0.0, 0.0])), early=0.1, latent=0.0)(future, plans)
    assert cost[1] < cost[0] < cost[2]
    assert cost[2] == pytest.approx(1.1)
    look = GoalImage(Picture(np.array([1.0, 0.0, 0.0])), early=0.0, latent=1.0)(future, plans)
    # Mean squared differences of the last frame's embedding are 1 and 2; the goal's own variance is 4 / 3.
    assert look.tolist() == pytest.approx([0.75, 1.5, 2.5])


@pytest.mark.parametrize("position", [np.zeros(2), np.zeros((1, 3)), np.array([0.0, np.nan, 0.0])], ids=str)
def test_a_goal_position_is_three_finite_numbers(position):
    with pytest.raises(ShapeError, match="position"):
        GoalPosition(position)


# ---- clearance


@settings(max_examples=50, deadline=None)
@given(clearance=arrays(), margin=metres(-0.5, 0.5), caution=st.floats(0, 3, width=32))
def test_clearance_costs_what_is_missing_to_the_margin(clearance, margin, caution):
    plans = torch.zeros(*clearance.shape, 8)
    missing = np.maximum(margin - clearance.numpy(), 0).mean(1)
    coarse = Clearance(margin, caution)(Imagined({"clearance": clearance}), plans)
    np.testing.assert_allclose(coarse, missing, atol=1e-5)
    kept = Imagined({"clearance": clearance.clamp_min(margin)})
    assert Clearance(margin)(kept, plans).tolist() == [0.0] * len(clearance)
    certain = Imagined({"clearance": clearance, "clearance_std": torch.zeros_like(clearance)})
    torch.testing.assert_close(Clearance(margin, caution)(certain, plans), coarse)
    unsure = Imagined({"clearance": clearance, "clearance_std": torch.full_like(clearance, 0.1)})
    as_if = Imagined({"clearance": clearance - 0.1 * caution})
    torch.testing.assert_close(Clearance(margin, caution)(unsure, plans), Clearance(margin)(as_if, plans))


@settings(max_examples=50, deadline=None)
@given(
    clearance=arrays(),
    closer=metres(0, 1),
    std=metres(0, 0.5),
    margin=metres(-0.5, 0.5),
    more=metres(0, 1),
)
def test_less_clearance_less_certainty_more_margin_and_more_caution_never_cost_less(
    clearance, closer, std, margin, more
):
    plans = torch.zeros(*clearance.shape, 8)

    def cost(distance: torch.Tensor, spread: float, margin: float, caution: float) -> torch.Tensor:
        readout = {"clearance": distance, "clearance_std": torch.full_like(distance, spread)}
        return Clearance(margin, caution)(Imagined(readout), plans) + 1e-6

    least = cost(clearance, std, margin, 1.0) - 2e-6
    assert (cost(clearance - closer, std, margin, 1.0) >= least).all()
    assert (cost(clearance, std + more, margin, 1.0) >= least).all()
    assert (cost(clearance, std, margin + more, 1.0) >= least).all()
    assert (cost(clearance, std, margin, 1.0 + more) >= least).all()


def test_clearance_that_is_not_told_is_refused_and_one_that_is_unknown_has_no_cost():
    plans = torch.zeros(1, 2, 8)
    with pytest.raises(ShapeError, match=r"'clearance'.*tool_position"):
        Clearance(0.1)(Imagined({"tool_position": torch.zeros(1, 2, 3)}), plans)
    assert Clearance(0.1)(Imagined({"clearance": torch.tensor([[1.0, torch.nan]])}), plans).isnan().all()


@pytest.mark.parametrize("values", [(float("nan"),), (float("inf"),), (0.1, -1.0), (0.1, float("nan"))], ids=str)
def test_a_margin_that_makes_no_sense_is_refused(values):
    with pytest.raises(ShapeError, match="margin"):
        Clearance(*values)


# ---- the plan itself


@settings(max_examples=50, deadline=None)
@given(plans=arrays(8), offset=metres(), factor=metres())
def test_effort_and_smoothness_see_changes_only(plans, offset, factor):
    future = Imagined({})
    for objective, order in ((Effort(ARM), 1), (Smoothness(ARM), 2)):
        cost = objective(future, plans)
        # Rounding of an action of a few radians, squared and in units of the largest step, is about 1e-5.
        close = {"atol": 1e-3, "rtol": 1e-3}
        torch.testing.assert_close(objective(future, plans + offset), cost, **close)
        torch.testing.assert_close(objective(future, plans.flip(1)), cost, **close)
        torch.testing.assert_close(objective(future, factor * plans), factor**2 * cost, **close)
        if plans.shape[1] <= order:
            assert cost.tolist() == [0.0] * len(plans)
    ramp = torch.arange(plans.shape[1])[:, None] * torch.from_numpy(ARM.max_step)
    torch.testing.assert_close(
        Smoothness(ARM)(future, plans + ramp), Smoothness(ARM)(future, plans), atol=1e-3, rtol=1e-3
    )


def test_effort_is_one_at_full_speed_and_none_at_rest():
    steps = torch.arange(5.0)[None, :, None] * torch.from_numpy(ARM.max_step)
    plans = torch.cat([steps, -0.5 * steps, torch.ones_like(steps)])
    torch.testing.assert_close(Effort(ARM)(Imagined({}), plans), torch.tensor([1.0, 0.25, 0.0]))


def test_smoothness_prefers_one_speed():
    plans = torch.zeros(2, 4, 8)
    plans[0, :, 0] = torch.tensor([0.0, 0.1, 0.2, 0.3])
    plans[1, :, 0] = torch.tensor([0.0, 0.1, 0.0, 0.1])
    smooth = Smoothness(ARM)(Imagined({}), plans)
    assert smooth[0] == pytest.approx(0.0, abs=1e-9)
    assert smooth[1] == pytest.approx(4 * (0.1 / float(ARM.max_step[0])) ** 2 / 8, rel=1e-4)


@settings(deadline=None)
@given(arrays(3))
def test_straightness_is_what_a_way_is_longer_than_its_ends_are_apart(tool):
    cost = Straightness()(Imagined({"tool_position": tool}), tool)
    ways = tool.numpy().astype(float)
    expected = [np.linalg.norm(np.diff(way, axis=0), axis=1).sum() - np.linalg.norm(way[-1] - way[0]) for way in ways]
    np.testing.assert_allclose(cost.numpy(), expected, atol=1e-4)
    assert (cost > -1e-4).all()


def test_a_straight_way_costs_nothing_whatever_its_speed():
    along = torch.tensor([0.0, 0.1, 0.5, 0.55, 1.0])[None, :, None] * torch.tensor([0.3, -0.2, 0.1])
    assert Straightness()(Imagined({"tool_position": along}), along).abs().max() < 1e-6
    bent = along + torch.tensor([0, 0, 0.1, 0, 0])[None, :, None]
    assert Straightness()(Imagined({"tool_position": bent}), bent) > 0.05


def test_a_shifted_future_differs_in_its_tool_alone():
    readout = {"tool_position": torch.zeros(2, 3, 3), "clearance": torch.ones(2, 3)}
    future = Imagined(readout, torch.ones(2, 3), torch.zeros(2, 3, 4))
    shift = torch.arange(9.0).reshape(3, 3)
    moved = BiasCorrectedFuture(future, shift)
    torch.testing.assert_close(moved.readout["tool_position"], shift.expand(2, 3, 3))
    assert moved.readout["clearance"] is future.readout["clearance"]
    assert moved.uncertainty is future.uncertainty
    assert moved.embedding is future.embedding
    assert (future.readout["tool_position"] == 0).all()
    torch.testing.assert_close(moved.select([1]).readout["tool_position"], shift[None])


def test_certainty_is_the_mean_standard_deviation():
    std = torch.tensor([[0.1, 0.3], [0.2, 0.2], [0.3, 0.5]])
    assert Certainty()(Imagined({}, std), torch.zeros(3, 2, 8)).tolist() == pytest.approx([0.2, 0.2, 0.4])
