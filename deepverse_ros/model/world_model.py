"""The world model: what a robot imagines from what it sees and what it plans.

model = WorldModel.load("models/arm", device="auto")
belief = model.observe(observation, past_actions)
future = model.imagine(belief, plans)
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepverse_ros import geometry
from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import ShapeError
from deepverse_ros.model import checkpoint
from deepverse_ros.model.codec import Codec, Decoded, Source
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.device import inference_dtype, resolve_device
from deepverse_ros.model.dynamics import Dynamics, to_cells, to_tokens
from deepverse_ros.model.novelty import Novelty, pooled_features
from deepverse_ros.model.observation import Belief, Future, Goal, Observation
from deepverse_ros.model.readout import OutcomeReadout, PictureReadout

MAX_HORIZON = 32
# Frames decoded at once: bounds the memory of full-resolution features.
_DECODE_CHUNK = 64

Array = np.ndarray | Tensor


class WorldModel(nn.Module):
    """Codec, dynamics, readouts and novelty of one embodiment.

    calibration: of the checkpoint (level, tool_error_q, goal_error_z: see training.trainer.calibrate), None
    before calibration.
    provenance: how the checkpoint came about (data, steps, machine), as in its config.json.
    """

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.codec = Codec(config.codec)
        self.dynamics = Dynamics(config)
        self.picture_readout = PictureReadout(config.cells)
        self.outcome_readout = OutcomeReadout(config.embodiment, config.tokens, config.token_dim)
        self.novelty = Novelty(2 * config.codec.latent_dim)
        self.calibration: dict[str, Any] | None = None
        self.provenance: dict[str, Any] = {}

    @property
    def embodiment(self) -> Embodiment:
        return self.config.embodiment

    @property
    def device(self) -> torch.device:
        return self.dynamics.place.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the codec's and the dynamics' weights; readouts and novelty stay in float32."""
        return self.dynamics.place.dtype

    # ---- loading and saving

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", dtype: torch.dtype | None = None) -> "WorldModel":
        """Read a checkpoint folder, ready for inference.

        Args: device: auto, cpu, cuda or cuda:N; dtype: None takes bfloat16 where the device computes in it.
        Raises: CheckpointError naming the file and what is wrong with it; DeviceError if the device cannot be had.
        """
        where = resolve_device(device)
        config, weights, extra = checkpoint.read(path)
        model = cls(config)
        checkpoint.assign(model, weights, path)
        model.calibration = extra.get("calibration")
        model.provenance = extra.get("provenance", {})
        return model.prepare(where, dtype)

    def save(self, path: str | Path) -> None:
        """Write model.safetensors (16-bit) and config.json into the folder `path`, atomically."""
        checkpoint.write(path, self, {"calibration": self.calibration, "provenance": self.provenance})

    def prepare(self, device: torch.device, dtype: torch.dtype | None = None) -> "WorldModel":
        """Move to `device` for inference, in its fast number format."""
        self.requires_grad_(False).eval().to(device)
        chosen = dtype or inference_dtype(device)
        self.codec.to(chosen).channels_last()
        self.dynamics.to(chosen)
        # Limits in radians need more digits than bfloat16 has.
        self.dynamics.actions.lower = torch.from_numpy(self.embodiment.lower).to(device)
        self.dynamics.actions.upper = torch.from_numpy(self.embodiment.upper).to(device)
        return self

    @torch.inference_mode()
    def warm_up(self) -> float:
        """One observation and one decoded future, so that the first real one is not the slow one. Returns ms."""
        start = time.perf_counter()
        c = self.config
        frames = torch.zeros(1, c.context, 3, c.height, c.width)
        belief = self.observe(Observation(frames), torch.zeros(1, c.context - 1, self.embodiment.action_dim))
        future = self.imagine(belief, np.tile(np.asarray(self.embodiment.home, np.float32), (1, c.horizon, 1)))
        float(future.depth.sum() + future.rgb.sum())
        return (time.perf_counter() - start) * 1e3

    # ---- observing

    @torch.inference_mode()
    def observe(self, observation: Observation, actions: Array | None = None) -> Belief:
        """Encode what was seen, once, for any number of plans.

        Args: observation of T = 1..context frames (any resolution); actions (B, T-1, A): what the robot did between
        them (for an arm: its measured joints at the next frame), physical units; None only with T = 1.
        Raises: ShapeError naming the field.
        """
        view = self._fitted(observation)
        batch, frames = view.rgb.shape[:2]
        if not 1 <= frames <= self.config.context:
            raise ShapeError(f"observation: expected 1 to {self.config.context} frames, got {frames}")
        if actions is None:
            actions = torch.zeros(batch, 0, self.embodiment.action_dim)
        past = self._actions(actions, "actions")
        if past.shape[:2] != (batch, frames - 1):
            raise ShapeError(
                f"actions: expected ({batch}, {frames - 1}, A), one between two frames, got {tuple(past.shape)}"
            )
        pictures = self.frames(view)
        cells, source = self.codec.observe(pictures)
        tokens = to_tokens(cells, self.config.dynamics.token_patch)
        prefix = self.dynamics.prefix(tokens[:, :-1], past)
        if frames > 1:  # where the joints are is known, and tells more than the picture alone
            position, std = self.outcome_readout(tokens[:, -1], past[:, -1])
        else:
            position, std = self.picture_readout(pictures[:, -1])
        return Belief(
            newest=tokens[:, -1],
            prefix=prefix,
            source=source,
            tool_position=position,
            tool_std=std,
            novelty=self.novelty(pooled_features(cells[:, -1])),
            intrinsics=view.intrinsics,
            camera_to_world=view.camera_to_world,
        )

    @torch.inference_mode()
    def encode_goal(self, rgb: np.ndarray, depth: np.ndarray | None = None) -> Goal:
        """Read a goal picture. Args: rgb uint8 (H, W, 3), any resolution; depth (H, W) metres, NaN unknown, or None."""
        if rgb.ndim != 3:
            raise ShapeError(f"goal image: expected uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}")
        observation = Observation.from_numpy(rgb[None], None if depth is None else depth[None])
        frames = self.frames(self._fitted(observation))[:, 0]
        cells, _, _ = self.codec.encode(frames)
        tokens = to_tokens(cells, self.config.dynamics.token_patch)
        position, std = self.picture_readout(frames)
        return Goal(
            latent=tokens[0],
            tool_position=position[0].cpu().numpy(),
            tool_std=float(std[0]),
            ood_score=float(self.novelty(pooled_features(cells))[0]),
        )

    # ---- imagining

    @torch.inference_mode()
    def imagine(self, belief: Belief, plans: Array) -> Future:
        """The futures that plans lead to. A belief of batch 1 is shared by all plans and never copied.

        Args: plans (N, H, A) physical units, H <= 32; a belief of batch B > 1 takes N = B plans, one each.
        Raises: ShapeError naming what is wrong.
        """
        actions = self._actions(plans, "plans")
        count, horizon = actions.shape[:2]
        batch = belief.newest.shape[0]
        if not 1 <= horizon <= MAX_HORIZON or count < 1:
            raise ShapeError(f"plans: expected (N >= 1, 1 <= H <= {MAX_HORIZON}, A), got {tuple(actions.shape)}")
        if batch not in (1, count):
            raise ShapeError(f"plans: a belief of batch {batch} takes {batch} plans, got {count}")
        latent = belief.newest.expand(count, -1, -1)
        suffix = self.dynamics.suffix(count, horizon)
        steps = []
        for t in range(horizon):
            latent = self.dynamics.step(latent, actions[:, t], belief.prefix, suffix)
            steps.append(latent)
        latents = torch.stack(steps, 1)
        return self._future(belief, latents, *self.outcome_readout(latents, actions))

    def predict_future(self, observation: Observation, actions: Array | None, plans: Array) -> Future:
        """`observe` and `imagine` in one call, for those who imagine once. Raises: as these."""
        return self.imagine(self.observe(observation, actions), plans)

    @torch.inference_mode()
    def reconstruct(self, belief: Belief, rgb: Tensor, depth: Tensor | None = None) -> Future:
        """True later frames through the codec: what a perfect dynamics would reach (the codec's ceiling).

        Args: rgb (B, H, 3, h, w) in [0, 1], depth (B, H, h, w) metres; the belief's batch is B.
        """
        frames = self.frames(self._fitted(Observation(rgb, depth))).flatten(0, 1)
        cells, _, _ = self.codec.encode(frames)
        tokens = to_tokens(cells, self.config.dynamics.token_patch)
        read = (t.unflatten(0, rgb.shape[:2]) for t in self.picture_readout(frames))
        return self._future(belief, tokens.unflatten(0, rgb.shape[:2]), *read)

    def _future(self, belief: Belief, latents: Tensor, position: Tensor, std: Tensor) -> Future:
        return Future(self, belief.source, latents, position, std, belief.intrinsics, belief.camera_to_world)

    @torch.inference_mode()
    def decode(self, latents: Tensor, source: Source) -> Decoded:
        """Pictures of latents (M, S, P), with a Source of M entries."""
        cells = to_cells(latents, self.config.dynamics.token_patch, self.config.cells[0])
        chunks = range(0, len(cells), _DECODE_CHUNK)
        parts = [self.codec.decoder(cells[i : i + _DECODE_CHUNK], source[i : i + _DECODE_CHUNK]) for i in chunks]
        if len(parts) == 1:
            return parts[0]
        return Decoded(*(torch.cat(t) for t in zip(*((p.rgb, p.disparity, p.log_scale) for p in parts), strict=True)))

    # ---- units

    def frames(self, observation: Observation) -> Tensor:
        """The codec's input (B, T, 5, H, W) float32 of an observation at the model's resolution."""
        return codec_frames(observation.rgb, observation.depth, self.embodiment)

    def to_depth(self, disparity: Tensor) -> Tensor:
        """Metres from sqrt-disparity in [0, 1]."""
        camera = self.embodiment.camera
        return geometry.depth_from_sqrt_disparity(disparity, camera.near, camera.far)

    def _fitted(self, observation: Observation) -> Observation:
        rgb, depth = observation.rgb.to(self.device), observation.depth
        moved = Observation(
            rgb, None if depth is None else depth.to(self.device), observation.intrinsics, observation.camera_to_world
        )
        return moved.fitted(self.config.height, self.config.width)

    def _actions(self, actions: Array, field: str) -> Tensor:
        tensor = torch.as_tensor(actions).to(self.device, torch.float32)
        if tensor.ndim != 3 or tensor.shape[-1] != self.embodiment.action_dim:
            expected = f"(N, H, {self.embodiment.action_dim}) for embodiment '{self.embodiment.name}'"
            raise ShapeError(f"{field}: expected {expected}, got {tuple(tensor.shape)}")
        if not torch.isfinite(tensor).all():
            where = (~torch.isfinite(tensor)).nonzero()[0].tolist()
            raise ShapeError(f"{field}: NaN or infinite at index {where}")
        return tensor


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
