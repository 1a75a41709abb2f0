"""Frames from before the window, found again by geometry: where the camera stood or, if it is fixed, the tool.

A robot that comes back sees what it saw; the window of a few frames does not reach that far. Retrieval follows
WorldMem (arXiv 2504.12369): position first, then viewing direction, then how much of the view is shared, and age.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError
from deepverse_ros.model.codec import View
from deepverse_ros.model.dynamics import Steps

# Points of a view that stand for all it shows: pixels along a side, depths in metres.
_SAMPLES, _DEPTHS = 5, (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Place:
    """What a frame is found by.

    tool (3,) metres in the base frame: where the tool was; camera_to_world (4, 4) or None: of the optical frame.
    """

    tool: Tensor
    camera_to_world: Tensor | None = None


@dataclass(frozen=True)
class RememberedFrame:
    """A remembered frame: the network's view of it (batch 1), its step (T = 1) and when it was seen, seconds."""

    place: Place
    view: View
    step: Steps
    stamp: float


class Memory:
    """The last `capacity` frames that were worth remembering. Not thread-safe.

    Args:
        moving_camera: frames are found by the camera's pose instead of the tool's position.
        dt: seconds between two frames that are kept.
        window: seconds before the newest frame that the model sees anyway and does not recall.
    """

    def __init__(self, *, dt: float, window: float, moving_camera: bool = False, capacity: int = 128) -> None:
        if capacity < 1:
            raise ShapeError(f"memory: capacity must be at least 1 frame, got {capacity}")
        self.dt = dt
        self.window = window
        self.moving_camera = moving_camera
        self._frames: deque[RememberedFrame] = deque(maxlen=capacity)
        self._now = -math.inf

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: RememberedFrame) -> None:
        """Remember the newest frame, unless the last one is hardly older; time that went back clears the memory."""
        if frame.stamp < self._now:
            self.clear()
        self._now = frame.stamp
        if not self._frames or frame.stamp - self._frames[-1].stamp > 0.9 * self.dt:
            self._frames.append(frame)

    def clear(self) -> None:
        self._frames.clear()
        self._now = -math.inf

    def recall(self, place: Place, count: int, intrinsics: geometry.Intrinsics | None = None) -> list[RememberedFrame]:
        """Up to `count` frames for what will be seen at `place`, best first; none from within the window.

        Args: intrinsics: of the views, to tell how much two of them share.
        """
        old = [s for s in self._frames if s.stamp < self._now - self.window]
        if not old or count < 1:
            return []
        if self.moving_camera and place.camera_to_world is not None:
            order = by_view(place.camera_to_world, [s.place.camera_to_world for s in old], count, intrinsics)
        else:
            order = by_position(place.tool, [s.place.tool for s in old], count)
        return [old[i] for i in order]


def by_position(query: Tensor, positions: Sequence[Tensor], count: int) -> list[int]:
    """Indices of the `count` positions (3,) nearest to `query` (3,); of equally near ones the later."""
    distance = (torch.stack(list(positions)) - query).norm(dim=-1).tolist()
    return sorted(range(len(distance)), key=lambda i: (distance[i], -i))[:count]


def by_view(
    query: Tensor,
    poses: Sequence[Tensor | None],
    count: int,
    intrinsics: geometry.Intrinsics | None = None,
) -> list[int]:
    """Indices of the `count` poses (4, 4) that see most of what `query` (4, 4) sees, best first.

    The nearest camera positions, of these the nearest forward axes, of these the largest shared views; then the later.
    """
    known = {i: pose.to(query) for i, pose in enumerate(poses) if pose is not None}

    def distance(i: int) -> float:
        return float((known[i][:3, 3] - query[:3, 3]).norm())

    def angle(i: int) -> float:
        return math.acos(max(-1.0, min(1.0, float(known[i][:3, 2] @ query[:3, 2]))))

    def unshared(i: int) -> float:
        return 0.0 if intrinsics is None else 1 - overlap(query, known[i], intrinsics)

    def best(indices: Iterable[int], key, keep: int) -> list[int]:  # type: ignore[no-untyped-def]
        return sorted(indices, key=lambda i: (key(i), -i))[:keep]

    return best(best(best(known, distance, 4 * count), angle, 2 * count), unshared, count)


def overlap(query: Tensor, other: Tensor, intrinsics: geometry.Intrinsics) -> float:
    """Share in [0, 1] of what the camera at `query` (4, 4) sees that the one at `other` (4, 4) sees too."""
    camera = intrinsics.resized(_SAMPLES, _SAMPLES)
    depth = torch.tensor(_DEPTHS).to(query)[:, None, None].expand(-1, _SAMPLES, _SAMPLES)
    points = geometry.unproject(depth, camera, query)
    pixels, ahead = geometry.project(points, camera, other)
    inside = (pixels > -0.5).all(-1) & (pixels < _SAMPLES - 0.5).all(-1) & (ahead > 0)
    return float(inside.float().mean())
