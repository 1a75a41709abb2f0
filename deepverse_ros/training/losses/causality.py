"""A loss that asks whether what was imagined follows from the actions, and a small model of what actions do.

It needs no true frames, so it also judges futures that nobody recorded.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from deepverse_ros.errors import ShapeError
from deepverse_ros.model.readout import ActionFeatures
from deepverse_ros.robot.embodiment import Embodiment

# Spread of `StateDynamics`, in units of the usual change: from a fiftieth to seven times.
_LOG_SPREAD = (-4.0, 2.0)

# (states (..., K), actions (..., A)) to the change of the state until the next frame (..., K) and its spread (..., K)
ExpectedChange = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class StateDynamics(nn.Module):
    """What an action does to a small state, such as the joints or the tool's position: change and spread.

    Learned from true states alone, it knows the robot and nothing of the scene: where something may stop the arm,
    its spread is wide.
    """

    centre: Tensor
    spread: Tensor
    usual_change: Tensor

    def __init__(self, embodiment: Embodiment, state_dim: int, width: int = 48) -> None:
        super().__init__()
        self.features = ActionFeatures(embodiment)
        # Of the states that it is trained on: mean, standard deviation and root mean square of a step's change.
        self.register_buffer("centre", torch.zeros(state_dim))
        self.register_buffer("spread", torch.ones(state_dim))
        self.register_buffer("usual_change", torch.ones(state_dim))
        inputs = state_dim + self.features.dim
        self.direct = nn.Linear(inputs, 2 * state_dim)
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2 * state_dim)
        )

    @torch.no_grad()
    def fit_scales(self, states: Tensor) -> None:
        """Learn the units of the states (..., T, K) that training will show; once, before training."""
        flat = states.flatten(0, -2)
        self.centre.copy_(flat.mean(0))
        self.spread.copy_(flat.std(0).clamp_min(1e-6))
        self.usual_change.copy_(states.diff(dim=-2).flatten(0, -2).square().mean(0).sqrt().clamp_min(1e-6))

    def forward(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Args: states (..., K) in their units; actions (..., A) that lead to the next frame, physical units.

        Returns: change until the next frame (..., K), and its expected absolute error (..., K).
        """
        features = torch.cat([(states - self.centre) / self.spread, self.features(actions)], -1)
        change, log_spread = (self.direct(features) + self.body(features)).chunk(2, -1)
        return change * self.usual_change, log_spread.clamp(*_LOG_SPREAD).exp() * self.usual_change


def state_dynamics_loss(model: StateDynamics, states: Tensor, actions: Tensor) -> dict[str, Tensor]:
    """Training of `StateDynamics` on true states (B, T, K) and the actions (B, T-1, A) between them.

    Returns: "total", a Laplace negative log-likelihood per number, in units of the usual change, so that the rare
    contacts do not own the gradient; "error", the mean absolute error as a share of the usual change.
    """
    _check_states(states, actions)
    change, spread = model(states[:, :-1], actions)
    error = (states.diff(dim=1) - change).abs() / model.usual_change
    spread = spread / model.usual_change
    return {"total": (error / spread + spread.log()).mean(), "error": error.mean()}


def causal_consistency_loss(states: Tensor, actions: Tensor, expected_change: ExpectedChange) -> dict[str, Tensor]:
    """Whether the state that is read from predicted frames changes as the actions say.

    The expectation gets no gradient: predicted frames follow the actions, never the other way round. An error counts in
    units of the spread that the expectation gives itself, by a Cauchy penalty: a contact that it cannot know of pulls
    little.

    Args:
        states: (B, T, K), differentiable, read from T successive predicted frames (the first may be observed) by
            something that sees the frames alone: a readout that is also told the action agrees with it anyway.
        actions: (B, T-1, A), of which actions[:, t] leads from frame t to t+1.
        expected_change: such as a trained `StateDynamics`.
    Returns: scalars "total" and "error", the mean absolute error of a change in the state's own unit.
    Raises: ShapeError naming the argument.
    """
    _check_states(states, actions)
    with torch.no_grad():
        change, spread = expected_change(states[:, :-1], actions)
    error = states.diff(dim=1) - change
    penalty = torch.log1p(0.5 * (error / spread).square())
    return {"total": penalty.mean(), "error": error.detach().abs().mean()}


@torch.no_grad()
def future_action_leak(predict: Callable[[Tensor], Tensor], actions: Tensor, others: Tensor) -> Tensor:
    """How much predictions depend on actions that come after them; all zero for a causal model.

    Args: predict: plans (B, H, A) to predictions (B, H, ...), where prediction t is what action t leads to;
    actions, others (B, H, A): two plans for the same past, which must differ at every step.
    Returns: (H-1,): largest change of predictions 0..t when the actions after t are those of the other plan.
    """
    if actions.shape != others.shape or actions.ndim != 3 or actions.shape[1] < 2:
        raise ShapeError(
            f"actions, others: expected two plans (B, H >= 2, A), got {tuple(actions.shape)}, {tuple(others.shape)}"
        )
    truth = predict(actions)
    leaks = []
    for t in range(actions.shape[1] - 1):
        mixed = torch.cat([actions[:, : t + 1], others[:, t + 1 :]], 1)
        leaks.append((predict(mixed)[:, : t + 1] - truth[:, : t + 1]).abs().max())
    return torch.stack(leaks)


def _check_states(states: Tensor, actions: Tensor) -> None:
    if states.ndim != 3 or states.shape[1] < 2:
        raise ShapeError(f"states: expected (B, T, K) with T >= 2, got {tuple(states.shape)}")
    if actions.ndim != 3 or actions.shape[:2] != (states.shape[0], states.shape[1] - 1):
        raise ShapeError(
            f"actions: expected ({states.shape[0]}, {states.shape[1] - 1}, A), one between two states, "
            f"got {tuple(actions.shape)}"
        )
