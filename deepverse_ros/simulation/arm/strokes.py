"""Ways of the tool from one point to another that go through a thing, over it, beside it, or wait short of it."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deepverse_ros.simulation.arm.model import GRIPPER_OPEN
from deepverse_ros.simulation.arm.postures import TIP
from deepverse_ros.simulation.arm.scene import Item
from deepverse_ros.simulation.arm.simulation import ArmSimulation

PALM = 0.067  # metres from the tool's point back to the palm
THICKNESS, _BREADTH = 0.020, 0.037  # metres: half of the closed fingers'
MARGIN = 0.02  # metres that a way which shall not touch keeps


@dataclass(frozen=True)
class Thing:
    """What a way goes through or around.

    index: which object of the scene. place: (3,) its middle in metres in the base frame. half_height, radius: of the
    upright cylinder around it, metres. item: its shape.
    """

    index: int
    place: np.ndarray
    half_height: float
    radius: float
    item: Item

    @property
    def top(self) -> float:
        return float(self.place[2]) + self.half_height

    @property
    def bottom(self) -> float:
        return float(self.place[2]) - self.half_height


def things_of(simulation: ArmSimulation) -> list[Thing]:
    """The movable things where they are now, in the arm's base frame."""
    places = simulation.object_positions - simulation.base_position
    items = simulation.scene.objects
    return [Thing(k, p, i.extents[2], i.footprint, i) for k, (p, i) in enumerate(zip(places, items, strict=True))]


@dataclass(frozen=True)
class Fast:
    """N upright boxes that stand fast, in the arm's base frame: middle, half (N, 2), top (N,) in metres; yaw (N,)."""

    middle: np.ndarray
    half: np.ndarray
    top: np.ndarray
    yaw: np.ndarray


def fast_of(simulation: ArmSimulation) -> Fast:
    """What stands fast on the table."""
    items = (*simulation.scene.obstacles, *simulation.scene.fixtures)
    positions = np.array([i.position for i in items]).reshape(-1, 3) - simulation.base_position
    extents = np.array([i.extents for i in items]).reshape(-1, 3)
    return Fast(positions[:, :2], extents[:, :2], positions[:, 2] + extents[:, 2], np.array([i.yaw for i in items]))


def fast_height(fast: Fast, points: np.ndarray, radius: float) -> np.ndarray:
    """(P,) metres: how high that reaches which stands fast within `radius` metres of points (P, 2); 0 without any."""
    apart = points[:, None] - fast.middle
    cos, sin = np.cos(fast.yaw), np.sin(fast.yaw)
    local = np.stack([cos * apart[..., 0] + sin * apart[..., 1], cos * apart[..., 1] - sin * apart[..., 0]], axis=-1)
    distance = np.linalg.norm(np.maximum(np.abs(local) - fast.half, 0.0), axis=-1)
    return np.where(distance < radius, fast.top, 0.0).max(axis=1, initial=0.0)


def hand_radius(opening: float) -> float:
    """Metres: of the upright cylinder around the fingers."""
    return float(np.hypot(THICKNESS, _BREADTH + GRIPPER_OPEN * opening))


def through(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(3, 3): level from `start` to below `end`, then up to it. What stands between is pushed on."""
    return np.stack([start, np.append(end[:2], start[2]), end])


def over(start: np.ndarray, end: np.ndarray, top: float) -> np.ndarray:
    """(3 or 4, 3): up, above everything that is no higher than `top`, and to `end`."""
    height = max(end[2], top + TIP + MARGIN)
    points = [start, np.append(start[:2], height), np.append(end[:2], height)]
    return np.stack(points if height == end[2] else [*points, end])


def beside(start: np.ndarray, end: np.ndarray, thing: Thing, side: int, gap: float) -> np.ndarray:
    """(4, 3): around `thing` on its left (side 1) or right (-1) as seen along the way, `gap` metres from its middle.

    On the way to and from there it is somewhat nearer where it begins or ends near `thing`.
    """
    ahead = (end - start)[:2] / np.linalg.norm((end - start)[:2])
    left = np.array([-ahead[1], ahead[0]])
    turns = [thing.place[:2] + side * gap * left + along * 0.4 * gap * ahead for along in (-1, 1)]
    return np.stack([start, *(np.append(turn, start[2]) for turn in turns), end])


def short(start: np.ndarray, end: np.ndarray, thing: Thing, gap: float) -> np.ndarray:
    """(5 or 6, 3): level until `gap` metres before the middle of `thing`, waits there, then over it to `end`."""
    ahead = (thing.place - start)[:2]
    distance = np.linalg.norm(ahead)
    before = start.copy()
    before[:2] += ahead / distance * max(0.0, distance - gap)
    return np.concatenate([[start, before], over(before, end, thing.top)])


def paced(points: np.ndarray, steps: int) -> np.ndarray | None:
    """(steps, D) along the corners (N, D), each corner met by one of them, as evenly as that goes; the last at the end.

    Two corners that are the same take one step. Returns: None for fewer steps than legs.
    """
    lengths = np.linalg.norm(np.diff(points[:, :3], axis=0), axis=1)
    counts = np.ones(len(lengths), int)
    if counts.sum() > steps:
        return None
    for _ in range(steps - counts.sum()):
        counts[np.argmax(lengths / counts)] += 1
    legs = zip(pairwise(points), counts, strict=True)
    return np.concatenate([a + (b - a) * (np.arange(1, n + 1) / n)[:, None] for (a, b), n in legs])
