"""Convex bodies around their own origin, and how far points are from them. Lengths in metres, z up."""

from abc import ABC, abstractmethod
from functools import cached_property, reduce
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

# YAML's `yes` and "0.2" are no numbers, and nothing is compared with NaN.
Real = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=1e9)]


class Frozen(BaseModel):
    """A part of a file that names every key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class _Shape(Frozen, ABC):
    @abstractmethod
    def excess(self, points: np.ndarray) -> list[np.ndarray]:
        """How far points (..., 3) are beyond the faces, in directions at right angles to each other.

        Returns: (...) metres for each direction, apart, as numpy is slow along short axes; a point is inside, or on the
        surface, where none of them is positive.
        """

    def inside(self, points: np.ndarray) -> np.ndarray:
        """(...) bool for points (..., 3); the surface belongs to the body, a NaN point does not."""
        return reduce(np.maximum, self.excess(points)) <= 0

    def distance(self, points: np.ndarray) -> np.ndarray:
        """(...) metres from points (..., 3) to the surface, negative inside; NaN stays.

        Exact, but for a prism seen past one of its upright edges, where the true distance is larger.
        """
        excess = self.excess(points)
        outside = np.sqrt(sum(np.square(np.maximum(e, 0)) for e in excess))
        return np.where(outside > 0, outside, reduce(np.maximum, excess))


class Box(_Shape):
    """A box around its origin.

    size: full extents along x, y and z.
    """

    kind: Literal["box"]
    size: tuple[Positive, Positive, Positive]

    def excess(self, points: np.ndarray) -> list[np.ndarray]:
        return [np.abs(points[..., axis]) - size / 2 for axis, size in enumerate(self.size)]


class Sphere(_Shape):
    """All points that are at most `radius` metres from its origin."""

    kind: Literal["sphere"]
    radius: Positive

    def excess(self, points: np.ndarray) -> list[np.ndarray]:
        return [np.sqrt(sum(np.square(points[..., axis]) for axis in range(3))) - self.radius]


class Cylinder(_Shape):
    """Its axis is z; height: from -height / 2 to height / 2."""

    kind: Literal["cylinder"]
    radius: Positive
    height: Positive

    def excess(self, points: np.ndarray) -> list[np.ndarray]:
        radial = np.hypot(points[..., 0], points[..., 1]) - self.radius
        return [radial, np.abs(points[..., 2]) - self.height / 2]


class Prism(_Shape):
    """A convex polygon × height.

    vertices: corners as x, y, in order, either way round. bottom, top: where it begins and ends along z.
    """

    kind: Literal["polygon"]
    vertices: tuple[tuple[Real, Real], ...] = Field(min_length=3, max_length=1000)
    bottom: Real
    top: Real

    @model_validator(mode="after")
    def _convex(self) -> "Prism":
        if self.bottom >= self.top:
            raise ValueError(f"bottom ({self.bottom} m) must be below top ({self.top} m)")
        edges = _edges(np.array(self.vertices))
        lengths = np.linalg.norm(edges, axis=1)
        if (lengths < 1e-9).any():
            k = int(np.argmin(lengths))
            raise ValueError(f"vertices: corner {k} and the one after it are the same point, {self.vertices[k]}")
        after = np.roll(edges, -1, axis=0)
        sine = (edges[:, 0] * after[:, 1] - edges[:, 1] * after[:, 0]) / (lengths * np.roll(lengths, -1))
        turns = np.arctan2(sine, (edges * after).sum(1) / (lengths * np.roll(lengths, -1)))
        # Once round, and not crosswise as an eight, or more than once as a star.
        if not np.isclose(abs(turns.sum()), 2 * np.pi, atol=1e-6):
            raise ValueError("vertices: the polygon must not intersect itself; list its corners in order")
        way = np.sign(turns.sum())
        if (turns * way < -1e-9).any() or np.abs(sine).max() < 1e-9:
            k = int(np.argmin(turns * way)) + 1
            raise ValueError(f"vertices: the polygon must be convex; it turns the other way at corner {k % len(turns)}")
        return self

    @cached_property
    def _faces(self) -> tuple[np.ndarray, np.ndarray]:
        """Outward unit normals (V, 2) of the upright faces, and their distances (V,) from the origin."""
        corners = np.array(self.vertices)
        edges = _edges(corners)
        area = (corners[:, 0] * np.roll(corners[:, 1], -1) - corners[:, 1] * np.roll(corners[:, 0], -1)).sum()
        normals = np.stack([edges[:, 1], -edges[:, 0]], 1) * np.sign(area)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return normals, (normals * corners).sum(1)

    def excess(self, points: np.ndarray) -> list[np.ndarray]:
        normals, offsets = self._faces
        x, y, z = (points[..., axis] for axis in range(3))
        faces = [
            float(nx) * x + float(ny) * y - float(offset) for (nx, ny), offset in zip(normals, offsets, strict=True)
        ]
        return [reduce(np.maximum, faces), np.maximum(self.bottom - z, z - self.top)]


Shape = Annotated[Box | Sphere | Cylinder | Prism, Field(discriminator="kind")]


def _edges(corners: np.ndarray) -> np.ndarray:
    """(V, 2) from each corner to the next."""
    return np.roll(corners, -1, axis=0) - corners
