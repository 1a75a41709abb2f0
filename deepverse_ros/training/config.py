"""What one training run does, as it stands in config/training/*.yaml."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deepverse_ros import files, resources
from deepverse_ros.errors import ConfigError, EmbodimentError
from deepverse_ros.model.config import CoarseConfig, CodecConfig, DynamicsConfig, ThingsConfig, WorldModelConfig
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.engine.precision import Precision


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(_Frozen):
    """Where the episodes come from.

    directory: an episode store; what is missing of `episodes` is collected in simulation first (0: only read).
    free: share of what is collected in which the robot begins anywhere in its working space and seeks no contact.
    """

    directory: Path
    episodes: int = Field(default=0, ge=0, le=10_000_000)
    seed: int = Field(default=0, ge=0, lt=1_000_000)
    frames: int = Field(default=24, ge=2, le=10_000)
    free: float = Field(default=0.0, ge=0, le=1)
    workers: int = Field(default=2, ge=1, le=1024)
    validation: int = Field(default=60, ge=1, le=10_000_000)


class PracticeConfig(_Frozen):
    """What a robot does to things in simulation, without pictures; see data.practice.

    directory: what is missing of `episodes` is practised first (0: only read). validation: episodes held out.
    """

    directory: Path
    episodes: int = Field(default=0, ge=0, le=10_000_000)
    seed: int = Field(default=0, ge=0, lt=1_000_000)
    frames: int = Field(default=24, ge=12, le=10_000)
    workers: int = Field(default=2, ge=1, le=1024)
    validation: int = Field(default=400, ge=1, le=10_000_000)


class StageConfig(_Frozen):
    """What every stage has.

    batch: windows a step.
    accumulate: micro-batches a step. The batch is shared out to these and to the processes, so its examples, and what
        is learned from them, do not depend on how many there are of either.
    learning_rate: constant after warm-up, then linear to 0 over the last share `decay` of the steps.
    """

    steps: int = Field(ge=1, le=1_000_000_000)
    batch: int = Field(ge=1, le=1_000_000)
    accumulate: int = Field(default=1, ge=1, le=10_000)
    learning_rate: float = Field(gt=0, le=10)
    warmup: int = Field(default=100, ge=1, le=1_000_000_000)
    decay: float = Field(default=0.3, gt=0, le=1)
    ema: float = Field(default=0.998, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0, le=100)
    clip: float = Field(default=1.0, gt=0, le=1e6)
    validate_every: int = Field(default=500, ge=1, le=1_000_000_000)

    @property
    def drawn(self) -> int:
        """Examples that are drawn at a time, which is what processes and micro-batches share out."""
        return self.batch

    def require_divisible(self, name: str, processes: int) -> None:
        """Raises: ConfigError if the batch of the stage `name` has no equal parts."""
        parts = self.accumulate * processes
        if self.drawn % parts:
            raise ConfigError(
                f"{name}.batch: {self.batch} cannot be shared out evenly to accumulate ({self.accumulate}) x processes "
                f"({processes}); take a multiple of {parts * self.batch // self.drawn}, or change {name}.accumulate or "
                "the number of processes"
            )


class CodecStageConfig(StageConfig):
    """Settings of the codec's training.

    targets: frames decoded per window.
    moving_weight, world_weight: see losses.codec_loss.
    depth_dropout: share without depth.
    body_dropout: share without a drawing of the robot's body, as where nobody knows the camera's pose.
    recalled: share of windows whose older view is any earlier frame, as memory recalls one, instead of their oldest.
    moved_dropout: share without a picture of moved things, as where none are found.
    moved_noise: share of the others whose things are drawn a little beside where they truly will be.
    """

    targets: int = Field(default=3, ge=1, le=10_000)
    moving_weight: float = Field(default=4.0, ge=0, le=1e6)
    world_weight: float = Field(default=8.0, ge=0, le=1e6)
    depth_dropout: float = Field(default=0.15, ge=0, le=1)
    body_dropout: float = Field(default=0.15, ge=0, le=1)
    latent_noise: float = Field(default=0.3, ge=0, le=100)
    recalled: float = Field(default=0.5, ge=0, le=1)
    moved_dropout: float = Field(default=0.15, ge=0, le=1)
    moved_noise: float = Field(default=0.5, ge=0, le=1)


class DecoderStageConfig(CodecStageConfig):
    """Settings of the decoder's training on imagined frames.

    imagined: share of windows whose latents the dynamics imagines; the others are of true frames, with noise.
    seen_weight: of how differently the picture readout sees the decoded frame and the true one.
    """

    imagined: float = Field(default=0.75, ge=0, le=1)
    seen_weight: float = Field(default=0.1, ge=0, le=1e6)


class DynamicsStageConfig(StageConfig):
    """Settings of the training of the fine dynamics.

    context_noise: largest noise on input latents.
    rollout: passes in which predictions replace the true frames.
    state_weight, motion_weight: of what the robot measures of itself and of its camera's motion, beside the latents.
    proprioception_dropout, pose_dropout, action_dropout: share of windows without the robot's own measurements, without
        camera poses, without one modality of the actions.
    blind_every: every so many episodes without depth (0: none).
    spacetime_weight, causal_weight: of the losses in training/losses (consistency, causality), on `consistency_windows`
        decoded windows of each batch; what they buy stands in docs/ablations.md.
    """

    context_noise: float = Field(default=0.4, ge=0, le=100)
    rollout: int = Field(default=2, ge=1, le=4)
    moving_weight: float = Field(default=2.0, ge=0, le=1e6)
    state_weight: float = Field(default=1.0, ge=0, le=1e6)
    motion_weight: float = Field(default=1.0, ge=0, le=1e6)
    proprioception_dropout: float = Field(default=0.15, ge=0, le=1)
    pose_dropout: float = Field(default=0.1, ge=0, le=1)
    action_dropout: float = Field(default=0.05, ge=0, le=1)
    blind_every: int = Field(default=8, ge=0, le=1_000_000_000)
    spacetime_weight: float = Field(default=0.0, ge=0, le=1e6)
    causal_weight: float = Field(default=0.0, ge=0, le=1e6)
    consistency_windows: int = Field(default=2, ge=1, le=10_000)


class CoarseStageConfig(StageConfig):
    """Settings of the coarse level's training.

    windows: random ones of every episode, each imagined with its own plan and with that of another window.
    """

    windows: int = Field(default=4, ge=1, le=10_000)


class PictureStageConfig(StageConfig):
    """Settings of the picture readout's training.

    depth_dropout: share of frames without depth, as goal pictures may be.
    unsharp: strength of blur and noise.
    shown_weight: of the term that shows the first head where the tool is in the picture, where the camera's pose and
        the tool's position are known.
    """

    depth_dropout: float = Field(default=0.5, ge=0, le=1)
    unsharp: float = Field(default=0.5, ge=0, le=1)
    shown_weight: float = Field(default=0.3, ge=0, le=1e6)


class OutcomeStageConfig(StageConfig):
    """Settings of the outcome readout's training.

    latent_noise: noise on true latents, which stands in for more scenes.
    windows: imagined ones per episode.
    """

    latent_noise: float = Field(default=0.3, ge=0, le=100)
    windows: int = Field(default=4, ge=1, le=10_000)

    @property
    def drawn(self) -> int:
        """Half of the batch are true frames, half are imagined ones."""
        return max(1, self.batch // 2)


class ReadingStageConfig(StageConfig):
    """Settings of the training of the reader of things.

    vote_weight: of the votes for things' middles, beside which pixels show a thing.
    depth_dropout: share of frames without depth, of which only the pixels are learned.
    body_dropout: share without a drawing of the robot's body, as where nobody knows the camera's pose.
    brightness: by how much the colours of a frame are scaled at most, as a share.
    depth_noise: deviation of a depth, metres, in the noisiest frames.
    holes: share of pixels without depth in the frames with most of them.
    """

    vote_weight: float = Field(default=1.0, ge=0, le=1e6)
    depth_dropout: float = Field(default=0.1, ge=0, le=1)
    body_dropout: float = Field(default=0.1, ge=0, le=1)
    brightness: float = Field(default=0.2, ge=0, lt=1)
    depth_noise: float = Field(default=0.003, ge=0, le=1)
    holes: float = Field(default=0.05, ge=0, le=1)


class ContactStageConfig(StageConfig):
    """Settings of the contact dynamics' training.

    surface_weight: of where the points of a thing's surface come to lie, which tells how it turned, beside its middle.
    spread_weight, touched_weight: of the expected spread, and of what the robot touches.
    """

    surface_weight: float = Field(default=1.0, ge=0, le=1e6)
    spread_weight: float = Field(default=1.0, ge=0, le=1e6)
    touched_weight: float = Field(default=0.2, ge=0, le=1e6)


class BlockingStageConfig(StageConfig):
    """Settings of the training of where a blocked robot comes to stand.

    horizon: steps of a window, on the network's own predictions.
    blocked: share of the windows in which something holds the robot; by chance they are rare.
    """

    horizon: int = Field(default=8, ge=1, le=64)
    blocked: float = Field(default=0.5, ge=0, le=1)


class NetworkConfig(_Frozen):
    """Parts of the network, where they differ from what model/config.py says."""

    codec: CodecConfig = CodecConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    coarse: CoarseConfig = CoarseConfig()
    things: ThingsConfig | None = None
    posed: bool = False


class TrainingConfig(_Frozen):
    """The whole run: the robot, the sizes of windows and pictures, the data, and the settings of every stage."""

    embodiment: str
    height: int = Field(default=128, ge=1, le=2048)
    width: int = Field(default=128, ge=1, le=2048)
    context: int = Field(default=4, ge=1, le=64)
    horizon: int = Field(default=8, ge=1, le=64)
    seed: int = Field(default=0, ge=0, lt=2**32)
    precision: Precision = Field(
        default="auto", description="of products in training; auto: bf16 where the hardware has it; float32: exact"
    )
    init: str | None = Field(default=None, description="checkpoint whose weights training starts from")
    level: float = Field(default=0.9, gt=0, lt=1, description="conformal level of the shipped bounds")
    calibration_plans: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="plans that the planner chooses and the simulation executes to set the bounds",
    )
    save_every: int = Field(default=500, ge=1, le=1_000_000_000, description="steps between two resumable states")
    network: NetworkConfig = NetworkConfig()
    data: DataConfig
    scenes: DataConfig | None = Field(default=None, description="episodes of the picture readout; default: data")
    codec: CodecStageConfig
    dynamics: DynamicsStageConfig
    decoder: DecoderStageConfig | None = Field(default=None, description="default: it stays as the codec stage left it")
    picture: PictureStageConfig
    outcome: OutcomeStageConfig
    coarse: CoarseStageConfig
    practice: PracticeConfig | None = Field(default=None, description="from which things' motions are learned")
    reading: ReadingStageConfig | None = Field(default=None, description="of what knows things; all three or none")
    contact: ContactStageConfig | None = None
    blocking: BlockingStageConfig | None = None

    @model_validator(mode="after")
    def _things_are_trained(self) -> "TrainingConfig":
        for name in ("practice", "reading", "contact", "blocking"):
            if (getattr(self, name) is None) != (self.network.things is None):
                lacks, has = ("network.things", name) if self.network.things is None else (name, "network.things")
                raise ValueError(f"{lacks}: needed where there is {has}, which is of no use without it")
        return self

    def model_config_(self) -> WorldModelConfig:
        """The network that this run trains.

        Raises: EmbodimentError if there is no such robot; ConfigError naming the field that no network can have.
        """
        embodiment = Embodiment.load(self.embodiment)
        try:
            return WorldModelConfig(
                embodiment=embodiment,
                height=self.height,
                width=self.width,
                context=self.context,
                horizon=self.horizon,
                codec=self.network.codec,
                dynamics=self.network.dynamics,
                coarse=self.network.coarse,
                things=self.network.things,
                posed=self.network.posed,
            )
        except ValidationError as error:
            raise ConfigError(f"network: {files.fields(error)}") from error

    def stages(self) -> dict[str, StageConfig]:
        """The settings of every stage, by its name."""
        return {name: value for name, value in self if isinstance(value, StageConfig)}

    def changed(
        self, embodiment: str | None = None, data: Path | None = None, init: str | None = None
    ) -> "TrainingConfig":
        """The same training of another robot, on a store of episodes as it is, or from a checkpoint's weights."""
        changes: dict[str, Any] = {}
        if embodiment:
            changes["embodiment"] = embodiment
        if data:
            changes |= {"data": self.data.model_copy(update={"directory": data, "episodes": 0}), "scenes": None}
        if init:
            changes["init"] = init
        return self.model_copy(update=changes)

    @classmethod
    def load(cls, path: str | Path) -> "TrainingConfig":
        """Raises: ConfigError naming the file and the wrong field."""
        file = resources.find(path)
        read = files.read_json if file.suffix == ".json" else files.read_yaml
        values = read(file)
        try:
            config = cls.model_validate(values)
            config.model_config_()
        except ValidationError as error:
            raise ConfigError(f"{file}: {files.fields(error)}") from error
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error
        except EmbodimentError:  # another one may be given; if not, training says so
            pass
        return config
