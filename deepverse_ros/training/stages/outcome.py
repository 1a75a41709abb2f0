"""Training of the outcome readout, on imagined frames and the actions that led to them.

Half of a batch are true frames with the joints that were measured in them: there are more of these, and what the
dynamics makes of a frame differs little from it.
"""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.readout import FREE, robust_nll
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.batches.windows import EncodedEpisodes
from deepverse_ros.training.config import OutcomeStageConfig
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.engine.precision import Precision
from deepverse_ros.training.stages.dynamics import imagine

_BATCH = 64
# (latents (N, S, P), actions (N, A), features (N, 13) of the camera, true tool positions (N, 3), clearances (N,), NaN
# unknown), on the CPU
Examples = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class OutcomeStage:
    """Trains the readout that tells tool and clearance from a frame's latents and the action that led to it."""

    name = "outcome"

    def __init__(
        self,
        model: WorldModel,
        config: OutcomeStageConfig,
        train: EncodedEpisodes,
        held_out: EncodedEpisodes,
        seed: int,
        precision: Precision = "auto",
    ) -> None:
        self.module = model.outcome_readout
        self.config = config
        self.device = model.device
        self.train = _examples(model, train, config.windows, seed, precision)
        self.held_out = _examples(model, held_out, config.windows, seed, precision)

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        del step
        half = self.config.drawn
        drawn = [_draw(self.train[kind], half, draw) for kind in ("seen", "imagined")]
        latents, actions, camera, tool, clearance = (
            torch.cat(x).to(self.device, torch.float32) for x in zip(*drawn, strict=True)
        )
        noise = draw.uniform(half, 1, 1) * self.config.latent_noise * draw.normal(half, *latents.shape[1:])
        latents[: len(noise)] += noise.to(self.device)
        outcome = self.module(latents, actions, camera)
        error = outcome.tool_position - tool
        known = torch.isfinite(clearance)
        free = outcome.clearance - clearance.nan_to_num().clamp_max(FREE)
        losses = {
            "tool": robust_nll(error, outcome.tool_std).mean(),
            "clearance": (robust_nll(free[:, None], outcome.clearance_std) * known).sum() / known.sum().clamp_min(1),
        }
        return {"total": sum(losses.values(), error.new_zeros(())), **losses, "tool_m": error.norm(dim=-1).mean()}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Median and mean tool error, and mean error of the clearance, in cm on each kind of held-out latents."""
        scores: dict[str, float] = {}
        for kind, (latents, actions, camera, tool, clearance) in self.held_out.items():
            outcome = self.module(
                latents.to(self.device, torch.float32), actions.to(self.device), camera.to(self.device)
            )
            error = (outcome.tool_position.cpu() - tool).norm(dim=-1) * 100
            scores |= {f"{kind}_median_cm": float(error.median()), f"{kind}_mean_cm": float(error.mean())}
            free = (outcome.clearance.cpu() - clearance.clamp_max(FREE)).abs()
            if torch.isfinite(free).any():
                scores[f"{kind}_clearance_cm"] = float(free.nanmean()) * 100
        return scores


@torch.inference_mode()
def _examples(
    model: WorldModel, encoded: EncodedEpisodes, windows: int, seed: int, precision: Precision
) -> dict[str, Examples]:
    """What is read, by kind; `windows` random ones of every episode are imagined."""
    c = model.config
    episodes = encoded.episodes
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(episodes)), windows)
    start = rng.integers(0, episodes.length - c.window + 1, len(index))
    latents, plans = [], []
    for i in range(0, len(index), _BATCH):
        e, s = index[i : i + _BATCH], start[i : i + _BATCH]
        whole = encoded.steps(e, s, model.device)
        latents.append(imagine(model, whole, precision).half().cpu())
        plans.append(whole.actions[:, c.context - 1 : -1].cpu())
    rows, times = index[:, None], start[:, None] + np.arange(c.context, c.window)
    camera = episodes.camera_features
    seen = (encoded.latents, episodes.measured, camera, episodes.tool, episodes.clearance)
    imagined = (
        torch.cat(latents), torch.cat(plans), camera[rows, times], episodes.tool[rows, times],
        episodes.clearance[rows, times],
    )  # fmt: skip
    return {"seen": _flat(seen), "imagined": _flat(imagined)}


def _flat(data: Examples) -> Examples:
    """Without the difference between episodes, or windows, and their frames."""
    return tuple(x.flatten(0, 1) for x in data)  # type: ignore[return-value]


def _draw(data: Examples, count: int, draw: Draw) -> Examples:
    index = torch.from_numpy(draw.integers(0, len(data[0]), count))
    return tuple(x[index] for x in data)  # type: ignore[return-value]
