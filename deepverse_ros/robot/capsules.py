"""The robot's own body as capsules: where they are, and balls that cover them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.robot.kinematics import spheres_along
from deepverse_ros.robot.rigid import check_rigid


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

    def collision_spheres(self, spacing: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
        """Balls that cover the capsules: centres (S, M, 3) and radii (M,), metres.

        They reach so little beyond a capsule (see `spheres_along`) that a zone which they keep clear of is clear of
        the capsules: the conservative bound that a kinematic check needs.

        Args: spacing: largest distance between neighbouring centres, metres.
        """
        centres, radii = [], []
        lengths = np.linalg.norm(self.end - self.start, axis=-1).max(0)
        for k, (length, radius) in enumerate(zip(lengths, self.radius, strict=True)):
            places, size = spheres_along(length, radius, spacing)
            shares = places[:, None]
            centres.append(self.start[:, k, None] * (1 - shares) + self.end[:, k, None] * shares)
            radii.append(np.full(len(places), size))
        return np.concatenate(centres, 1), np.concatenate(radii)
