"""Training of the picture readout: single frames, with and without depth."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.model.readout import Camera, PictureReadout, robust_nll
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.config import PictureStageConfig
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.engine.precision import Precision, autocast

# Neighbouring frames look alike.
_VALIDATED = 2
# Standard deviations of the mark that the first head is shown, in cells, and of the strongest noise, in colours.
_MARK, _NOISE = 0.5, 0.04


class PictureStage:
    """Trains the readout that tells where the tool is from a single picture."""

    name = "picture"

    def __init__(
        self,
        module: PictureReadout,
        config: PictureStageConfig,
        train: Episodes,
        held_out: Episodes,
        device: torch.device,
        precision: Precision = "auto",
    ) -> None:
        self.module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = config
        self.train = train
        self.held_out = held_out
        self.device = device
        self.precision = precision

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        del step
        batch = self.config.batch
        index = draw.integers(0, len(self.train), batch)
        times = draw.integers(0, self.train.length, batch)
        frames = self.train.frames(index, times, self.device)
        frames[(draw.uniform(batch) < self.config.depth_dropout).to(self.device), 3:] = 0
        truth = self.train.tool[index, times].to(self.device)
        camera = self.train.camera(index, times, self.device)
        position, std, looks = self._read(self._unsharp(frames, draw), camera)
        error = position - truth
        losses = {"nll": robust_nll(error, std).mean(), "shown": self._shown(looks, truth, index, times)}
        total = losses["nll"] + self.config.shown_weight * losses["shown"]
        return {"total": total, **losses, "tool_m": error.norm(dim=-1).mean()}

    def _read(self, frames: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
        with autocast(self.device, self.precision):
            return self.module.look_at(frames.contiguous(memory_format=torch.channels_last), camera)

    def _unsharp(self, frames: Tensor, draw: Draw) -> Tensor:
        """Blurred and noisy to a random degree, mostly a low one: not every picture is as sharp as a camera's."""
        batch = self.config.batch
        blur, noise = (self.config.unsharp * draw.uniform(batch, 1, 1, 1).to(self.device) ** 2 for _ in range(2))
        grain = noise * _NOISE * draw.normal(batch, 4, *frames.shape[2:]).to(self.device)
        soft = frames
        for _ in range(2):
            soft = F.avg_pool2d(soft, 3, 1, 1, count_include_pad=False)
        frames = frames.lerp(soft, blur)
        # Where the depth is unknown it stays so.
        frames[:, :3] += grain[:, :3]
        frames[:, 3] += grain[:, 3] * (frames[:, 4] > 0)
        return frames

    def _shown(self, looks: Tensor, truth: Tensor, index: np.ndarray, times: np.ndarray) -> Tensor:
        """Cross-entropy of where the first head looks, log-probabilities (B, h, w), against where the tool is there.

        Tools outside the picture, or whose place in it is unknown, do not count.
        """
        rows, columns = looks.shape[1:]
        poses = self.train.camera_to_world[index, times].to(self.device)
        pixel, _ = geometry.project(truth[:, None], self.train.intrinsics[index], poses)
        place = (pixel[:, 0] + 0.5) * rows / self.train.rgb.shape[2] - 0.5  # (B, 2) in cells
        across, down = (
            torch.exp(-0.5 * ((torch.arange(size, device=self.device) - place[:, axis, None]) / _MARK).square())
            for axis, size in enumerate((columns, rows))
        )
        mark = (down[:, :, None] * across[:, None, :]).nan_to_num()
        total = mark.sum((1, 2))
        inside = total > 0.5
        share = mark / total.clamp_min(0.5)[:, None, None]
        return -((share * looks).sum((1, 2)) * inside).sum() / inside.sum().clamp_min(1)

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
                camera = self.held_out.camera(index.ravel(), when.ravel(), self.device)
                position, _, _ = self._read(frames, camera)
                truth = self.held_out.tool[index.ravel(), when.ravel()]
                errors.append((position.cpu() - truth).norm(dim=-1) * 100)
            error = torch.cat(errors)
            scores |= {f"{kind}_median_cm": float(error.median()), f"{kind}_mean_cm": float(error.mean())}
        return scores
