"""Windows of encoded episodes, as the dynamics sees them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.dynamics import Steps
from deepverse_ros.training.batches.dataset import Episodes, window_actions


@dataclass(frozen=True)
class EncodedEpisodes:
    """Episodes with the latents (E, T, S, P) float16 of their frames, on the CPU."""

    episodes: Episodes
    latents: Tensor
    config: WorldModelConfig

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def length(self) -> int:
        return self.episodes.length

    def steps(self, index: np.ndarray, start: np.ndarray, device: torch.device) -> Steps:
        """Whole windows: B = len(index) episodes, `config.window` frames each from `start` on.

        The last frame's action is what was commanded after the window.
        """
        c = self.config
        times = start[:, None] + np.arange(c.window)
        rows = index[:, None]
        actions = window_actions(self.episodes, index, start, c.window, c.context)
        last = self.episodes.commanded[index, times[:, -1]][:, None]
        steps = Steps(
            latents=self.latents[rows, times],
            actions=torch.cat([actions, last], 1),
            states=self.episodes.states[rows, times],
            rays=self._rays(index, times),
        )
        return _on(steps, device)

    def before(self, index: np.ndarray, start: np.ndarray, count: int, device: torch.device) -> Steps:
        """`count` frames from before each window, as memory recalls them: where the tool was nearest to where it ends.

        Args: start: at least `count`. Returns: steps (B, count) without actions.
        """
        tool = self.episodes.tool[index]
        end = tool[np.arange(len(index)), start + self.config.window - 1]
        distance = (tool - end[:, None]).norm(dim=-1)
        distance[torch.arange(tool.shape[1])[None] >= torch.from_numpy(start)[:, None]] = torch.inf
        times = distance.topk(count, largest=False).indices.numpy()
        rows = index[:, None]
        steps = Steps(
            latents=self.latents[rows, times],
            actions=torch.full((*times.shape, self.episodes.commanded.shape[-1]), torch.nan),
            states=self.episodes.states[rows, times],
            rays=self._rays(index, np.concatenate([start[:, None], times], 1))[:, 1:],
        )
        return _on(steps, device)

    def motion(self, index: np.ndarray, start: np.ndarray) -> Tensor:
        """(B, window - 1, 6) camera motion from each frame to the next, in its own frame."""
        poses = self.episodes.camera_to_world[index[:, None], start[:, None] + np.arange(self.config.window)]
        return geometry.motion_from_pose(geometry.inverse(poses[:, :-1]) @ poses[:, 1:])

    def _rays(self, index: np.ndarray, times: np.ndarray) -> Tensor:
        """Raymap at the tokens (B, T, S, 6), relative to the first of `times` (B, T), or to the base frame."""
        rows, columns = self.config.grid
        poses = self.episodes.camera_to_world[index[:, None], times]
        out = torch.empty(*times.shape, rows * columns, 6)
        matrices, which = np.unique(self.episodes.intrinsics[index].numpy(), axis=0, return_inverse=True)
        for number, matrix in enumerate(matrices):
            camera = geometry.Intrinsics.from_matrix(matrix, self.config.width, self.config.height)
            mine = which.reshape(-1) == number
            some = poses[mine]
            if self.config.posed:
                some = torch.cat([torch.eye(4).expand(len(some), 1, 4, 4), some], 1)
            rays = geometry.raymap(some, camera.resized(columns, rows))[:, -times.shape[1] :]
            out[mine] = rays.flatten(-2).mT
        return out


def _on(steps: Steps, device: torch.device) -> Steps:
    return replace(
        steps,
        latents=steps.latents.to(device, torch.float32),
        actions=steps.actions.to(device),
        states=steps.states.to(device),
        rays=steps.rays.to(device),
    )
