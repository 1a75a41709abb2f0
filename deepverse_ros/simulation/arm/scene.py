"""What stands around the arm, and where the camera and the light are."""

from dataclasses import dataclass

import numpy as np


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
    camera_fovy: float
    table_lower: tuple[float, float] = (-1.05, -1.45)
    table_upper: tuple[float, float] = (1.25, 1.45)
    fixtures: tuple[Item, ...] = ()
    patches: tuple[Item, ...] = ()
