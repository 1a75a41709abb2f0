"""The shape of a world model, as it stands in a checkpoint's config.json."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepverse_ros.embodiment import Embodiment

# Pixels along one side of a latent cell: 16x16 cells at 128 px.
CELL = 8


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CodecConfig(_Frozen):
    """channels: feature channels at strides 4, 8 and 16. latent_dim: numbers kept per latent cell."""

    channels: tuple[int, int, int] = (48, 96, 128)
    latent_dim: int = Field(default=12, ge=4)


class DynamicsConfig(_Frozen):
    """width: token width; mlp_ratio: hidden width of the MLPs over it. token_patch: latent cells along one side of a
    token; time_every: every so many layers have time attention. recalled: frames that memory may add to the context.
    sketch: predict 2x2 tokens first, then the full ones upon them. refinements: further passes over a predicted frame.

    Tokens of 2x2 cells (64 of them at 128 px) are what the largest models use; on a CPU 4x4 cells a token cost a
    quarter and lose little, because the action already says where the robot goes.
    """

    width: int = Field(default=192, ge=16)
    layers: int = Field(default=6, ge=1)
    heads: int = Field(default=6, ge=1)
    mlp_ratio: int = Field(default=3, ge=1)
    token_patch: int = Field(default=4, ge=1)
    time_every: int = Field(default=2, ge=1)
    recalled: int = Field(default=2, ge=0)
    sketch: bool = False
    refinements: int = Field(default=0, ge=0, le=3)

    @model_validator(mode="after")
    def _divisible(self) -> "DynamicsConfig":
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self


class CoarseConfig(_Frozen):
    """token_dim: numbers kept of each token in the pooled vector; hidden: width of a head; heads: of the ensemble."""

    token_dim: int = Field(default=16, ge=1)
    hidden: int = Field(default=128, ge=8)
    heads: int = Field(default=5, ge=1)


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
    coarse: CoarseConfig = CoarseConfig()

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
