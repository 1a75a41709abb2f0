"""A loss that asks whether what was imagined could be one world in space and time.

It needs no true frames, so it also judges futures that nobody recorded; cause and effect are in causality.py.

It compares frames by projection and not through `SpacetimeVolume`: a voxel's number does not change
when a depth changes a little, so fusing gives depth no gradient, and to fuse and query every frame of a batch takes
several times as long.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError

# How fast a colour edge silences the smoothness of depth: at a step of 0.1 its weight is a third.
_EDGE = 10.0
# Points nearer than this in front of the other camera, in metres, count as behind it.
_NEAREST = 1e-2


@dataclass(frozen=True)
class _Gap:
    """How frames (B, N) differ from a neighbour in time, at their own pixels.

    depth (B, N, H, W): logarithm of the ratio of depths, so 0.01 is one percent; rgb (B, N, 3, H, W);
    seen (B, N, H, W): 1 where the neighbour sees the pixel's point, 0 where it cannot or a depth is unknown.
    """

    depth: Tensor
    rgb: Tensor
    seen: Tensor

    def steadiness(self, depth_tolerance: float, colour_tolerance: float) -> Tensor:
        """(B, N, H, W) from 1 where nothing changes to 0 where something moves; without gradient."""
        depth, rgb = self.depth.detach() / depth_tolerance, self.rgb.detach() / colour_tolerance
        return self.seen * torch.exp(-0.5 * (depth.square() + rgb.square().mean(2)))


def spacetime_consistency_loss(
    depth: Tensor,
    rgb: Tensor,
    intrinsics: geometry.Intrinsics,
    camera_to_world: Tensor,
    *,
    moving: Tensor | None = None,
    spatial: float = 1.0,
    temporal: float = 1.0,
    smoothness: float = 1.0,
    depth_tolerance: float = 0.03,
    colour_tolerance: float = 0.1,
) -> dict[str, Tensor]:
    """What consecutive predicted frames say against being views of one world; differentiable in depth and rgb.

    "spatial": a point seen at t has the same depth and colour at t+1, where it is seen again and nothing moves.
    "temporal": followed through t-1, t and t+1, depth and colour have no second difference (nothing flickers).
    "smoothness": inverse depth is piecewise linear in the picture, as planes are, with edges where the colour has some
    (as in Godard et al., arXiv 1609.03677, but of second order), and no pixel floats before or behind all eight of its
    neighbours. Each is a mean of absolute values: relative depth plus colour in 0..1. Planes that stand still give
    zero, apart from the interpolation of their colours where the camera moves.

    Args:
        depth: (B, T, H, W) metres, NaN unknown, T >= 3.
        rgb: (B, T, 3, H, W) in [0, 1].
        intrinsics: of these pictures.
        camera_to_world: (4, 4) or (B, 4, 4) for a fixed camera (cheaper: every pixel is its own neighbour), (B, T, 4,
            4) for one that moves.
        moving: (B, T, H, W) bool, pixels that are not compared, best from `moving_pixels` of the true frames. Without
            it a difference well beyond the tolerances (relative depth; colour) is taken for motion and left alone, so
            only what almost agrees is pulled together.
        spatial, temporal, smoothness: weights in "total".
    Returns: scalars "spatial", "temporal", "smoothness" (unweighted) and "total".
    Raises: ShapeError naming the argument.
    """
    fixed = _check(depth, rgb, camera_to_world)
    if moving is not None and moving.shape != depth.shape:
        raise ShapeError(f"moving: expected {tuple(depth.shape)} like depth, got {tuple(moving.shape)}")
    exact = torch.promote_types(depth.dtype, torch.float32)
    depth, rgb = depth.to(exact), rgb.to(exact)
    known = torch.isfinite(depth) & (depth > 0)
    metres = torch.where(known, depth, 1.0)
    ahead = _gap(metres, known, rgb, intrinsics, camera_to_world, 1)
    # Seen by a fixed camera, the way back is the way ahead reversed.
    back = (
        _Gap(-ahead.depth, -ahead.rgb, ahead.seen)
        if fixed
        else _gap(metres, known, rgb, intrinsics, camera_to_world, -1)
    )
    if moving is None:
        to_next, to_last = (g.steadiness(depth_tolerance, colour_tolerance) for g in (ahead, back))
    else:
        still = (~moving).float()
        to_next, to_last = ahead.seen * still[:, :-1], back.seen * still[:, 1:]
    # Places 1..T-2 have neighbours on both sides: `ahead` counts from frame 0, `back` from frame 1.
    both = to_next[:, 1:] * to_last[:, :-1]
    seen = ahead.seen[:, 1:] * back.seen[:, :-1]
    parts = {
        "spatial": _mean(ahead.depth.abs() + ahead.rgb.abs().mean(2), to_next, ahead.seen),
        "temporal": _mean(
            (ahead.depth[:, 1:] + back.depth[:, :-1]).abs() + (ahead.rgb[:, 1:] + back.rgb[:, :-1]).abs().mean(2),
            both,
            seen,
        ),
        "smoothness": _roughness(metres.flatten(0, 1), known.flatten(0, 1), rgb.detach().flatten(0, 1)),
    }
    weights = {"spatial": spatial, "temporal": temporal, "smoothness": smoothness}
    total = torch.stack([weights[name] * value for name, value in parts.items()]).sum()
    return {"total": total, **parts}


@torch.no_grad()
def moving_pixels(
    depth: Tensor,
    rgb: Tensor,
    intrinsics: geometry.Intrinsics,
    camera_to_world: Tensor,
    *,
    depth_tolerance: float = 0.01,
    colour_tolerance: float = 0.05,
) -> Tensor:
    """Where frames change against the one before or after: something moves, is uncovered or leaves the picture.

    Args: as in `spacetime_consistency_loss`, of true frames; the tolerances are how much a still pixel may differ.
    Returns: (B, T, H, W) bool, True also next to what moves, because predicted edges lie a little beside the true.
    """
    _check(depth, rgb, camera_to_world)
    known = torch.isfinite(depth) & (depth > 0)
    metres = torch.where(known, depth, 1.0).float()
    moves = torch.zeros(depth.shape, dtype=torch.bool, device=depth.device)
    for step, frames in ((1, slice(None, -1)), (-1, slice(1, None))):
        gap = _gap(metres, known, rgb.float(), intrinsics, camera_to_world, step)
        differs = (gap.depth.abs() > depth_tolerance) | (gap.rgb.abs().amax(2) > colour_tolerance)
        # What one camera cannot see again is no motion; what a fixed one cannot compare has no known depth.
        moves[:, frames] |= differs & (gap.seen > 0)
    return F.max_pool2d(moves.flatten(0, 1).float(), 3, 1, 1).unflatten(0, depth.shape[:2]) > 0


def _check(depth: Tensor, rgb: Tensor, camera_to_world: Tensor) -> bool:
    """Whether the camera is fixed. Raises: ShapeError."""
    if depth.ndim != 4 or depth.shape[1] < 3:
        raise ShapeError(f"depth: expected (B, T, H, W) with T >= 3 consecutive frames, got {tuple(depth.shape)}")
    batch, frames, height, width = depth.shape
    if rgb.shape != (batch, frames, 3, height, width):
        raise ShapeError(f"rgb: expected {(batch, frames, 3, height, width)} like depth, got {tuple(rgb.shape)}")
    shape = tuple(camera_to_world.shape)
    if shape not in ((4, 4), (batch, 4, 4), (batch, frames, 4, 4)):
        raise ShapeError(f"camera_to_world: expected (4, 4), {(batch, 4, 4)} or {(batch, frames, 4, 4)}, got {shape}")
    return len(shape) < 4


def _mean(values: Tensor, weight: Tensor, count: Tensor) -> Tensor:
    """Mean of weighted values over all that count, whether their weight is large or small."""
    return (values * weight).sum() / count.sum().clamp_min(1)


def _gap(
    depth: Tensor, known: Tensor, rgb: Tensor, intrinsics: geometry.Intrinsics, camera_to_world: Tensor, step: int
) -> _Gap:
    """Frames against the one `step` (1 or -1) later; `depth` holds any positive number where it is not known."""
    ours, theirs = (slice(None, -1), slice(1, None))[::step]
    if camera_to_world.ndim < 4:
        log = depth.log()
        seen = (known[:, ours] & known[:, theirs]).float()
        return _Gap((log[:, theirs] - log[:, ours]) * seen, (rgb[:, theirs] - rgb[:, ours]) * seen[:, :, None], seen)

    poses = camera_to_world.to(depth)
    into = geometry.inverse(poses[:, theirs]) @ poses[:, ours]
    points = geometry.unproject(depth[:, ours], intrinsics, into)
    front = points[..., 2] > _NEAREST
    # A point behind the camera has no pixel, and its gradient would be NaN even where the pixel does not count.
    points = torch.where(front[..., None], points, points.new_tensor([0.0, 0.0, 1.0]))
    pixels, expected = geometry.project(points, intrinsics, torch.eye(4).to(points).expand_as(into))
    size = pixels.new_tensor([intrinsics.width - 1, intrinsics.height - 1])
    inside = front & ((pixels >= 0) & (pixels <= size)).all(-1)

    # Inverse depth, because between two pixels of a plane it is linear. Where depth jumps nothing can be interpolated.
    disparity = 1 / depth[:, theirs]
    with torch.no_grad():
        flat = disparity.flatten(0, 1)[:, None]
        highest, lowest = F.max_pool2d(flat, 3, 1, 1), -F.max_pool2d(-flat, 3, 1, 1)
        jump = (highest / lowest - 1)[:, 0].unflatten(0, disparity.shape[:2])
        smooth = ((jump < 0.1) & (_eroded(known[:, theirs]))).float()
    seen_there = torch.cat([disparity[:, :, None], rgb[:, theirs], smooth[:, :, None]], 2).flatten(0, 1)
    grid = (pixels / size.clamp_min(1) * 2 - 1).flatten(0, 1)
    sampled = F.grid_sample(seen_there, grid, padding_mode="border", align_corners=True)
    sampled = sampled.unflatten(0, disparity.shape[:2])
    seen = (inside & known[:, ours] & (sampled[:, :, 4] > 0.999)).float()
    return _Gap(
        -(sampled[:, :, 0] * expected).log() * seen, (sampled[:, :, 1:4] - rgb[:, ours]) * seen[:, :, None], seen
    )


def _eroded(known: Tensor) -> Tensor:
    """(B, N, H, W) bool: known, and so are all neighbours in the picture."""
    unknown = (~known).flatten(0, 1).float()[:, None]
    return F.max_pool2d(unknown, 3, 1, 1)[:, 0].unflatten(0, known.shape[:2]) == 0


def _roughness(depth: Tensor, known: Tensor, rgb: Tensor) -> Tensor:
    """Bends of inverse depth away from colour edges, and what floats alone; relative to depth.

    Args: depth (N, H, W); known (N, H, W) bool; rgb (N, 3, H, W) without gradient.
    """
    disparity = 1 / depth
    scale = depth.detach()
    total = depth.new_zeros(())
    for axis in (-1, -2):
        length = depth.shape[axis]
        if length < 3:
            continue
        left, centre, right = (_part(axis, i, length - 2) for i in range(3))
        bend = (disparity[left] - 2 * disparity[centre] + disparity[right]) * scale[centre]
        edge = rgb.diff(dim=axis).abs().amax(1)
        nearest = torch.maximum(edge[_part(axis, 0, length - 2)], edge[_part(axis, 1, length - 2)])
        weight = (known[left] & known[centre] & known[right]).float()
        total = total + _mean(bend.abs(), weight * torch.exp(-_EDGE * nearest), weight)
    return total + _floating(disparity, scale, known)


def _floating(disparity: Tensor, scale: Tensor, known: Tensor) -> Tensor:
    """How far pixels stand before or behind all eight neighbours."""
    height, width = disparity.shape[-2:]
    if min(height, width) < 3:
        return disparity.new_zeros(())
    around = [disparity[:, i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    centre = around.pop(4)
    nearest, farthest = around[0], around[0]
    for neighbour in around[1:]:
        nearest, farthest = torch.maximum(nearest, neighbour), torch.minimum(farthest, neighbour)
    outside = F.relu(centre - nearest) + F.relu(farthest - centre)
    weight = _eroded(known[:, None])[:, 0, 1:-1, 1:-1].float()
    return _mean(outside * scale[:, 1:-1, 1:-1], weight, weight)


def _part(axis: int, start: int, length: int) -> tuple:
    """Index that takes `length` places from `start` along one of the last two axes."""
    part = slice(start, start + length)
    return (..., part) if axis == -1 else (..., part, slice(None))
