"""What stands fast: a table that may end within reach, a tray or a platform, mats."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.simulation.arm.scene import Item
from deepverse_ros.simulation.arm.things import Colour, draw_colour

AREA_LOWER, AREA_UPPER = (0.35, -0.35), (0.75, 0.35)
"""Corners (x, y) of where the arm works on things, metres in the world frame."""
_TRAY_SHARE, _PLATFORM_SHARE = 0.25, 0.25
_FRONT_SHARE, _SIDE_SHARE = 0.2, 0.15  # of tables that end within reach before the arm, or beside it
_BASE_ROOM = 0.16  # metres of table on each side of the middle of the arm's base
_RIM = 0.004  # metres: half of how thick a tray's rim and bottom are


@dataclass(frozen=True)
class Place:
    """A level rectangle that things may lie on.

    height: metres. centre (2,), half (2,): metres, before it is turned by `yaw` radians about its centre. rgb: what it
    looks like. walled: whether things stay within it when they are pushed.
    """

    height: float
    centre: tuple[float, float]
    half: tuple[float, float]
    yaw: float
    rgb: Colour
    walled: bool = False

    @property
    def radius(self) -> float:
        """Of the circle around it, metres."""
        return float(np.hypot(*self.half))

    def inward(self, point: np.ndarray) -> float:
        """Metres from a point (2,) to the border, negative beyond it."""
        local = _turn(-self.yaw) @ (point - self.centre)
        return float(np.min(self.half - np.abs(local)))

    def draw_point(self, rng: np.random.Generator) -> np.ndarray:
        """(2,) anywhere on it."""
        return np.asarray(self.centre) + _turn(self.yaw) @ rng.uniform(-np.asarray(self.half), self.half)


@dataclass(frozen=True)
class Table:
    """A table and what stands fast on it.

    lower, upper: its corners (2,), metres. patches: mats that are only seen. places: where things may lie: where the
    arm works on the table, then what else there is. spare: the part beside and behind the arm.
    """

    lower: tuple[float, float]
    upper: tuple[float, float]
    fixtures: tuple[Item, ...]
    patches: tuple[Item, ...]
    places: tuple[Place, ...]
    spare: Place


def draw_table(rng: np.random.Generator, rgb: Colour, base_offset: tuple[float, float]) -> Table:
    """A table of colour `rgb` for an arm whose base stands at `base_offset`, metres."""
    lower, upper = [-1.05, -1.45], [1.25, 1.45]
    kind = rng.random()
    if kind < _FRONT_SHARE:
        upper[0] = max(float(rng.uniform(0.58, 0.85)), base_offset[0] + _BASE_ROOM)
    elif kind < _FRONT_SHARE + _SIDE_SHARE:
        edge = float(rng.uniform(0.2, 0.45))
        if rng.random() < 0.5:
            upper[1] = max(edge, base_offset[1] + _BASE_ROOM)
        else:
            lower[1] = min(-edge, base_offset[1] - _BASE_ROOM)
    low, high = np.maximum(AREA_LOWER, lower), np.minimum(AREA_UPPER, upper)
    table = Place(0.0, _pair((low + high) / 2), _pair((high - low) / 2), 0.0, rgb)
    patches = tuple(_mat(rng, table, k) for k in range(rng.integers(0, 4)))
    kind = rng.random()
    fixtures: tuple[Item, ...] = ()
    places: tuple[Place, ...] = (table,)
    if kind < _TRAY_SHARE + _PLATFORM_SHARE:
        tray = kind < _TRAY_SHARE
        place = _draw_place(rng, table, tray)
        fixtures = _tray(rng, place) if tray else (_platform(place),)
        places = (table, place)
    low, high = np.maximum((-0.9, -0.9), lower), np.minimum((0.25, 0.9), upper)
    spare = Place(0.0, _pair((low + high) / 2), _pair((high - low) / 2 - 0.06), 0.0, rgb)
    return Table(_pair(lower), _pair(upper), fixtures, patches, places, spare)


def _draw_place(rng: np.random.Generator, table: Place, tray: bool) -> Place:
    """The bottom of a tray or the top of a platform, wholly on the table."""
    half = _pair(rng.uniform((0.08, 0.06), (0.13, 0.10)))
    height = 2 * _RIM if tray else float(rng.uniform(0.015, 0.08))
    rgb = draw_colour(rng, table.rgb)
    centre = table.draw_point(rng)
    for _ in range(100):
        if table.inward(centre) > 0.07:
            break
        centre = table.draw_point(rng)
    return Place(height, _pair(centre), half, float(rng.uniform(-np.pi, np.pi)), rgb, walled=tray)


def _tray(rng: np.random.Generator, place: Place) -> tuple[Item, ...]:
    """A bottom and a low rim around it."""
    x, y = place.half
    top = float(rng.uniform(0.010, 0.018))  # half of how high the rim is
    rim = tuple(float(np.clip(v * 0.8, 0, 1)) for v in place.rgb)
    bottom = Item("box", (x, y, _RIM), (*place.centre, _RIM), place.yaw, place.rgb)
    walls = []
    for side in (-1, 1):
        for at, size in (((side * x, 0.0), (_RIM, y + _RIM, top)), ((0.0, side * y), (x - _RIM, _RIM, top))):
            centre = _pair(place.centre + _turn(place.yaw) @ at)
            walls.append(Item("box", size, (*centre, top), place.yaw, (rim[0], rim[1], rim[2])))
    return (bottom, *walls)


def _platform(place: Place) -> Item:
    return Item("box", (*place.half, place.height / 2), (*place.centre, place.height / 2), place.yaw, place.rgb)


def _mat(rng: np.random.Generator, table: Place, k: int) -> Item:
    """A thin rectangle of another colour, so thin that nothing lies higher on it. k: later ones lie on earlier ones."""
    thin = 0.0001 * (k + 1)
    half = np.minimum(rng.uniform((0.03, 0.03), (0.2, 0.2)), table.half)
    inside = np.asarray(table.half) - half
    centre = _pair(table.centre + rng.uniform(-inside, inside))
    rgb = np.clip(np.asarray(table.rgb) + rng.uniform(-0.25, 0.25) + rng.uniform(-0.1, 0.1, 3), 0, 1)
    return Item("box", (*_pair(half), thin), (*centre, thin), 0.0, (float(rgb[0]), float(rgb[1]), float(rgb[2])))


def _turn(yaw: float) -> np.ndarray:
    return np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])


def _pair(values: object) -> tuple[float, float]:
    x, y = np.asarray(values, float)
    return float(x), float(y)
