"""Leading the tool straight to its end."""

from dataclasses import dataclass

from torch import Tensor

from deepverse_ros.planning.objectives.base import Future


@dataclass(frozen=True)
class Straightness:
    """Lead the tool straight to its end, as one pushes things: how much longer than that its way is, in metres.

    The way begins after the first step, as a plan says nothing about where the tool was before.
    """

    def __call__(self, future: Future, plans: Tensor) -> Tensor:
        tool = future.readout["tool_position"]
        return tool.diff(dim=1).norm(dim=-1).sum(dim=1) - (tool[:, -1] - tool[:, 0]).norm(dim=-1)
