"""Distillation of the coarse level: the ensemble learns to say in one vector what the fine level imagines.

Each window is imagined twice: with the plan that was executed, for which the true outcome is known, and with the plan
of another window, moved to where the robot is, because a planner asks about plans that nobody drove.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros.model.dynamics import Steps
from deepverse_ros.model.readout import FREE, robust_nll
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.batches.windows import EncodedEpisodes
from deepverse_ros.training.config import CoarseStageConfig
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.engine.precision import Precision
from deepverse_ros.training.stages.dynamics import imagine

_BATCH = 64
# Imagined on the fine level, read there: what is not measured stands as NaN.
_Example = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class DistillationSet:
    """What the coarse level learns from: N windows, on the CPU.

    now: (N, E) embedding.
    camera: (N, 13) see `readout.Camera`.
    plans: (N, H, A).
    ahead: (N, H, E) embedding, of the fine level.
    tool: (N, H, 3) metres, true where the plan was executed, else as the fine level reads it.
    clearance: (N, H) metres, NaN where the plan was not executed.
    bootstrap: (heads, M) the windows that each head learns from.
    """

    now: Tensor
    camera: Tensor
    plans: Tensor
    ahead: Tensor
    tool: Tensor
    clearance: Tensor
    bootstrap: Tensor

    def of(self, which: Tensor) -> _Example:
        parts = (self.now, self.camera, self.plans, self.ahead, self.tool, self.clearance)
        return tuple(x[which] for x in parts)  # type: ignore[return-value]


class CoarseStage:
    """Trains the coarse ensemble on windows that the fine level imagined once, before the first step."""

    name = "coarse"

    def __init__(
        self,
        model: WorldModel,
        config: CoarseStageConfig,
        train: EncodedEpisodes,
        held_out: EncodedEpisodes,
        seed: int,
        precision: Precision = "auto",
    ) -> None:
        self.module = model.coarse
        self.config = config
        self.device = model.device
        if not self.module.basis.any():  # a checkpoint that is fine-tuned keeps its own, which its heads know
            some = train.latents[:, :: max(1, train.length // 4)].flatten(0, 2)
            self.module.fit_pool(some[:: max(1, len(some) // 200_000)])
        self.train = _lessons(model, train, config.windows, seed, precision)
        self.held_out = _lessons(model, held_out, config.windows, seed, precision)

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        del step
        heads, pool = self.train.bootstrap.shape
        rows = torch.from_numpy(draw.integers(0, pool, self.config.batch, heads)).T
        which = self.train.bootstrap.gather(1, rows)
        return self._losses(self.train.of(which))

    def _losses(self, lessons: _Example) -> dict[str, Tensor]:
        """Args: lessons whose tensors begin with (heads, B)."""
        now, camera, plans, ahead, tool, clearance = (x.to(self.device, torch.float32) for x in lessons)
        told = self.module.told(plans, camera)
        frames = []
        state = now
        for t in range(plans.shape[2]):
            state = self.module.step(state, told[:, :, t])
            frames.append(state)
        imagined = torch.stack(frames, 2)
        position, std, free = self.module.outcome(imagined, told)
        known = torch.isfinite(clearance)
        gap = F.smooth_l1_loss(free, clearance.nan_to_num().clamp_max(FREE), beta=0.02, reduction="none")
        embedding = (imagined - ahead).square().mean()
        losses = {
            "embedding": embedding,
            "tool": robust_nll(position - tool, std).mean(),
            "clearance": (gap * known).sum() / known.sum().clamp_min(1),
        }
        total = losses["embedding"] + 0.3 * losses["tool"] + losses["clearance"]
        return {"total": total, **losses, "tool_m": (position - tool).norm(dim=-1).mean()}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Share of the embedding's change that is explained at the last step; tool and clearance errors in cm."""
        lessons = self.held_out
        future = self.module.imagine(*(x.to(self.device) for x in (lessons.now, lessons.plans, lessons.camera)))
        ahead, tool = lessons.ahead.to(self.device, torch.float32)[:, -1], lessons.tool.to(self.device)[:, -1]
        change = (ahead - lessons.now.to(self.device)).square().mean()
        error = (future.readout["tool_position"][:, -1] - tool).norm(dim=-1) * 100
        known = torch.isfinite(lessons.clearance[:, -1]).to(self.device)
        free = lessons.clearance[:, -1].to(self.device)[known].clamp_max(FREE)
        scores = {
            "explained": float(1 - (future.embedding[:, -1] - ahead).square().mean() / change),
            "tool_median_cm": float(error.median()),
            "tool_mean_cm": float(error.mean()),
        }
        if known.any():
            scores["clearance_cm"] = float((future.readout["clearance"][:, -1][known] - free).abs().mean()) * 100
        return scores


@torch.inference_mode()
def _lessons(
    model: WorldModel, encoded: EncodedEpisodes, windows: int, seed: int, precision: Precision
) -> DistillationSet:
    c = model.config
    episodes = encoded.episodes
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(encoded)), windows)
    start = rng.integers(0, encoded.length - c.window + 1, len(index))
    other = rng.permutation(len(index))
    parts: list[_Example] = []
    for i in range(0, len(index), _BATCH):
        e, s, o = (x[i : i + _BATCH] for x in (index, start, other))
        whole = encoded.steps(e, s, model.device)
        times = s[:, None] + np.arange(c.context, c.window)
        foreign = encoded.steps(index[o], start[o], model.device)
        camera = episodes.camera(e, s + c.context - 1, model.device)
        for steps in (whole, replace(whole, actions=_moved(model, foreign, whole))):
            plans = steps.actions[:, c.context - 1 : -1]
            latents = imagine(model, steps, precision)
            if steps is whole:
                tool, clearance = episodes.tool[e[:, None], times], episodes.clearance[e[:, None], times]
            else:
                tool = model.read_outcome(latents, plans, camera).tool_position.cpu()
                clearance = torch.full(tool.shape[:2], torch.nan)
            now = model.coarse.pool(whole.latents[:, c.context - 1])
            ahead = model.coarse.pool(latents).half()
            parts.append((now.cpu(), camera.features.cpu(), plans.cpu(), ahead.cpu(), tool, clearance))
    now, told, plans, ahead, tool, clearance = (torch.cat(x) for x in zip(*parts, strict=True))
    # Windows in the order of their episodes; a head sees those of the episodes that it drew, with replacement.
    episode = torch.cat([torch.from_numpy(index[i : i + _BATCH]).repeat(2) for i in range(0, len(index), _BATCH)])
    rows = [torch.nonzero(episode == k)[:, 0] for k in range(len(encoded))]
    drawn = rng.integers(0, len(encoded), (model.coarse.heads, len(encoded)))
    bootstrap = torch.stack([torch.cat([rows[k] for k in head]) for head in drawn])
    return DistillationSet(now, told, plans, ahead, tool, clearance, bootstrap)


def _moved(model: WorldModel, foreign: Steps, whole: Steps) -> Tensor:
    """Actions of `whole`, with the plans of `foreign` windows, shifted to where the robot is and within its limits."""
    c = model.config
    robot = model.embodiment
    last = c.context - 2  # the action that led to the newest frame
    plan = foreign.actions[:, c.context - 1 : -1] + (whole.actions - foreign.actions)[:, last : last + 1]
    limited = robot.limit_plan(plan.cpu().numpy(), whole.actions[:, last].cpu().numpy())
    plans = torch.from_numpy(limited).to(whole.actions)
    return torch.cat([whole.actions[:, : c.context - 1], plans, whole.actions[:, -1:]], 1)
