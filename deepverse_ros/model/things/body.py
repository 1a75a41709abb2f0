"""Where the parts of the robot are, as tensors: the capsules of its body, each in the frame of its link."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


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
