"""The robot's own body as capsules: which points belong to it, and balls that cover it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.safety.view import check_rigid


@dataclass(frozen=True, eq=False)
class Capsules:
    """K segments with a radius, each fixed to a frame of the robot.

    frames: (K) names. start, end: (K, 3) metres in that frame, equal for a ball. radius: (K,) metres.
    Raises: ShapeError naming the field.
    """

    frames: tuple[str, ...]
    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.frames)
        if not count:
            raise ShapeError("frames: at least one capsule is needed")
        for name, shape in (("start", (count, 3)), ("end", (count, 3)), ("radius", (count,))):
            values = getattr(self, name)
            if values.shape != shape or not np.isfinite(values).all():
                raise ShapeError(f"{name}: expected finite values {shape}, got shape {values.shape}")
        if (self.radius <= 0).any():
            k = int(np.argmin(self.radius))
            raise ShapeError(f"radius: must be above 0, capsule {k} in '{self.frames[k]}' has {self.radius[k]}")

    def placed(self, transforms: Mapping[str, np.ndarray]) -> "Placed":
        """Where the capsules are over S moments.

        Args: transforms: from each of `frames` to one common frame, (4, 4) or (S, 4, 4).
        Raises: ShapeError naming a frame that is missing, or a transform that is not rigid or of another S.
        """
        missing = sorted(set(self.frames) - set(transforms))
        if missing:
            raise ShapeError(f"transforms: no frame '{missing[0]}', which a capsule is fixed to")
        used = {name: transforms[name] for name in self.frames}
        steps = max((len(t) for t in used.values() if t.ndim == 3), default=1)
        for name, transform in used.items():
            check_rigid(f"transforms['{name}']", transform, steps)
        poses = np.stack([np.broadcast_to(used[name], (steps, 4, 4)) for name in self.frames], 1)
        start, end = (
            np.einsum("skij,kj->ski", poses[..., :3, :3], p) + poses[..., :3, 3] for p in (self.start, self.end)
        )
        return Placed(start, end, self.radius)


@dataclass(frozen=True, eq=False)
class Placed:
    """Capsules over S moments in one frame: start, end (S, K, 3) metres; radius (K,) metres."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray

    def distance(self, points: np.ndarray) -> np.ndarray:
        """(S, N) metres from points (S, N, 3) to the nearest capsule's surface, negative inside; NaN for a NaN point.

        Raises: ShapeError for points of another S.
        """
        if points.ndim != 3 or points.shape[2] != 3 or len(points) != len(self.start):
            raise ShapeError(f"points: expected ({len(self.start)}, N, 3), got {points.shape}")
        nearest = np.full(points.shape[:2], np.inf, points.dtype)
        for k, radius in enumerate(self.radius):
            start = self.start[:, k, None].astype(points.dtype)
            along = self.end[:, k, None].astype(points.dtype) - start
            from_start = points - start
            square = (along**2).sum(-1)
            share = (from_start * along).sum(-1) / np.where(square > 0, square, 1)
            gap = from_start - np.clip(share, 0, 1)[..., None] * along
            nearest = np.minimum(nearest, np.linalg.norm(gap, axis=-1) - points.dtype.type(radius))
        return nearest

    def without(self, points: np.ndarray, margin: float = 0.02) -> np.ndarray:
        """The points (S, N, 3), NaN where they are within `margin` metres of the robot's body."""
        return np.where((self.distance(points) <= margin)[..., None], np.nan, points)

    def balls(self, spacing: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
        """Balls that cover the capsules: centres (S, M, 3) and radii (M,), metres.

        They reach beyond a capsule of radius r by √(r² + spacing² / 4) - r at most, so that a zone which the balls
        keep clear of is clear of the capsules: the conservative bound that a kinematic check needs.

        Args: spacing: largest distance between neighbouring centres, metres.
        """
        centres, radii = [], []
        lengths = np.linalg.norm(self.end - self.start, axis=-1).max(0)
        for k, (length, radius) in enumerate(zip(lengths, self.radius, strict=True)):
            gaps = int(np.ceil(length / spacing))
            shares = np.linspace(0, 1, gaps + 1)[:, None]
            centres.append(self.start[:, k, None] * (1 - shares) + self.end[:, k, None] * shares)
            radii.append(np.full(gaps + 1, np.hypot(radius, length / gaps / 2 if gaps else 0.0)))
        return np.concatenate(centres, 1), np.concatenate(radii)
