"""Grasps of things: that hold, slip or miss, and what is done with what is held."""

import numpy as np

from deepverse_ros.simulation.arm.course import Waypoint
from deepverse_ros.simulation.arm.model import GRIPPER_OPEN
from deepverse_ros.simulation.arm.postures import Postures
from deepverse_ros.simulation.arm.strokes import PALM, Thing

WIDEST = 0.070  # metres between the open fingers, less what a grasp needs beside the thing
DROP_HEIGHTS = (0.0, 0.08)  # metres from where a thing is released to where it stood
_GAP = 0.002  # metres between the closed fingers
_CLOSING = 3  # frames
_CARRIES = 4  # ways with what is held, that an episode may end in
_ABOVE = (0.05, 0.12)  # metres from which the hand comes down


def width(thing: Thing, turn: float) -> float:
    """Metres that `thing` is wide along a line across its middle at `turn` rad, at most."""
    across, along, _ = thing.item.extents
    if thing.item.shape in ("cylinder", "sphere") and not thing.item.tilt:
        return 2 * across
    angle = turn - thing.item.yaw
    return 2 * float(abs(across * np.cos(angle)) + abs(along * np.sin(angle)))


def grasp(thing: Thing, kind: str, rng: np.random.Generator, postures: Postures) -> list[Waypoint] | None:
    """Down upon `thing`, close, lift, and by `kind`: "hold" (carries it, may put it down), "drop" (carries it and lets
    it go `DROP_HEIGHTS` above the ground), "slip" (holds it too high or too loosely), "miss" (closes beside or above
    it, or comes down with closed fingers).

    Returns: waypoints; None where the thing is too wide.
    """
    round_ = thing.item.shape in ("cylinder", "sphere") and not thing.item.tilt
    turns = [rng.uniform(-np.pi, np.pi)] if round_ else [thing.item.yaw, thing.item.yaw + np.pi / 2]
    turns = [turn for turn in turns if width(thing, turn) < WIDEST]
    if not turns:
        return None
    turn = float(rng.choice(turns)) + (0.0 if round_ else float(rng.normal(0, 0.06)))
    place, closed = thing.place + np.append(rng.normal(0, 0.003, 2), 0.0), 0.0
    depth = postures.depth(place, 0.02)
    lowest, palm = thing.bottom + depth + 0.006, thing.top - PALM + 0.008
    height = max(lowest, palm, float(thing.place[2]) + rng.uniform(-0.2, 0.3) * thing.half_height)
    way = {"slip": rng.choice(("high", "loose")), "miss": rng.choice(("beside", "above", "closed"))}.get(kind, "")
    if way == "high":
        height = max(lowest, palm, thing.top + depth - rng.uniform(0.002, 0.008))
    elif way == "loose":
        # The actuators press in proportion to how much farther they were told to close.
        press = rng.uniform(0.0001, 0.0004)
        closed = max(0.0, (width(thing, turn) - _GAP - press) / (2 * GRIPPER_OPEN))
    elif way == "beside":
        heading = rng.uniform(-np.pi, np.pi)
        away = thing.radius + rng.uniform(0.0, 0.05)
        place[:2] += away * np.array([np.cos(heading), np.sin(heading)])
    elif way == "closed":  # no deeper, or the thing would be shot off
        height = max(lowest, palm, thing.top + depth - rng.uniform(0.0, 0.012))
    elif way == "above":
        height = thing.top + depth + rng.uniform(0.005, 0.03)
    opened = 0.0 if way == "closed" else 1.0
    speed = rng.uniform(0.10, 0.3)

    def pose(point: np.ndarray, opening: float) -> np.ndarray:
        return np.array([*point, turn, opening])

    at = np.append(place[:2], height)
    above = at + (0, 0, max(thing.top - height + 0.03, rng.uniform(*_ABOVE)))
    lifted = at + (0, 0, rng.uniform(0.06, 0.16))
    out = [
        Waypoint(pose(above, opened), 0.3),
        Waypoint(pose(at, opened), speed),
        Waypoint(pose(at, closed), speed, stay=_CLOSING - 2),
        Waypoint(pose(lifted, closed), rng.uniform(0.08, 0.3)),
    ]
    if kind == "miss":
        return out
    over, puts_down = lifted, kind == "drop" or rng.random() < 0.4
    for _ in range(1 if puts_down else _CARRIES):
        heading, carry = rng.uniform(-np.pi, np.pi), rng.uniform(0.05, 0.22)
        over = lifted + np.array([carry * np.cos(heading), carry * np.sin(heading), 0.0])
        out.append(Waypoint(pose(over, closed), rng.uniform(0.1, 0.4), stay=int(rng.integers(0, 3))))
    if puts_down:
        release = np.append(over[:2], height + (rng.uniform(*DROP_HEIGHTS) if kind == "drop" else 0.002))
        out += [
            Waypoint(pose(release, closed), rng.uniform(0.1, 0.3)),
            Waypoint(pose(release, 1.0), 0.3, stay=int(rng.integers(0, 2))),
            Waypoint(pose(release + (0, 0, 0.12), 1.0), 0.3),
        ]
    return out
