"""Scenes drawn from a seed: a camera at a working distance, and things of many kinds on the table."""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deepverse_ros.simulation.arm.layout import Layout
from deepverse_ros.simulation.arm.scene import Item, Scene
from deepverse_ros.simulation.arm.table import AREA_LOWER, AREA_UPPER, draw_table
from deepverse_ros.simulation.arm.things import Colour, draw_obstacle, draw_thing

MOST_THINGS = 6
_THINGS_SHARES = (0.05, 0.12, 0.20, 0.23, 0.20, 0.12, 0.08)  # of 0 to 6
_OBSTACLES_SHARES = (0.55, 0.33, 0.12)  # of 0 to 2
_CROWDED = 0.35  # of the scenes have things that touch
_MARGIN = 0.05  # of the picture, between a thing's middle and the border

VIEW_TARGET = np.array([0.54, 0.0, 0.13])
_AZIMUTH, _ELEVATION, _DISTANCE = 75.0, (25.0, 60.0), (1.1, 2.0)  # degrees to each side, degrees, metres
_WIDTH, _PIXELS, _PICTURE = 0.05, 8.0, 128  # a thing so wide has so many pixels of a picture so wide, or more
_TIGHT = (0.93, 0.995)  # the angle of view as a share of the widest that leaves it so many


@dataclass(frozen=True)
class View:
    """Where a camera stands: position (3,), axes (3, 3) and vertical field of view in degrees, as in `Scene`."""

    position: np.ndarray
    axes: np.ndarray
    fovy: float

    def sees(self, point: np.ndarray, margin: float) -> bool:
        """Whether a point (3,) is in a square picture, `margin` of its side from the border."""
        x, y, z = (point - self.position) @ self.axes
        most = (1 - 2 * margin) * np.tan(np.deg2rad(self.fovy) / 2) * z
        return bool(z > 0 and abs(x) < most and abs(y) < most)


def sample_scene(
    rng: np.random.Generator,
    n_objects: int | None = None,
    n_obstacles: int | None = None,
    randomise: bool = True,
    base_offset: tuple[float, float] = (0.0, 0.0),
) -> Scene:
    """Draw a scene for an arm whose base stands at `base_offset` (x, y in metres).

    Args: n_objects, n_obstacles: None: their number is drawn, too, and one that finds no room is left out. randomise:
    off: only what stands and lies on the table is drawn; light, camera, table and floor stay the same.
    """
    view = _draw_view(rng) if randomise else view_from(np.deg2rad(40.0), np.deg2rad(42.0), 1.5, VIEW_TARGET, 0.0, 0.98)
    table_rgb = _draw_surface(rng, 0.3, 0.85) if randomise else (0.55, 0.50, 0.45)
    table = draw_table(rng, table_rgb, base_offset)
    crowded = bool(rng.random() < _CROWDED)
    layout = Layout(rng, table.places, table.spare, base_offset, lambda point: view.sees(point, _MARGIN), crowded)
    obstacles = _put(rng, n_obstacles, _OBSTACLES_SHARES, lambda far: layout.put_obstacle(draw_obstacle(rng), far))
    things = _put(rng, n_objects, _THINGS_SHARES, lambda far: layout.put_thing(draw_thing(rng, table_rgb), far))
    floor, wall = (0.35, 0.36, 0.38), (0.70, 0.72, 0.75)
    light_position, light, ambient = (1.0, 1.0, 2.5), 0.65, 0.38
    if randomise:
        floor, wall = _draw_surface(rng, 0.2, 0.6), _draw_surface(rng, 0.4, 0.9)
        light_position = _triple(rng.uniform((0.2, -1.5, 2.0), (2.0, 1.5, 3.0)))
        light, ambient = float(rng.uniform(0.45, 0.8)), float(rng.uniform(0.3, 0.45))
    return Scene(
        objects=things,
        obstacles=obstacles,
        table_rgb=table_rgb,
        floor_rgb=floor,
        wall_rgb=wall,
        light_position=light_position,
        light=light,
        ambient=ambient,
        camera_position=view.position,
        camera_axes=view.axes,
        camera_fovy=view.fovy,
        table_lower=table.lower,
        table_upper=table.upper,
        fixtures=table.fixtures,
        patches=table.patches,
    )


def _put(
    rng: np.random.Generator,
    number: int | None,
    shares: tuple[float, ...],
    put: Callable[[bool], Item | None],
) -> tuple[Item, ...]:
    """As many as `number` says, or as is drawn with the probabilities `shares` and finds room.

    Args: put: puts another one, anywhere on the table if it has to be; None without room.
    Raises: RuntimeError where a given number finds no room on the whole table.
    """
    wanted = int(rng.choice(len(shares), p=shares)) if number is None else number
    found = [put(False) for _ in range(wanted)]
    items = [item for item in found if item is not None]
    for k in range(60 if number is not None else 0):
        if len(items) == wanted:
            break
        item = put(k >= 20)
        items += [item] if item is not None else []
    if number is not None and len(items) < wanted:
        raise RuntimeError(f"the table has room for {len(items)} of {wanted} things")
    return tuple(items)


def _draw_view(rng: np.random.Generator) -> View:
    """A place before the arm where somebody would mount a camera."""
    azimuth = np.deg2rad(rng.uniform(-_AZIMUTH, _AZIMUTH))
    elevation = np.deg2rad(rng.uniform(*_ELEVATION))
    target = VIEW_TARGET + rng.uniform((-0.03, -0.05, -0.03), (0.03, 0.05, 0.06))
    return view_from(
        azimuth, elevation, rng.uniform(*_DISTANCE), target, np.deg2rad(rng.normal(0, 1.5)), rng.uniform(*_TIGHT)
    )


def view_from(azimuth: float, elevation: float, distance: float, target: np.ndarray, roll: float, tight: float) -> View:
    """A camera that looks at `target` (3,) from `distance` metres.

    Args: azimuth, elevation: where it is, seen from there, radians; roll: how it is turned about its axis. tight: its
    angle of view as a share of the widest that shows 5 cm on 8 of 128 pixels.
    """
    level = np.cos(elevation)
    towards = np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])
    right = np.cross(-towards, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    down = np.cross(-towards, right)
    right, down = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    axes = np.stack([right, down, -towards], axis=1)
    position = target + distance * towards
    corners = np.array([(x, y, 0.0) for x in (AREA_LOWER[0], AREA_UPPER[0]) for y in (AREA_LOWER[1], AREA_UPPER[1])])
    farthest = float(np.max((corners - position) @ axes[:, 2]))
    widest = _PICTURE * _WIDTH / (2 * _PIXELS * farthest)
    return View(position, axes, float(np.rad2deg(2 * np.arctan(tight * widest))))


def _draw_surface(rng: np.random.Generator, dark: float, bright: float) -> Colour:
    """What a table, a floor or a wall is painted in: greyish in most scenes, else a soft colour."""
    value = rng.uniform(dark, bright)
    if rng.random() < 0.6:
        return _triple(np.clip(value + rng.uniform(-0.07, 0.07, 3), 0, 1))
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 0.6), value)


def _triple(values: np.ndarray) -> Colour:
    x, y, z = values
    return float(x), float(y), float(z)
