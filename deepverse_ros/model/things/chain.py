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
    capsule: Tensor
    radius: Tensor
    carries: Tensor
    axes: Tensor
    origins: Tensor
    about: Tensor
    order: Tensor

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
        links = [ball[0] for ball in balls]
        # By the link that carries them; `order` brings them back into that of the capsules.
        self.balls = {link: [k for k, own in enumerate(links) if own == link] for link in sorted(set(links))}
        order = np.argsort(np.concatenate([*self.balls.values()]))
        for name, values in (
            ("local", [b[1] for b in balls]),
            ("radius", [b[3] for b in balls]),
            ("axes", turns),
            ("carries", carried),
            ("origins", [link.origin for link in body.links]),
        ):
            self.register_buffer(name, torch.tensor(np.asarray(values, np.float32)), persistent=False)
        for name, index in (("order", order), ("capsule", [b[2] for b in balls])):
            self.register_buffer(name, torch.tensor(index, dtype=torch.int64), persistent=False)
        cross = [np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) for x, y, z in turns]
        about = np.asarray([np.stack([c, c @ c]) for c in cross], np.float32)
        self.register_buffer("about", torch.from_numpy(about), persistent=False)

    def places(self, states: Tensor) -> Tensor:
        """(R, P, 3) of the balls at states (R, K)."""
        return self._points(*self._frames(states)).permute(2, 1, 0).contiguous()

    def origin(self, states: Tensor, frame: str) -> Tensor:
        """(R, 3) metres, base frame: where a frame is at states (R, K)."""
        return self._frames(states)[1][self.names.index(frame)].T

    def forward(self, states: Tensor) -> Placed:
        """Args: states (R, K) in physical units."""
        rotations, origins = self._frames(states)
        points = self._points(rotations, origins)
        slopes: list[list[Tensor]] = [[] for _ in range(states.shape[1])]
        for row, i in enumerate(self.moving):
            axis = (rotations[i + 1] * self.axes[i][:, None]).sum(1)[:, None]  # (3, 1, R)
            if self.links[i].motion == "slide":
                move = axis.expand_as(points)
            else:
                move = torch.linalg.cross(axis.expand_as(points), points - origins[i + 1][:, None], dim=0)
            slopes[self.values[i] or 0].append(self.links[i].per_unit * self.carries[:, row, None] * move)
        whole = torch.stack([torch.stack(parts).sum(0) if parts else torch.zeros_like(points) for parts in slopes])
        return Placed(points.permute(2, 1, 0).contiguous(), whole.permute(3, 2, 1, 0).contiguous())

    def _points(self, rotations: list[Tensor], origins: list[Tensor]) -> Tensor:
        """(3, P, R) of the balls."""
        placed = [self.local[mine] @ rotations[link] + origins[link][:, None] for link, mine in self.balls.items()]
        return torch.cat(placed, 1)[:, self.order]

    def _frames(self, states: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Rotations (3, 3, R) and origins (3, R) of the base and of all links.

        The many come last, so that every operation runs over long rows.
        """
        values = states.T.contiguous()
        count = values.shape[1]
        rotations = [torch.eye(3, dtype=values.dtype, device=values.device)[..., None].expand(3, 3, count)]
        origins = [values.new_zeros(3, count)]
        for i, link in enumerate(self.links):
            rotation, origin = rotations[self.parents[i]], origins[self.parents[i]]
            shift, index = self.origins[i][:, None], self.values[i]
            value = None if index is None else link.per_unit * values[index]
            if value is not None and link.motion == "slide":
                shift = shift + self.axes[i][:, None] * value
            origins.append(origin + (rotation * shift).sum(1))
            if value is not None and link.motion == "turn":  # Rodrigues' formula
                once, twice = self.about[i, 0].mT @ rotation, self.about[i, 1].mT @ rotation
                rotation = rotation + value.sin() * once + (1 - value.cos()) * twice
            rotations.append(rotation)
        return rotations, origins


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
