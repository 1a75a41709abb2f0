"""Zones: bodies in space that the imagined future has to keep clear of, or to stay in, read from a YAML file."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field, StringConstraints, ValidationError, model_validator

from deepverse_ros import files, resources
from deepverse_ros.errors import ConfigError, ShapeError
from deepverse_ros.robot.kinematics import NAME
from deepverse_ros.robot.rigid import moved, rotation_from_rpy
from deepverse_ros.safety.answer import Action, Answer
from deepverse_ros.safety.shapes import Frozen, Positive, Real, Shape
from deepverse_ros.safety.view import Subject, View

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NAME)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
NotNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1e9)]


class Window(Frozen):
    """The part of the horizon in which a zone counts; both ends belong to it.

    unit: "seconds" from now, or "steps", where 0 is the first imagined one.
    """

    unit: Literal["seconds", "steps"]
    first: NotNegative = Field(alias="from")
    last: NotNegative = Field(alias="to")

    @model_validator(mode="after")
    def _ordered(self) -> "Window":
        if self.first > self.last:
            raise ValueError(f"from ({self.first:g} {self.unit}) must not be after to ({self.last:g} {self.unit})")
        if self.unit == "steps" and not (self.first.is_integer() and self.last.is_integer()):
            raise ValueError(f"from, to: steps are whole numbers, got {self.first:g} and {self.last:g}")
        return self

    def covers(self, times: np.ndarray) -> np.ndarray:
        """(S,) bool. Args: times (S,) seconds from now."""
        at = times if self.unit == "seconds" else np.arange(len(times))
        # Steps of 0.2 s add up to 0.6000000000000001.
        return (at >= self.first - 1e-6) & (at <= self.last + 1e-6)


class Zone(Frozen):
    """What all types of zone have.

    frame_id: tf frame that the zone stands in.
    attached: that frame moves (tool, base, camera), so where it will be has to be known for each step.
    position: of the shape's origin, metres in that frame.
    rpy: its rotation about the frame's fixed x, y and z axes, radians, as in URDF.
    of: what counts: points of the scene, or the robot's own body.
    min_points: how many points in a step count as something.
    """

    name: Name
    frame_id: Name
    attached: bool = Field(default=False, strict=True)
    shape: Shape
    position: tuple[Real, Real, Real] = (0.0, 0.0, 0.0)
    rpy: tuple[Real, Real, Real] = (0.0, 0.0, 0.0)
    of: Subject = "scene"
    min_points: Count = 1
    window: Window | None = None

    @cached_property
    def _to_shape(self) -> np.ndarray:
        """(4, 4) from the zone's frame to the shape's own axes."""
        out = np.eye(4)
        out[:3, :3] = rotation_from_rpy(self.rpy).T
        out[:3, 3] = -out[:3, :3] @ self.position
        return out

    def _local(self, view: View) -> tuple[np.ndarray, np.ndarray | float]:
        points, radius = view.points(self.of)
        to_frame = view.transform(self.frame_id, self.attached)
        slack = view.slack.get(self.frame_id)
        if slack is not None:  # what may be elsewhere is a ball
            radius = radius + slack.radius(moved(to_frame, points))
        return moved(self._to_shape @ to_frame, points), radius

    side: ClassVar[str] = "in"
    """Where points offend the zone, for people."""

    def answer(self, enters: float) -> Answer:
        """What is to be done with a command whose future offends the zone. Args: enters: seconds from now, at least."""
        return Answer()

    def covers(self, times: np.ndarray) -> np.ndarray:
        """(S,) bool: the steps in which the zone counts."""
        return np.ones(len(times), bool) if self.window is None else self.window.covers(times)

    def hits(self, view: View) -> np.ndarray:
        """(S, N) bool: which points are where they should not be; a ball that touches counts."""
        points, radius = self._local(view)
        if not np.any(radius):
            return self.shape.inside(points)
        return self.shape.distance(points) <= radius

    def clearance(self, view: View) -> np.ndarray:
        """(S, N) metres that each point, or ball, is clear of the zone; negative where it hits; NaN for no point."""
        points, radius = self._local(view)
        return self.shape.distance(points) - radius


class StopZone(Zone):
    """The command must not pass."""

    type: Literal["stop"]


class SlowdownZone(Zone):
    """The command passes at `scale` of its speed."""

    type: Literal["slowdown"]
    scale: Annotated[float, Field(strict=True, gt=0, lt=1)]

    def answer(self, enters: float) -> Answer:
        return Answer(Action.SLOW, self.scale)


class LimitZone(Zone):
    """The command passes no faster than `max_rate` of each value, by its name (rad/s, m/s); "*": of all others."""

    type: Literal["limit"]
    max_rate: dict[Name, Positive] = Field(min_length=1)

    def answer(self, enters: float) -> Answer:
        return Answer(Action.LIMIT, 1.0, dict(self.max_rate))


class ApproachZone(Zone):
    """The nearer the entry, the slower.

    time: seconds; an entry sooner than that slows the command by the share of it that is left, so that the time to
    enter stays. stop_time: an entry as soon as that stops it, seconds.
    """

    type: Literal["approach"]
    time: Positive
    stop_time: NotNegative = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> "ApproachZone":
        if self.stop_time >= self.time:
            raise ValueError(f"stop_time ({self.stop_time:g} s) must be below time ({self.time:g} s)")
        return self

    def answer(self, enters: float) -> Answer:
        note = f"entered {enters:.2g} s from now or later"
        if enters >= self.time:
            return Answer(Action.CLEAR, 1.0, note=note)
        if enters > self.stop_time:
            return Answer(Action.SLOW, enters / self.time, note=note)
        return Answer(note=note)


class KeepInZone(Zone):
    """The workspace: the command must not pass when the robot leaves it."""

    type: Literal["keep_in"]
    side: ClassVar[str] = "outside of"

    @model_validator(mode="after")
    def _of_the_robot(self) -> "KeepInZone":
        if self.of != "robot":
            raise ValueError(f"of: a keep_in zone holds the robot in, so it must be robot, got {self.of}")
        return self

    def hits(self, view: View) -> np.ndarray:
        points, radius = self._local(view)
        known = np.isfinite(points).all(-1)
        if not np.any(radius):
            return known & ~self.shape.inside(points)
        return known & (self.shape.distance(points) > -np.asarray(radius))

    def clearance(self, view: View) -> np.ndarray:
        points, radius = self._local(view)
        return -self.shape.distance(points) - radius


class ExclusionZone(Zone):
    """Points in here are ignored by all zones of the same `of`; a ball only where the whole of it is in here."""

    type: Literal["exclusion"]

    def hits(self, view: View) -> np.ndarray:
        points, radius = self._local(view)
        if not np.any(radius):
            return self.shape.inside(points)
        return self.shape.distance(points) <= -np.asarray(radius)


AnyZone = Annotated[
    StopZone | SlowdownZone | LimitZone | ApproachZone | KeepInZone | ExclusionZone, Field(discriminator="type")
]


class Zones(Frozen):
    """All zones of a robot.

    min_seen: how many scene points a step must have, wherever they are; with fewer the robot is blind, and a blind
    step is not clear.
    """

    min_seen: Count = 1
    zones: tuple[AnyZone, ...] = Field(max_length=1000)

    @model_validator(mode="after")
    def _consistent(self) -> "Zones":
        names = [zone.name for zone in self.zones]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"zone '{name}': name: every name may stand once, this one stands {names.count(name)}×"
                )
        if not self.checked:
            raise ValueError("zones: at least one is needed that is not an exclusion; without, everything would pass")
        return self

    @cached_property
    def checked(self) -> tuple[Zone, ...]:
        """The zones that count points: all but the exclusions."""
        return tuple(zone for zone in self.zones if not isinstance(zone, ExclusionZone))

    @property
    def frames(self) -> dict[str, bool]:
        """Each frame that a zone stands in, and whether it moves."""
        out: dict[str, bool] = {}
        for zone in self.zones:
            out[zone.frame_id] = out.get(zone.frame_id, False) or zone.attached
        return out

    def watches(self, of: Subject) -> bool:
        """Whether any zone counts points of the scene, or of the robot."""
        return any(zone.of == of for zone in self.checked)

    def windows(self, times: np.ndarray) -> np.ndarray:
        """(Z, S) bool: in which steps each of `checked` counts.

        Args: times (S,) seconds from now of the steps.
        Raises: ConfigError naming a zone that would never count.
        """
        out = np.stack([zone.covers(times) for zone in self.checked])
        for zone, row in zip(self.checked, out, strict=True):
            if not row.any():
                raise ConfigError(
                    f"zone '{zone.name}': window: no step of the horizon is in it; steps are at {times} s"
                )
        return out

    def ignored(self, view: View, times: np.ndarray, of: Subject) -> np.ndarray:
        """(S, N) bool: points that no zone counts, because an exclusion zone holds them."""
        out = np.zeros(view.points(of)[0].shape[:2], bool)
        for zone in self.zones:
            if isinstance(zone, ExclusionZone) and zone.of == of:
                out |= zone.hits(view) & zone.covers(times)[:, None]
        return out

    def count(self, view: View, times: np.ndarray) -> np.ndarray:
        """How many points offend each zone in each step: inside it, or outside a keep-in zone.

        Args: times (S,) seconds from now of the view's moments.
        Returns: (Z, S) int, in the order of `checked`; 0 outside a zone's window.
        Raises: ShapeError for a frame or points that are missing; ConfigError as `windows`.
        """
        if times.shape != (view.steps,):
            raise ShapeError(f"times: expected ({view.steps},), one for each moment, got {times.shape}")
        counted: dict[Subject, np.ndarray] = {}
        out = np.zeros((len(self.checked), view.steps), int)
        for row, zone in zip(out, self.checked, strict=True):
            if zone.of not in counted:
                counted[zone.of] = ~self.ignored(view, times, zone.of)
            row[:] = (zone.hits(view) & counted[zone.of]).sum(1)
        return out * self.windows(times)

    @classmethod
    def load(cls, path: str | Path) -> "Zones":
        """Read a YAML file.

        Raises: ConfigError naming file, zone, field, value and what is allowed; ResourceError where there is no file.
        """
        file = resources.find(path)
        values = files.read_yaml(file)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{file}: " + "; ".join(_sentence(e, values) for e in error.errors())) from error


def _names(union: Any, field: str) -> set[str]:
    """The values of the field that tells the members of a union apart."""
    return {get_args(kind.model_fields[field].annotation)[0] for kind in get_args(get_args(union)[0])}


_TAGS = _names(AnyZone, "type")
_SHAPES = _names(Shape, "kind")


def _sentence(error: Any, values: dict[str, Any]) -> str:
    """One wrong field, for people: the zone by its name, and the path without the types that pydantic tried."""
    path = list(error["loc"])
    where = []
    if path[:1] == ["zones"] and len(path) > 1:
        given = values["zones"][path[1]]
        name = given.get("name") if isinstance(given, dict) else None
        where.append(f"zone '{name}'" if isinstance(name, str) and name.strip() else f"zone number {path[1] + 1}")
        path = path[3:] if path[2:3] and path[2] in _TAGS else path[2:]
        if path[:1] == ["shape"] and path[1:2] and path[1] in _SHAPES:
            del path[1]
    if path:
        where.append(".".join(str(part) for part in path))
    message = error["msg"].removeprefix("Value error, ")
    if not isinstance(error["input"], dict):
        message += f", got {files.shown(error['input'])}"
    return ": ".join([*where, message])
