"""What lies on the table: many shapes, sizes, colours and matters, drawn one by one."""

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from deepverse_ros.simulation.arm.scene import Item, Matter

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class _Kind:
    """share: of the things. shape, tilt: as of an `Item`. low, high: between which its size is drawn, metres."""

    share: float
    shape: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    tilt: float = 0.0


_CUBE = _Kind(0.18, "box", (0.016,), (0.035,))
_FLAT_BOX = _Kind(0.12, "box", (0.030, 0.022, 0.015), (0.050, 0.040, 0.020))
_LONG_BOX = _Kind(0.10, "box", (0.040, 0.015, 0.015), (0.050, 0.020, 0.020))
_TALL_BOX = _Kind(0.09, "box", (0.015, 0.015, 0.040), (0.022, 0.022, 0.050))
_CYLINDER = _Kind(0.13, "cylinder", (0.020, 0.016), (0.038, 0.032))
_TALL_CYLINDER = _Kind(0.10, "cylinder", (0.016, 0.040), (0.022, 0.050))
_LYING_CYLINDER = _Kind(0.06, "cylinder", (0.015, 0.025), (0.025, 0.050), np.pi / 2)
_BALL = _Kind(0.10, "sphere", (0.018,), (0.035,))
_TEE = _Kind(0.12, "tee", (0.035, 0.032, 0.015, 0.011), (0.050, 0.050, 0.022, 0.016))
_KINDS = (_CUBE, _FLAT_BOX, _LONG_BOX, _TALL_BOX, _CYLINDER, _TALL_CYLINDER, _LYING_CYLINDER, _BALL, _TEE)

_BANDED = 0.4  # of those that can have a second colour
_UNLIKE = 0.35  # how far a thing's colour is from what it lies on, in rgb


def draw_thing(rng: np.random.Generator, unlike: Colour) -> Item:
    """A thing at the origin, its lowest point at height 0.

    Args: unlike: the colour of what it lies on, which it can be told from.
    """
    kind = _KINDS[rng.choice(len(_KINDS), p=[kind.share for kind in _KINDS])]
    size = tuple(float(v) for v in rng.uniform(kind.low, kind.high)) * (3 if kind is _CUBE else 1)
    yaw = float(rng.uniform(-np.pi, np.pi))
    slide, spin, roll = (float(rng.uniform(*limits)) for limits in ((0.2, 0.6), (0.002, 0.01), (0.0005, 0.003)))
    matter = Matter(float(np.exp(rng.uniform(np.log(200), np.log(1500)))), (slide, spin, roll))
    rgb = draw_colour(rng, unlike)
    banded = kind.shape in ("box", "cylinder") and rng.random() < _BANDED
    band = draw_colour(rng, rgb) if banded else None
    item = Item(kind.shape, size, (0.0, 0.0, 0.0), yaw, rgb, kind.tilt, matter, band)
    return replace(item, position=(0.0, 0.0, item.extents[2]))


def draw_obstacle(rng: np.random.Generator) -> Item:
    """Something at the origin that stands fast and is higher than things are: red in half of the draws."""
    height = float(rng.uniform(0.05, 0.13))
    if rng.random() < 0.5:
        shape, size = "box", (*(float(v) for v in rng.uniform(0.025, 0.06, 2)), height)
    else:
        shape, size = "cylinder", (float(rng.uniform(0.025, 0.05)), height)
    red = (float(rng.uniform(0.65, 0.85)), float(rng.uniform(0.04, 0.16)), float(rng.uniform(0.06, 0.18)))
    rgb = red if rng.random() < 0.5 else draw_colour(rng, red)
    return Item(shape, size, (0.0, 0.0, height), float(rng.uniform(-np.pi, np.pi)), rgb)


def draw_colour(rng: np.random.Generator, unlike: Colour) -> Colour:
    """Any colour that is not close to `unlike`: mostly strong ones, some greys, dark to bright."""
    for _ in range(20):
        saturation = rng.uniform(0.5, 1.0) if rng.random() < 0.75 else rng.uniform(0.0, 0.2)
        rgb = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.15, 1.0))
        if np.linalg.norm(np.subtract(rgb, unlike)) > _UNLIKE:
            break
    return rgb
