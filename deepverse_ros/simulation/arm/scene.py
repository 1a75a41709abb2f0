"""What stands around the arm, and where the camera and the light are: drawn from a seed."""

from dataclasses import dataclass, replace

import numpy as np

# Where the arm works, in metres in the world frame: x forward, y left, z above the table's surface.
WORKSPACE_LOWER = np.array([0.35, -0.45, 0.08])
WORKSPACE_UPPER = np.array([0.75, 0.45, 0.55])

# The camera stands in front of the arm, to its left and above, so that no line of sight runs along the table.
CAMERA_TARGET = np.array([-0.035, -0.05, 0.455])
CAMERA_AZIMUTH = np.deg2rad(50.0)
CAMERA_ELEVATION = np.deg2rad(28.0)
CAMERA_DISTANCE = 3.1
CAMERA_FOVY = 42.5


@dataclass(frozen=True)
class Matter:
    """What a thing is made of.

    density: kg/m³.
    friction: of sliding, without unit; of turning on the spot and of rolling, metres.
    """

    density: float
    friction: tuple[float, float, float]


@dataclass(frozen=True)
class Item:
    """A movable object or a fixed obstacle.

    shape: "box", "cylinder", "sphere" or "tee", two boxes that make a flat T.
    size: half extents (3,) of a box, radius and half height (2,) of a cylinder, radius (1,) of a sphere, half extents
    of the whole and half the width of its bars (4,) of a tee, metres.
    position: (3,) of its centre, metres in the world frame.
    yaw: radians.
    rgb: (3,) in 0..1.
    tilt: how it is turned about its own x axis, radians, before `yaw`: pi / 2 lays a cylinder down.
    matter: None: as the model has it by default.
    band_rgb: colour of a band around it, None without one.
    """

    shape: str
    size: tuple[float, ...]
    position: tuple[float, float, float]
    yaw: float
    rgb: tuple[float, float, float]
    tilt: float = 0.0
    matter: Matter | None = None
    band_rgb: tuple[float, float, float] | None = None

    @property
    def extents(self) -> tuple[float, float, float]:
        """Half extents along x, y and z as it lies, before `yaw`, metres."""
        if self.shape == "sphere":
            x = y = z = self.size[0]
        elif self.shape == "cylinder":
            x, y, z = self.size[0], *self.size
        else:
            x, y, z = self.size[:3]
        across, along = abs(np.cos(self.tilt)), abs(np.sin(self.tilt))
        return (x, float(across * y + along * z), float(across * z + along * y))

    @property
    def footprint(self) -> float:
        """Radius in metres of the circle that it covers on the table."""
        if self.shape in ("cylinder", "sphere") and not self.tilt:
            return self.size[0]
        return float(np.hypot(*self.extents[:2]))


@dataclass(frozen=True)
class Scene:
    """Everything around the arm.

    Colours are (3,) in 0..1.

    light_position: metres, world frame.
    light: diffuse intensity.
    ambient: intensity of the light without direction.
    camera_position: (3,) metres.
    camera_axes: (3, 3) columns are the optical frame's x right, y down, z forward in the world frame.
    camera_fovy: vertical field of view in degrees.
    table_lower, table_upper: corners (2,) of the table, metres.
    fixtures: what stands fast on the table beside the obstacles, such as a tray.
    patches: boxes that are seen only, such as a mat on the table.
    """

    objects: tuple[Item, ...]
    obstacles: tuple[Item, ...]
    table_rgb: tuple[float, float, float]
    floor_rgb: tuple[float, float, float]
    wall_rgb: tuple[float, float, float]
    light_position: tuple[float, float, float]
    light: float
    ambient: float
    camera_position: np.ndarray
    camera_axes: np.ndarray
    camera_fovy: float = CAMERA_FOVY
    table_lower: tuple[float, float] = (-1.05, -1.45)
    table_upper: tuple[float, float] = (1.25, 1.45)
    fixtures: tuple[Item, ...] = ()
    patches: tuple[Item, ...] = ()


