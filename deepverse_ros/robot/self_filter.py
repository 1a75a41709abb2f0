"""The robot's own body over time: which points are its own, where it will be, and how far a deviation moves it."""

from collections.abc import Mapping

import numpy as np

from deepverse_ros.errors import ConfigError
from deepverse_ros.robot.capsules import Capsules, Placed
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.kinematics import nearest_place, square_distance, square_distances

Values = Mapping[str, np.ndarray]
"""By modality: (S, D) where the robot is, in the modality's unit."""


class RobotSelfFilter:
    """The capsules of an embodiment, moved by its values.

    Raises: ConfigError where the embodiment describes no body, or one that moves with what no command says.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        if embodiment.body is None:
            raise ConfigError(f"embodiment '{embodiment.name}' describes no body; zones of the robot need one")
        self.body = body = embodiment.body
        commanded = {m.name for m in embodiment.modalities}
        for link in body.links:
            if link.modality is not None and link.modality not in commanded:
                raise ConfigError(
                    f"body: link '{link.name}' moves with {link.modality}, which no command of '{embodiment.name}' says"
                )
        frames = tuple(dict.fromkeys(c.frame for c in body.capsules))
        self._parts = {frame: self._capsules(frame) for frame in frames}
        self._all = self._capsules(*frames)
        self._links = {link.name: link for link in body.links}

    def _capsules(self, *frames: str) -> Capsules:
        chosen = [c for c in self.body.capsules if c.frame in frames]
        start, end = np.array([c.start for c in chosen]), np.array([c.end for c in chosen])
        return Capsules(tuple(c.frame for c in chosen), start, end, np.array([c.radius for c in chosen]))

    def forward_kinematics(self, values: Values) -> dict[str, np.ndarray]:
        """(S, 4, 4) from every link to the base frame."""
        return self.body.forward_kinematics(dict(values))

    def self_mask(self, points: np.ndarray, poses: Mapping[str, np.ndarray], margin: float) -> np.ndarray:
        """(S, N) bool: which points (S, N, 3) are within `margin` metres of the body; False for one that is NaN.

        Only the points in the box around the body are measured: most of a picture is far away.
        """
        placed = self._all.placed(poses)
        ends = np.stack([placed.start, placed.end])
        reach = placed.radius[:, None] + margin
        lower, upper = (ends - reach).min((0, 2)), (ends + reach).max((0, 2))
        near = np.ones(points.shape[:2], bool)
        for axis in range(3):  # a comparison of whole points costs three times as much
            column = points[..., axis]
            near &= (column >= lower[:, None, axis]) & (column <= upper[:, None, axis])
        # Of each moment's points that are left, the distances to all capsules at once.
        for moment, (start, end) in enumerate(zip(placed.start, placed.end, strict=True)):
            index = np.flatnonzero(near[moment])
            if len(index):
                square = square_distances(points[moment, index], start, end)
                near[moment, index] = (square <= np.square(reach[:, 0], dtype=np.float32)).any(1)
        return near

    def placed(self, poses: Mapping[str, np.ndarray]) -> Placed:
        """All capsules at the moments of `poses`."""
        return self._all.placed(poses)

    def nearest(self, points: np.ndarray, poses: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray, float]:
        """Where the body is nearest to any of points (N, 3). Args: poses: (4, 4) of every link.

        Returns: the frame, the place (3,) on its capsule's axis, and the distance from the capsule's surface, metres.
        """
        placed = self._all.placed(poses)
        start, end = placed.start[0], placed.end[0]
        gap = np.sqrt(square_distance(points[:, None], start, end)) - placed.radius
        n, k = np.unravel_index(int(np.argmin(gap)), gap.shape)
        return self._all.frames[k], nearest_place(points[n], start[k], end[k]), float(gap[n, k])

    def collision_spheres(
        self, poses: Mapping[str, np.ndarray], deviation: Values, spacing: float = 0.04
    ) -> tuple[np.ndarray, np.ndarray]:
        """Balls that cover the body wherever it may be.

        Args: deviation: by how much each value may be off, (S, D). spacing: between neighbouring centres, metres.
        Returns: centres (S, M, 3) in the base frame and radii (S, M), metres.
        """
        centres, radii = [], []
        for frame, capsules in self._parts.items():
            centre, radius = capsules.placed({frame: poses[frame]}).collision_spheres(spacing)
            centres.append(centre)
            radii.append(radius + self.shift(frame, centre, poses, deviation))
        return np.concatenate(centres, 1), np.concatenate(radii, 1)

    def shift(self, frame: str, points: np.ndarray, poses: Mapping[str, np.ndarray], deviation: Values) -> np.ndarray:
        """(S, M) metres by which points (S, M, 3) that are fixed to `frame` move at most where values deviate.

        A joint moves a point on an arc about its axis, no further than angle times distance. Let the joints deviate
        one after the other, those at the base first: that moves the later axes and the point together, so each
        distance is still the one before, and the sum of the arcs is a bound, not an estimate.
        """
        out = np.zeros(points.shape[:2])
        for link in self._above(frame):
            pose, size = poses[link.name], self._size(link.name, deviation)
            if link.motion == "slide":
                out += size[:, None]
                continue
            offset = points - pose[:, None, :3, 3]
            axis = pose[:, :3, :3] @ np.asarray(link.axis)
            along = np.einsum("smi,si->sm", offset, axis)
            square = np.einsum("smi,smi->sm", offset, offset) - along**2
            out += size[:, None] * np.sqrt(np.maximum(square, 0.0))
        return out

    def turn(self, frame: str, deviation: Values) -> np.ndarray:
        """(S,) rad by which `frame` turns at most where values deviate by (S, D)."""
        sizes = [self._size(link.name, deviation) for link in self._above(frame) if link.motion == "turn"]
        return np.sum(sizes, 0) if sizes else np.zeros(len(next(iter(deviation.values()))))

    def _size(self, name: str, deviation: Values) -> np.ndarray:
        """(S,) rad or metres."""
        link = self._links[name]
        assert link.modality is not None
        return abs(link.per_unit) * deviation[link.modality][:, link.index]

    def _above(self, frame: str) -> list:
        """The links that move `frame`, itself first."""
        out = []
        while frame in self._links:
            link = self._links[frame]
            out += [link] if link.modality is not None else []
            frame = link.parent
        return out
