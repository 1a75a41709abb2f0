"""Training of the tool readout: on latents of true frames, and on imagined ones, whose spread has to be larger."""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.readout import gaussian_nll
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.config import ReadoutStageConfig
from deepverse_ros.training.dataset import Episodes, window_actions
from deepverse_ros.training.dynamics_stage import rollout

_BATCH = 64


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
    ) -> None:
        """Args: train, held_out: episodes with the tokens (E, T, S, P) of their frames."""
        self.module, self.config, self.device = model.readout, config, model.device
        self.seen = train[1].flatten(0, 1), train[0].tool.flatten(0, 1)
        imagined, tool = imagined_latents(model, *train, config.windows, seed)
        self.imagined = imagined.flatten(0, 1), tool.flatten(0, 1)
        self.held_out_seen = held_out[1].flatten(0, 1), held_out[0].tool.flatten(0, 1)
        self.held_out_imagined = imagined_latents(model, *held_out, config.windows, seed)

    def loss(self, step: int, numpy_rng: np.random.Generator, torch_rng: torch.Generator) -> dict[str, Tensor]:
        del step
        half = self.config.batch // 2
        latents, truth = (
            torch.cat(pair).to(self.device, torch.float32)
            for pair in zip(_draw(self.seen, half, numpy_rng), _draw(self.imagined, half, numpy_rng), strict=True)
        )
        noise = torch.rand(half, 1, 1, generator=torch_rng) * self.config.latent_noise
        noise = noise * torch.randn(latents[:half].shape, generator=torch_rng)
        latents[:half] += noise.to(self.device)
        position, std = self.module(latents)
        nll = gaussian_nll(position, std, truth)
        # Weighting by the detached spread keeps sharp examples from owning the gradient (beta-NLL, arXiv 2203.09168).
        total = (nll * std.detach()).mean()
        return {"total": total, "nll": nll.mean(), "tool_m": (position - truth).norm(dim=-1).mean()}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Tool error in cm on held-out frames, and at the last imagined step of held-out windows."""
        seen, last = self._error(*self.held_out_seen), self._error(*(t[:, -1] for t in self.held_out_imagined))
        return {
            "seen_mean": float(seen.mean()),
            "seen_median": float(seen.median()),
            "imagined_mean": float(last.mean()),
            "imagined_median": float(last.median()),
        }

    def _error(self, latents: Tensor, truth: Tensor) -> Tensor:
        position, _ = self.module(latents.to(self.device, torch.float32))
        return (position.cpu() - truth).norm(dim=-1) * 100


def _draw(data: tuple[Tensor, Tensor], count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    index = torch.from_numpy(rng.integers(0, len(data[0]), count))
    return data[0][index], data[1][index]
