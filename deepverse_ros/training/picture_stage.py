"""Training of the picture readout: single frames, with and without depth."""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.readout import PictureReadout, robust_nll
from deepverse_ros.training.config import PictureStageConfig
from deepverse_ros.training.dataset import Episodes
from deepverse_ros.training.draw import Draw
from deepverse_ros.training.precision import Precision, autocast

# Neighbouring frames look alike.
_VALIDATED = 2


class PictureStage:
    name = "picture"

    def __init__(
        self,
        module: PictureReadout,
        config: PictureStageConfig,
        train: Episodes,
        held_out: Episodes,
        device: torch.device,
        precision: Precision = "bf16",
    ) -> None:
        self.module, self.config = module.to(device, memory_format=torch.channels_last), config  # type: ignore[call-overload]
        self.train, self.held_out, self.device, self.precision = train, held_out, device, precision

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        del step
        batch = self.config.batch
        index = draw.integers(0, len(self.train), batch)
        times = draw.integers(0, self.train.length, batch)
        frames = self.train.frames(index, times, self.device)
        frames[(draw.uniform(batch) < self.config.depth_dropout).to(self.device), 3:] = 0
        truth = self.train.tool[index, times].to(self.device)
        position, std = self._read(frames)
        error = position - truth
        return {"total": robust_nll(error, std).mean(), "tool_m": error.norm(dim=-1).mean()}

    def _read(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.precision):
            return self.module(frames.contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Median and mean tool error in cm on held-out frames, with depth and without."""
        scores: dict[str, float] = {}
        times = np.linspace(0, self.held_out.length - 1, _VALIDATED).astype(int)
        for kind in ("depth", "without_depth"):
            errors = []
            for begin in range(0, len(self.held_out), 32):
                index, when = np.meshgrid(np.arange(begin, min(begin + 32, len(self.held_out))), times, indexing="ij")
                frames = self.held_out.frames(index.ravel(), when.ravel(), self.device)
                if kind == "without_depth":
                    frames[:, 3:] = 0
                position, _ = self._read(frames)
                truth = self.held_out.tool[index.ravel(), when.ravel()]
                errors.append((position.cpu() - truth).norm(dim=-1) * 100)
            error = torch.cat(errors)
            scores |= {f"{kind}_median_cm": float(error.median()), f"{kind}_mean_cm": float(error.mean())}
        return scores
