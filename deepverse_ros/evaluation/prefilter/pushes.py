"""Pushes on the simulated table, and zones that the pushed object must not get into: drawn by seed."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.data.collect import scene_seed
from deepverse_ros.safety.view import View
from deepverse_ros.safety.zones import Zones
from deepverse_ros.simulation.arm.scene import Item
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks.push import Push

_TRIES = 40
_BOTTOM, _TOP = 0.02, 0.12  # metres above the table: what is seen of the table trembles by a centimetre or two
_DEPTH, _WIDTH = 0.16, 0.24  # metres of the zone along and across the way to it
_CLEAR = 0.05  # metres that a harmless push keeps from the zone, at least
_OTHERS = 0.03  # metres that everything else keeps from the zone
_SURE = 0.02  # metres by which an object that gets in is in at the end


@dataclass(frozen=True, eq=False)
class PushScenario:
    """A push, and a zone that nothing may be in.

    scene: seed of the scene.
    start: (A,) where the arm stands.
    commands: (H, A) way points dt apart.
    zones: the one zone.
    pushed: number of the object.
    dangerous: whether the push brings the object into the zone.
    """

    scene: int
    start: np.ndarray
    commands: np.ndarray
    zones: Zones
    pushed: int
    dangerous: bool

    def violated(self, simulation: ArmSimulation) -> bool:
        """Whether the object is in the zone now."""
        item, place = simulation.scene.objects[self.pushed], simulation.object_positions[self.pushed]
        return _gap(self.zones, place) <= min(item.size)


def draw_push(task: Push, seed: int, number: int, points: int = 6) -> PushScenario:
    """The push `number` of `seed`; an even one brings an object into the zone.

    The odd one after it is the same push with the zone elsewhere, ahead of where the object ends or aside. The object
    is in sight before and after the push.

    Args: points: of the scene in the zone that count as something; up to 5 near the hand may be the trembling of
    imagined depth.
    Raises: RuntimeError where no scene of many has one.
    """
    pair = number // 2
    for attempt in range(_TRIES):
        task.reset(scene_seed(seed, pair * _TRIES + attempt))
        assert task.demonstration is not None
        simulation = task.simulation
        rng = np.random.default_rng([seed, pair, attempt])
        start, before = simulation.joints, simulation.object_positions
        for action in task.demonstration:
            simulation.step(action)
        after = simulation.object_positions
        item = simulation.scene.objects[task.object]
        others = [*simulation.scene.obstacles, *_without(simulation.scene.objects, task.object)]
        ways = before[task.object], after[task.object]
        zones = [_zone(*place, points) for place in (_in_the_way(*ways, item, rng), _elsewhere(*ways, item, rng))]
        inside, outside = (_gap(zone, ways[1]) for zone in zones)
        if (
            inside < min(item.size) - _SURE
            and min(_gap(zone, ways[0]) for zone in zones) > item.footprint
            and outside > item.footprint + _SURE
            and all(
                _gap(zone, np.array(other.position)) > other.footprint + _OTHERS for zone in zones for other in others
            )
        ):
            return PushScenario(
                task.scene, start, task.demonstration, zones[number % 2], task.object, dangerous=number % 2 == 0
            )
    raise RuntimeError(f"no push {number} of seed {seed} in {_TRIES} scenes")


def _without(items: tuple[Item, ...], index: int) -> tuple[Item, ...]:
    return items[:index] + items[index + 1 :]


def _in_the_way(
    before: np.ndarray, after: np.ndarray, item: Item, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Middle of the zone's near side (2,), and its heading: the object gets there somewhere on its way."""
    way = (after - before)[:2]
    length, heading = float(np.linalg.norm(way)), float(np.arctan2(way[1], way[0]))
    return before[:2] + way / length * (rng.uniform(0.35, 0.65) * length + min(item.size)), heading


def _elsewhere(before: np.ndarray, after: np.ndarray, item: Item, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """As `_in_the_way`: further on than the object gets, or to the left or right of its way."""
    way = (after - before)[:2]
    length, heading = float(np.linalg.norm(way)), float(np.arctan2(way[1], way[0]))
    turn = rng.choice([-1, 1]) * np.deg2rad(rng.uniform(70, 110)) if rng.random() < 0.5 else 0.0
    distance = item.footprint + rng.uniform(_CLEAR, _CLEAR + 0.03) + max(length * np.cos(turn), 0.0)
    heading += turn
    return before[:2] + distance * np.array([np.cos(heading), np.sin(heading)]), float(heading)


def _zone(near: np.ndarray, heading: float, points: int) -> Zones:
    middle = near + _DEPTH / 2 * np.array([np.cos(heading), np.sin(heading)])
    return Zones.model_validate(
        {
            "min_seen": 500,
            "zones": [
                {
                    "name": "kept_free", "type": "stop", "frame_id": "base_link", "min_points": points,
                    "shape": {"kind": "box", "size": [_DEPTH, _WIDTH, _TOP - _BOTTOM]},
                    "position": [float(middle[0]), float(middle[1]), (_BOTTOM + _TOP) / 2],
                    "rpy": [0.0, 0.0, heading],
                },
                {
                    "name": "table", "type": "exclusion", "frame_id": "base_link",
                    "shape": {"kind": "box", "size": [2.4, 3.0, 0.1]}, "position": [0.1, 0.0, _BOTTOM - 0.05],
                },
            ],
        }
    )  # fmt: skip


def _gap(zones: Zones, place: np.ndarray) -> float:
    """Metres from a place (3,) to the zone, below 0 inside."""
    zone = zones.checked[0]
    return float(zone.clearance(View(zone.frame_id, place.astype(float)[None, None]))[0, 0])
