"""What a world model is given, brought into its sizes and units: frames, actions, what the robot measures, cameras."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError
from deepverse_ros.model.actions import Values, pack
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.readout import Camera
from deepverse_ros.robot.embodiment import Embodiment

MAX_HORIZON = 32


@dataclass(frozen=True)
class Inputs:
    """Those of one model on one device."""

    config: WorldModelConfig
    device: torch.device

    @property
    def embodiment(self) -> Embodiment:
        return self.config.embodiment

    def fitted(self, observation: Observation) -> Observation:
        """On the device, at the model's resolution. Raises: ShapeError naming the field."""
        rgb = observation.rgb.to(self.device)
        depth = observation.depth
        moved = Observation(
            rgb, None if depth is None else depth.to(self.device), observation.intrinsics, observation.camera_to_world
        )
        moved.check()
        return moved.fitted(self.config.height, self.config.width)

    def packed(self, modalities: Any, values: Values, field: str) -> Tensor:
        """Values of modalities, (..., D). Raises: ShapeError naming the field."""
        return pack(modalities, values, field).to(self.device)

    def plans(self, plans: Values, batch: int) -> Tensor:
        """Plans (N, H, A). Raises: ShapeError for some that cannot be imagined from a belief of so large a batch."""
        actions = self.packed(self.embodiment.modalities, plans, "plans")
        if actions.ndim != 3 or len(actions) < 1 or not 1 <= actions.shape[1] <= MAX_HORIZON:
            raise ShapeError(f"plans: expected (N >= 1, 1 <= H <= {MAX_HORIZON}, A), got {tuple(actions.shape)}")
        if batch not in (1, len(actions)):
            raise ShapeError(f"plans: a belief of batch {batch} takes {batch} plans, got {len(actions)}")
        return actions

    def states(self, proprioception: Values | None, past: Tensor) -> Tensor:
        """(B, T, K) from what was measured, or else from the past actions (B, T-1, A)."""
        batch, frames = past.shape[0], past.shape[1] + 1
        if proprioception is not None:
            # A sensor that was silent in one of the frames: that frame's is unknown, the others are not.
            states = pack(self.embodiment.measured, proprioception, "proprioception", gaps=True).to(self.device)
            if states.shape[:-1] != (batch, frames):
                raise ShapeError(f"proprioception: expected ({batch}, {frames}, K), got {tuple(states.shape)}")
            return states
        unknown = past.new_full((batch, frames, self.embodiment.state_dim), torch.nan)
        if self.embodiment.proprioception is None:
            unknown[:, 1:] = past
        return unknown

    def rays_from(self, origin: Tensor | None, poses: Tensor, intrinsics: Tensor | None) -> Tensor:
        """Raymap (N, T, S, 6) of cameras at `poses` (N, T, 4, 4); `origin` (B, 4, 4): of the oldest frame."""
        if self.config.posed:
            return self.rays(poses, intrinsics, len(poses), poses.shape[1])
        assert origin is not None
        first = origin.to(poses)[:, None].expand(len(poses), 1, 4, 4)
        return self.rays(torch.cat([first, poses], 1), intrinsics, len(poses), poses.shape[1] + 1)[:, 1:]

    def rays(self, poses: Tensor | None, intrinsics: Tensor | None, batch: int, frames: int) -> Tensor:
        """The raymap at the tokens (B, T, S, 6), NaN where unknown.

        It is relative to the first of `poses` (B, T, 4, 4), or to the base frame where the model is `posed`.
        """
        rows, columns = self.config.grid
        if poses is None and self.embodiment.camera.fixed:
            poses = torch.eye(4, device=self.device).expand(batch, frames, 4, 4)
        if poses is None or intrinsics is None:
            return torch.full((batch, frames, rows * columns, 6), torch.nan, device=self.device)
        camera = geometry.Intrinsics.from_matrix(intrinsics, self.config.width, self.config.height)
        poses = poses.to(self.device, torch.float32)
        if self.config.posed:
            poses = torch.cat([torch.eye(4, device=self.device).expand(len(poses), 1, 4, 4), poses], 1)
        rays = geometry.raymap(poses, camera.resized(columns, rows))[..., -frames:, :, :, :]
        return rays.flatten(-2).mT.expand(batch, frames, -1, -1)

    def told(self, intrinsics: Tensor | None, camera_to_world: Tensor | None) -> Camera | None:
        """What readouts are told; None for a model that is not `posed`. Raises: ShapeError where it is not known."""
        if not self.config.posed:
            return None
        camera = self.camera(intrinsics, camera_to_world)
        if camera is None:
            raise ShapeError(
                "intrinsics and camera_to_world: this model must be told where its camera stands, in the base frame "
                f"'{self.embodiment.base_frame}'"
            )
        return camera

    def camera(self, intrinsics: Tensor | None, camera_to_world: Tensor | None) -> Camera | None:
        """The camera of frames; None where the observation did not tell it."""
        if intrinsics is None or camera_to_world is None:
            return None
        pose = camera_to_world.to(self.device, torch.float32)
        return Camera(intrinsics.to(pose), pose, (self.config.height, self.config.width))


def codec_frames(rgb: Tensor, depth: Tensor | None, embodiment: Embodiment) -> Tensor:
    """The codec's input channels.

    Args: rgb (*, 3, H, W) in [0, 1]; depth (*, H, W) metres, NaN unknown, or None.
    Returns: (*, 5, H, W): rgb, sqrt-disparity (0 where unknown), 1 where the depth is known.
    """
    if depth is None:
        missing = torch.zeros_like(rgb[..., :1, :, :])
        return torch.cat([rgb, missing, missing], -3)
    camera = embodiment.camera
    # Zero, negative and infinite depths are a sensor's ways to say that it does not know.
    known = torch.isfinite(depth) & (depth > 0)
    disparity = geometry.sqrt_disparity(torch.where(known, depth, camera.far), camera.near, camera.far)
    return torch.cat([rgb, (disparity * known)[..., None, :, :], known.to(rgb.dtype)[..., None, :, :]], -3)
