"""Losses that ask whether what was imagined could be one world: in space and time, and in cause and effect.

They need no true frames, so they also judge futures that nobody recorded.

The spacetime loss compares frames by projection and not through `SpacetimeVolume`: a voxel's number does not change
when a depth changes a little, so fusing gives depth no gradient, and to fuse and query every frame of a batch takes
several times as long.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepverse_ros import geometry
from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import ShapeError

# How fast a colour edge silences the smoothness of depth: at a step of 0.1 its weight is a third.
_EDGE = 10.0
# Points nearer than this in front of the other camera, in metres, count as behind it.
_NEAREST = 1e-2
# Spread of `StateDynamics`, in units of the usual change: from a fiftieth to seven times.
_LOG_SPREAD = (-4.0, 2.0)


# --- space and time -------------------------------------------------------------------------------------------------


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
    "smoothness": inverse depth is piecewise linear in the picture, as planes are, with edges where the colour has
    some (as in Godard et al., arXiv 1609.03677, but of second order), and no pixel floats before or behind all eight
    of its neighbours.
    Each is a mean of absolute values: relative depth plus colour in 0..1. Planes that stand still give zero, apart
    from the interpolation of their colours where the camera moves.

    Args: depth (B, T, H, W) metres, NaN unknown, T >= 3; rgb (B, T, 3, H, W) in [0, 1]; intrinsics of these pictures;
    camera_to_world (4, 4) or (B, 4, 4) for a fixed camera (cheaper: every pixel is its own neighbour), (B, T, 4, 4)
    for one that moves. moving (B, T, H, W) bool: pixels that are not compared, best from `moving_pixels` of the true
    frames. Without it a difference well beyond the tolerances (relative depth; colour) is taken for motion and left
    alone, so only what almost agrees is pulled together. spatial, temporal, smoothness: weights in "total".
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
    disparity, scale = 1 / depth, depth.detach()
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


# --- cause and effect -----------------------------------------------------------------------------------------------

# (states (..., K), actions (..., A)) to the change of the state until the next frame (..., K) and its spread (..., K)
ExpectedChange = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class StateDynamics(nn.Module):
    """What an action does to a small state, such as the joints or the tool's position: change and spread.

    Learned from true states alone, it knows the robot and nothing of the scene: where something may stop the arm,
    its spread is wide.
    """

    lower: Tensor
    upper: Tensor
    angles: Tensor
    centre: Tensor
    spread: Tensor
    usual_change: Tensor

    def __init__(self, embodiment: Embodiment, state_dim: int, width: int = 48) -> None:
        super().__init__()
        self.register_buffer("lower", torch.from_numpy(embodiment.lower), persistent=False)
        self.register_buffer("upper", torch.from_numpy(embodiment.upper), persistent=False)
        angles = torch.tensor([m.units == "rad" for m in embodiment.modalities for _ in range(m.dim)])
        self.register_buffer("angles", angles.nonzero()[:, 0], persistent=False)
        # Of the states that it is trained on: mean, standard deviation and root mean square of a step's change.
        self.register_buffer("centre", torch.zeros(state_dim))
        self.register_buffer("spread", torch.ones(state_dim))
        self.register_buffer("usual_change", torch.ones(state_dim))
        inputs = state_dim + embodiment.action_dim + 2 * len(self.angles)
        self.direct = nn.Linear(inputs, 2 * state_dim)
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2 * state_dim)
        )

    @torch.no_grad()
    def fit_scales(self, states: Tensor) -> None:
        """Learn the units of the states (..., T, K) that training will show; once, before training."""
        flat = states.flatten(0, -2)
        self.centre.copy_(flat.mean(0))
        self.spread.copy_(flat.std(0).clamp_min(1e-6))
        self.usual_change.copy_(states.diff(dim=-2).flatten(0, -2).square().mean(0).sqrt().clamp_min(1e-6))

    def forward(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Args: states (..., K) in their units; actions (..., A) that lead to the next frame, physical units.

        Returns: change until the next frame (..., K), and its expected absolute error (..., K).
        """
        x = (actions - self.lower) / (self.upper - self.lower) * 2 - 1
        angles = actions[..., self.angles]
        features = torch.cat([(states - self.centre) / self.spread, x, torch.sin(angles), torch.cos(angles)], -1)
        change, log_spread = (self.direct(features) + self.body(features)).chunk(2, -1)
        return change * self.usual_change, log_spread.clamp(*_LOG_SPREAD).exp() * self.usual_change


