"""Where things and obstacles are put: apart, touching, or one on the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deepverse_ros.simulation.arm.scene import Item
from deepverse_ros.simulation.arm.table import Place

_APART = 0.012  # metres between things that do not touch
_TOUCHING = 0.0004  # between those that do, so that nothing is pressed apart
_TRIES = 150
_ELSEWHERE = 0.5  # of the things lie on the tray or the platform, where there is one
_BESIDE, _ON_TOP = 0.6, 0.1  # of the things of a scene with contacts


@dataclass(eq=False)
class _Taken:
    """A circle on a place that something stands in.

    centre (2,), radius: metres. thing, place: what it is and on which place, if it is a thing. topped: whether
    something lies on it.
    """

    centre: np.ndarray
    radius: float
    thing: Item | None = None
    place: Place | None = None
    topped: bool = False


class Layout:
    """Puts one after the other."""

    def __init__(
        self,
        rng: np.random.Generator,
        places: Sequence[Place],
        spare: Place,
        base_offset: tuple[float, float],
        seen: Callable[[np.ndarray], bool],
        crowded: bool,
    ) -> None:
        """Begin with nothing but the arm.

        Args: places: where the arm works on the table, then what else things may lie on. spare: where there is room out
        of its way. base_offset: where the arm's base stands, metres. seen: whether a point (3,) in metres is well
        within the picture. crowded: whether things touch each other.
        """
        self._rng = rng
        self._places = places
        self._spare = spare
        self._seen = seen
        self._crowded = crowded
        self._taken = [_Taken(np.asarray(base_offset, float), 0.28)]

    def put_obstacle(self, item: Item, far: bool = False) -> Item | None:
        """`item`, which lies at the origin at height 0, on the table, away from its middle so that the arm has room.

        Args: far: also beyond where the arm works, out of sight. Returns: None where there is no room.
        """
        if far:
            return self._put_far(item)
        table = self._places[0]
        return self._put(item, table, lambda point: abs(point[1]) > 0.13 and table.inward(point) > -0.05)

    def put_thing(self, item: Item, far: bool = False) -> Item | None:
        """`item` as in `put_obstacle`, anywhere."""
        if far:
            return self._put_far(item)
        rng = self._rng
        others = [t for t in self._taken if t.thing is not None]
        if self._crowded and others:
            kind = rng.random()
            other = others[rng.integers(len(others))]
            found = None
            if kind < _ON_TOP:
                found = self._on(item, other)
            elif kind < _ON_TOP + _BESIDE:
                found = self._beside(item, other)
            if found is not None:
                return found
        place = self._places[0]
        if len(self._places) > 1 and rng.random() < _ELSEWHERE:
            place = self._places[1]
        return self._put(item, place, lambda point: True)

    def _put(self, item: Item, place: Place, wanted: Callable[[np.ndarray], bool]) -> Item | None:
        for _ in range(_TRIES):
            point = place.draw_point(self._rng)
            if wanted(point) and self._is_free(point, item, place, _APART):
                return self._take(item, point, place)
        return None

    def _put_far(self, item: Item) -> Item | None:
        for _ in range(_TRIES):
            point = self._spare.draw_point(self._rng)
            if self._is_apart(point, item.footprint, _APART):
                return self._take(item, point, self._spare)
        return None

    def _beside(self, item: Item, other: _Taken) -> Item | None:
        """Face to face with another, turned as it is."""
        assert other.thing is not None
        assert other.place is not None
        item = replace(item, yaw=other.thing.yaw)
        for direction in self._rng.permutation(4):
            axis, side = direction % 2, 1 - 2 * (direction // 2)
            distance = other.thing.extents[axis] + item.extents[axis] + _TOUCHING
            turn = other.thing.yaw + axis * np.pi / 2
            point = other.centre + side * distance * np.array([np.cos(turn), np.sin(turn)])
            if self._is_free(point, item, other.place, 0.003, beside=other):
                return self._take(item, point, other.place)
        return None

    def _on(self, item: Item, other: _Taken) -> Item | None:
        """On top of another that is broad enough, once."""
        below, place = other.thing, other.place
        assert below is not None
        assert place is not None
        broad = below.shape in ("box", "cylinder") and not below.tilt and min(below.extents[:2]) > 0.7 * item.footprint
        if not broad or item.shape == "sphere" or item.tilt or other.topped:
            return None
        top = replace(item, position=(*below.position[:2], below.position[2] + below.extents[2] + item.extents[2]))
        other.topped = True
        return top

    def _is_free(self, point: np.ndarray, item: Item, place: Place, gap: float, beside: _Taken | None = None) -> bool:
        radius = item.footprint
        # On a platform or at the table's edge a thing may stand out a little; in a tray it lies between the walls.
        room = radius + 0.006 if place.walled else 0.6 * radius
        if place.inward(point) < room or not self._seen(np.append(point, place.height + item.extents[2])):
            return False
        raised = () if place is not self._places[0] else self._places[1:]
        if any(np.linalg.norm(point - p.centre) < radius + p.radius + 0.015 for p in raised):
            return False
        return self._is_apart(point, radius, gap, beside)

    def _is_apart(self, point: np.ndarray, radius: float, gap: float, beside: _Taken | None = None) -> bool:
        return all(
            taken is beside or np.linalg.norm(point - taken.centre) > radius + taken.radius + gap
            for taken in self._taken
        )

    def _take(self, item: Item, point: np.ndarray, place: Place) -> Item:
        x, y = (float(v) for v in point)
        placed = replace(item, position=(x, y, place.height + item.position[2]))
        self._taken.append(_Taken(point, item.footprint, placed, place))
        return placed
