"""Rigid transforms, the pinhole camera, rays and depth coding.

Frames are REP 103: a camera's optical frame has x right, y down, z forward; `camera_to_world` maps optical → world.
Pixel (0, 0) is the centre of the top left pixel, as in `sensor_msgs/CameraInfo`. Lengths in metres; unknown depth is
NaN and stays NaN. Leading dimensions are free and shared ("*").
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.errors import ShapeError


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion; all values but the size in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        if not (self.fx > 0 and self.fy > 0 and np.isfinite([self.fx, self.fy, self.cx, self.cy]).all()):
            raise ShapeError(f"intrinsics: focal lengths must be positive and all values finite, got {self}")
        if self.width < 1 or self.height < 1:
            raise ShapeError(f"intrinsics: the picture must not be empty, got {self.width}×{self.height}")

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) float32 camera matrix K."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float32)

    @classmethod
    def from_matrix(cls, matrix: np.ndarray | Tensor, width: int, height: int) -> "Intrinsics":
        """From K (3, 3) of a picture of `width` × `height` pixels. Raises: ShapeError for another shape."""
        k = np.asarray(matrix, np.float64)
        if k.shape != (3, 3):
            raise ShapeError(f"intrinsics: expected a (3, 3) matrix, got shape {k.shape}")
        return cls(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), width, height)

    def resized(self, width: int, height: int) -> "Intrinsics":
        """The same camera after its picture was scaled to `width` × `height`."""
        sx, sy = width / self.width, height / self.height
        cx, cy = (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        return Intrinsics(self.fx * sx, self.fy * sy, cx, cy, width, height)

    def rays(self, device: torch.device | str | None = None) -> Tensor:
        """(H, W, 3) float32 point at depth 1 m under each pixel, in the optical frame."""
        v = torch.arange(self.height, dtype=torch.float32, device=device)
        u = torch.arange(self.width, dtype=torch.float32, device=device)
        y, x = torch.meshgrid((v - self.cy) / self.fy, (u - self.cx) / self.fx, indexing="ij")
        return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def inverse(pose: Tensor) -> Tensor:
    """Inverse of rigid transforms (*, 4, 4), exact for a proper rotation."""
    rotation = pose[..., :3, :3].mT
    out = torch.zeros_like(pose)
    out[..., :3, :3] = rotation
    out[..., :3, 3:] = -rotation @ pose[..., :3, 3:]
    out[..., 3, 3] = 1
    return out


def transform(pose: Tensor, points: Tensor) -> Tensor:
    """Move points by rigid transforms. Args: pose (*, 4, 4); points (*, ..., 3). Returns: as points."""
    lead = pose.shape[:-2]
    flat = points.reshape(*lead, -1, 3)
    return (flat @ pose[..., :3, :3].mT + pose[..., None, :3, 3]).reshape(points.shape)


def unproject(depth: Tensor, intrinsics: Intrinsics, camera_to_world: Tensor) -> Tensor:
    """World points of a depth image.

    Args: depth (*, H, W) metres along the optical axis, NaN unknown; camera_to_world (*, 4, 4).
    Returns: (*, H, W, 3) metres in the world frame, NaN where the depth is.
    Raises: ShapeError if the depth is not of the intrinsics' size.
    """
    if depth.shape[-2:] != (intrinsics.height, intrinsics.width):
        raise ShapeError(
            f"depth: {tuple(depth.shape[-2:])} (height, width) does not belong to intrinsics of "
            f"{(intrinsics.height, intrinsics.width)}; use Intrinsics.resized"
        )
    points = intrinsics.rays(depth.device).to(depth.dtype) * depth[..., None]
    return transform(camera_to_world.expand(*depth.shape[:-2], 4, 4), points)


def project(points: Tensor, intrinsics: Intrinsics | Tensor, camera_to_world: Tensor) -> tuple[Tensor, Tensor]:
    """Where world points appear in the picture.

    Args:
        points: (*, ..., 3) metres in the world frame.
        intrinsics: the cameras, or matrices K (3, 3) or (*, 3, 3) in pixels.
        camera_to_world: (*, 4, 4).
    Returns: pixels (*, ..., 2) as (u, v), NaN for a point that is not in front of the camera; depth (*, ...) metres.
    """
    local = transform(inverse(camera_to_world), points)
    depth = local[..., 2]
    scale = torch.where(depth > 0, 1 / depth, torch.nan)
    if isinstance(intrinsics, Intrinsics):
        intrinsics = torch.from_numpy(intrinsics.matrix)
    k = intrinsics.to(local)
    k = k.reshape(*k.shape[:-2], *[1] * (depth.ndim - camera_to_world.ndim + 2), 3, 3)
    u = local[..., 0] * scale * k[..., 0, 0] + k[..., 0, 2]
    v = local[..., 1] * scale * k[..., 1, 1] + k[..., 1, 2]
    return torch.stack([u, v], dim=-1), depth


def raymap(camera_to_world: Tensor, intrinsics: Intrinsics) -> Tensor:
    """Each pixel's ray, relative to the first camera of the window.

    Args: camera_to_world (*, T, 4, 4).
    Returns: (*, T, 6, H, W): unit direction (3) and signed square root of the origin in √m (3).
    """
    relative = inverse(camera_to_world[..., :1, :, :]) @ camera_to_world
    rays = torch.nn.functional.normalize(intrinsics.rays(relative.device).to(relative.dtype), dim=-1)
    direction = torch.einsum("...ij,hwj->...ihw", relative[..., :3, :3], rays)
    origin = relative[..., :3, 3]
    origin = torch.sign(origin) * origin.abs().sqrt()
    return torch.cat([direction, origin[..., None, None].expand_as(direction)], dim=-3)


def pose_from_motion(motion: Tensor) -> Tensor:
    """Rigid transforms (*, 4, 4) of motions (*, 6): metres, then a rotation vector in rad."""
    x, y, z = motion[..., 3:].unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    out = torch.zeros(*motion.shape[:-1], 4, 4, dtype=motion.dtype, device=motion.device)
    out[..., :3, :3] = torch.linalg.matrix_exp(cross)
    out[..., :3, 3] = motion[..., :3]
    out[..., 3, 3] = 1
    return out


def motion_from_pose(pose: Tensor) -> Tensor:
    """The inverse of `pose_from_motion`, with rotation vectors up to pi long. Args: pose (*, 4, 4)."""
    q = quaternion_from_matrix(pose[..., :3, :3])
    sine = q[..., :3].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, q[..., 3:])
    # Towards no rotation, angle / sine goes to 2.
    scale = torch.where(sine > 1e-6, angle / sine.clamp_min(1e-6), 2.0)
    return torch.cat([pose[..., :3, 3], q[..., :3] * scale], -1)


def quaternion_from_matrix(rotation: Tensor) -> Tensor:
    """Unit quaternions (*, 4) as x, y, z, w with w ≥ 0 of rotation matrices (*, 3, 3)."""
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    # Each row is the quaternion scaled by four times one of its components: take the row of the largest.
    a, b, c = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    d, e, f = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    rows = torch.stack(
        [
            torch.stack([1 + xx - yy - zz, d, e, a], dim=-1),
            torch.stack([d, 1 - xx + yy - zz, f, b], dim=-1),
            torch.stack([e, f, 1 - xx - yy + zz, c], dim=-1),
            torch.stack([a, b, c, 1 + xx + yy + zz], dim=-1),
        ],
        dim=-2,
    )
    largest = rows.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    q = torch.take_along_dim(rows, largest[..., None, None], dim=-2).squeeze(-2)
    q = torch.nn.functional.normalize(q, dim=-1)
    return torch.where(q[..., 3:] < 0, -q, q)


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation matrices (*, 3, 3) of unit quaternions (*, 4) as x, y, z, w."""
    x, y, z, w = quaternion.unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def sqrt_disparity(depth: Tensor, near: float, far: float) -> Tensor:
    """Code depth for the model: 1 at `near`, 0 at `far`, finer where it is near.

    Args: depth (*) metres, NaN unknown; near, far: the embodiment's metric range.
    Returns: (*) within [0, 1]; depths outside the range are clamped, NaN stays.
    """
    lowest, highest = far**-0.5, near**-0.5
    return (depth.clamp(near, far).rsqrt() - lowest) / (highest - lowest)


def depth_from_sqrt_disparity(code: Tensor, near: float, far: float) -> Tensor:
    """Inverse of `sqrt_disparity`. Args: code (*), clamped to [0, 1]. Returns: (*) metres within [near, far]."""
    lowest, highest = far**-0.5, near**-0.5
    return (code.clamp(0, 1) * (highest - lowest) + lowest).pow(-2)
