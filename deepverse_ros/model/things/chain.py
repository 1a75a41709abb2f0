"""The links of a body as tensors that gradients pass through: its parts, balls that fill them, and how these move.

A handful of matrix products places all of them, however many robots there are: with few robots, what takes time is the
number of operations.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from deepverse_ros.model.things.body import Parts
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.kinematics import Body, Link, spheres_along

# Between neighbouring balls of a capsule, at most, in radii.
_SPACING = 1.5


class Chain(nn.Module):
    """A body of C capsules, and P balls on those of them that may touch what the robot stands beside.

    capsule: (P,) which capsule a ball belongs to. radius: (P,) metres, at most `largest`.
    """

    local: Tensor
    capsule: Tensor
    radius: Tensor
    axes: Tensor
    slides: Tensor
    carries: Tensor
    moves: Tensor
    motions: Tensor
    values: Tensor
    units: Tensor
    ends: Tensor
    carriers: Tensor
    moving: Tensor
    radii: Tensor

    def __init__(self, embodiment: Embodiment, body: Body) -> None:
        super().__init__()
        self.tool_frame = embodiment.tool_frame
        self.names = [body.base, *(link.name for link in body.links)]
        self.parents = [self.names.index(link.parent) for link in body.links]
        firsts = dict(zip((m.name for m in embodiment.measured), _starts(embodiment), strict=True))
        values = [0 if link.modality is None else firsts[link.modality] + link.index for link in body.links]
        moving = [i for i, link in enumerate(body.links) if link.modality is not None]
        balls = sorted(
            (
                (self.names.index(c.frame), k, np.asarray(c.start) * (1 - share) + np.asarray(c.end) * share, c.radius)
                for k, c in enumerate(body.capsules)
                if not c.mounted
                for share in spheres_along(math.dist(c.start, c.end), c.radius, _SPACING * c.radius)[0]
            ),
            key=lambda ball: ball[:2],
        )
        links = [ball[0] for ball in balls]
        self.largest = max(ball[3] for ball in balls)
        self.counts = {link: links.count(link) for link in dict.fromkeys(links)}
        moved = [body.links[i] for i in moving]
        above = [_above(self.parents, link) for link in links]
        moves = np.zeros((len(moved), embodiment.state_dim))
        for row, i in enumerate(moving):
            moves[row, values[i]] = body.links[i].per_unit
        for name, numbers in (
            ("local", [[*ball[2], 1.0] for ball in balls]),
            ("radius", [ball[3] for ball in balls]),
            ("axes", [link.axis for link in moved]),
            ("slides", [float(link.motion == "slide") for link in moved]),
            ("carries", [[i + 1 in own for i in moving] for own in above]),
            ("moves", moves),
            ("motions", [_motions(link) for link in body.links]),
            ("units", [link.per_unit * (link.modality is not None) for link in body.links]),
            ("ends", [[[*c.start, 1.0], [*c.end, 1.0]] for c in body.capsules]),
            ("radii", body.radii),
        ):
            self.register_buffer(name, torch.tensor(np.asarray(numbers, np.float32)), persistent=False)
        carriers = [self.names.index(c.frame) for c in body.capsules]
        for name, index in (
            ("capsule", [ball[1] for ball in balls]),
            ("values", values),
            ("carriers", carriers),
            ("moving", [i + 1 for i in moving]),
        ):
            self.register_buffer(name, torch.tensor(index, dtype=torch.int64), persistent=False)

    def frames(self, states: Tensor) -> Tensor:
        """(1 + links, R, 4, 4) poses of base and links in the base frame at states (R, K), physical units."""
        value = states.T[self.values] * self.units[:, None]
        told = torch.stack([torch.ones_like(value), value.sin(), 1 - value.cos(), value], -1)
        local = (told @ self.motions).unflatten(-1, (4, 4))
        frames = [torch.eye(4, dtype=local.dtype, device=local.device).expand(len(states), 4, 4)]
        for parent, own in zip(self.parents, local.unbind(0), strict=True):
            frames.append(frames[parent] @ own if parent else own)
        return torch.stack(frames)

    def points(self, frames: Tensor) -> Tensor:
        """(R, P, 3) metres: centres of the balls. Args: frames: as of `frames`."""
        flat = frames[:, :, :3].flatten(1, 2)
        own = self.local.split([*self.counts.values()])
        placed = [flat[link] @ points.T for link, points in zip(self.counts, own, strict=True)]
        return torch.cat(placed, -1).unflatten(0, (-1, 3)).mT

    def places(self, states: Tensor) -> Tensor:
        """(R, P, 3) metres: centres of the balls at states (R, K)."""
        return self.points(self.frames(states))

    def slopes(self, frames: Tensor, points: Tensor, balls: Tensor) -> Tensor:
        """(R, B, 3, K) metres a unit of each measured value. Args: balls (R, B) and their points (R, B, 3)."""
        links = frames[self.moving, :, :3]
        # Links last, (R, 1, M) and (R, B, M): long rows are several times as fast as rows of three.
        axes = [axis.T[:, None] for axis in (links[..., :3] * self.axes[:, None, None]).sum(-1).unbind(-1)]
        x, y, z = (points[..., i, None] - links[:, None, :, i, 3].permute(2, 1, 0) for i in range(3))
        turns = (axes[1] * z - axes[2] * y, axes[2] * x - axes[0] * z, axes[0] * y - axes[1] * x)
        moves = torch.stack([torch.lerp(turn, axis, self.slides) for turn, axis in zip(turns, axes, strict=True)], 2)
        return (moves * self.carries[balls][:, :, None]).flatten(0, 2).mm(self.moves).unflatten(0, moves.shape[:3])

    def origin(self, states: Tensor, frame: str) -> Tensor:
        """(R, 3) metres, base frame: where a frame is at states (R, K)."""
        return self.frames(states)[self.names.index(frame), :, :3, 3]

    def parts(self, states: Tensor) -> Parts:
        """The body at states (..., K) in physical units, as the robot measures them."""
        before = states.shape[:-1]
        frames = self.frames(states.flatten(0, -2))
        link = frames[self.carriers][:, :, :3]  # (C, R, 3, 4)
        start, end = (link.flatten(1, 2) @ self.ends.mT).unflatten(1, (-1, 3)).permute(3, 1, 0, 2)
        link = link.transpose(0, 1)
        start, end, origin, rotation, tool = (
            t.unflatten(0, before)
            for t in (start, end, link[..., 3], link[..., :3], frames[self.names.index(self.tool_frame), :, :3, 3])
        )
        return Parts(start, end, origin, rotation, self.radii, tool)


def _starts(embodiment: Embodiment) -> list[int]:
    """Where each measured modality begins in a state vector."""
    return [0, *np.cumsum([m.dim for m in embodiment.measured])[:-1].tolist()]


def _motions(link: Link) -> np.ndarray:
    """(4, 16) poses in the parent's frame by what is added to them times 1, sine, 1 - cosine and value of a motion.

    Rodrigues' formula.
    """
    x, y, z = link.axis
    about = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    motions = np.zeros((4, 4, 4))
    motions[0] = np.eye(4)
    motions[0, :3, 3] = link.origin
    if link.motion == "turn":
        motions[1, :3, :3], motions[2, :3, :3] = about, about @ about
    else:
        motions[3, :3, 3] = link.axis
    return motions.reshape(4, 16)


def _above(parents: list[int], frame: int) -> set[int]:
    """A frame and all that carry it; 0 is the base."""
    found = {frame}
    while frame > 0:
        frame = parents[frame - 1]
        found.add(frame)
    return found
