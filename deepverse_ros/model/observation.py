"""What goes into the world model and what comes out of it."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError
from deepverse_ros.model.codec import Decoded, Source, View
from deepverse_ros.model.dynamics import KeyValue, Steps
from deepverse_ros.model.volume import SpacetimeVolume

if TYPE_CHECKING:
    from deepverse_ros.model.world_model import WorldModel


@dataclass(frozen=True)
class Observation:
    """Consecutive frames, `dt` apart, oldest first.

    rgb (B, T, 3, H, W) float in [0, 1]; depth (B, T, H, W) metres, NaN where unknown, or None without a depth camera;
    intrinsics (3, 3) pixels; camera_to_world (4, 4), (T, 4, 4) or (B, T, 4, 4) metres, of the optical frame; None:
    unknown.
    """

    rgb: Tensor
    depth: Tensor | None = None
    intrinsics: Tensor | None = None
    camera_to_world: Tensor | None = None

    @classmethod
    def from_numpy(
        cls,
        rgb: np.ndarray,
        depth: np.ndarray | None = None,
        intrinsics: np.ndarray | None = None,
        camera_to_world: np.ndarray | None = None,
    ) -> "Observation":
        """Args: rgb uint8 (T, H, W, 3) or (B, T, H, W, 3); depth float metres with the same leading axes.

        Raises: ShapeError naming the field.
        """
        if rgb.dtype != np.uint8 or rgb.ndim not in (4, 5) or rgb.shape[-1] != 3:
            raise ShapeError(f"rgb: expected uint8 (T, H, W, 3) or (B, T, H, W, 3), got {rgb.dtype} {rgb.shape}")
        if 0 in rgb.shape:
            raise ShapeError(f"rgb: empty, shape {rgb.shape}")
        if depth is not None and depth.shape != rgb.shape[:-1]:
            raise ShapeError(f"depth: expected {rgb.shape[:-1]} like rgb, got {depth.shape}")
        if rgb.ndim == 4:
            rgb, depth = rgb[None], None if depth is None else depth[None]
        pixels = torch.from_numpy(np.ascontiguousarray(rgb)).permute(0, 1, 4, 2, 3).float().div_(255)
        return cls(
            rgb=pixels,
            depth=None if depth is None else torch.from_numpy(np.ascontiguousarray(depth, np.float32)),
            intrinsics=None if intrinsics is None else torch.as_tensor(np.asarray(intrinsics, np.float32)),
            camera_to_world=None
            if camera_to_world is None
            else torch.as_tensor(np.asarray(camera_to_world, np.float32)),
        )

    def check(self) -> None:
        """Raises: ShapeError naming the field whose type, shape or numbers are wrong."""
        rgb, size = self.rgb, tuple(self.rgb.shape)
        if not rgb.is_floating_point() or rgb.ndim != 5 or size[2] != 3:
            raise ShapeError(f"rgb: expected floats (B, T, 3, H, W) in [0, 1], got {rgb.dtype} {size}")
        if 0 in size:
            raise ShapeError(f"rgb: empty, shape {size}")
        least, most = float(rgb.amin()), float(rgb.amax())
        if not -0.01 <= least <= most <= 1.01:  # also where it is NaN
            raise ShapeError(f"rgb: expected numbers in [0, 1], got some from {least:.3g} to {most:.3g}")
        if self.depth is not None and tuple(self.depth.shape) != (*size[:2], *size[3:]):
            expected = (*size[:2], *size[3:])
            raise ShapeError(f"depth: expected {expected} like rgb, got {tuple(self.depth.shape)}")
        matrices = (
            ("intrinsics", self.intrinsics, ((3, 3),)),
            ("camera_to_world", self.camera_to_world, ((4, 4), (size[1], 4, 4), (*size[:2], 4, 4))),
        )
        for name, matrix, shapes in matrices:
            if matrix is None:
                continue
            if tuple(matrix.shape) not in shapes:
                known = " or ".join(map(str, shapes))
                raise ShapeError(f"{name}: expected {known}, got {tuple(matrix.shape)}")
            if not bool(torch.isfinite(matrix).all()):
                raise ShapeError(f"{name}: not finite; leave it out where it is not known")

    def fitted(self, height: int, width: int) -> "Observation":
        """The same view at another resolution: cropped at the centre to its aspect ratio, then resampled."""
        h, w = self.rgb.shape[-2:]
        if (h, w) == (height, width):
            return self
        scale = max(height / h, width / w)
        crop_h, crop_w = min(h, round(height / scale)), min(w, round(width / scale))
        top, left = (h - crop_h) // 2, (w - crop_w) // 2
        rgb = self.rgb[..., top : top + crop_h, left : left + crop_w].flatten(0, 1)
        mode = {"mode": "area"} if crop_h >= height else {"mode": "bilinear", "align_corners": False}
        rgb = F.interpolate(rgb, (height, width), **mode).unflatten(0, self.rgb.shape[:2])
        depth = self.depth
        if depth is not None:
            # Nearest: a mean over an edge would be a distance at which nothing is.
            depth = depth[..., top : top + crop_h, left : left + crop_w].flatten(0, 1)[:, None]
            depth = F.interpolate(depth, (height, width), mode="nearest-exact")[:, 0].unflatten(0, self.rgb.shape[:2])
        intrinsics = self.intrinsics
        if intrinsics is not None:
            camera = geometry.Intrinsics.from_matrix(intrinsics, w, h)
            camera = replace(camera, cx=camera.cx - left, cy=camera.cy - top, width=crop_w, height=crop_h)
            intrinsics = torch.from_numpy(camera.resized(width, height).matrix)
        return Observation(rgb, depth, intrinsics, self.camera_to_world)


@dataclass(frozen=True)
class Belief:
    """What the model remembers of an observation; opaque to its users.

    newest: the newest frame (T = 1; its action is what the robot did last, NaN unknown); context: keys and values of
    the frames before it; recalled: of frames from memory; source: what the decoder may copy; view: of the newest frame;
    embedding (B, E): of the coarse level; tool_position (B, 3) metres and tool_std (B,): of the newest frame; novelty
    (B,). depth (B, h, w) metres: of the newest frame as it was observed, at the model's resolution, None without a
    depth camera. intrinsics (3, 3) at the model's resolution; origin, camera_to_world (B, 4, 4): of the oldest frame,
    to which poses are relative, and of the newest one; None: unknown.
    """

    newest: Steps
    context: list[KeyValue]
    recalled: list[KeyValue]
    source: Source
    view: View
    embedding: Tensor
    tool_position: Tensor
    tool_std: Tensor
    novelty: Tensor
    depth: Tensor | None
    intrinsics: Tensor | None
    origin: Tensor | None
    camera_to_world: Tensor | None

    def __len__(self) -> int:
        return len(self.novelty)

    @property
    def ood_score(self) -> float:
        """Largest novelty in the batch; above 1 is out of distribution."""
        return float(self.novelty.max())

    @property
    def out_of_distribution(self) -> bool:
        return self.ood_score > 1.0


@dataclass(frozen=True)
class Goal:
    """A goal picture as the model reads it, or a place of the tool alone.

    embedding (E,) of the coarse level, None where there is no picture; tool_position (3,) metres in the base frame;
    tool_std metres; ood_score: above 1 is unknown.
    """

    embedding: Tensor | None
    tool_position: np.ndarray
    tool_std: float
    ood_score: float

    @classmethod
    def at(cls, position: np.ndarray, std: float = 0.0) -> "Goal":
        """The tool at a place, in whatever orientation and scene.

        Args: position (3,) metres in the base frame; std: how unsure the place is, metres.
        Raises: ShapeError naming the field.
        """
        place = np.asarray(position, np.float32)
        if place.shape != (3,) or not np.isfinite(place).all():
            raise ShapeError(f"goal position: expected three finite numbers (metres), got {position!r}")
        if not 0 <= std < math.inf:
            raise ShapeError(f"goal std: expected metres, finite and not negative, got {std}")
        return cls(None, place, float(std), 0.0)

    @property
    def out_of_distribution(self) -> bool:
        return self.ood_score > 1.0


class Future:
    """Imagined frames of N plans, H steps each; pictures are decoded when they are first asked for.

    latents (N, H, S, P); uncertainty (N, H) metres: the standard deviation that the readout gives the tool position;
    readout["tool_position"] (N, H, 3) metres in the base frame; readout["clearance"] (N, H) metres between the robot
    and the nearest thing, readout["clearance_std"] its standard deviation; states (N, H, K): what the robot will
    measure of itself, physical units; camera_to_world (N, H, 4, 4) or None where the observation told no pose.
    """

    def __init__(
        self,
        model: "WorldModel",
        source: Source,
        latents: Tensor,
        states: Tensor,
        readout: dict[str, Tensor],
        uncertainty: Tensor,
        intrinsics: Tensor | None,
        camera_to_world: Tensor | None,
    ) -> None:
        self._model = model
        self._source = source
        self.latents = latents
        self.states = states
        self.readout = readout
        self.uncertainty = uncertainty
        self.intrinsics = intrinsics
        self.camera_to_world = camera_to_world

    def __len__(self) -> int:
        return self.latents.shape[0]

    @property
    def horizon(self) -> int:
        return self.latents.shape[1]

    def select(self, plans: list[int] | Tensor) -> "Future":
        """The futures of some plans only."""
        index = torch.as_tensor(plans, device=self.latents.device)
        source = self._source if self._source.frames.shape[0] == 1 else self._source[index]
        return Future(
            self._model, source, self.latents[index], self.states[index],
            {name: value[index] for name, value in self.readout.items()}, self.uncertainty[index], self.intrinsics,
            None if self.camera_to_world is None else self.camera_to_world[index],
        )  # fmt: skip

    @cached_property
    def embedding(self) -> Tensor:
        """(N, H, E) of the coarse level."""
        return self._model.coarse.pool(self.latents)

    @cached_property
    def _decoded(self) -> Decoded:
        poses = None if self.camera_to_world is None else self.camera_to_world.flatten(0, 1)
        drawn = self._model.draw(self.states.flatten(0, 1), self.intrinsics, poses)
        return self._model.decode(self.latents.flatten(0, 1), self._source.repeat(self._repeats), drawn)

    @property
    def _repeats(self) -> int:
        return self.latents.shape[0] * self.horizon // self._source.frames.shape[0]

    @property
    def rgb(self) -> Tensor:
        """(N, H, 3, h, w) in [0, 1]."""
        return self._decoded.rgb.unflatten(0, self.latents.shape[:2])

    @cached_property
    def depth(self) -> Tensor:
        """(N, H, h, w) metres."""
        return self._model.to_depth(self._decoded.disparity).unflatten(0, self.latents.shape[:2])

    @cached_property
    def depth_scale(self) -> Tensor:
        """(N, H, h, w) metres: the scale of the depth's Laplace distribution."""
        # dz = ds * |dz/ds|, with z the depth at sqrt-disparity s.
        s, b = self._decoded.disparity, self._decoded.log_scale.exp()
        scale = (self._model.to_depth(s - b / 2) - self._model.to_depth(s + b / 2)).abs()
        return scale.unflatten(0, self.latents.shape[:2])

    def volume(
        self,
        plan: int = 0,
        *,
        lower: tuple[float, float, float],
        upper: tuple[float, float, float],
        voxel: float,
    ) -> SpacetimeVolume:
        """The imagined colours of one plan as a field over space and time; t = 0 is the newest observed frame.

        Args: lower, upper: corners (x, y, z) of the part of the world that is kept, metres; voxel: its side, metres.
        Raises: ShapeError where the observation told neither intrinsics nor camera pose.
        """
        if self.intrinsics is None or self.camera_to_world is None:
            raise ShapeError(
                "volume: the observation needs intrinsics and camera_to_world to place pixels in the world"
            )
        depth = self.depth[plan].float()
        camera = geometry.Intrinsics.from_matrix(self.intrinsics, depth.shape[-1], depth.shape[-2])
        dt = self._model.embodiment.dt
        return SpacetimeVolume.fuse(
            self.rgb[plan].float(), depth, camera, self.camera_to_world[plan].to(depth),
            lower=lower, upper=upper, voxel=voxel, dt=dt, start=dt,
        )  # fmt: skip
