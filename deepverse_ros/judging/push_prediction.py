"""What the robot's body shoves along where a command takes it: geometry alone, for things too small to be imagined.

A thing is what is seen to hang together. From when the body meets it, it goes where the link goes that meets it, as
long as that comes towards it, and stays where it is left. It slides on level ground and neither turns nor falls, and
does not shove other things. Only its seen sides are known; what the body meets of the others is met too late.
"""

from collections.abc import Mapping

import numpy as np

from deepverse_ros.robot.self_filter import RobotSelfFilter

TOUCH = 0.01
"""Metres from the body's capsules at which a thing is met."""
_HANGS = 3.0  # pixels within which two points belong to one thing: what is seen at a low angle lies far apart
_LEAST = 3  # points of a thing: fewer may be an edge that was measured wrongly
_LARGEST = 0.4  # metres: what is larger is part of the room
_AROUND = 0.2  # metres around the body's way in which things are looked for
_MOVED = 0.01  # metres: what has moved less is where it is seen


Push = tuple[np.ndarray, np.ndarray]
"""Of one thing: (K,) indices of its points, and (S, 3) metres by which it has been shoved at each moment."""


def predict_pushes(
    points: np.ndarray, pixel: float, body: RobotSelfFilter, poses: Mapping[str, np.ndarray]
) -> list[Push]:
    """What the body shoves, and how far.

    Args:
        points: (N, 3) metres, base frame, z up: what is seen now beside the robot and what things stand on, NaN for no
            point.
        pixel: metres between two neighbours that face the camera.
        poses: of the links, (S + 1, 4, 4) each, at S + 1 moments of which the first is now.
    """
    placed = body.placed(poses)
    reach = np.stack([placed.start, placed.end])
    lower, upper = reach.min((0, 1, 2)) - _AROUND, reach.max((0, 1, 2)) + _AROUND
    with np.errstate(invalid="ignore"):
        near = np.flatnonzero(((points > lower) & (points < upper)).all(1))
    points = points[near].astype(float)
    everywhere = np.broadcast_to(points.astype(np.float32), (len(placed.start), *points.shape))
    met = np.asarray(body.self_mask(everywhere, poses, TOUCH).any(0))
    things = [t for t in _things(points, met, _HANGS * pixel) if len(t) >= _LEAST]
    things = [t for t in things if np.linalg.norm(np.ptp(points[t], axis=0)) <= _LARGEST]
    return [(near[thing], _way(points[thing], body, poses)) for thing in things]


def pushed_points(
    points: np.ndarray, pixel: float, body: RobotSelfFilter, poses: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Where things will be that the body shoves. Args: as `predict_pushes`.

    Returns: (S, K, 3) float32 metres: the points of the things that are shoved, NaN while they have not moved.
    """
    moments = len(next(iter(poses.values()))) - 1
    places: list[np.ndarray] = [np.zeros((moments, 0, 3), np.float32)]
    for thing, way in predict_pushes(points, pixel, body, poses):
        moved = np.linalg.norm(way, axis=1) > _MOVED
        there = points[thing] + way[:, None]
        there[~moved] = np.nan
        places.append(there.astype(np.float32))
    return np.concatenate(places, 1)


def _things(points: np.ndarray, met: np.ndarray, gap: float) -> list[np.ndarray]:
    """Indices of the points of each thing that has a point which is `met` (N,) bool."""
    free = np.ones(len(points), bool)
    things = []
    for seed in np.flatnonzero(met):
        if not free[seed]:
            continue
        free[seed] = False
        thing, edge = [seed], [seed]
        while edge:
            others = np.flatnonzero(free)
            apart = np.linalg.norm(points[others, None] - points[edge][None], axis=-1)
            edge = list(others[(apart < gap).any(1)])
            free[edge] = False
            thing += edge
        things.append(np.array(thing))
    return things


def _way(points: np.ndarray, body: RobotSelfFilter, poses: Mapping[str, np.ndarray]) -> np.ndarray:
    """(S, 3) metres by which one thing of points (N, 3) has been shoved at each moment after the first."""
    moments = len(next(iter(poses.values())))
    way = np.zeros((moments, 3))
    for k in range(1, moments):
        way[k] = way[k - 1]
        here = points + way[k]
        frame, place, distance = body.nearest(here, {name: pose[k] for name, pose in poses.items()})
        if distance > TOUCH:
            continue
        before = poses[frame][k - 1] @ np.linalg.inv(poses[frame][k])
        shift = place - (before[:3, :3] @ place + before[:3, 3])
        shift[2] = 0.0
        if shift @ (here.mean(0) - place) > 0:
            way[k] += shift
    return way[1:]
