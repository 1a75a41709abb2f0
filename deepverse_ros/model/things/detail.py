"""How closely futures are computed: exactly for one plan, or roughly for hundreds that are ranked."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deepverse_ros.model.things.slots import SURFACE


@dataclass(frozen=True)
class Detail:
    """How closely a future is computed.

    points: of a thing's surface that are looked at, even, at most 32.
    frames: of a plan that one step of the computation covers.
    parts: of a step in which a blocked robot is followed. rounds: of each part, in which its balance is found.
    """

    points: int
    frames: int
    parts: int
    rounds: int

    def steps(self, horizon: int) -> "Steps":
        """How a plan over `horizon` frames is gone through; the last step covers what is left."""
        ends = [*range(self.frames, horizon, self.frames), horizon]
        return Steps(ends, [end - begin for begin, end in zip([0, *ends], ends, strict=False)])


@dataclass(frozen=True)
class Steps:
    """ends: the frame after each step, from 1 on. counts: of the frames that each covers."""

    ends: list[int]
    counts: list[int]

    def of_frames(self, after: Tensor) -> Tensor:
        """For each frame (N, H, ...) what holds after its step. Args: after (N, steps, ...)."""
        if len(self.ends) == self.ends[-1]:
            return after
        return after.repeat_interleave(torch.tensor(self.counts, device=after.device), 1)

    def between(self, first: Tensor, after: Tensor) -> Tensor:
        """For each frame (N, H, ...) what lies straight between the ends of its step.

        Args: first (N, ...) before the first step; after (N, steps, ...).
        """
        if len(self.ends) == self.ends[-1]:
            return after
        before = self.of_frames(torch.cat([first[:, None], after[:, :-1]], 1))
        share = after.new_tensor([(i + 1) / count for count in self.counts for i in range(count)])
        return torch.lerp(before, self.of_frames(after), share.view(-1, *[1] * (after.ndim - 2)))


FINE = Detail(points=SURFACE, frames=1, parts=3, rounds=8)
"""In one step a tool moves 25 cm: in three parts it does not come out behind what it runs into."""
COARSE = Detail(points=8, frames=2, parts=1, rounds=4)
