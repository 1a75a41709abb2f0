"""What the world model is given: frames, and a goal."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError


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
        rgb = self.rgb
        size = tuple(self.rgb.shape)
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
class Goal:
    """A goal picture as the model reads it, or a place of the tool alone.

    embedding (E,) of the coarse level, None where there is no picture; tool_position (3,) metres in the base frame;
    tool_std metres; ood_score: above 1 is unknown. frame (5, H, W) as the codec sees the picture, None where there is
    none or the camera moves.
    """

    embedding: Tensor | None
    tool_position: np.ndarray
    tool_std: float
    ood_score: float
    frame: Tensor | None = None

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

    @property
    def doubt(self) -> str:
        """What is out of distribution, as the end of a sentence about the goal; empty where nothing is."""
        return unlike_training(self.ood_score) if self.out_of_distribution else ""


def unlike_training(score: float) -> str:
    """The end of a sentence about what has this score, above 1."""
    return f"is unlike anything the model was trained on (score {score:.2f}, at most 1)"
