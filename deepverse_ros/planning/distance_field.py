"""What the camera sees around the robot, as a field of distances: the clearance of plans, by geometry alone."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from torch import Tensor

from deepverse_ros.errors import ShapeError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.kinematics import Body, spheres_along, square_distance


class Seen(Protocol):
    """A belief: depth (1, h, w) metres, intrinsics (3, 3), camera_to_world (1, 4, 4) of its newest frame, or None."""

    @property
    def depth(self) -> Tensor | None: ...

    @property
    def intrinsics(self) -> Tensor | None: ...

    @property
    def camera_to_world(self) -> Tensor | None: ...


VOXEL = 0.025
"""Metres: the field's resolution."""
_SHADOW = 0.125  # metres behind what is seen that count as filled: a camera sees fronts only
_OWN = 0.025  # metres around the robot's capsules within which a point is taken for the robot's
_KNOWN = 0.5  # share of the depth image that must be known, so that what is not seen may pass for free
_FAR = 0.2  # metres: what is further away than this counts as this far
_SPACING = 0.05  # metres between balls along a capsule, at most
_CHUNK = 1 << 16  # balls looked up at once: their arrays stay in the cache


@dataclass(frozen=True, eq=False)
class DistanceField:
    """Distances to all that is not the robot, from one depth image.

    distance: (X, Y, Z) metres from each voxel's centre to the nearest filled one.
    lower: (3,) metres, the grid's corner, base frame.
    embodiment: with the body that moves in it.
    """

    embodiment: Embodiment
    distance: np.ndarray
    lower: np.ndarray

    @classmethod
    def from_depth(
        cls,
        depth: np.ndarray | None,
        intrinsics: np.ndarray | None,
        camera_to_base: np.ndarray | None,
        joints: np.ndarray,
        embodiment: Embodiment,
    ) -> "DistanceField | None":
        """What a depth image shows beside the robot.

        What the robot hides is filled in from both of its sides, as a plane would go on; other things behind it, and
        what is further behind a thing than its shadow, pass for free. So does what the camera does not look at.

        Args:
            depth: (h, w) metres along the optical axis, NaN unknown.
            intrinsics: (3, 3) pixels.
            camera_to_base: (4, 4) metres, of the optical frame.
            joints: (A,) where the robot was when the image was taken, as actions are given.
        Returns: None where geometry can tell nothing: no depth or less than half of it known, no camera pose, or an
        embodiment whose body nobody described or whose actions do not say where it goes.
        Raises: ShapeError naming the argument.
        """
        body = embodiment.body
        if body is None or not embodiment.actions_place_body:
            return None
        if depth is None or intrinsics is None or camera_to_base is None:
            return None
        if depth.ndim != 2 or joints.shape != (embodiment.action_dim,):
            raise ShapeError(
                f"surroundings: expected depth (h, w) and joints ({embodiment.action_dim},), "
                f"got {depth.shape} and {joints.shape}"
            )
        known = np.isfinite(depth) & (depth > 0)
        if known.mean() < _KNOWN or not np.isfinite(camera_to_base).all():
            return None
        pose = np.asarray(camera_to_base, np.float32)
        rays = _rays(depth.shape, tuple(np.asarray(intrinsics, float).ravel())) @ pose[:3, :3].T
        points = rays * np.where(known, depth, 0).astype(np.float32)[..., None] + pose[:3, 3]
        ends = body.capsule_ends(embodiment.action_values(np.asarray(joints, np.float32)))
        known[known] = ~_within(points[known], ends, body.radii, _OWN)
        if not known.any():
            return None
        filled = _filled(depth, known)
        points = (rays * filled[..., None] + pose[:3, 3]).reshape(-1, 3)
        away = rays.reshape(-1, 3) / np.linalg.norm(rays, axis=-1).reshape(-1, 1)
        near = np.linalg.norm(points, axis=1) < _reach(body)
        return cls(embodiment, *_field(points[near], away[near]))

    @classmethod
    def of(cls, belief: Seen, joints: np.ndarray, embodiment: Embodiment) -> "DistanceField | None":
        """What a belief of batch 1 saw in its newest frame; see `from_depth`."""
        depth, intrinsics, pose = belief.depth, belief.intrinsics, belief.camera_to_world
        if depth is None or intrinsics is None or pose is None:
            return None
        return cls.from_depth(
            depth[0].float().cpu().numpy(), intrinsics.cpu().numpy(), pose[0].cpu().numpy(), joints, embodiment
        )

    def judged_clearance(self, plan: np.ndarray, start: np.ndarray) -> np.ndarray:
        """(H,) metres of one plan (H, A), at so many moments that nothing is passed by between two of them."""
        return self.clearance(plan[None], start, between=8)[0]

    def clearance(self, plans: np.ndarray, start: np.ndarray, between: int = 3) -> np.ndarray:
        """The least distance between the robot and what is seen, from the end of the step before to each step's end.

        Args:
            plans: (N, H, A) physical units.
            start: (A,) where the robot is before the first action.
            between: moments of each step that are looked at, its end the last.
        Returns: (N, H) float32 metres, at most what the field knows; 0 or less where the robot would touch something.
        """
        plans = np.asarray(plans, np.float32)
        count, horizon, actions = plans.shape
        before = np.concatenate(
            [np.broadcast_to(np.asarray(start, np.float32), (count, 1, actions)), plans[:, :-1]], axis=1
        )
        share = np.linspace(0, 1, between + 1, dtype=np.float32)[1:, None]
        moments = before[:, :, None] + share * (plans - before)[:, :, None]
        return self.at(moments.reshape(-1, actions)).reshape(count, horizon, between).min(-1)

    def at(self, joints: np.ndarray) -> np.ndarray:
        """(M,) float32 metres between the robot at joints (M, A) and what is seen."""
        body = self.embodiment.body
        assert body is not None  # from_depth saw it
        starts, ends = body.capsule_ends(self.embodiment.action_values(np.asarray(joints, np.float32)))
        capsule, share, radius = _collision_spheres(body)
        out = np.empty(len(joints), np.float32)
        rows = max(1, _CHUNK // len(capsule))
        for first in range(0, len(joints), rows):
            part = slice(first, first + rows)
            a, b = starts[part][:, capsule], ends[part][:, capsule]
            out[part] = (self._look_up(a + share[:, None] * (b - a)) - radius).min(1)
        return out

    def _look_up(self, points: np.ndarray) -> np.ndarray:
        """(...) metres, interpolated linearly; beyond the grid its border's value, which is never too large."""
        size = np.array(self.distance.shape)
        place = np.clip((points - self.lower) / VOXEL - 0.5, 0, size - 1.001).astype(np.float32)
        corner = place.astype(np.int32)
        x, y, z = np.moveaxis(place - corner, -1, 0)
        ny, nz = int(size[1]), int(size[2])
        base = (corner[..., 0] * ny + corner[..., 1]) * nz + corner[..., 2]
        flat = self.distance.reshape(-1)

        def along_z(offset: int) -> np.ndarray:
            low = flat[base + offset]
            return low + z * (flat[base + (offset + 1)] - low)

        def along_y(offset: int) -> np.ndarray:
            low = along_z(offset)
            return low + y * (along_z(offset + nz) - low)

        low = along_y(0)
        return low + x * (along_y(ny * nz) - low)


@lru_cache(maxsize=8)
def _rays(shape: tuple[int, int], intrinsics: tuple[float, ...]) -> np.ndarray:
    """(h, w, 3) float32 point at depth 1 m under each pixel, optical frame."""
    k = np.reshape(intrinsics, (3, 3))
    v, u = np.mgrid[: shape[0], : shape[1]]
    return np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones(shape)], -1).astype(np.float32)


