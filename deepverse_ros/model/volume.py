"""Predicted RGB-D frames as one field over space and time, sparse where nothing was seen."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError

# A voxel's place is one 64-bit number.
_MOST_VOXELS = 2**62


@dataclass(frozen=True)
class Grid:
    """Where the voxels are: `shape` counts them along (t, z, y, x), `lower` is the corner of the first one.

    lower (t, z, y, x) and size (t, z, y, x): seconds, then metres in the world frame. A voxel's value stands at its
    centre in space; along time the first centre is at `lower[0]` itself.
    """

    lower: tuple[float, float, float, float]
    size: tuple[float, float, float, float]
    shape: tuple[int, int, int, int]

    def __post_init__(self) -> None:
        if min(self.size) <= 0:
            raise ShapeError(f"volume: voxel size must be positive along t, z, y and x, got {self.size}")
        if min(self.shape) < 1:
            raise ShapeError(f"volume: at least one voxel is needed along t, z, y and x, got {self.shape}")
        if self.voxels >= _MOST_VOXELS:
            raise ShapeError(f"volume: {self.shape} are too many voxels")

    @property
    def voxels(self) -> int:
        t, z, y, x = self.shape
        return t * z * y * x

    def coordinates(self, places: Tensor) -> Tensor:
        """(N, 4) continuous voxel indices of places (N, 4) as (t, z, y, x); whole numbers are voxel centres."""
        centre = torch.tensor([0.0, 0.5, 0.5, 0.5], dtype=torch.float64)
        lower, size = (torch.tensor(v, dtype=torch.float64) for v in (self.lower, self.size))
        return (places.double() - lower.to(places.device)) / size.to(places.device) - centre.to(places.device)

    def keys(self, index: Tensor) -> Tensor:
        """Voxel numbers (...) of indices (..., 4); -1 outside the grid."""
        shape = torch.tensor(self.shape, device=index.device)
        inside = ((index >= 0) & (index < shape)).all(-1)
        _, z, y, x = self.shape
        strides = torch.tensor([z * y * x, y * x, x, 1], device=index.device)
        return torch.where(inside, (index * strides).sum(-1), -1)


class SpacetimeVolume:
    """Feature vectors at the occupied voxels of a `Grid`.

    keys (M,): numbers of the occupied voxels, ascending; features (M, C).
    """

    def __init__(self, grid: Grid, keys: Tensor, features: Tensor) -> None:
        if keys.ndim != 1 or features.ndim != 2 or len(keys) != len(features):
            raise ShapeError(
                f"volume: expected keys (M,) and features (M, C), got {tuple(keys.shape)}, {tuple(features.shape)}"
            )
        self.grid = grid
        self.keys = keys
        self.features = features

    @classmethod
    def fuse(
        cls,
        features: Tensor,
        depth: Tensor,
        intrinsics: geometry.Intrinsics,
        camera_to_world: Tensor,
        *,
        lower: tuple[float, float, float],
        upper: tuple[float, float, float],
        voxel: float,
        dt: float,
        start: float = 0.0,
    ) -> "SpacetimeVolume":
        """Carry the pixels of T frames to where they are in the world; what meets in a voxel is averaged.

        Args:
            features: (T, C, H, W), such as colours.
            depth: (T, H, W) metres, NaN unknown.
            camera_to_world: (T, 4, 4) or (4, 4).
            lower, upper: corners (x, y, z) of the part of the world that is kept, metres.
            voxel: its side, metres.
            dt: seconds between frames.
            start: time of the first one.
        Raises: ShapeError naming the argument.
        """
        frames = depth.shape[0] if depth.ndim == 3 else 0
        if frames == 0 or features.ndim != 4 or features.shape[0] != frames or features.shape[2:] != depth.shape[1:]:
            raise ShapeError(
                f"volume: expected features (T, C, H, W) and depth (T, H, W) with T >= 1, got "
                f"{tuple(features.shape)} and {tuple(depth.shape)}"
            )
        if camera_to_world.shape not in ((4, 4), (frames, 4, 4)):
            raise ShapeError(
                f"camera_to_world: expected (4, 4) or ({frames}, 4, 4), got {tuple(camera_to_world.shape)}"
            )
        if voxel <= 0:
            raise ShapeError(f"voxel: must be positive, got {voxel}")
        extent = [u - low for low, u in zip(lower, upper, strict=True)]
        if min(extent) <= 0:
            raise ShapeError(f"upper: must be above lower {lower} along x, y and z, got {upper}")
        nx, ny, nz = (max(1, round(e / voxel)) for e in extent)
        grid = Grid((start, lower[2], lower[1], lower[0]), (dt, voxel, voxel, voxel), (frames, nz, ny, nx))
        points = geometry.unproject(depth, intrinsics, camera_to_world.expand(frames, 4, 4)).flatten(1, 2)
        times = start + dt * torch.arange(frames, device=depth.device, dtype=points.dtype)
        places = torch.cat([times[:, None, None].expand(-1, points.shape[1], 1), points.flip(-1)], -1).flatten(0, 1)
        known = torch.isfinite(places).all(-1)
        keys = grid.keys(grid.coordinates(torch.nan_to_num(places)).round().long())
        keep = known & (keys >= 0)
        occupied, voxel_of = keys[keep].unique(return_inverse=True)
        values = features.flatten(2).transpose(1, 2).flatten(0, 1)[keep].float()
        mean = values.new_zeros(len(occupied), values.shape[1]).index_add_(0, voxel_of, values)
        counts = torch.bincount(voxel_of, minlength=len(occupied)).clamp_min(1)
        return cls(grid, occupied, mean / counts[:, None])

    def __len__(self) -> int:
        """Occupied voxels."""
        return len(self.keys)

    def query(self, x: Tensor, y: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What is at places of the world at moments, by quadrilinear interpolation between the 16 nearest voxels.

        Differentiable in the places and in the features; where nothing is occupied the gradient is zero.

        Args: x, y, z metres in the world frame, t seconds; tensors that broadcast to one shape (*).
        Returns: features (*, C), the mean of the occupied ones of these voxels, weighted by nearness, NaN where none
        is occupied; occupancy (*), the share of the weight that occupied voxels have, 0 to 1.
        """
        shape = torch.broadcast_shapes(x.shape, y.shape, z.shape, t.shape)
        places = torch.stack([v.expand(shape).reshape(-1) for v in (t, z, y, x)], -1).to(self.keys.device)
        known = torch.isfinite(places).all(-1)
        where = self.grid.coordinates(torch.nan_to_num(places))
        below = where.floor()
        fraction = (where - below).float()
        total = self.features.new_zeros(len(places), self.features.shape[1])
        occupancy = self.features.new_zeros(len(places))
        for corner in torch.cartesian_prod(*[torch.arange(2, device=where.device)] * 4):
            weight = torch.where(corner.bool(), fraction, 1 - fraction).prod(-1) * known
            found, row = self._find(self.grid.keys(below.long() + corner))
            weight = weight * found
            occupancy += weight
            total += weight[:, None] * self.features[row] if len(self.keys) else 0
        # Divided by 1 where nothing is: 0/0 would make the gradient NaN of everything else, too.
        occupied = occupancy[:, None] > 0
        mean = torch.where(occupied, total / torch.where(occupied, occupancy[:, None], 1), torch.nan)
        return mean.reshape(*shape, -1), occupancy.reshape(shape)

    def _find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """For each voxel number: whether it is occupied, and its row (any row where it is not)."""
        if len(self.keys) == 0:
            return torch.zeros_like(keys, dtype=torch.bool), torch.zeros_like(keys)
        row = torch.searchsorted(self.keys, keys).clamp_max(len(self.keys) - 1)
        return self.keys[row] == keys, row

    @property
    def bytes(self) -> int:
        """Memory that the occupied voxels take."""
        return sum(t.numel() * t.element_size() for t in (self.keys, self.features))

    @property
    def dense_bytes(self) -> int:
        """Memory that the same field would take with every voxel stored."""
        return self.grid.voxels * self.features.shape[1] * self.features.element_size()
