"""The robot's own body: a chain of links, and the capsules that cover it. numpy only, so that safety may use it."""

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

NAME = r"^[^\x00-\x1f\x7f\u2028\u2029]+$"
"""Of frames and the like, which stand in messages to people: no line breaks."""
Metres = Annotated[float, Field(ge=-1e5, le=1e5)]
Vector = tuple[Metres, Metres, Metres]
# Of `led`: metres, in which directions are given up that a value hardly moves a frame in, and the largest step.
DAMPING, LARGEST = 0.05, 0.3


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ignored_types=(cached_property,))


class Link(_Frozen):
    """A frame of the robot, fixed to its parent or moved by one value that the robot measures.

    origin: of the frame in the parent's, metres; both have the same axes where the value is zero. modality, index:
    the measured value that moves it (None: fixed). motion: it turns about `axis` or slides along it. per_unit: rad or
    metres for one unit of the value.
    """

    name: str = Field(pattern=NAME, max_length=200)
    parent: str
    origin: Vector = (0.0, 0.0, 0.0)
    axis: Vector = (0.0, 0.0, 1.0)
    modality: str | None = None
    index: int = Field(default=0, ge=0)
    motion: Literal["turn", "slide"] = "turn"
    per_unit: float = Field(default=1.0, ge=-1e6, le=1e6)

    @model_validator(mode="after")
    def _unit_axis(self) -> "Link":
        if not abs(np.linalg.norm(self.axis) - 1) <= 1e-6:
            raise ValueError(f"link '{self.name}': axis must have length 1, got {self.axis}")
        return self


class Capsule(_Frozen):
    """All points within `radius` of the segment from `start` to `end`, metres in `frame`; a ball where these agree.

    mounted: it always is beside what the robot stands on, so that its distance to things says nothing.
    """

    frame: str
    start: Vector
    end: Vector
    radius: float = Field(gt=0, le=1e3)
    mounted: bool = False


