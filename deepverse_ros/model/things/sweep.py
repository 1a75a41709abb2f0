"""How the robot's parts sweep through space from one moment to the next, and what that is to a point beside them.

Vectors have their axes first, (3, ..., R), and what there is most of last: sums over x, y and z are then sums of whole
tensors, two to three times faster than over rows of three.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from deepverse_ros.model.things.body import Parts

MOMENTS = 3
"""Of a step at which distances are taken: its beginning, halfway, its end."""
_SMALL = 1e-8


@dataclass(frozen=True)
class Sweeps:
    """The C parts of a robot over the steps of N plans.

    table: (H, 42, C, N) of each step: three starts and three axes, one of each moment, (9 + 9) metres; the inverse of
        the axes' squared lengths (3); the link's origin (3) and rotation (9) at the beginning, its turn to the end
        less the unit matrix (9).
    shift: (H, 3, C, N) metres that the link's origin goes.
    turn: (H, 3, C, N) the link's turn as a rotation vector, rad.
    reach: (H, C, N) metres: how far a part can be from where it is halfway, its radius included.
    radius: (C,) metres.
    """

    table: Tensor
    shift: Tensor
    turn: Tensor
    reach: Tensor
    radius: Tensor

    @classmethod
    def of(cls, parts: Parts, after: list[int]) -> "Sweeps":
        """Of H steps, each of one frame or more.

        Halfway through a step the body is where the frame in its middle has it, or between the two beside its middle.

        Args: parts (N, 1 + frames, C): the body at the newest frame, and after each. after: the frame that ends a step.
        """
        before = [0, *after[:-1]]
        first, second = ([(i + j + more) // 2 for i, j in zip(before, after, strict=True)] for more in (0, 1))
        starts, ends = (
            torch.stack([point[before], (point[first] + point[second]) / 2, point[after]], 1)
            for point in (t.permute(1, 3, 2, 0) for t in (parts.start, parts.end))
        )  # (H, 3 moments, 3, C, N)
        parts = parts[:, [0, *after]]
        origin = parts.origin.permute(1, 3, 2, 0)
        axes = ends - starts
        inverse = 1 / (axes.square().sum(2) + _SMALL)
        rotation = parts.rotation.permute(1, 3, 4, 2, 0).contiguous()  # (1 + H, 3, 3, C, N)
        turned = torch.stack([
            torch.stack([(rotation[1:, i] * rotation[:-1, j]).sum(1) for j in range(3)], 1) for i in range(3)
        ], 1)  # fmt: skip
        less = turned - torch.eye(3, dtype=turned.dtype, device=turned.device)[:, :, None, None]
        table = [starts.flatten(1, 2), axes.flatten(1, 2), inverse, origin[:-1], rotation[:-1].flatten(1, 2)]
        away = torch.cat([t[:, ::2] - t[:, 1:2] for t in (starts, ends)], 1)
        return cls(
            table=torch.cat([*table, less.flatten(1, 2)], 1).contiguous(),
            shift=(origin[1:] - origin[:-1]).contiguous(),
            turn=rotation_vector(turned.movedim((1, 2), (0, 1))).movedim(0, 1).contiguous(),
            reach=away.square().sum(2).amax(1).sqrt() + parts.radius[:, None],
            radius=parts.radius,
        )

    def least_gaps(self, step: int, points: Tensor) -> Tensor:
        """Metres (C, K, N) that points (3, K, N) are from the parts at least, at any moment of a step."""
        part = self.table[step][:, :, None]
        offset, axis = points[:, None] - part[3:6], part[12:15]
        offset = offset - (dot(offset, axis) * part[19]).clamp(0, 1) * axis
        return dot(offset, offset).sqrt() - self.reach[step][:, None]

    def near(self, step: int, part: Tensor, plan: Tensor) -> "Near":
        """Some parts of each of R rows. Args: part (K, R) their numbers; plan (R,)."""
        index = (part * self.table.shape[-1] + plan).flatten()

        def of(values: Tensor) -> Tensor:
            return values[step].flatten(1).index_select(1, index).unflatten(1, part.shape)

        return Near(of(self.table), of(self.shift), of(self.turn), self.radius[part])


@dataclass(frozen=True)
class Near:
    """The K parts nearest to each of R things, in one step: see `Sweeps`; table (42, K, R), radius (K, R)."""

    table: Tensor
    shift: Tensor
    turn: Tensor
    radius: Tensor

    def offsets(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """From each part's nearest point to points (3, P, R), at each moment.

        Returns: (3, 3 moments, K, P, R) metres; gaps (3 moments, K, P, R), below 0 within the part.
        """
        start, axis = (self.table[i : i + 9].unflatten(0, (MOMENTS, 3)).transpose(0, 1)[..., None, :] for i in (0, 9))
        offset = points[:, None, None] - start
        share = (dot(offset, axis) * self.table[18:21, :, None]).clamp(0, 1)
        offset = offset - share * axis
        return offset, (dot(offset, offset) + _SMALL).sqrt() - self.radius[:, None]

    def carried(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Points (3, K, R) in the frames of their links, and how far they would go if they stuck to them: (3, K, R)."""
        return carried(self.table[21:], self.shift, points)


def carried(link: Tensor, shift: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Args: link (21, ...): origin, rotation, turn less the unit matrix; shift (3, ...) of the origin; points (3, ...).

    Returns: the points in the link's frame, and how far they go with it, (3, ...) metres.
    """
    arm = points - link[:3]
    rotation, turn = link[3:12].unflatten(0, (3, 3)), link[12:21].unflatten(0, (3, 3))
    return (rotation * arm[:, None]).sum(0), turned(turn, arm) + shift


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Products of vectors (3, ...)."""
    return (a * b).sum(0)


def turned(rotation: Tensor, vectors: Tensor) -> Tensor:
    """Vectors (3, ...) turned by rotations (3, 3, ...)."""
    return (rotation * vectors).sum(1)


def after(rotation: Tensor, before: Tensor) -> Tensor:
    """One rotation (3, 3, ...) after another one."""
    return (rotation[:, :, None] * before).sum(1)


def rotation_of(vector: Tensor) -> Tensor:
    """Rotations (3, 3, ...) of rotation vectors (3, ...) in rad."""
    square = dot(vector, vector)
    angle = (square + _SMALL).sqrt()
    sine, rest = angle.sin() / angle, 2 * ((angle / 2).sin() / angle).square()
    x, y, z = sine * vector
    none = torch.zeros_like(x)
    # Rodrigues' formula, the square of the cross product's matrix written out: v v^T - |v|^2.
    cross = torch.stack([none, -z, y, z, none, -x, -y, x, none]).unflatten(0, (3, 3))
    one = torch.eye(3, dtype=vector.dtype, device=vector.device).reshape(3, 3, *[1] * square.ndim)
    return (1 - rest * square) * one + cross + rest * vector[:, None] * vector


def rotation_vector(rotation: Tensor) -> Tensor:
    """Rotation vectors (3, ...) in rad of rotations (3, 3, ...) by less than half a turn."""
    r = rotation
    axis = torch.stack([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / 2
    sine = (dot(axis, axis) + _SMALL**2).sqrt()
    angle = torch.atan2(sine, (r[0, 0] + r[1, 1] + r[2, 2] - 1) / 2)
    return axis * (angle / sine)
