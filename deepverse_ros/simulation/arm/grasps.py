"""Grasps of things: that hold, slip or miss, and what is done with what is held."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.simulation.arm.course import Waypoint
from deepverse_ros.simulation.arm.model import GRIPPER_OPEN
from deepverse_ros.simulation.arm.postures import Postures
from deepverse_ros.simulation.arm.strokes import PALM, THICKNESS, Thing

DROP_HEIGHTS = (0.0, 0.08)  # metres above where it stood, at which a thing is let go
_WIDEST = 0.070  # metres between the open fingers, less what a grasp needs beside the thing
_GAP = 0.002  # metres between the closed fingers
_PRESS = 0.0003  # metres that fingers which hold too loosely are told to close beyond the thing's faces, at most
_PLACED_SHARE = 0.4  # of the things that are held are put down again
_CARRIES = 4  # ways with what is held and not put down, in one of which the episode ends


@dataclass(frozen=True)
class _Grip:
    """How the fingers close: at (3,) the tool's place in metres, turn in rad; opening on the way down, and closed."""

    at: np.ndarray
    turn: float
    opened: float = 1.0
    closed: float = 0.0


def grasp(thing: Thing, kind: str, rng: np.random.Generator, postures: Postures) -> list[Waypoint] | None:
    """Down upon a thing, close and lift; what follows depends on the kind.

    Args: kind: "hold": carries it, may put it down; "drop": carries it and lets it go `DROP_HEIGHTS` above the ground;
    "slip": as "hold", but holds it too high or too loosely; "miss": closes beside or above it, or comes down with
    closed fingers.
    Returns: waypoints; None where the thing is too wide.
    """
    faces = _faces(thing, rng)
    if faces is None:
        return None
    middle, turn, width = faces
    lowest = thing.bottom + postures.depth(middle, THICKNESS) + 0.006
    lowest = max(lowest, thing.top - PALM + 0.008)
    grip = _grip(thing, kind, rng, _Grip(np.append(middle[:2], lowest), turn), width)
    lifted = grip.at + np.array([0.0, 0.0, rng.uniform(0.06, 0.16)])
    above = grip.at + np.array([0.0, 0.0, max(thing.top - grip.at[2] + 0.03, rng.uniform(0.05, 0.12))])
    down = rng.uniform(0.1, 0.3)
    out = [
        Waypoint(_pose(above, grip.turn, grip.opened)),
        Waypoint(_pose(grip.at, grip.turn, grip.opened), down),
        Waypoint(_pose(grip.at, grip.turn, grip.closed), stay=1),
        Waypoint(_pose(lifted, grip.turn, grip.closed), rng.uniform(0.08, 0.3)),
    ]
    return out if kind == "miss" else out + _carried(grip, lifted, kind, rng)


def _faces(thing: Thing, rng: np.random.Generator) -> tuple[np.ndarray, float, float] | None:
    """Where to grasp: middle (3,) metres, turn in rad, width between the fingers in metres; None if it is too wide."""
    item = thing.item
    if item.shape == "tee":  # by its stem
        along = np.array([-np.sin(item.yaw), np.cos(item.yaw), 0.0])
        return thing.place - 0.45 * item.extents[1] * along, item.yaw, 2 * item.size[3]
    if item.shape in ("cylinder", "sphere") and not item.tilt:
        ways = [(float(rng.uniform(-np.pi, np.pi)), 2 * item.extents[0])]
    else:
        ways = [(item.yaw + k * np.pi / 2, 2 * item.extents[k]) for k in (0, 1)]
    ways = [way for way in ways if way[1] < _WIDEST]
    return (thing.place, *ways[rng.integers(len(ways))]) if ways else None


def _grip(thing: Thing, kind: str, rng: np.random.Generator, lowest: _Grip, width: float) -> _Grip:
    """One of `kind`, above `lowest`, of a thing that is `width` metres wide there."""
    at, turn = lowest.at + np.append(rng.normal(0, 0.003, 2), 0.0), lowest.turn + rng.normal(0, 0.06)
    depth = lowest.at[2] - thing.bottom
    high = max(lowest.at[2], thing.top + depth - rng.uniform(0.008, 0.014))  # where only the fingers' ends hold
    at[2] = max(at[2], thing.place[2] + rng.uniform(-0.2, 0.3) * thing.half_height)
    ways = {"slip": ("high", "loose"), "miss": ("beside", "above", "closed")}.get(kind, ("well",))
    match rng.choice(ways):
        case "high":
            return _Grip(np.append(at[:2], high), turn)
        case "loose":
            # The actuators press in proportion to how much farther they were told to close.
            opening = (width - _GAP - rng.uniform(0.0, _PRESS)) / (2 * GRIPPER_OPEN)
            return _Grip(at, lowest.turn, closed=max(0.0, opening))
        case "beside":
            heading, away = rng.uniform(-np.pi, np.pi), thing.radius + rng.uniform(0.0, 0.05)
            return _Grip(at + away * np.array([np.cos(heading), np.sin(heading), 0.0]), turn)
        case "above":
            return _Grip(np.append(at[:2], thing.top + depth + rng.uniform(0.0, 0.03)), turn)
        case "closed":  # no deeper, or the thing would be shot off
            return _Grip(np.append(at[:2], high), turn, opened=0.0)
        case _:
            return _Grip(at, turn)


def _carried(grip: _Grip, lifted: np.ndarray, kind: str, rng: np.random.Generator) -> list[Waypoint]:
    """Around with what is held, and often down to the ground or somewhat above it, where the hand opens."""
    puts_down = kind == "drop" or rng.random() < _PLACED_SHARE
    out, over = [], lifted
    for _ in range(1 if puts_down else _CARRIES):
        heading, carry = rng.uniform(-np.pi, np.pi), rng.uniform(0.05, 0.22)
        over = lifted + np.array([carry * np.cos(heading), carry * np.sin(heading), 0.0])
        out.append(Waypoint(_pose(over, grip.turn, grip.closed), rng.uniform(0.1, 0.4), stay=int(rng.integers(0, 3))))
    if puts_down:
        release = np.append(over[:2], grip.at[2] + (rng.uniform(*DROP_HEIGHTS) if kind == "drop" else 0.002))
        out += [
            Waypoint(_pose(release, grip.turn, grip.closed), rng.uniform(0.1, 0.3)),
            Waypoint(_pose(release, grip.turn, 1.0), stay=int(rng.integers(0, 2))),
            Waypoint(_pose(release + np.array([0.0, 0.0, 0.12]), grip.turn, 1.0)),
        ]
    return out


def _pose(at: np.ndarray, turn: float, opening: float) -> np.ndarray:
    return np.array([*at, turn, opening])
