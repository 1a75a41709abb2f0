"""Where a robot stands beside what it was told, or beside its joints' word: by where its tool is read."""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.model.readout import Camera
from deepverse_ros.robot.embodiment import Embodiment

# A robot does not stand as it was told where its tool is read so many deviations, of at least so many metres, away.
_DOUBT, _SHARPEST = 3.0, 0.01
# The whole robot stands elsewhere where so many frames, and no other, show its tool so many metres and deviations off,
# none farther from their mean than that share of it, or so many deviations.
_FRAMES, _DISPLACED, _SURE, _APART = 2, 0.05, 4.0, 0.3
# Around where a tool is read something has to be seen, within that share of the picture's height to every side, that is
# no farther than so many metres behind it.
_AROUND, _BEHIND = 0.04, 0.1


def reconcile(embodiment: Embodiment, actions: Tensor, tool: Tensor, std: Tensor) -> Tensor | None:
    """How the robot stands after actions, when its tool is read at a place.

    It stands as it was told, unless the tool is not where that would bring it, because something stopped the robot.

    Args:
        actions: (..., A).
        tool: (..., 3) metres.
        std: (...) metres.
    Returns: (..., K) physical units; None for a robot that does not measure the quantities of its actions, or whose
    body is not described.
    """
    if embodiment.body is None or embodiment.proprioception is not None:
        return None
    told, read = (t.detach().double().flatten(0, -2).cpu().numpy() for t in (actions, tool))
    values = embodiment.measured_values(told)
    brought = embodiment.body.forward_kinematics(values)[embodiment.tool_frame][:, :3, 3]
    off = np.linalg.norm(read - brought, axis=-1)
    doubted = off > _DOUBT * std.detach().double().flatten().cpu().numpy().clip(_SHARPEST)
    if doubted.any():
        some = {name: v[doubted] for name, v in values.items()}
        for name, v in embodiment.body.inverse_kinematics(some, embodiment.tool_frame, read[doubted]).items():
            values[name][doubted] = v
    stands = np.concatenate([values[m.name] for m in embodiment.measured], -1)
    return torch.from_numpy(stands).to(actions.device, torch.float32).unflatten(0, actions.shape[:-1])


def displacement(embodiment: Embodiment, states: Tensor, tool: Tensor, std: Tensor) -> Tensor:
    """How far the whole robot stands beside where its joints say.

    Only where all frames, and two at least, agree on it: a single one may be misread. A frame whose state
    is unknown has no say.

    Args:
        states: (B, T, K) as measured, NaN unknown.
        tool: (B, T, 3) metres in the base frame, as read in the frames.
        std: (B, T) metres, of each axis of `tool`.
    Returns: (B, 3) metres; 0 where it stands as its joints say, where no state is known, and for a robot whose body is
    not described.
    """
    nowhere = torch.zeros_like(tool[:, 0])
    if embodiment.body is None or embodiment.tool_frame not in embodiment.body.frames:
        return nowhere
    values = embodiment.measured_values(states.detach().double().cpu().numpy())
    said = embodiment.body.forward_kinematics(values)[embodiment.tool_frame][..., :3, 3]
    off = tool - torch.from_numpy(said).to(tool)
    known = torch.isfinite(off).all(-1) & torch.isfinite(std)
    off, std = torch.where(known[..., None], off, 0.0), torch.where(known, std, 1.0)
    # No frame's word counts for more than that of one that is sure of it to a centimetre.
    weight = known / std.clamp_min(_SHARPEST).square()
    mean = (off * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp_min(1e-9)
    far = off.norm(dim=-1) > (_SURE * std).clamp_min(_DISPLACED)
    agree = (off - mean[:, None]).norm(dim=-1) < torch.maximum(_SURE * std, _APART * mean.norm(dim=-1, keepdim=True))
    displaced = (known.sum(1) >= _FRAMES) & ((far & agree) | ~known).all(1)
    return torch.where(displaced[:, None], mean, nowhere)


def read_in_vain(embodiment: Embodiment, frames: Tensor, tool: Tensor, camera: Camera) -> Tensor:
    """Whether frames cannot show the tool where it is read: it is out of the picture, or only what lies behind is seen.

    A readout answers for a picture without a robot too, and does not always know how little it knows then.

    Args: frames (M, 5, H, W) as the codec takes them; tool (M, 3) metres in the base frame; camera of batch M.
    Returns: (M,) bool; where no depth is known around it, a tool within the picture may be there.
    """
    height, width = frames.shape[-2:]
    pixel, away = geometry.project(tool[:, None], camera.intrinsics, camera.camera_to_world)
    pixel, away = pixel[:, 0], away[:, 0]
    size = pixel.new_tensor([width, height])
    inside = (away > 0) & ((pixel > -0.5) & (pixel < size - 0.5)).all(-1)
    reach = max(1, round(_AROUND * height))
    steps = torch.arange(-reach, reach + 1, device=frames.device)
    column, row = ((pixel.nan_to_num()[:, axis].round().long()[:, None] + steps) for axis in (0, 1))
    flat = (row.clamp(0, height - 1)[:, :, None] * width + column.clamp(0, width - 1)[:, None]).flatten(1)
    code, known = (frames[:, channel].flatten(1).gather(1, flat).float() for channel in (3, 4))
    seen = embodiment.camera
    depth = geometry.depth_from_sqrt_disparity(code, seen.near, seen.far)
    behind = (known > 0.5) & (depth > away[:, None] + _BEHIND)
    return ~inside | ((known > 0.5).any(1) & (behind | (known <= 0.5)).all(1))
