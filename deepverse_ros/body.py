"""The robot's own body: a chain of links, and the capsules that cover it. numpy only, so that safety may use it."""

from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Vector = tuple[float, float, float]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class Link(_Frozen):
    """A frame of the robot, fixed to its parent or moved by one value that the robot measures.

    origin: of the frame in the parent's, metres; both have the same axes where the value is zero. modality, index:
    the measured value that moves it (None: fixed). motion: it turns about `axis` or slides along it. per_unit: rad or
    metres for one unit of the value.
    """

    name: str
    parent: str
    origin: Vector = (0.0, 0.0, 0.0)
    axis: Vector = (0.0, 0.0, 1.0)
    modality: str | None = None
    index: int = Field(default=0, ge=0)
    motion: Literal["turn", "slide"] = "turn"
    per_unit: float = 1.0

    @model_validator(mode="after")
    def _unit_axis(self) -> "Link":
        if abs(np.linalg.norm(self.axis) - 1) > 1e-6:
            raise ValueError(f"link '{self.name}': axis must have length 1, got {self.axis}")
        return self


class Capsule(_Frozen):
    """All points within `radius` of the segment from `start` to `end`, metres in `frame`; a ball where these agree."""

    frame: str
    start: Vector
    end: Vector
    radius: float = Field(gt=0)


class Body(_Frozen):
    """A chain (or tree) of links from the base frame, and the capsules on it.

    Capsules cover the robot: what lies outside of all of them is not the robot.
    """

    base: str
    links: tuple[Link, ...]
    capsules: tuple[Capsule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _connected(self) -> "Body":
        known = {self.base}
        for link in self.links:
            if link.parent not in known:
                raise ValueError(f"link '{link.name}': parent '{link.parent}' must be {self.base} or a link above it")
            if link.name in known:
                raise ValueError(f"link '{link.name}': the name stands twice")
            known.add(link.name)
        for capsule in self.capsules:
            if capsule.frame not in known:
                raise ValueError(f"capsule: no link '{capsule.frame}'; known: {', '.join(sorted(known))}")
        return self

    def poses(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Where the links are.

        Args: values: of each modality that moves a link, (..., D) in its unit.
        Returns: (..., 4, 4) from every frame to the base frame, NaN where a value on the way is.
        """
        lead = np.broadcast_shapes(*(v.shape[:-1] for v in values.values()))
        out = {self.base: np.broadcast_to(np.eye(4), (*lead, 4, 4))}
        for link, (about, along) in zip(self.links, self._motions, strict=True):
            step = np.broadcast_to(np.eye(4), (*lead, 4, 4)).copy()
            step[..., :3, 3] = link.origin
            if link.modality is not None:
                value = link.per_unit * np.asarray(values[link.modality], float)[..., link.index, None, None]
                # Rodrigues' formula; a slide turns by nothing.
                angle = value if link.motion == "turn" else 0 * value
                step[..., :3, :3] += np.sin(angle) * about + (1 - np.cos(angle)) * (about @ about)
                if link.motion == "slide":
                    step[..., :3, 3] += value[..., 0] * along
            out[link.name] = out[link.parent] @ step
        return out

    def capsule_ends(self, values: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Where the capsules are: start and end (..., C, 3), metres in the base frame. Args: as `poses`."""
        poses = self.poses(values)
        used = np.stack([poses[c.frame] for c in self.capsules], -3)
        rotation, origin = used[..., :3, :3], used[..., :3, 3]
        return tuple(
            np.einsum("...ij,...j->...i", rotation, np.array([getattr(c, end) for c in self.capsules])) + origin
            for end in ("start", "end")
        )

    @cached_property
    def radii(self) -> np.ndarray:
        """(C,) metres."""
        return np.array([c.radius for c in self.capsules])

    @cached_property
    def _motions(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Of each link: the cross-product matrix (3, 3) of its axis, and the axis (3,)."""
        axes = [np.array(link.axis) for link in self.links]
        return tuple((np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), axis) for axis in axes for x, y, z in [axis])
