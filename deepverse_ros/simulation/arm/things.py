"""What lies on the table in the near setting: many shapes, sizes, colours and matters, drawn one by one."""

import colorsys
from dataclasses import replace

import numpy as np

from deepverse_ros.simulation.arm.scene import Item, Matter

Colour = tuple[float, float, float]

_KINDS = ("cube", "flat box", "long box", "tall box", "cylinder", "tall cylinder", "lying cylinder", "ball", "tee")
_SHARES = (0.18, 0.12, 0.10, 0.09, 0.13, 0.10, 0.06, 0.10, 0.12)
_BANDED = 0.4  # of those that can have a second colour
_UNLIKE = 0.35  # how far a thing's colour is from what it lies on, in rgb


def draw_thing(rng: np.random.Generator, unlike: Colour) -> Item:
    """A thing at the origin, its lowest point at height 0.

    Args: unlike: the colour of what it lies on, which it can be told from.
    """
    shape, size, tilt = _draw_shape(rng, str(rng.choice(_KINDS, p=_SHARES)))
    friction = rng.uniform(0.2, 0.6), rng.uniform(0.002, 0.01), rng.uniform(0.0005, 0.003)
    rgb = draw_colour(rng, unlike)
    item = Item(
        shape,
        tuple(float(v) for v in size),
        (0.0, 0.0, 0.0),
        float(rng.uniform(-np.pi, np.pi)),
        rgb,
        tilt,
        Matter(float(np.exp(rng.uniform(np.log(200), np.log(1500)))), (float(friction[0]), *map(float, friction[1:]))),
        draw_colour(rng, rgb) if rng.random() < _BANDED and shape in ("box", "cylinder") else None,
    )
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


def _draw_shape(rng: np.random.Generator, kind: str) -> tuple[str, tuple[float, ...], float]:
    """Shape, size in metres and tilt, as of an `Item`."""
    draw = rng.uniform
    match kind:
        case "cube":
            return "box", (draw(0.016, 0.035),) * 3, 0.0
        case "flat box":
            return "box", (draw(0.030, 0.050), draw(0.022, 0.040), draw(0.015, 0.020)), 0.0
        case "long box":
            return "box", (draw(0.040, 0.050), draw(0.015, 0.020), draw(0.015, 0.020)), 0.0
        case "tall box":
            return "box", (draw(0.015, 0.022), draw(0.015, 0.022), draw(0.040, 0.050)), 0.0
        case "cylinder":
            return "cylinder", (draw(0.020, 0.038), draw(0.016, 0.032)), 0.0
        case "tall cylinder":
            return "cylinder", (draw(0.016, 0.022), draw(0.040, 0.050)), 0.0
        case "lying cylinder":
            return "cylinder", (draw(0.015, 0.025), draw(0.025, 0.050)), np.pi / 2
        case "ball":
            return "sphere", (draw(0.018, 0.035),), 0.0
        case _:
            return "tee", (draw(0.035, 0.050), draw(0.032, 0.050), draw(0.015, 0.022), draw(0.011, 0.016)), 0.0
