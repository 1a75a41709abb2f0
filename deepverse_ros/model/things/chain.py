"""Points on the robot's body and how they move with each measured value, as tensors that gradients pass through."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.kinematics import Body, spheres_along

# Between neighbouring balls of a capsule, at most, in radii.
_SPACING = 1.5


class Placed(NamedTuple):
    """Balls that fill the body's capsules, at R states.

    points: (R, P, 3) of their centres, metres in the base frame.
    slopes: (R, P, 3, K) metres a unit of each measured value.
    """

    points: Tensor
    slopes: Tensor


class Chain(nn.Module):
    """The links of a body and P balls on those parts that may touch what the robot stands beside.

    capsule: (P,) which of the body's capsules a ball belongs to. radius: (P,) metres.
    """

    local: Tensor
    link: Tensor
    capsule: Tensor
    radius: Tensor
    carries: Tensor
    axes: Tensor
    shares: Tensor
    origins: Tensor
    slides: Tensor
    about: Tensor

    def __init__(self, embodiment: Embodiment, body: Body) -> None:
        super().__init__()
        names = [body.base, *(link.name for link in body.links)]
        firsts = dict(zip((m.name for m in embodiment.measured), _starts(embodiment), strict=True))
        self.links, self.names = body.links, names
        self.parents = [names.index(link.parent) for link in body.links]
        self.values = [None if link.modality is None else firsts[link.modality] + link.index for link in body.links]
        self.moving = [i for i, value in enumerate(self.values) if value is not None]
        balls = [
            (names.index(c.frame), np.asarray(c.start) * (1 - share) + np.asarray(c.end) * share, k, c.radius)
            for k, c in enumerate(body.capsules)
            if not c.mounted
            for share in spheres_along(math.dist(c.start, c.end), c.radius, _SPACING * c.radius)[0]
        ]
        turns = [np.asarray(link.axis) for link in body.links]
        carried = [[i + 1 in _above(self.parents, ball[0]) for i in self.moving] for ball in balls]
        shares = np.zeros((len(self.moving), embodiment.state_dim))
        for row, i in enumerate(self.moving):
            shares[row, self.values[i]] = body.links[i].per_unit
        for name, values in (
            ("local", [b[1] for b in balls]),
            ("radius", [b[3] for b in balls]),
            ("axes", turns),
            ("carries", carried),
            ("shares", shares),
            ("origins", [link.origin for link in body.links]),
            ("slides", [[float(body.links[i].motion == "slide")] for i in self.moving]),
        ):
            self.register_buffer(name, torch.tensor(np.asarray(values, np.float32)), persistent=False)
        for name, index in (("link", [b[0] for b in balls]), ("capsule", [b[2] for b in balls])):
            self.register_buffer(name, torch.tensor(index, dtype=torch.int64), persistent=False)
        cross = [np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) for x, y, z in turns]
        about = np.asarray([np.stack([c, c @ c]) for c in cross], np.float32)
        self.register_buffer("about", torch.from_numpy(about), persistent=False)

    def places(self, states: Tensor) -> Tensor:
        """(R, P, 3) of the balls at states (R, K)."""
        rotations, origins = self._frames(states)
        return self._points(rotations, origins)

    def origin(self, states: Tensor, frame: str) -> Tensor:
        """(R, 3) metres, base frame: where a frame is at states (R, K)."""
        return self._frames(states)[1][:, self.names.index(frame)]

    def forward(self, states: Tensor) -> Placed:
        """Args: states (R, K) in physical units."""
        rotations, origins = self._frames(states)
        points = self._points(rotations, origins)
        links = [i + 1 for i in self.moving]
        axes = (rotations[:, links] * self.axes[self.moving][:, None]).sum(-1)  # (R, moving, 3)
        arms = points[:, :, None] - origins[:, None, links]
        axes = axes[:, None].expand_as(arms)
        moves = torch.where(self.slides > 0, axes, torch.linalg.cross(axes, arms)) * self.carries[..., None]
        return Placed(points, moves.mT @ self.shares)

    def _points(self, rotations: Tensor, origins: Tensor) -> Tensor:
        return origins[:, self.link] + (rotations[:, self.link] * self.local[:, None]).sum(-1)

    def _frames(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (R, L, 3, 3) and origins (R, L, 3) of the base and of all links."""
        rows = len(states)
        rotations = [torch.eye(3, dtype=states.dtype, device=states.device).expand(rows, 3, 3)]
        origins = [states.new_zeros(rows, 3)]
        for i, link in enumerate(self.links):
            rotation, origin = rotations[self.parents[i]], origins[self.parents[i]]
            shift = self.origins[i]
            value = None if self.values[i] is None else link.per_unit * states[:, self.values[i], None]
            if value is not None and link.motion == "slide":
                shift = shift + self.axes[i] * value
            origins.append(origin + (rotation * shift[..., None, :]).sum(-1))
            if value is not None and link.motion == "turn":  # Rodrigues' formula
                sine, rest = value.sin()[..., None], (1 - value.cos())[..., None]
                rotation = rotation + sine * (rotation @ self.about[i, 0]) + rest * (rotation @ self.about[i, 1])
            rotations.append(rotation)
        return torch.stack(rotations, 1), torch.stack(origins, 1)


def _starts(embodiment: Embodiment) -> list[int]:
    """Where each measured modality begins in a state vector."""
    return [0, *np.cumsum([m.dim for m in embodiment.measured])[:-1].tolist()]


def _above(parents: list[int], frame: int) -> set[int]:
    """A frame and all that carry it; 0 is the base."""
    found = {frame}
    while frame > 0:
        frame = parents[frame - 1]
        found.add(frame)
    return found
