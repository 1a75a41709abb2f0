"""What was imagined follows from the actions, or costs something."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepverse_ros.errors import ShapeError
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.dynamics import Dynamics, Steps
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.training.losses.causality import (
    StateDynamics,
    causal_consistency_loss,
    future_action_leak,
    state_dynamics_loss,
)


@pytest.fixture(scope="module")
def arm() -> Embodiment:
    return Embodiment.load("arm")


def walks(arm: Embodiment, count: int, seed: int, steps: int = 12) -> tuple[Tensor, Tensor]:
    """Joints (B, T, 8) of an arm that is where it was told to be, within its limits, and the commands (B, T-1, 8)."""
    rng = np.random.default_rng(seed)
    joints = np.asarray(arm.home) + rng.uniform(-0.5, 0.5, (count, 1, 8)).clip(arm.lower, arm.upper)
    turns = rng.uniform(-1, 1, (count, steps - 1, 8)) * arm.max_step
    plan = arm.limit_plan(joints + turns.cumsum(1), joints[:, 0])
    states = torch.from_numpy(np.concatenate([joints, plan], 1)).float()
    return states, states[:, 1:]


def learned(arm: Embodiment, states: Tensor, actions: Tensor, steps: int) -> StateDynamics:
    torch.manual_seed(0)
    model = StateDynamics(arm, states.shape[-1])
    model.fit_scales(states)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        index = torch.randint(len(states), (64,), generator=generator)
        loss = state_dynamics_loss(model, states[index], actions[index])
        optimiser.zero_grad()
        loss["total"].backward()
        optimiser.step()
        schedule.step()
    optimiser.zero_grad()
    return model


@pytest.fixture(scope="module")
def joints(arm: Embodiment) -> tuple[StateDynamics, Tensor, Tensor]:
    """A model of the joints, and states and actions that it has not seen."""
    return learned(arm, *walks(arm, 512, 0), steps=600), *walks(arm, 64, 1)


def test_the_small_model_learns_what_actions_do(arm, joints):
    model, states, actions = joints
    assert sum(p.numel() for p in model.parameters()) < 8000
    with torch.no_grad():
        loss = state_dynamics_loss(model, states, actions)
    assert loss["error"] < 0.1
    change, spread = model(states[:, :-1], actions)
    assert change.shape == spread.shape == states[:, 1:].shape
    assert (spread > 0).all()


def test_it_also_learns_where_the_tool_goes(arm):
    """Three numbers that depend on seven joints through the arm's geometry."""
    kinematics = ArmKinematics(arm)
    tool, told = [], []
    for seed in (0, 1):
        states, actions = walks(arm, 400 if seed == 0 else 40, seed, steps=6)
        flat = np.stack([kinematics.tool_position(q) for q in states.flatten(0, 1).numpy()])
        tool.append(torch.from_numpy(flat).float().reshape(*states.shape[:2], 3))
        told.append(actions)
    model = learned(arm, tool[0], told[0], steps=500)
    with torch.no_grad():
        truth = state_dynamics_loss(model, tool[1], told[1])["error"]
        shuffled = state_dynamics_loss(model, tool[1], told[1].roll(1, 0))["error"]
    assert truth < 0.6
    assert shuffled > 1.5 * truth


def test_effects_of_the_actions_cost_little_and_others_much(joints):
    model, states, actions = joints
    true = causal_consistency_loss(states, actions, model)
    others = causal_consistency_loss(states, actions.roll(1, 0), model)
    nothing = causal_consistency_loss(states[:, :1].expand_as(states), actions, model)
    assert others["total"] > 3 * true["total"]
    assert nothing["total"] > 3 * true["total"]
    assert true["error"] < 0.03
    assert others["error"] > 0.1


def test_states_follow_the_actions_and_the_model_of_them_gets_no_gradient(joints):
    model, states, actions = joints
    generator = torch.Generator().manual_seed(0)
    read = states + 0.05 * torch.randn(states.shape, generator=generator)
    read[:, 0] = states[:, 0]
    read.requires_grad_()
    before = causal_consistency_loss(read, actions, model)["error"]
    optimiser = torch.optim.Adam([read], lr=3e-3)
    for _ in range(100):
        loss = causal_consistency_loss(read, actions, model)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(p.grad is None for p in model.parameters())
    assert causal_consistency_loss(read, actions, model)["error"] < 0.5 * before


@settings(max_examples=20, deadline=None)
@given(off=st.floats(0.0, 10.0), spread=st.floats(0.1, 3.0))
def test_an_effect_as_expected_costs_nothing_and_a_surprise_has_bounded_pull(off, spread):
    actions = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    states = torch.cat([torch.zeros(2, 1, 4), actions.cumsum(1)], 1)

    def expected(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        return action, torch.full_like(action, spread)

    assert causal_consistency_loss(states, actions, expected)["total"] < 1e-6
    shifted = states.clone()
    shifted[:, 2:] += off
    shifted.requires_grad_()
    loss = causal_consistency_loss(shifted, actions, expected)
    loss["total"].backward()
    assert float(loss["error"]) == pytest.approx(off / 3, abs=1e-5)
    assert shifted.grad.abs().max() * 24 <= 2 / spread + 1e-5


def test_only_a_model_that_looks_ahead_leaks(arm):
    torch.manual_seed(0)
    config = WorldModelConfig.small_test(arm)
    dynamics = Dynamics(config).eval()
    for parameter in dynamics.parameters():  # as built it predicts no change at all
        torch.nn.init.normal_(parameter, std=0.1)
    latents = torch.randn(2, 6, config.tokens, config.token_dim)
    states, actions = walks(arm, 4, 0, steps=7)
    one, other = actions[:2], actions[2:]
    rays = torch.randn(2, 6, config.tokens, 6)

    def predict(plans: torch.Tensor) -> torch.Tensor:
        return dynamics(Steps(latents, plans, states[:2, :6], rays)).latents

    assert (predict(one) - predict(other)).abs().amax((0, 2, 3)).min() > 1e-4
    leak = future_action_leak(predict, one, other)
    assert leak.shape == (5,)
    assert (leak == 0).all()
    # The last step's effect is told to the first.
    peeking = future_action_leak(lambda a: predict(a) + a[:, -1].mean(), one, other)
    assert (peeking > 1e-3).all()
    # Each step is told the next one's action.
    ahead = future_action_leak(lambda a: a.roll(-1, 1), one, other)
    assert (ahead > 1e-3).all()


def test_wrong_states_are_refused_by_name(arm):
    states, actions = walks(arm, 2, 0, steps=4)
    model = StateDynamics(arm, 8)
    for wrong, named in (
        ((states[:, :1], actions), "states"),
        ((states[0], actions), "states"),
        ((states, actions[:, :2]), "actions"),
        ((states, actions[:1]), "actions"),
    ):
        with pytest.raises(ShapeError, match=named):
            causal_consistency_loss(*wrong, model)
        with pytest.raises(ShapeError, match=named):
            state_dynamics_loss(model, *wrong)
    with pytest.raises(ShapeError, match="two plans"):
        future_action_leak(lambda a: a, actions, actions[:, :2])
