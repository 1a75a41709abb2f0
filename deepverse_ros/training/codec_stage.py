"""Training of the codec: later frames of a window, decoded beside the frames that a belief would hold."""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.codec import Codec
from deepverse_ros.model.losses import codec_loss
from deepverse_ros.training.config import CodecStageConfig
from deepverse_ros.training.dataset import Episodes


class CodecStage:
    name = "codec"

    def __init__(
        self, module: Codec, config: CodecStageConfig, train: Episodes, held_out: Episodes, context: int, horizon: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.module, self.config = module.to(device).channels_last(), config
        self.train, self.held_out = train, held_out
        self.context, self.horizon, self.device = context, horizon, device

    def loss(self, step: int, numpy_rng: np.random.Generator, torch_rng: torch.Generator) -> dict[str, Tensor]:
        del step
        batch, targets = self.config.batch, self.config.targets
        index, start = self._windows(self.train, batch, numpy_rng)
        # From the newest observed frame itself to the end of the horizon.
        ahead = numpy_rng.integers(0, self.horizon + 1, (batch, targets))
        frames = self._frames(self.train, index, start, ahead)
        if self.config.depth_dropout:
            blind = torch.rand(batch, generator=torch_rng) < self.config.depth_dropout
        else:
            blind = torch.zeros(batch, dtype=torch.bool)
        noise = torch.rand(batch * targets, 1, 1, 1, generator=torch_rng) * self.config.latent_noise
        return self._losses(frames, blind.to(self.device), noise, torch_rng)

    def _losses(self, frames: Tensor, blind: Tensor, noise: Tensor, torch_rng: torch.Generator) -> dict[str, Tensor]:
        """frames (B, 2 + targets, 5, H, W): oldest, newest, targets."""
        seen = frames.clone()
        seen[:, :, 3:] *= (~blind)[:, None, None, None, None]
        with torch.autocast(self.device.type, torch.bfloat16):
            z, x8, x4 = self.module.encode(seen.flatten(0, 1))
            z, x8, x4 = (t.unflatten(0, frames.shape[:2]) for t in (z, x8, x4))
            source = self.module.decoder.source(*((seen[:, i], x8[:, i], x4[:, i]) for i in (0, 1)))
            latent = z[:, 2:].flatten(0, 1)
            latent = latent + noise.to(latent) * torch.randn(latent.shape, generator=torch_rng).to(latent)
            decoded = self.module.decoder(latent, source.repeat(self.config.targets))
        truth, newest = frames[:, 2:].flatten(0, 1), frames[:, 1].repeat_interleave(self.config.targets, 0)
        disparity = torch.where(truth[:, 4] > 0, truth[:, 3], torch.nan)
        return codec_loss(decoded, truth[:, :3], disparity, newest[:, :3], self.config.moving_weight)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """PSNR of the decoded last frame of each held-out window, and of persistence."""
        index, start = self._windows(self.held_out, 64, np.random.default_rng(0))
        ours, still = [], []
        for i in range(0, 64, 16):
            frames = self._frames(self.held_out, index[i : i + 16], start[i : i + 16], np.full((16, 1), self.horizon))
            with torch.autocast(self.device.type, torch.bfloat16):
                z, x8, x4 = self.module.encode(frames.flatten(0, 1))
                z, x8, x4 = (t.unflatten(0, frames.shape[:2]) for t in (z, x8, x4))
                source = self.module.decoder.source(*((frames[:, k], x8[:, k], x4[:, k]) for k in (0, 1)))
                decoded = self.module.decoder(z[:, 2], source)
            truth = frames[:, 2, :3]
            ours.append(psnr(decoded.rgb, truth))
            still.append(psnr(frames[:, 1, :3], truth))
        return {"psnr": float(torch.cat(ours).mean()), "persistence": float(torch.cat(still).mean())}

    def _windows(self, episodes: Episodes, batch: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        span = self.context + self.horizon
        return rng.integers(0, len(episodes), batch), rng.integers(0, episodes.length - span + 1, batch)

    def _frames(self, episodes: Episodes, index: np.ndarray, start: np.ndarray, ahead: np.ndarray) -> Tensor:
        newest = start + self.context - 1
        times = np.concatenate([start[:, None], newest[:, None], newest[:, None] + ahead], 1)
        return episodes.frames(np.broadcast_to(index[:, None], times.shape), times, self.device)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(B,) dB of pictures (B, ...) in [0, 1], from the mean squared error over all pixels of a picture."""
    return -10 * torch.log10((a - b).square().flatten(1).mean(1).clamp_min(1e-10))