def _within(points: np.ndarray, ends: tuple[np.ndarray, np.ndarray], radii: np.ndarray, margin: float) -> np.ndarray:
    """(P,) whether points (P, 3) lie within `margin` metres of a capsule."""
    inside = np.zeros(len(points), bool)
    for start, end, radius in zip(*ends, radii, strict=True):
        inside |= square_distance(points, start, end) < (radius + margin) ** 2
    return inside


def _filled(depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(h, w) float32 metres: unknown ones from their neighbours in the row, as the inverse depth of a plane goes on."""
    places = np.arange(depth.size)
    seen = known.reshape(-1)
    inverse = np.interp(places, places[seen], 1 / depth.reshape(-1)[seen].astype(np.float64))
    return (1 / inverse).astype(np.float32).reshape(depth.shape)


def _field(points: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances and the corner of a grid around points (P, 3), metres; away: (P, 3) unit vectors from the camera."""
    if not len(points):
        return np.full((2, 2, 2), _FAR, np.float32), np.zeros(3, np.float32)
    ends = points + _SHADOW * away
    lower = np.floor((np.minimum(points.min(0), ends.min(0)) - _FAR) / VOXEL) * VOXEL
    size = np.ceil((np.maximum(points.max(0), ends.max(0)) + _FAR - lower) / VOXEL).astype(int) + 1
    full = np.zeros(size, bool)
    for back in np.arange(0, _SHADOW + 1e-6, VOXEL, dtype=np.float32):
        cells = ((points + back * away - lower) / VOXEL).astype(np.int32)
        cells = cells[((cells >= 0) & (cells < size)).all(1)]
        full[cells[:, 0], cells[:, 1], cells[:, 2]] = True
    return _distance(full), lower.astype(np.float32)


def _distance(full: np.ndarray) -> np.ndarray:
    """(X, Y, Z) float32 metres from each voxel's centre to that of the nearest full one, `_FAR` where none is so near.

    Exact squared distances along one axis after the other (Felzenszwalb and Huttenlocher 2012). As nothing further
    than a few voxels counts, plain minima over shifted bytes are several times as fast as their parabolas.
    """
    most = round(_FAR / VOXEL)
    square = np.where(full, np.uint8(0), np.uint8(most * most))
    for axis in range(3):
        at = np.moveaxis(square, axis, 0)
        square_next = square.copy()
        to = np.moveaxis(square_next, axis, 0)
        for shift in range(1, min(most, len(at))):
            np.minimum(to[shift:], at[:-shift] + np.uint8(shift * shift), out=to[shift:])
            np.minimum(to[:-shift], at[shift:] + np.uint8(shift * shift), out=to[:-shift])
        square = square_next
    return (np.sqrt(np.arange(most * most + 1)) * VOXEL).astype(np.float32)[square]


def _reach(body: Body) -> float:
    """Metres from the base's origin that the robot can be at, at most."""
    reach = {body.base: 0.0}
    for link in body.links:
        slide = abs(link.per_unit) if link.motion == "slide" and link.modality is not None else 0.0
        reach[link.name] = reach[link.parent] + float(np.linalg.norm(link.origin)) + slide
    return max(
        reach[c.frame] + float(max(np.linalg.norm(c.start), np.linalg.norm(c.end))) + c.radius for c in body.capsules
    )


def _collision_spheres(body: Body) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balls that cover the capsules which may meet something: capsule, place between its ends, radius in metres, (B,).

    They reach beyond a capsule by a few millimetres at most.
    """
    capsules, shares, radii = [], [], []
    for k, c in enumerate(body.capsules):
        if c.mounted:
            continue
        length = float(np.linalg.norm(np.subtract(c.end, c.start)))
        places, radius = spheres_along(length, c.radius, _SPACING)
        capsules += [k] * len(places)
        shares += list(places)
        radii += [radius] * len(places)
    return np.array(capsules, int), np.array(shares, np.float32), np.array(radii, np.float32)