def square_distance(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(...) square metres from points (..., 3) to the segments from `start` to `end`, both (..., 3); NaN stays.

    Squares, because a comparison with a radius needs no root of every point; and x, y, z apart, because long rows of
    numbers are several times as fast as rows of three.
    """
    p, a, b = (np.moveaxis(ends, -1, 0) for ends in (points, start, end))
    along, gap = [b[i] - a[i] for i in range(3)], [p[i] - a[i] for i in range(3)]
    share = _share(gap, along)
    x, y, z = (gap[i] - share * along[i] for i in range(3))
    return x**2 + y**2 + z**2


def square_distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(N, K) float32 square metres from points (N, 3) to the segments from `start` to `end`, both (K, 3).

    As `square_distance` of every pair, by matrix products: twice as quick. The squares are exact to single precision:
    distances of centimetres and more to micrometres, those near 0 only to a millimetre.
    """
    middle = start.mean(0)
    points, start, along = (v.astype(np.float32) for v in (points - middle, start - middle, end - start))
    square = np.einsum("ki,ki->k", along, along)
    gap = np.einsum("ni,ni->n", points, points)[:, None] - 2 * points @ start.T + np.einsum("ki,ki->k", start, start)
    ahead = points @ along.T - np.einsum("ki,ki->k", start, along)
    share = np.clip(ahead / np.where(square > 0, square, 1), 0, 1)
    return gap - share * (2 * ahead - share * square)


def nearest_place(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(3,) the place on the segment from `start` to `end` that is nearest to a point, (3,) each."""
    return start + _share([*(point - start)], [*(end - start)]) * (end - start)


def _share(gap: list[np.ndarray], along: list[np.ndarray]) -> np.ndarray:
    """(...) from 0 at a segment's start to 1 at its end: the place nearest to points that are `gap` from the start."""
    square = along[0] ** 2 + along[1] ** 2 + along[2] ** 2
    share = (gap[0] * along[0] + gap[1] * along[1] + gap[2] * along[2]) / np.where(square > 0, square, 1)
    return np.clip(share, 0, 1)


def spheres_along(length: float, radius: float, spacing: float) -> tuple[np.ndarray, float]:
    """Balls that cover a capsule: where their centres are between its ends, (B,) from 0 to 1, and their radius.

    They reach beyond it by √(radius² + spacing² / 4) - radius at most.

    Args: all in metres; length: between the ends; spacing: between neighbouring centres, at most.
    """
    gaps = int(np.ceil(length / spacing))
    return np.linspace(0, 1, gaps + 1), float(np.hypot(radius, length / gaps / 2 if gaps else 0.0))


class Body(_Frozen):
    """A chain (or tree) of links from the base frame, and the capsules on it.

    Capsules cover the robot: what lies outside of all of them is not the robot.
    """

    base: str
    links: tuple[Link, ...] = Field(max_length=1000)
    capsules: tuple[Capsule, ...] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _connected(self) -> "Body":
        known = {self.base}
        for link in self.links:
            if link.parent not in known:
                raise ValueError(f"link '{link.name}': parent '{link.parent}' must be {self.base} or a link above it")
            if link.name in known:
                raise ValueError(f"link '{link.name}': the name stands twice")
            known.add(link.name)
        for capsule in self.capsules:
            if capsule.frame not in known:
                raise ValueError(f"capsule: no link '{capsule.frame}'; known: {', '.join(sorted(known))}")
        return self

    def forward_kinematics(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Where the links are.

        Args: values: of each modality that moves a link, (..., D) in its unit.
        Returns: (..., 4, 4) from every frame to the base frame, NaN where a value on the way is.
        """
        lead, chain = self._chain(values)
        out = {}
        for name, (rotation, origin) in chain.items():
            pose = np.broadcast_to(np.eye(4), (*lead, 4, 4)).copy()
            pose[..., :3, :3] = np.moveaxis(rotation, -1, 0).reshape(*lead, 3, 3)
            pose[..., :3, 3] = origin.T.reshape(*lead, 3)
            out[name] = pose
        return out

    def capsule_ends(self, values: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Where the capsules are: start and end (..., C, 3), metres in the base frame. Args: as `poses`."""
        lead, chain = self._chain(values)
        out = []
        for end in ("start", "end"):
            placed = [
                np.tensordot(np.asarray(getattr(c, end), rotation.dtype), rotation, (0, 1)) + origin
                for c in self.capsules
                for rotation, origin in [chain[c.frame]]
            ]
            out.append(np.stack(placed).transpose(2, 0, 1).reshape(*lead, len(placed), 3))
        return out[0], out[1]

    def _chain(self, values: dict[str, np.ndarray]) -> tuple[tuple[int, ...], dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Rotation (3, 3, M) and origin (3, M) of every frame, and the leading axes that M stands for.

        The many come last, so that each operation runs over one long row: thousands of postures take milliseconds.
        """
        lead = np.broadcast_shapes(*(v.shape[:-1] for v in values.values()))
        kind = np.result_type(np.float32, *(v.dtype for v in values.values()))
        rows = {k: np.broadcast_to(v, (*lead, v.shape[-1])).reshape(-1, v.shape[-1]) for k, v in values.items()}
        count = int(np.prod(lead, dtype=int))
        frame = np.repeat(np.eye(3, dtype=kind)[:, :, None], count, 2), np.zeros((3, count), kind)
        out = {self.base: frame}
        for link, (about, along) in zip(self.links, self._motions, strict=True):
            rotation, origin = out[link.parent]
            shift = np.asarray(link.origin, kind)[:, None]
            if link.modality is not None:
                value = kind.type(link.per_unit) * rows[link.modality][:, link.index].astype(kind)
                if link.motion == "slide":
                    shift = shift + along[:, None].astype(kind) * value
                else:  # Rodrigues' formula
                    turn = np.eye(3, dtype=kind)[:, :, None] + np.sin(value) * about[:, :, None].astype(kind)
                    turn = turn + (1 - np.cos(value)) * (about @ about)[:, :, None].astype(kind)
            origin = origin + (rotation * shift).sum(1)
            if link.modality is not None and link.motion == "turn":
                rotation = (rotation[:, :, None] * turn).sum(1)
            out[link.name] = rotation, origin
        return lead, out

    @property
    def frames(self) -> frozenset[str]:
        """Names of the base and of all links."""
        return frozenset({self.base, *(link.name for link in self.links)})

    def inverse_kinematics(
        self, values: dict[str, np.ndarray], frame: str, place: np.ndarray, steps: int = 4
    ) -> dict[str, np.ndarray]:
        """The values nearest to `values` that put a frame at a place, or as near to it as a few damped steps lead.

        Damped least squares (Wampler 1986); values of links that do not carry the frame stay as they are.

        Args: values: as `poses`, (M, D) each; place (M, 3) metres in the base frame, NaN: values stay.
        Returns: (M, D) each.
        """
        chain, name = list[Link](), frame
        links = {link.name: link for link in self.links}
        while name != self.base:
            chain, name = [*chain, links[name]], links[name].parent
        moving = [link for link in chain if link.modality is not None]
        out = {name: np.array(v, float) for name, v in values.items()}
        for _ in range(steps):
            poses = self.forward_kinematics(out)
            error = np.nan_to_num(place - poses[frame][:, :3, 3])
            columns = []
            for link in moving:
                axis = link.per_unit * poses[link.name][:, :3, :3] @ np.asarray(link.axis)
                arm = poses[frame][:, :3, 3] - poses[link.name][:, :3, 3]
                columns.append(np.cross(axis, arm) if link.motion == "turn" else axis)
            slope = np.stack(columns, -1)  # (M, 3, values)
            square = slope @ slope.swapaxes(1, 2) + DAMPING**2 * np.eye(3)
            change = slope.swapaxes(1, 2) @ np.linalg.solve(square, error[..., None])
            for k, link in enumerate(moving):
                out[link.modality or ""][:, link.index] += np.clip(change[:, k, 0], -LARGEST, LARGEST)
        return out

    @cached_property
    def radii(self) -> np.ndarray:
        """(C,) metres."""
        return np.array([c.radius for c in self.capsules])

    @cached_property
    def _motions(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Of each link: the cross-product matrix (3, 3) of its axis, and the axis (3,)."""
        axes = [np.array(link.axis) for link in self.links]
        return tuple((np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), axis) for axis in axes for x, y, z in [axis])
