"""The consistency losses as terms of the dynamics' training: on decoded frames of a few windows of each batch."""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.model.dynamics import Prediction, Steps, to_cells
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.config import DynamicsStageConfig
from deepverse_ros.training.losses.causality import StateDynamics, causal_consistency_loss, state_dynamics_loss
from deepverse_ros.training.losses.consistency import moving_pixels, spacetime_consistency_loss

_STATE_STEPS, _STATE_BATCH = 400, 256


class ConsistencyTerms:
    """Needs the trained codec, and for the causal term the trained picture readout, both frozen.

    Args: config: with `spacetime_weight` or `causal_weight` above 0.
    """

    def __init__(self, model: WorldModel, config: DynamicsStageConfig, episodes: Episodes, seed: int) -> None:
        self.model = model
        self.config = config
        self.episodes = episodes
        self.expected = _tool_dynamics(model, episodes, seed) if config.causal_weight else None

    def loss(self, ahead: Prediction, whole: Steps, index: np.ndarray, start: np.ndarray) -> dict[str, Tensor]:
        """Weighted scalars by name.

        Args: ahead: predictions of whole windows, each after the context from the ones before it; index, start: where
        the windows are.
        """
        c = self.model.config
        model = self.model
        rows = self.config.consistency_windows
        index, start = index[:rows], start[:rows]
        times = start[:, None] + np.arange(c.window)
        frames = self.episodes.frames(np.broadcast_to(index[:, None], times.shape), times, model.device)
        with torch.no_grad():
            _, views = model.codec.observe(frames[:, [0, c.context - 1]])
            source = model.codec.decoder.source(views[0], views[1])
        latents = ahead.latents[: len(index), c.context - 1 :]
        cells = to_cells(latents.flatten(0, 1), c.dynamics.token_patch, c.cells[0])
        decoded = model.codec.decoder(cells, source.repeat(c.horizon))
        rgb, disparity = (t.unflatten(0, latents.shape[:2]) for t in (decoded.rgb, decoded.disparity))
        terms = {}
        if self.config.spacetime_weight:
            spacetime = self._spacetime(model.to_depth(disparity), rgb, frames[:, c.context :], index, times)
            terms["spacetime"] = self.config.spacetime_weight * spacetime
        if self.expected is not None:
            pictures = torch.cat([rgb, disparity[:, :, None], torch.ones_like(disparity[:, :, None])], 2)
            camera = self.episodes.camera(index, times[:, c.context - 1], model.device)
            tool, _ = model.picture_readout(pictures.flatten(0, 1), camera.repeat(c.horizon))
            now = self.episodes.tool[index, times[:, c.context - 1]].to(tool)
            states = torch.cat([now[:, None], tool.unflatten(0, latents.shape[:2])], 1)
            plans = whole.actions[: len(index), c.context - 1 : -1]
            causal = causal_consistency_loss(states, plans, self.expected)["total"]
            terms["causal"] = self.config.causal_weight * causal
        return terms

    def _spacetime(self, depth: Tensor, rgb: Tensor, truth: Tensor, index: np.ndarray, times: np.ndarray) -> Tensor:
        context = self.model.config.context
        camera = geometry.Intrinsics.from_matrix(
            self.episodes.intrinsics[index[0]], self.model.config.width, self.model.config.height
        )
        poses = self.episodes.camera_to_world[index[:, None], times[:, context:]].to(depth)
        if self.model.embodiment.camera.fixed:
            poses = poses[:, 0]
        known = torch.where(truth[:, :, 4] > 0, self.model.to_depth(truth[:, :, 3]), torch.nan)
        moving = moving_pixels(known, truth[:, :, :3], camera, poses)
        return spacetime_consistency_loss(depth, rgb, camera, poses, moving=moving)["total"]


def _tool_dynamics(model: WorldModel, episodes: Episodes, seed: int) -> StateDynamics:
    """What actions do to the tool's position, learned from true positions."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        dynamics = StateDynamics(model.embodiment, 3)
    dynamics.fit_scales(episodes.tool)
    optimizer = torch.optim.AdamW(dynamics.parameters(), 3e-3)
    rng = np.random.default_rng(seed)
    for _ in range(_STATE_STEPS):
        index = rng.integers(0, len(episodes), min(_STATE_BATCH, len(episodes)))
        loss = state_dynamics_loss(dynamics, episodes.tool[index], episodes.commanded[index, :-1])["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return dynamics.requires_grad_(False).to(model.device)
