"""The shape of a world model, as it stands in a checkpoint's config.json."""

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from deepverse_ros.robot.embodiment import Embodiment

Channels = Annotated[int, Field(ge=1, le=8192)]

# Pixels along one side of a latent cell: 16x16 cells at 128 px.
CELL = 8

REMOVED = {"sketch": False, "refinements": 0}
"""Options of the dynamics that are no more, with the value that files of before name them with: off."""


def _not_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("must be a number, not NaN")
    return value


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CodecConfig(_Frozen):
    """Sizes of the codec.

    channels: feature channels at strides 4, 8 and 16.
    latent_dim: numbers kept per latent cell.
    """

    channels: tuple[Channels, Channels, Channels] = (48, 96, 128)
    latent_dim: int = Field(default=12, ge=4, le=1024)


class DynamicsConfig(_Frozen):
    """Sizes of the fine dynamics.

    width: token width.
    mlp_ratio: hidden width of the MLPs over it.
    token_patch: latent cells along one side of a token.
    time_every: every so many layers have time attention.
    recalled: frames that memory may add to the context.

    Tokens of 2x2 cells (64 of them at 128 px) are what the largest models use; on a CPU 4x4 cells a token cost a
    quarter and lose little, because the action already says where the robot goes.
    """

    width: int = Field(default=192, ge=16, le=16384)
    layers: int = Field(default=6, ge=1, le=256)
    heads: int = Field(default=6, ge=1, le=256)
    mlp_ratio: int = Field(default=3, ge=1, le=16)
    token_patch: int = Field(default=4, ge=1, le=64)
    time_every: int = Field(default=2, ge=1, le=256)
    recalled: int = Field(default=2, ge=0, le=64)

    @model_validator(mode="before")
    @classmethod
    def _without_removed(cls, values: Any) -> Any:
        """Checkpoints of before the removal are read where they had it off; where it was on, the field is refused."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if (name, value) not in REMOVED.items()}

    @model_validator(mode="after")
    def _divisible(self) -> "DynamicsConfig":
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self


class CoarseConfig(_Frozen):
    """Sizes of the coarse level.

    token_dim: numbers kept of each token in the pooled vector.
    hidden: width of a head.
    heads: of the ensemble.
    """

    token_dim: int = Field(default=16, ge=1, le=4096)
    hidden: int = Field(default=128, ge=8, le=65536)
    heads: int = Field(default=5, ge=1, le=64)


class ThingsConfig(_Frozen):
    """Sizes of what knows the things beside the robot.

    reader: channels at strides 2, 4 and 8 of the network that finds things in pictures.
    point, pair, hidden: widths of the contact dynamics: of a point of a thing's surface, of a thing beside a part of
        the robot, and of a thing.
    blocking: width of the network that says where a robot comes to stand.
    """

    reader: tuple[Channels, Channels, Channels] = (24, 48, 64)
    point: Channels = 96
    pair: Channels = 64
    hidden: Channels = 192
    blocking: Channels = 96


class WorldModelConfig(_Frozen):
    """Everything that is needed to build the network.

    height, width: pixels.
    context: frames that are observed.
    horizon: frames that were imagined in training.
    things: None: the model imagines the robot alone, as those of before did.
    posed: it is told where its camera stands and what that shows; else the camera must stand where it did in training.
    """

    embodiment: Embodiment
    height: int = Field(default=128, ge=1, le=2048)
    width: int = Field(default=128, ge=1, le=2048)
    context: int = Field(default=4, ge=1, le=64)
    horizon: int = Field(default=8, ge=1, le=64)
    codec: CodecConfig = CodecConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    coarse: CoarseConfig = CoarseConfig()
    things: ThingsConfig | None = None
    posed: bool = False

    @model_validator(mode="after")
    def _divisible(self) -> "WorldModelConfig":
        side = CELL * self.dynamics.token_patch
        for name in ("height", "width"):
            value = getattr(self, name)
            if value < side or value % side:
                raise ValueError(f"{name} ({value}) must be a multiple of {side} pixels (a token's side)")
        return self

    @property
    def cells(self) -> tuple[int, int]:
        """Latent cells (rows, columns)."""
        return self.height // CELL, self.width // CELL

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens (rows, columns)."""
        rows, columns = self.cells
        return rows // self.dynamics.token_patch, columns // self.dynamics.token_patch

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def token_dim(self) -> int:
        return self.codec.latent_dim * self.dynamics.token_patch**2

    @property
    def window(self) -> int:
        """Frames that time attention reaches back over, the newest included."""
        return self.context + self.horizon

    @classmethod
    def small_test(cls, embodiment: Embodiment, size: int = 64) -> "WorldModelConfig":
        """A network that is quick to build and run: for tests of everything around the model."""
        return cls(
            embodiment=embodiment,
            height=size,
            width=size,
            codec=CodecConfig(channels=(16, 16, 32), latent_dim=8),
            dynamics=DynamicsConfig(width=32, layers=2, heads=2),
            coarse=CoarseConfig(token_dim=4, hidden=16),
        )


Bound = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=True), AfterValidator(_not_nan)]
"""Infinite where there were too few plans for one."""
Bounds = Annotated[tuple[Bound, ...], Field(min_length=1, max_length=1000)]


class EndsFields(_Frozen):
    """See planning.verdicts.acceptance.ExecutedOutcomes."""

    steps: int = Field(strict=True, ge=1, le=1000)
    further: tuple[Annotated[float, Field(strict=True)], ...]
    spread: tuple[Annotated[float, Field(strict=True, ge=0)], ...]

    @model_validator(mode="after")
    def _consistent(self) -> "EndsFields":
        if len(self.further) != len(self.spread):
            raise ValueError(f"further has {len(self.further)} values, spread has {len(self.spread)}")
        return self


class CalibrationFields(_Frozen):
    """The calibration as it stands in config.json; see training.calibration for what the fields mean."""

    level: float = Field(strict=True, gt=0, lt=1)
    tool_error_q: Bounds | None = None
    windows: int | None = Field(default=None, strict=True, ge=1)
    goal_error_z: Bounds | None = None
    clearance_error_z: Bounds | None = None
    path_error_z: Bounds | None = None
    clearance_error_m: Bounds | None = None
    ends: tuple[EndsFields, ...] = Field(default=(), max_length=100)
    executed_plans: int = Field(default=0, strict=True, ge=0)
