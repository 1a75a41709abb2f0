"""Where the robot's own body appears in a picture, drawn from what it measures of itself.

A decoder that is shown the outline of the robot need not guess it from a latent: joints say it to the pixel.
"""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.robot.embodiment import Embodiment

STRIDE = 2
"""Pixels of the picture along a side of a drawn one."""
CHANNELS = 4
"""See `draw`."""


def draw(
    embodiment: Embodiment, states: Tensor, intrinsics: Tensor, camera_to_world: Tensor, height: int, width: int
) -> Tensor:
    """Draw the capsules of the body, the nearest one where several lie behind each other.

    A capsule is drawn as the discs along its axis, which is exact where the camera is far from it.

    Args:
        states: (M, K) physical units.
        intrinsics: (3, 3) or (M, 3, 3) of a picture of height x width pixels.
        camera_to_world: (M, 4, 4).
    Returns: (M, 4, height / 2, width / 2): number of the capsule, counted from 1, or 0 for none; how far inside its
    outline, 1 on its axis, 0 on the outline, down to -1 outside; sqrt-disparity of its surface, 0 for none; place along
    its axis, 0 to 1. All 0 for a robot whose body is not described, and where states or pose are not known.
    """
    count, rows, columns = len(states), height // STRIDE, width // STRIDE
    if embodiment.body is None:
        return states.new_zeros(count, CHANNELS, rows, columns)
    body = embodiment.body
    device = states.device
    values = embodiment.measured_values(states.detach().double().cpu().numpy())
    ends = torch.from_numpy(np.stack(body.capsule_ends(values), -2)).to(device, torch.float32)  # (M, C, 2, 3)
    matrices = intrinsics.to(device, torch.float32).expand(count, 3, 3)
    pixel, depth = geometry.project(ends, matrices, camera_to_world.to(device, torch.float32))
    # In drawn pixels, whose centres have whole coordinates.
    pixel = (pixel + 0.5) / STRIDE - 0.5
    size = matrices[:, 0, 0, None] / STRIDE * torch.from_numpy(body.radii).to(device, torch.float32)
    number, place = (torch.zeros(count, rows, columns, device=device) for _ in range(2))
    nearest, outside = (torch.full_like(number, float(far)) for far in (torch.inf, 2))
    # One capsule after the other: all at once would not fit into a processor's cache.
    for k, (down, across) in enumerate(_boxes(pixel, depth, size, rows, columns)):
        box = slice(None), down, across
        v = torch.arange(down.start, down.stop, device=device, dtype=torch.float32)[:, None]
        u = torch.arange(across.start, across.stop, device=device, dtype=torch.float32)
        (u0, v0), (u1, v1) = (pixel[:, k, end, :, None, None].unbind(1) for end in (0, 1))
        (near0, near1) = (1 / depth[:, k, end, None, None] for end in (0, 1))
        du, dv = u1 - u0, v1 - v0
        u_off, v_off = u - u0, v - v0
        along = ((u_off * du + v_off * dv) / (du.square() + dv.square()).clamp_min(1e-9)).clamp_(0, 1)
        z = 1 / torch.lerp(near0, near1, along)  # inverse depth is linear in the picture
        away = torch.hypot(u_off - along * du, v_off - along * dv) * z / size[:, k, None, None]
        # A capsule that reaches behind the camera is nowhere.
        away = away.nan_to_num_(2.0).masked_fill_((near0 <= 0) | (near1 <= 0), 2.0).clamp_(max=2.0)
        radius = float(body.radii[k])
        surface = (z - radius * (1 - away.square()).clamp_(min=0).sqrt_()).masked_fill_(away > 1, torch.inf)
        before = nearest[box]
        closer = surface < before
        number[box].masked_fill_(closer, k + 1.0)
        place[box] = torch.where(closer, along, place[box])
        # On the body, how far inside the outline of the nearest capsule; beside it, of the one least far away.
        beside = ~torch.isfinite(before) & (away < outside[box])
        outside[box] = torch.where(closer | beside, away, outside[box])
        nearest[box] = torch.minimum(before, surface)
    inside = 1 - outside
    hit = number > 0
    camera = embodiment.camera
    code = geometry.sqrt_disparity(nearest.clamp_max(camera.far), camera.near, camera.far)
    drawn = torch.stack([number, inside, code * hit, place], 1)
    known = torch.isfinite(states).all(-1) & torch.isfinite(camera_to_world).flatten(1).all(-1).to(device)
    return torch.where(known[:, None, None, None], drawn, 0.0)


def _boxes(pixel: Tensor, depth: Tensor, size: Tensor, rows: int, columns: int) -> list[tuple[slice, slice]]:
    """Rows and columns outside of which a capsule is nowhere less than 2 radii from its axis, in any of the pictures.

    Args: pixel (M, C, 2, 2), depth (M, C, 2) of the ends; size (M, C): radius in pixels at a depth of 1 m.
    """
    ahead = (depth > 0).all(-1, keepdim=True) & torch.isfinite(pixel).all(-1).all(-1, keepdim=True)  # (M, C, 1)
    reach = 2 * size[..., None] * (1 / depth).amax(-1, keepdim=True)
    nothing = torch.tensor(torch.inf, device=pixel.device)
    low = torch.where(ahead, pixel.amin(2) - reach, nothing).amin(0).ceil()
    high = torch.where(ahead, pixel.amax(2) + reach, -nothing).amax(0).floor() + 1
    limit = torch.tensor([columns, rows], device=pixel.device)
    begin, end = (torch.minimum(edge.clamp_min(0), limit).long() for edge in (low, high))
    ends = torch.maximum(begin, end).tolist()
    return [(slice(v0, v1), slice(u0, u1)) for (u0, v0), (u1, v1) in zip(begin.tolist(), ends, strict=True)]
