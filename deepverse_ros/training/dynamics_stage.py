"""Training of the dynamics on the frozen codec's latents."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.dynamics import Dynamics, to_tokens
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.codec_stage import psnr
from deepverse_ros.training.config import DynamicsStageConfig
from deepverse_ros.training.curves import picture_rows
from deepverse_ros.training.dataset import Episodes, window_actions
from deepverse_ros.training.draw import Draw
from deepverse_ros.training.precision import Precision, autocast


@torch.inference_mode()
def encode_episodes(
    model: WorldModel, episodes: Episodes, progress: Callable[[int, int, str], None], precision: Precision = "bf16"
) -> Tensor:
    """Run the codec once over every frame. Returns: (E, T, S, P) float16 on the CPU."""
    tokens = []
    times = np.arange(episodes.length)
    for e in range(len(episodes)):
        frames = episodes.frames(np.full_like(times, e), times, model.device)
        with autocast(model.device, precision):
            cells, _, _ = model.codec.encode(frames)
        tokens.append(to_tokens(cells, model.config.dynamics.token_patch).half().cpu())
        progress(e + 1, len(episodes), "")
    return torch.stack(tokens)


class DynamicsStage:
    name = "dynamics"

    def __init__(
        self,
        model: WorldModel,
        config: DynamicsStageConfig,
        train: Episodes,
        latents: Tensor,
        held_out: Episodes,
        precision: Precision = "bf16",
    ) -> None:
        self.model, self.config, self.precision = model, config, precision
        self.train, self.latents, self.held_out = train, latents, held_out
        self.module = model.dynamics

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        del step
        c, device = self.model.config, self.model.device
        batch, length = self.config.batch, c.window
        index = draw.integers(0, len(self.train), batch)
        start = draw.integers(0, self.train.length - length + 1, batch)
        steps = start[:, None] + np.arange(length)
        truth = self.latents[index[:, None], steps].to(device, torch.float32)
        actions = window_actions(self.train, index, start, length, c.context).to(device)

        noise = draw.uniform(batch, length - 1, 1, 1) * self.config.context_noise
        noisy = truth[:, :-1] + (noise * draw.normal(batch, length - 1, *truth.shape[2:])).to(device)
        weight = self._moving_weight(truth)
        losses, inputs = [], noisy
        predicted = truth[:, 1:]
        for k in range(self.config.rollout):
            with autocast(device, self.precision):
                predicted = self.module(inputs, actions)
            error = (predicted - truth[:, 1:]).square().mean(-1) * weight
            # The first pass learns every step, the later ones only what follows their own predictions.
            losses.append(error.mean() if k == 0 else error[:, c.context - 1 :].mean())
            inputs = torch.cat([noisy[:, : c.context], predicted[:, c.context - 1 : -1]], 1)
        return {"total": torch.stack(losses).sum(), "one_step": losses[0], "rollout": losses[-1]}

    def _moving_weight(self, truth: Tensor) -> Tensor:
        """(B, T-1, S): tokens that differ from the newest observed frame weigh more."""
        newest = truth[:, self.model.config.context - 1 : self.model.config.context]
        change = (truth[:, 1:] - newest).square().mean(-1).clamp(max=1)
        return 1 + self.config.moving_weight * change

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """PSNR at the first and last imagined step on held-out windows, with true and with shuffled actions."""
        c = self.model.config
        rng = np.random.default_rng(0)
        count = min(64, 4 * len(self.held_out))
        index = rng.permutation(np.arange(count) % len(self.held_out))
        start = rng.integers(0, self.held_out.length - c.window + 1, count)
        scores: dict[str, list[Tensor]] = {}
        for i in range(0, count, 16):
            chunk = _predict(self.model, self.held_out, index[i : i + 16], start[i : i + 16], self.precision)
            for name, values in chunk.items():
                scores.setdefault(name, []).append(values)
        return {k: float(torch.cat(v).mean()) for k, v in scores.items()}

    @torch.inference_mode()
    def sample(self) -> np.ndarray:
        """True (upper) and imagined (lower) frames of the horizon of two held-out windows, uint8 (h, w, 3)."""
        c, device = self.model.config, self.model.device
        index = np.linspace(0, len(self.held_out) - 1, min(2, len(self.held_out))).astype(int)
        steps = np.broadcast_to(np.arange(c.window), (len(index), c.window))
        frames = self.held_out.frames(index[:, None].repeat(c.window, 1), steps, device)
        actions = window_actions(self.held_out, index, 0 * index, c.window, c.context).to(device)
        with autocast(device, self.precision):
            cells, source = self.model.codec.observe(frames[:, : c.context])
            latents = rollout(self.model.dynamics, to_tokens(cells, c.dynamics.token_patch), actions)
            imagined = self.model.decode(latents.flatten(0, 1), source.repeat(c.horizon)).rgb
        return picture_rows(frames[:, c.context :, :3], imagined.unflatten(0, latents.shape[:2]))


def _predict(
    model: WorldModel, episodes: Episodes, index: np.ndarray, start: np.ndarray, precision: Precision
) -> dict[str, Tensor]:
    c = model.config
    steps = start[:, None] + np.arange(c.window)
    frames = episodes.frames(np.broadcast_to(index[:, None], steps.shape), steps, model.device)
    actions = window_actions(episodes, index, start, c.window, c.context).to(model.device)
    with autocast(model.device, precision):
        cells, source = model.codec.observe(frames[:, : c.context])
        tokens = to_tokens(cells, c.dynamics.token_patch)
        out = {}
        for name, order in (("", 0), ("_shuffled", 1)):
            # Shuffled: the plan of the next window in the batch, after this window's own past.
            plans = actions[:, c.context - 1 :].roll(order, 0)
            latents = rollout(model.dynamics, tokens, torch.cat([actions[:, : c.context - 1], plans], 1))
            for t in (0, c.horizon - 1):
                truth = frames[:, c.context + t, :3]
                out[f"psnr{t + 1}{name}"] = psnr(model.decode(latents[:, t], source).rgb, truth)
                if not name:
                    out[f"persistence{t + 1}"] = psnr(frames[:, c.context - 1, :3], truth)
    return out


def rollout(dynamics: Dynamics, tokens: Tensor, actions: Tensor) -> Tensor:
    """Imagine from observed latents.

    Args: tokens (B, C, S, P); actions (B, C-1+H, A): between the observed frames, then of the plan.
    Returns: (B, H, S, P).
    """
    known = tokens.shape[1] - 1
    prefix = dynamics.prefix(tokens[:, :-1], actions[:, :known])
    latent, horizon = tokens[:, -1], actions.shape[1] - known
    suffix = dynamics.suffix(len(tokens), horizon)
    steps = []
    for t in range(horizon):
        latent = dynamics.step(latent, actions[:, known + t], prefix, suffix)
        steps.append(latent)
    return torch.stack(steps, 1)
