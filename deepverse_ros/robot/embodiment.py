"""What one robot is: its actions, limits, rate and camera. A new robot is a new YAML, not new code."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from deepverse_ros import files, resources
from deepverse_ros.errors import EmbodimentError, ResourceError
from deepverse_ros.robot.kinematics import NAME, Body

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NAME)]
Limit = Annotated[float, Field(ge=-1e9, le=1e9)]
"""In any unit; such that single precision, with which everything computes, holds differences of them."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ignored_types=(cached_property,))


class Modality(_Frozen):
    """One named part of an action, or of what the robot measures of itself.

    lower, upper: limits in `units`, one per dimension. max_rate: largest change in units per second; None where
    the modality may jump. joints: names of the joints whose positions its values are. opening: its one value is how far
    a gripper is open, from 0 (closed) to 1 (open).
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=200)
    units: str
    lower: tuple[Limit, ...] = Field(min_length=1, max_length=1000)
    upper: tuple[Limit, ...] = Field(min_length=1, max_length=1000)
    max_rate: tuple[Limit, ...] | None = None
    joints: tuple[Name, ...] = ()
    opening: bool = False

    @property
    def dim(self) -> int:
        return len(self.lower)

    @model_validator(mode="after")
    def _consistent(self) -> "Modality":
        if len(self.upper) != self.dim:
            raise ValueError(f"modality '{self.name}': lower has {self.dim} values, upper has {len(self.upper)}")
        if self.max_rate is not None and len(self.max_rate) != self.dim:
            raise ValueError(f"modality '{self.name}': lower has {self.dim} values, max_rate has {len(self.max_rate)}")
        if self.max_rate is not None and min(self.max_rate) <= 0:
            raise ValueError(f"modality '{self.name}': max_rate must be positive, got {self.max_rate}")
        if not (np.asarray(self.lower, np.float32) < np.asarray(self.upper, np.float32)).all():
            raise ValueError(f"modality '{self.name}': every lower limit must be below its upper limit")
        if self.joints and len(self.joints) != self.dim:
            raise ValueError(f"modality '{self.name}': joints has {len(self.joints)} names for {self.dim} values")
        if len(set(self.joints)) < len(self.joints):
            raise ValueError(f"modality '{self.name}': joints: every name may stand once, got {', '.join(self.joints)}")
        if self.opening and (self.dim, self.lower, self.upper) != (1, (0.0,), (1.0,)):
            raise ValueError(f"modality '{self.name}': an opening is one value from 0 to 1")
        return self


class Camera(_Frozen):
    """The camera that the world model sees through.

    frame_id: optical frame (REP 103: x right, y down, z forward). near, far: metric depth range in metres that the
    model encodes. fixed: True when the camera does not move with the robot.
    """

    frame_id: Name
    near: float = Field(gt=0, ge=1e-3, le=1e5)
    far: float = Field(gt=0, le=1e5)
    fixed: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> "Camera":
        if self.near >= self.far:
            raise ValueError(f"camera: near ({self.near} m) must be below far ({self.far} m)")
        return self


class Embodiment(_Frozen):
    """One robot, as the model and the nodes know it.

    dt: seconds between two frames of the model. An action vector holds the modalities in their listed order, in
    physical units; `actions[t]` leads from frame t to frame t+1. proprioception: what the robot measures of itself;
    by default the quantities of the action, as they really are. body: its links and their shape, moved by what it
    measures; None where nobody described it.
    """

    name: Name
    description: str = ""
    dt: float = Field(ge=1e-3, le=60)
    base_frame: Name
    tool_frame: Name
    home: tuple[Limit, ...]
    modalities: tuple[Modality, ...] = Field(min_length=1, max_length=100)
    proprioception: tuple[Modality, ...] | None = Field(default=None, min_length=1, max_length=100)
    camera: Camera
    body: Body | None = None

    @model_validator(mode="before")
    @classmethod
    def _joints_of_modalities(cls, values: Any) -> Any:
        """Descriptions of before 0.3, such as those in checkpoints, name the joints beside the modalities.

        They are the first modality of as many values; a fraction beside them is a gripper's.
        """
        if not isinstance(values, dict) or "joint_names" not in values:
            return values
        values = dict(values)
        names, modalities = values.pop("joint_names"), values.get("modalities")
        if not isinstance(names, list | tuple):
            raise ValueError(f"joint_names: expected a list of names, got {names!r}")
        well = isinstance(modalities, list | tuple) and all(
            isinstance(m, dict) and isinstance(m.get("lower"), list | tuple) for m in modalities
        )
        if not names or not well:  # what is wrong with modalities is said there
            return values
        sizes = [len(m["lower"]) for m in modalities]
        if len(names) not in sizes:
            raise ValueError(f"joint_names: {len(names)} names, and no modality has as many values: {sizes}")
        first = sizes.index(len(names))
        values["modalities"] = [
            {**m, "joints": names} if i == first else {**m, "opening": size == 1 and m.get("units") == "fraction"}
            for i, (m, size) in enumerate(zip(modalities, sizes, strict=True))
        ]
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "Embodiment":
        for field in ("modalities", "proprioception"):
            names = [m.name for m in getattr(self, field) or ()]
            if len(set(names)) != len(names):
                raise ValueError(f"{field}: every name may stand once, got {names}")
        for what, having in (("joints", self._having("joints")), ("an opening", self._having("opening"))):
            if len(having) > 1:
                raise ValueError(f"modalities: {' and '.join(m.name for m in having)} have {what}; one may")
        if len(self.home) != self.action_dim:
            raise ValueError(f"home: expected {self.action_dim} values (the action dimension), got {len(self.home)}")
        home = np.asarray(self.home, np.float32)
        outside = (home < self.lower) | (home > self.upper)
        if outside.any():
            first = int(outside.argmax())
            raise ValueError(f"home.{first}: {self.home[first]:g} is not within the limits of its modality")
        measured = {m.name: m.dim for m in self.measured}
        for link in self.body.links if self.body else ():
            if link.modality is not None and not link.index < measured.get(link.modality, 0):
                raise ValueError(
                    f"body: link '{link.name}' moves with {link.modality}[{link.index}]; the robot measures {measured}"
                )
        return self

    # Cached arrays below are no fields; comparing them as pydantic would is ambiguous.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Embodiment) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.name)

    def with_known_body(self) -> "Embodiment":
        """With the body of `config/embodiments/NAME.yaml`, where that file describes this very robot.

        A checkpoint may be from before it was described, or described as well as now.
        """
        try:
            known = Embodiment.load(self.name)
        except EmbodimentError:
            return self
        same = known.model_dump(exclude={"body"}) == self.model_dump(exclude={"body"})
        return self.model_copy(update={"body": known.body}) if same and known.body else self

    def _having(self, what: str) -> list[Modality]:
        return [m for m in self.modalities if getattr(m, what)]

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Of the joints that it is commanded by, in the order of an action; empty for a robot without."""
        return next((m.joints for m in self._having("joints")), ())

    @property
    def joints(self) -> slice:
        """Where the positions of `joint_names` lie in an action vector."""
        return next((self.slices[m.name] for m in self._having("joints")), slice(0, 0))

    @property
    def gripper(self) -> Modality | None:
        """The modality that opens a gripper."""
        return next(iter(self._having("opening")), None)

    @property
    def action_dim(self) -> int:
        return sum(m.dim for m in self.modalities)

    @property
    def measured(self) -> tuple[Modality, ...]:
        """What a proprioceptive state vector holds, in this order."""
        return self.proprioception or self.modalities

    @property
    def state_dim(self) -> int:
        return sum(m.dim for m in self.measured)

    def measured_values(self, states: np.ndarray) -> dict[str, np.ndarray]:
        """State vectors (..., K) as modalities, (..., D) each."""
        ends = np.cumsum([m.dim for m in self.measured])
        return dict(zip((m.name for m in self.measured), np.split(states, ends[:-1], -1), strict=True))

    def action_values(self, actions: np.ndarray) -> dict[str, np.ndarray]:
        """Actions (..., A) as modalities, (..., D) each."""
        return {name: actions[..., where] for name, where in self.slices.items()}

    @property
    def actions_place_body(self) -> bool:
        """Whether there is a body, and actions give the values that move its links, so that they say where it goes."""
        dims = {m.name: m.dim for m in self.modalities}
        links = self.body.links if self.body else ()
        return self.body is not None and all(
            link.modality is None or link.index < dims.get(link.modality, 0) for link in links
        )

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each modality lies in an action vector."""
        out, start = {}, 0
        for modality in self.modalities:
            out[modality.name] = slice(start, start + modality.dim)
            start += modality.dim
        return out

    @cached_property
    def lower(self) -> np.ndarray:
        """(A,) float32 lower limits in physical units."""
        return np.concatenate([m.lower for m in self.modalities]).astype(np.float32)

    @cached_property
    def upper(self) -> np.ndarray:
        """(A,) float32 upper limits in physical units."""
        return np.concatenate([m.upper for m in self.modalities]).astype(np.float32)

    @cached_property
    def max_step(self) -> np.ndarray:
        """(A,) float32 largest change of an action between two frames; the whole range where it may jump."""
        steps = [
            np.asarray(m.max_rate) * self.dt if m.max_rate else np.subtract(m.upper, m.lower) for m in self.modalities
        ]
        return np.concatenate(steps).astype(np.float32)

    def limit_plan(self, plan: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Bring plans within the position and rate limits.

        Args: plan (..., H, A) physical units; start (A,) or (..., A): where the robot is before the first action.
        Returns: (..., H, A) float32.
        """
        out = np.empty(plan.shape, np.float32)
        previous = np.broadcast_to(np.asarray(start, np.float32), plan.shape[:-2] + plan.shape[-1:])
        for t in range(plan.shape[-2]):
            step = np.clip(plan[..., t, :] - previous, -self.max_step, self.max_step)
            previous = np.clip(previous + step, self.lower, self.upper)
            out[..., t, :] = previous
        return out

    @classmethod
    def load(cls, name_or_path: str | Path) -> "Embodiment":
        """Read `config/embodiments/NAME.yaml`, or a YAML file by its path.

        Raises: EmbodimentError naming the file and the wrong field.
        """
        path = Path(name_or_path)
        try:
            if path.suffix not in (".yaml", ".yml"):
                path = resources.find(f"config/embodiments/{name_or_path}.yaml")
            else:
                path = resources.find(name_or_path)
        except ResourceError as error:
            raise EmbodimentError(f"unknown embodiment '{name_or_path}': {error}") from error
        try:
            return cls.model_validate(files.read_yaml(path, EmbodimentError))
        except ValidationError as error:
            raise EmbodimentError(f"{path}: {files.fields(error)}") from error
