"""Where the parts of the robot are, as tensors: the capsules of its body, each in the frame of its link."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.robot.embodiment import Embodiment


@dataclass(frozen=True)
class Parts:
    """The C capsules of a robot's body at some moments.

    start, end: (..., C, 3) of the axis, metres in the base frame.
    origin: (..., C, 3) of the link that a capsule is fixed to.
    rotation: (..., C, 3, 3) from that link's frame to the base frame.
    radius: (C,) metres.
    tool: (..., 3) metres in the base frame, of the tool frame.
    """

    start: Tensor
    end: Tensor
    origin: Tensor
    rotation: Tensor
    radius: Tensor
    tool: Tensor

    def __getitem__(self, index: Any) -> "Parts":
        """Some of the moments."""
        start, end, origin, rotation = (t[index] for t in (self.start, self.end, self.origin, self.rotation))
        return Parts(start, end, origin, rotation, self.radius, self.tool[index])

    def shifted(self, by: Tensor) -> "Parts":
        """The robot standing `by` (..., 3) metres beside where its joints say."""
        each = by[..., None, :]
        return Parts(self.start + each, self.end + each, self.origin + each, self.rotation, self.radius, self.tool + by)


def parts_at(embodiment: Embodiment, states: Tensor) -> Parts:
    """The body at states (..., K) in physical units, as the robot measures them; float32.

    Raises: ValueError for a robot whose body is not described.
    """
    if embodiment.body is None:
        raise ValueError(f"the body of '{embodiment.name}' is not described")
    body = embodiment.body
    values = embodiment.measured_values(states.detach().double().cpu().numpy())
    poses = body.forward_kinematics(values)
    placed = np.stack([poses[capsule.frame] for capsule in body.capsules], -3)
    link = torch.from_numpy(placed).to(states.device, torch.float32)
    rotation, origin = link[..., :3, :3], link[..., :3, 3]
    ends = [
        torch.tensor([getattr(c, end) for c in body.capsules], dtype=torch.float32, device=states.device)
        for end in ("start", "end")
    ]
    start, end = (origin + (rotation @ e[..., None])[..., 0] for e in ends)
    radius = torch.from_numpy(body.radii).to(states.device, torch.float32)
    tool = torch.from_numpy(poses[embodiment.tool_frame][..., :3, 3]).to(states.device, torch.float32)
    return Parts(start, end, origin, rotation, radius, tool)
