"""Training of the outcome readout, on imagined frames and the actions that led to them.

Half of a batch are true frames with the joints that were measured in them: there are more of these, and what the
dynamics makes of a frame differs little from it.
"""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.readout import robust_nll
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.config import OutcomeStageConfig
from deepverse_ros.training.dataset import Episodes, window_actions
from deepverse_ros.training.draw import Draw
from deepverse_ros.training.dynamics_stage import rollout
from deepverse_ros.training.precision import Precision, autocast

_BATCH = 64
# (latents (N, S, P), actions (N, A), true tool positions (N, 3)), on the CPU
Examples = tuple[Tensor, Tensor, Tensor]


class OutcomeStage:
    name = "outcome"

    def __init__(
        self,
        model: WorldModel,
        config: OutcomeStageConfig,
        train: tuple[Episodes, Tensor],
        held_out: tuple[Episodes, Tensor],
        seed: int,
        precision: Precision = "bf16",
    ) -> None:
        """Args: train, held_out: episodes with the tokens (E, T, S, P) of their frames."""
        self.module, self.config, self.device = model.outcome_readout, config, model.device
        self.train = _examples(model, *train, config.windows, seed, precision)
        self.held_out = _examples(model, *held_out, config.windows, seed, precision)

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        del step
        half = self.config.drawn
        drawn = [_draw(self.train[kind], half, draw) for kind in ("seen", "imagined")]
        latents, actions, truth = (torch.cat(x).to(self.device, torch.float32) for x in zip(*drawn, strict=True))
        noise = draw.uniform(half, 1, 1) * self.config.latent_noise * draw.normal(half, *latents.shape[1:])
        latents[: len(noise)] += noise.to(self.device)
        position, std = self.module(latents, actions)
        return {"total": robust_nll(position, std, truth), "tool_m": (position - truth).norm(dim=-1).mean()}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Median and mean tool error in cm on each kind of held-out latents."""
        scores: dict[str, float] = {}
        for kind, (latents, actions, truth) in self.held_out.items():
            position, _ = self.module(latents.to(self.device, torch.float32), actions.to(self.device))
            error = (position.cpu() - truth).norm(dim=-1) * 100
            scores |= {f"{kind}_median_cm": float(error.median()), f"{kind}_mean_cm": float(error.mean())}
        return scores


@torch.inference_mode()
def _examples(
    model: WorldModel, episodes: Episodes, tokens: Tensor, windows: int, seed: int, precision: Precision
) -> dict[str, Examples]:
    """What is read, by kind; `windows` random ones of every episode are imagined."""
    c = model.config
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(episodes)), windows)
    start = rng.integers(0, episodes.length - c.window + 1, len(index))
    latents, plans = [], []
    for i in range(0, len(index), _BATCH):
        e, s = index[i : i + _BATCH], start[i : i + _BATCH]
        seen = tokens[e[:, None], s[:, None] + np.arange(c.context)].to(model.device, torch.float32)
        actions = window_actions(episodes, e, s, c.window, c.context).to(model.device)
        with autocast(model.device, precision):
            latents.append(rollout(model.dynamics, seen, actions).half().cpu())
        plans.append(actions[:, c.context - 1 :].cpu())
    tool = episodes.tool[index[:, None], start[:, None] + np.arange(c.context, c.window)]
    return {
        "seen": (tokens.flatten(0, 1), episodes.measured.flatten(0, 1), episodes.tool.flatten(0, 1)),
        "imagined": (torch.cat(latents).flatten(0, 1), torch.cat(plans).flatten(0, 1), tool.flatten(0, 1)),
    }


def _draw(data: Examples, count: int, draw: Draw) -> Examples:
    latents, actions, truth = data
    index = torch.from_numpy(draw.integers(0, len(latents), count))
    return latents[index], actions[index], truth[index]
