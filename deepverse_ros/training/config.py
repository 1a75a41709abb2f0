"""What one training run does, as it stands in config/training/*.yaml."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepverse_ros import resources
from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import ConfigError
from deepverse_ros.model.config import CodecConfig, DynamicsConfig, WorldModelConfig


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Frozen):
    """directory: an episode store; what is missing of `episodes` is collected in simulation first (0: only read)."""

    directory: Path
    episodes: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0, lt=1_000_000)
    frames: int = Field(default=24, ge=2)
    workers: int = Field(default=2, ge=1)
    validation: int = Field(default=60, ge=1)


class StageConfig(_Frozen):
    """steps, batch (windows a step), learning_rate (constant after warm-up, then linear to 0 over the last `decay`)."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup: int = Field(default=100, ge=1)
    decay: float = Field(default=0.3, gt=0, le=1)
    ema: float = Field(default=0.998, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)
    validate_every: int = Field(default=500, ge=1)


class CodecStageConfig(StageConfig):
    """targets: frames decoded per window; moving_weight: see losses.codec_loss; depth_dropout: share without depth."""

    targets: int = Field(default=3, ge=1)
    moving_weight: float = Field(default=4.0, ge=0)
    depth_dropout: float = Field(default=0.15, ge=0, le=1)
    latent_noise: float = Field(default=0.3, ge=0)


class DynamicsStageConfig(StageConfig):
    """context_noise: largest noise on input latents; rollout: passes in which predictions replace the true frames."""

    context_noise: float = Field(default=0.4, ge=0)
    rollout: int = Field(default=2, ge=1, le=4)
    moving_weight: float = Field(default=2.0, ge=0)


class PictureStageConfig(StageConfig):
    """depth_dropout: share of frames without depth, as goal pictures may be."""

    depth_dropout: float = Field(default=0.5, ge=0, le=1)


class OutcomeStageConfig(StageConfig):
    """latent_noise: noise on true latents, which stands in for more scenes; windows: imagined ones per episode."""

    latent_noise: float = Field(default=0.3, ge=0)
    windows: int = Field(default=4, ge=1)


class TrainingConfig(_Frozen):
    embodiment: str
    height: int = 128
    width: int = 128
    context: int = 4
    horizon: int = 8
    seed: int = 0
    level: float = Field(default=0.9, gt=0, lt=1, description="conformal level of the shipped bounds")
    calibration_plans: int = Field(
        default=0, ge=0, description="plans that the planner chooses and the simulation executes to set the bounds"
    )
    save_every: int = Field(default=500, ge=1, description="steps between two resumable states")
    network: dict[str, Any] = {}
    data: DataConfig
    scenes: DataConfig | None = Field(default=None, description="episodes of the picture readout; default: data")
    codec: CodecStageConfig
    dynamics: DynamicsStageConfig
    picture: PictureStageConfig
    outcome: OutcomeStageConfig

    def model_config_(self) -> WorldModelConfig:
        """The network that this run trains."""
        return WorldModelConfig(
            embodiment=Embodiment.load(self.embodiment),
            height=self.height,
            width=self.width,
            context=self.context,
            horizon=self.horizon,
            codec=CodecConfig.model_validate(self.network.get("codec", {})),
            dynamics=DynamicsConfig.model_validate(self.network.get("dynamics", {})),
        )

    @classmethod
    def load(cls, path: str | Path) -> "TrainingConfig":
        """Raises: ConfigError naming the file and the wrong field."""
        file = resources.find(path)
        try:
            return cls.model_validate(yaml.safe_load(file.read_text()))
        except yaml.YAMLError as error:
            raise ConfigError(f"{file}: not valid YAML: {error}") from error
        except ValidationError as error:
            lines = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
            raise ConfigError(f"{file}: {lines}") from error
