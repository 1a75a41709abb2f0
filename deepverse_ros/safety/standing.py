"""What is in a zone already, whatever is commanded: a robot that starts so stands still, and has to say why."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.view import View
from deepverse_ros.safety.zones import Zone, Zones

_GAP = 0.1  # metres between two points of the scene from which on they are two things
_MOST_THINGS, _MOST_POINTS = 4, 400  # that are told apart


@dataclass(frozen=True)
class Standing:
    """A zone that stops commands now. text: which zone, what is in it, how much and where, as one clause."""

    zone: str
    text: str


def standing(zones: Zones, present: View, dt: float) -> tuple[Standing, ...]:
    """The zones that stop whatever is commanded, for what the present moment shows in them.

    Zones that only slow or limit are none. Args: present: one moment. dt: seconds of a step; a zone whose window begins
    later does not count yet.
    """
    out = []
    soon = np.array([dt])
    for zone in zones.checked:
        if zone.answer(0.0).action != Action.STOP or not zone.covers(soon)[0]:
            continue
        hit = (zone.hits(present) & ~zones.ignored(present, soon, zone.of))[0]
        if hit.sum() >= zone.min_points:
            out.append(Standing(zone.name, _text(zone, present.points(zone.of)[0][0][hit], present.frame_id)))
    return tuple(out)


def _text(zone: Zone, points: np.ndarray, frame: str) -> str:
    """Args: points (N, 3) metres that are where they should not be, N at least 1."""
    where = f"metres in {frame}"
    if zone.of == "robot":
        return f"the robot itself is {zone.side} zone '{zone.name}', around {_place(points)} {where}"
    things = _things(points)
    said = ", ".join(f"{len(thing)} around {_place(thing)}" for thing in things[:_MOST_THINGS])
    rest = sum(map(len, things[_MOST_THINGS:]))
    said += f", {rest} elsewhere" if rest else ""
    return (
        f"zone '{zone.name}' has {len(points)} points that are not the robot, {zone.min_points} count: {said} {where}"
    )


def _place(points: np.ndarray) -> str:
    x, y, z = points.mean(0)
    return f"({x:.2f}, {y:.2f}, {z:.2f})"


def _things(points: np.ndarray) -> list[np.ndarray]:
    """Points (N, 3) that hang together, those of most points first."""
    if len(points) > _MOST_POINTS:  # a wall, or a person: what is where needs no more
        return [points]
    near = np.linalg.norm(points[:, None] - points, axis=-1) < _GAP
    left = np.ones(len(points), bool)
    out = []
    while left.any():
        thing = near[np.argmax(left)]
        while (grown := near[thing].any(0)).sum() > thing.sum():
            thing = grown
        out.append(points[thing])
        left &= ~thing
    return sorted(out, key=len, reverse=True)