def sample_scene(
    rng: np.random.Generator,
    n_objects: int,
    n_obstacles: int,
    randomise: bool = True,
    base_offset: tuple[float, float] = (0.0, 0.0),
) -> Scene:
    """Draw a scene for an arm whose base stands at `base_offset` (x, y in metres).

    With `randomise` off only the objects and obstacles are drawn; light, camera and the other colours stay the same.
    """
    taken = [(np.asarray(base_offset, float), 0.28)]
    obstacles = tuple(_obstacle(rng, taken) for _ in range(n_obstacles))
    objects = tuple(_object(rng, taken, k) for k in range(n_objects))
    jitter = rng.normal(size=6) * (0.004, 0.004, 0.004, 0.002, 0.002, 0.002) if randomise else np.zeros(6)
    position, axes = camera_pose(np.clip(jitter, -0.01, 0.01))
    if not randomise:
        return Scene(
            objects, obstacles, (0.55, 0.50, 0.45), (0.35, 0.36, 0.38), (0.70, 0.72, 0.75), (1.0, 1.0, 2.5), 0.65, 0.38,
            position, axes,
        )  # fmt: skip
    return Scene(
        objects=objects,
        obstacles=obstacles,
        table_rgb=_muted(rng, 0.42, 0.72),
        floor_rgb=_muted(rng, 0.25, 0.5),
        wall_rgb=_muted(rng, 0.5, 0.85),
        light_position=tuple(rng.uniform((0.2, -1.5, 2.0), (2.0, 1.5, 3.0))),
        light=float(rng.uniform(0.5, 0.8)),
        ambient=float(rng.uniform(0.32, 0.45)),
        camera_position=position,
        camera_axes=axes,
    )


def camera_pose(jitter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera is.

    Args: jitter (6,): shift in metres and rotation vector in radians, both small.
    Returns: position (3,) and axes (3, 3) as in `Scene`.
    """
    towards_camera = np.array(
        [
            np.cos(CAMERA_ELEVATION) * np.cos(CAMERA_AZIMUTH),
            np.cos(CAMERA_ELEVATION) * np.sin(CAMERA_AZIMUTH),
            np.sin(CAMERA_ELEVATION),
        ]
    )
    forward = -towards_camera
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    x, y, z = jitter[3:]
    turned = (np.eye(3) + np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])) @ axes
    u, _, vt = np.linalg.svd(turned)
    return CAMERA_TARGET + CAMERA_DISTANCE * towards_camera + jitter[:3], u @ vt


def _free_place(
    rng: np.random.Generator, taken: list[tuple[np.ndarray, float]], radius: float, lower: tuple, upper: tuple
) -> np.ndarray:
    """A point (2,) on the table that keeps 2 cm from everything in `taken`."""
    for _ in range(200):
        place = rng.uniform(lower, upper)
        clear = all(np.linalg.norm(place - other) > radius + r + 0.02 for other, r in taken)
        if clear:
            break
    taken.append((place, radius))
    return place


def _object(rng: np.random.Generator, taken: list[tuple[np.ndarray, float]], k: int) -> Item:
    half = float(rng.uniform(0.027, 0.037))
    shape = "box" if rng.random() < 0.6 else "cylinder"
    size = (half, half, half) if shape == "box" else (half, half)
    item = Item(shape, size, (0.0, 0.0, half), float(rng.uniform(-np.pi, np.pi)), _vivid(rng, k))
    x, y = _free_place(rng, taken, item.footprint, (0.35, -0.45), (0.75, 0.45))
    return replace(item, position=(float(x), float(y), half))


def _obstacle(rng: np.random.Generator, taken: list[tuple[np.ndarray, float]]) -> Item:
    height = float(rng.uniform(0.06, 0.16))
    if rng.random() < 0.5:
        shape, size = "box", (*(float(v) for v in rng.uniform(0.04, 0.08, 2)), height)
    else:
        shape, size = "cylinder", (float(rng.uniform(0.035, 0.06)), height)
    rgb = (float(rng.uniform(0.65, 0.85)), float(rng.uniform(0.04, 0.16)), float(rng.uniform(0.06, 0.18)))
    item = Item(shape, size, (0.0, 0.0, height), float(rng.uniform(-np.pi, np.pi)), rgb)
    side = 1.0 if rng.random() < 0.5 else -1.0
    x, y = _free_place(rng, taken, item.footprint, (0.30, 0.20), (0.75, 0.55))
    taken[-1] = (np.array([x, side * y]), item.footprint)
    return replace(item, position=(float(x), float(side * y), height))


def _vivid(rng: np.random.Generator, k: int) -> tuple[float, float, float]:
    """A strong colour that is neither the obstacles' red nor the arm's orange: green, purple, white-yellow, cyan."""
    palette = ((0.10, 0.70, 0.20), (0.55, 0.15, 0.75), (0.95, 0.95, 0.30), (0.10, 0.75, 0.75))
    rgb = np.clip(np.array(palette[(k + rng.integers(4)) % 4]) + rng.uniform(-0.08, 0.08, 3), 0, 1)
    return (float(rgb[0]), float(rgb[1]), float(rgb[2]))


def _muted(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    """A greyish colour with a brightness between `low` and `high`."""
    rgb = np.clip(rng.uniform(low, high) + rng.uniform(-0.07, 0.07, 3), 0, 1)
    return (float(rgb[0]), float(rgb[1]), float(rgb[2]))