def state_dynamics_loss(model: StateDynamics, states: Tensor, actions: Tensor) -> dict[str, Tensor]:
    """Training of `StateDynamics` on true states (B, T, K) and the actions (B, T-1, A) between them.

    Returns: "total", a Laplace negative log-likelihood per number, in units of the usual change, so that the rare
    contacts do not own the gradient; "error", the mean absolute error as a share of the usual change.
    """
    _check_states(states, actions)
    change, spread = model(states[:, :-1], actions)
    error = (states.diff(dim=1) - change).abs() / model.usual_change
    spread = spread / model.usual_change
    return {"total": (error / spread + spread.log()).mean(), "error": error.mean()}


def causal_consistency_loss(states: Tensor, actions: Tensor, expected_change: ExpectedChange) -> dict[str, Tensor]:
    """Whether the state that is read from predicted frames changes as the actions say.

    The expectation gets no gradient: predicted frames follow the actions, never the other way round. An error counts
    in units of the spread that the expectation gives itself, by a Cauchy penalty: a contact that it cannot know of
    pulls little.

    Args: states (B, T, K), differentiable, read from T successive predicted frames (the first may be observed) by
    something that sees the frames alone: a readout that is also told the action agrees with it anyway.
    actions (B, T-1, A): actions[:, t] leads from frame t to t+1. expected_change: such as a trained `StateDynamics`.
    Returns: scalars "total" and "error", the mean absolute error of a change in the state's own unit.
    Raises: ShapeError naming the argument.
    """
    _check_states(states, actions)
    with torch.no_grad():
        change, spread = expected_change(states[:, :-1], actions)
    error = states.diff(dim=1) - change
    penalty = torch.log1p(0.5 * (error / spread).square())
    return {"total": penalty.mean(), "error": error.detach().abs().mean()}


@torch.no_grad()
def future_action_leak(predict: Callable[[Tensor], Tensor], actions: Tensor, others: Tensor) -> Tensor:
    """How much predictions depend on actions that come after them; all zero for a causal model.

    Args: predict: plans (B, H, A) to predictions (B, H, ...), where prediction t is what action t leads to;
    actions, others (B, H, A): two plans for the same past, which must differ at every step.
    Returns: (H-1,): largest change of predictions 0..t when the actions after t are those of the other plan.
    """
    if actions.shape != others.shape or actions.ndim != 3 or actions.shape[1] < 2:
        raise ShapeError(
            f"actions, others: expected two plans (B, H >= 2, A), got {tuple(actions.shape)}, {tuple(others.shape)}"
        )
    truth = predict(actions)
    leaks = []
    for t in range(actions.shape[1] - 1):
        mixed = torch.cat([actions[:, : t + 1], others[:, t + 1 :]], 1)
        leaks.append((predict(mixed)[:, : t + 1] - truth[:, : t + 1]).abs().max())
    return torch.stack(leaks)


def _check_states(states: Tensor, actions: Tensor) -> None:
    if states.ndim != 3 or states.shape[1] < 2:
        raise ShapeError(f"states: expected (B, T, K) with T >= 2, got {tuple(states.shape)}")
    if actions.ndim != 3 or actions.shape[:2] != (states.shape[0], states.shape[1] - 1):
        raise ShapeError(
            f"actions: expected ({states.shape[0]}, {states.shape[1] - 1}, A), one between two states, "
            f"got {tuple(actions.shape)}"
        )
