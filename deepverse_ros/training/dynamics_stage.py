"""Training of dynamics and tool readout on the frozen codec's latents."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from deepverse_ros.model.dynamics import Dynamics, to_tokens
from deepverse_ros.model.novelty import pooled_features
from deepverse_ros.model.readout import ToolReadout, gaussian_nll
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.codec_stage import psnr
from deepverse_ros.training.config import DynamicsStageConfig
from deepverse_ros.training.dataset import Episodes, window_actions

# The readout's likelihood against the latents' squared error.
_READOUT_WEIGHT = 0.02


class _Trained(nn.Module):
    def __init__(self, dynamics: Dynamics, readout: ToolReadout) -> None:
        super().__init__()
        self.dynamics, self.readout = dynamics, readout


@dataclass(frozen=True)
class Latents:
    """tokens (E, T, S, P) float16 of every frame; features (E*T, F): what the novelty detector sees."""

    tokens: Tensor
    features: Tensor


@torch.inference_mode()
def encode_episodes(model: WorldModel, episodes: Episodes, progress: object = None) -> Latents:
    """Run the codec once over all frames."""
    tokens, features = [], []
    times = np.arange(episodes.length)
    for e in range(len(episodes)):
        frames = episodes.frames(np.full_like(times, e), times, model.device)
        with torch.autocast(model.device.type, torch.bfloat16):
            cells, skip, _ = model.codec.encode(frames)
        tokens.append(to_tokens(cells, model.config.dynamics.token_patch).half().cpu())
        features.append(pooled_features(cells, skip).cpu())
        if callable(progress) and e % 20 == 0:
            progress(e, len(episodes), "")
    return Latents(torch.stack(tokens), torch.cat(features))


class DynamicsStage:
    name = "dynamics"

    def __init__(
        self, model: WorldModel, config: DynamicsStageConfig, train: Episodes, latents: Latents, held_out: Episodes
    ) -> None:
        self.model, self.config = model, config
        self.train, self.latents, self.held_out = train, latents, held_out
        self.module = _Trained(model.dynamics, model.readout)

    def loss(self, step: int, numpy_rng: np.random.Generator, torch_rng: torch.Generator) -> dict[str, Tensor]:
        del step
        c, device = self.model.config, self.model.device
        batch, length = self.config.batch, c.window
        index = numpy_rng.integers(0, len(self.train), batch)
        start = numpy_rng.integers(0, self.train.length - length + 1, batch)
        steps = start[:, None] + np.arange(length)
        truth = self.latents.tokens[index[:, None], steps].to(device, torch.float32)
        tool = self.train.tool[index[:, None], steps].to(device)
        actions = window_actions(self.train, index, start, length, c.context).to(device)

        noise = torch.rand(batch, length - 1, 1, 1, generator=torch_rng) * self.config.context_noise
        noisy = truth[:, :-1] + (noise * torch.randn(truth[:, :-1].shape, generator=torch_rng)).to(device)
        weight = self._moving_weight(truth)
        losses, inputs = [], noisy
        predicted = truth[:, 1:]
        for k in range(self.config.rollout):
            with torch.autocast(device.type, torch.bfloat16):
                predicted = self.module.dynamics(inputs, actions)
            error = (predicted - truth[:, 1:]).square().mean(-1) * weight
            # The first pass learns every step, the later ones only what follows their own predictions.
            losses.append(error.mean() if k == 0 else error[:, c.context - 1 :].mean())
            inputs = torch.cat([noisy[:, : c.context], predicted[:, c.context - 1 : -1]], 1)
        nll, miss = self._readout_loss(truth, predicted.detach(), tool, torch_rng)
        total = torch.stack(losses).sum() + _READOUT_WEIGHT * nll
        return {"total": total, "one_step": losses[0], "rollout": losses[-1], "nll": nll, "tool_m": miss}

    def _moving_weight(self, truth: Tensor) -> Tensor:
        """(B, T-1, S): tokens that differ from the newest observed frame weigh more."""
        newest = truth[:, self.model.config.context - 1 : self.model.config.context]
        change = (truth[:, 1:] - newest).square().mean(-1).clamp(max=1)
        return 1 + self.config.moving_weight * change

    def _readout_loss(
        self, truth: Tensor, predicted: Tensor, tool: Tensor, torch_rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Likelihood of the true tool position, read from true frames and from imagined ones."""
        noise = 0.1 * torch.randn(truth.shape, generator=torch_rng).to(truth)
        # Imagined frames come first: the readout's spread has to grow with what the imagination loses.
        latents = torch.cat([predicted[:, self.model.config.context - 1 :], truth + noise], 1)
        target = torch.cat([tool[:, self.model.config.context :], tool], 1)
        position, std = self.module.readout(latents)
        nll = gaussian_nll(position, std, target)
        # Weighting by the detached spread keeps sharp examples from owning the gradient (beta-NLL, arXiv 2203.09168).
        return (nll * std.detach()).mean() * 10, (position - target).norm(dim=-1).mean()

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
            chunk = _predict(self.model, self.held_out, index[i : i + 16], start[i : i + 16])
            for name, values in chunk.items():
                scores.setdefault(name, []).append(values)
        return {k: float(torch.cat(v).mean()) for k, v in scores.items()}


def _predict(model: WorldModel, episodes: Episodes, index: np.ndarray, start: np.ndarray) -> dict[str, Tensor]:
    c = model.config
    steps = start[:, None] + np.arange(c.window)
    frames = episodes.frames(np.broadcast_to(index[:, None], steps.shape), steps, model.device)
    actions = window_actions(episodes, index, start, c.window, c.context).to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16):
        cells, _, source = model.codec.observe(frames[:, : c.context])
        tokens = to_tokens(cells, c.dynamics.token_patch)
        prefix = model.dynamics.prefix(tokens[:, :-1], actions[:, : c.context - 1])
        plans = actions[:, c.context - 1 :]
        out = {}
        for name, plan in (("", plans), ("_shuffled", plans.roll(1, 0))):
            latent, suffix = tokens[:, -1], model.dynamics.suffix(len(plan), c.horizon)
            for t in range(c.horizon):
                latent = model.dynamics.step(latent, plan[:, t], prefix, suffix)
                if t in (0, c.horizon - 1):
                    truth = frames[:, c.context + t, :3]
                    out[f"psnr{t + 1}{name}"] = psnr(model.decode(latent, source).rgb, truth)
                    if not name:
                        out[f"persistence{t + 1}"] = psnr(frames[:, c.context - 1, :3], truth)
            if not name:
                tool = episodes.tool[index, steps[:, -1]].to(model.device)
                out["tool_cm"] = (model.readout(latent)[0] - tool).norm(dim=-1) * 100
    return out
