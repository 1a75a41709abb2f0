"""Training of the tool readout, on three kinds of latents.

Those of true frames with depth, those without (a goal picture has none), and imagined ones, whose spread is larger.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.readout import gaussian_nll
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.config import ReadoutStageConfig
from deepverse_ros.training.dataset import Episodes, window_actions
from deepverse_ros.training.dynamics_stage import encode_episodes, rollout

_BATCH = 64
# Neighbouring frames look alike.
_EVERY = 4


@torch.inference_mode()
def imagined_latents(
    model: WorldModel, episodes: Episodes, tokens: Tensor, windows: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Imagine random windows of every episode.

    Args: tokens (E, T, S, P) of the episodes' frames.
    Returns: latents (N, H, S, P) float16 and the true tool positions (N, H, 3).
    """
    c = model.config
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(episodes)), windows)
    start = rng.integers(0, episodes.length - c.window + 1, len(index))
    latents = []
    for i in range(0, len(index), _BATCH):
        e, s = index[i : i + _BATCH], start[i : i + _BATCH]
        seen = tokens[e[:, None], s[:, None] + np.arange(c.context)].to(model.device, torch.float32)
        actions = window_actions(episodes, e, s, c.window, c.context).to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16):
            latents.append(rollout(model.dynamics, seen, actions).half().cpu())
    steps = start[:, None] + np.arange(c.context, c.window)
    return torch.cat(latents), episodes.tool[index[:, None], steps]


class ReadoutStage:
    name = "readout"

    def __init__(
        self,
        model: WorldModel,
        config: ReadoutStageConfig,
        train: tuple[Episodes, Tensor],
        held_out: tuple[Episodes, Tensor],
        seed: int,
        progress: Callable[[int, int, str], None],
    ) -> None:
        """Args: train, held_out: episodes with the tokens (E, T, S, P) of their frames."""
        self.module, self.config, self.device = model.readout, config, model.device
        self.train = _examples(model, *train, config.windows, seed, progress)
        self.held_out = _examples(model, *held_out, config.windows, seed, progress)

    def loss(self, step: int, numpy_rng: np.random.Generator, torch_rng: torch.Generator) -> dict[str, Tensor]:
        del step
        third = max(1, self.config.batch // 3)
        drawn = [_draw(self.train[kind], third, numpy_rng) for kind in ("seen", "without_depth", "imagined")]
        latents, truth = (torch.cat(x).to(self.device, torch.float32) for x in zip(*drawn, strict=True))
        true = latents[: 2 * third]
        noise = torch.rand(len(true), 1, 1, generator=torch_rng) * self.config.latent_noise
        true += (noise * torch.randn(true.shape, generator=torch_rng)).to(self.device)
        position, std = self.module(latents)
        nll = gaussian_nll(position, std, truth)
        # Weighting by the detached spread keeps sharp examples from owning the gradient (beta-NLL, arXiv 2203.09168).
        total = (nll * std.detach()).mean()
        return {"total": total, "nll": nll.mean(), "tool_m": (position - truth).norm(dim=-1).mean()}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Median and mean tool error in cm on each kind of held-out latents."""
        scores: dict[str, float] = {}
        for kind, (latents, truth) in self.held_out.items():
            position, _ = self.module(latents.to(self.device, torch.float32))
            error = (position.cpu() - truth).norm(dim=-1) * 100
            scores |= {f"{kind}_median": float(error.median()), f"{kind}_mean": float(error.mean())}
        return scores


def _examples(
    model: WorldModel,
    episodes: Episodes,
    tokens: Tensor,
    windows: int,
    seed: int,
    progress: Callable[[int, int, str], None],
) -> dict[str, tuple[Tensor, Tensor]]:
    """Latents (N, S, P) and true tool positions (N, 3) by kind."""
    blind = encode_episodes(model, episodes, progress, every=_EVERY, with_depth=False)
    imagined, tool = imagined_latents(model, episodes, tokens, windows, seed)
    return {
        "seen": (tokens.flatten(0, 1), episodes.tool.flatten(0, 1)),
        "without_depth": (blind.flatten(0, 1), episodes.tool[:, ::_EVERY].flatten(0, 1)),
        "imagined": (imagined.flatten(0, 1), tool.flatten(0, 1)),
    }


def _draw(data: tuple[Tensor, Tensor], count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    index = torch.from_numpy(rng.integers(0, len(data[0]), count))
    return data[0][index], data[1][index]
