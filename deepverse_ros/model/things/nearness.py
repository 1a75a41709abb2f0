"""How near points are to the solid below the ground's surface, and the way out of it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros.model.things.ground import CELL_SIDE, HeightMap

_RINGS, _DIRECTIONS = (0.02, 0.04, 0.07), 8
"""Metres around a point, at which the ground is looked up, so that sides of what stands on the table are met too."""


def nearness(ground: HeightMap, points: Tensor) -> tuple[Tensor, Tensor]:
    """Distances to the ground, which is solid below its surface, and the directions that lead away from it.

    Sides are known to the nearest of 8 directions, as far as 7 cm away.

    Args: ground of batch R or 1, known everywhere; points (R, P, 3) metres in the base frame.
    Returns: metres (R, P), below 0 inside; unit vectors (R, P, 3).
    """
    offsets = _offsets(points)
    far = offsets.norm(dim=-1)
    shift = F.pad(offsets, (0, 1))
    x, y, z = (points[..., i, None] for i in range(3))
    above = z - ground.over(x + offsets[:, 0], y + offsets[:, 1])  # (R, P, S)
    inside = above[..., 0] <= 0
    # From outside the nearest column's side or top; from inside the shortest way up or to a lower column.
    up = above.clamp_min(0)
    outer = (far.square() + up.square()).clamp_min(1e-8).sqrt()
    sideways = torch.where(above > 0, far, torch.inf)
    inner = torch.cat([-above[..., :1], sideways[..., 1:]], -1)
    nearest = torch.where(inside[..., None], inner, outer).argmin(-1, keepdim=True)
    chosen = shift[nearest[..., 0]]
    outer, up, inner = (t.gather(-1, nearest)[..., 0] for t in (outer, up, inner))
    vertical = points.new_tensor([0.0, 0.0, 1.0])
    out_of = torch.where(nearest > 0, chosen / chosen.norm(dim=-1, keepdim=True).clamp_min(1e-6), vertical)
    away = (up[..., None] * vertical - chosen) / outer[..., None]
    return torch.where(inside, -inner, outer), torch.where(inside[..., None], out_of, away)


def highest_around(ground: HeightMap, reach: float) -> HeightMap:
    """In each cell the highest ground within `reach` metres to either side."""
    side = 2 * math.ceil(reach / CELL_SIDE) + 1
    heights = ground.heights[:, None]
    for kernel in ((side, 1), (1, side)):
        heights = F.max_pool2d(heights, kernel, 1, (kernel[0] // 2, kernel[1] // 2))
    return HeightMap(heights[:, 0])


def _offsets(like: Tensor) -> Tensor:
    """(S, 2) metres: the point itself, and the places of the rings."""
    angles = torch.arange(_DIRECTIONS, device=like.device) * (2 * math.pi / _DIRECTIONS)
    ring = torch.stack([angles.cos(), angles.sin()], -1).to(like.dtype)
    return torch.cat([ring.new_zeros(1, 2), *(radius * ring for radius in _RINGS)])
