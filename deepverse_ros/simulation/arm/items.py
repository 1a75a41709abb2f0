"""Objects, obstacles and what else stands at the table, as MJCF."""

import numpy as np

from deepverse_ros.simulation.arm.scene import Item

# Collision bits: the arm does not collide with itself; table, obstacles and objects collide with the arm; objects also
# with each other and with what is fixed.
ARM = 'contype="1" conaffinity="2"'
FIXED = 'contype="2" conaffinity="1"'
SEEN_ONLY = 'contype="0" conaffinity="0"'
_OBJECT = 'contype="4" conaffinity="7"'
_BAND = 0.0004  # metres that a band stands out, so that it is seen
_ROUND = ("cylinder", "sphere")


def object_body(item: Item, name: str) -> str:
    """A body that may be moved. Its origin is the middle of what it takes up."""
    matter = ""
    if item.matter is not None:
        # What cannot roll needs no contact that resists it, and is cheaper without.
        dimensions = 6 if item.shape in _ROUND else 4
        matter = f'condim="{dimensions}" density="{item.matter.density:.6g}" friction="{mjcf(item.matter.friction)}"'
    geoms = "".join(
        f'<geom name="{name}{part}" type="{shape}" size="{mjcf(size)}" {place} rgba="{mjcf(item.rgb)} 1" {_OBJECT} '
        f"{matter}/>"
        for part, shape, size, place in _parts(item)
    )
    parts = f'<joint type="free"/>{geoms}{_band(item)}'
    return f'<body name="{name}" pos="{mjcf(item.position)}" {_turned(item)}>{parts}</body>'


def fixed_geom(item: Item, name: str, collision: str = FIXED) -> str:
    """A geom of the world, of a shape that is one geom."""
    pose = f'pos="{mjcf(item.position)}" {_turned(item)}'
    rgba = f'rgba="{mjcf(item.rgb)} 1"'
    return f'<geom name="{name}" type="{item.shape}" size="{mjcf(item.size)}" {pose} {rgba} {collision}/>'


def mjcf(values: object) -> str:
    """Numbers as MJCF writes them."""
    return " ".join(f"{float(v):.6g}" for v in np.asarray(values).ravel())


def _parts(item: Item) -> list[tuple[str, str, tuple[float, ...], str]]:
    """Its geoms: end of the name, type, size and place."""
    if item.shape != "tee":
        return [("", item.shape, item.size, "")]
    x, y, z, half = item.size
    return [
        ("", "box", (x, half, z), f'pos="0 {y - half:.6g} 0"'),
        ("_stem", "box", (half, y - half, z), f'pos="0 {-half:.6g} 0"'),
    ]


def _band(item: Item) -> str:
    """A stripe of another colour around the middle, which weighs nothing and touches nothing."""
    if item.band_rgb is None or item.shape not in ("box", "cylinder"):
        return ""
    around = [v + _BAND for v in item.size[:-1]]
    return (
        f'<geom type="{item.shape}" size="{mjcf([*around, 0.35 * item.size[-1]])}" mass="0" '
        f'rgba="{mjcf(item.band_rgb)} 1" {SEEN_ONLY}/>'
    )


def _turned(item: Item) -> str:
    if not item.tilt:
        return f'euler="0 0 {item.yaw}"'
    turn, tilt = item.yaw / 2, item.tilt / 2
    w_x_y_z = np.cos(turn) * np.cos(tilt), np.cos(turn) * np.sin(tilt), np.sin(turn) * np.sin(tilt)
    return f'quat="{mjcf([*w_x_y_z, np.sin(turn) * np.cos(tilt)])}"'
