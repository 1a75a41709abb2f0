"""Where a robot stands beside what it was told, or beside its joints' word: by where its tool is read."""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.robot.embodiment import Embodiment

# A robot does not stand as it was told where its tool is read so many deviations, of at least so many metres, away.
_DOUBT, _SHARPEST = 3.0, 0.01
# The whole robot stands elsewhere where so many frames, and no other, show its tool so many metres and deviations off,
# none farther from their mean than that share of it, or so many deviations.
_FRAMES, _DISPLACED, _SURE, _APART = 2, 0.05, 4.0, 0.3


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
