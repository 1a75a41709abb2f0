"""The shape of a world model, as it stands in a checkpoint's config.json."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepverse_ros.embodiment import Embodiment

# Pixels along one side of a latent cell: 8x8 cells at 128 px.
CELL = 16


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CodecConfig(_Frozen):
    """channels: feature channels at strides 4, 8 and 16. latent_dim: numbers kept per latent cell."""

    channels: tuple[int, int, int] = (48, 96, 128)
    latent_dim: int = Field(default=48, ge=4)


class DynamicsConfig(_Frozen):
    """width: token width. token_patch: latent cells along one side of a token.

    One token a cell (token_patch 1) is what the largest models use; on a CPU 2x2 cells a token cost a quarter and
    lose little, because the action already says where the robot goes.
    """

    width: int = Field(default=192, ge=16)
    layers: int = Field(default=6, ge=1)
    heads: int = Field(default=6, ge=1)
    token_patch: int = Field(default=2, ge=1)
    time_every: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _divisible(self) -> "DynamicsConfig":
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self


class WorldModelConfig(_Frozen):
    """Everything that is needed to build the network.

    height, width: pixels. context: frames that are observed. horizon: frames that were imagined in training.
    """

    embodiment: Embodiment
    height: int = 128
    width: int = 128
    context: int = Field(default=4, ge=1)
    horizon: int = Field(default=8, ge=1)
    codec: CodecConfig = CodecConfig()
    dynamics: DynamicsConfig = DynamicsConfig()

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
    def tokens(self) -> int:
        rows, columns = self.cells
        return rows * columns // self.dynamics.token_patch**2

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
        )
