"""What one option of the training buys: the same training with and without it, measured on the same episodes.

The codec and the picture readout are trained once a seed and shared, so that only what follows from the option differs.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from rich.console import Console

from deepverse_ros import files, resources
from deepverse_ros.errors import ConfigError
from deepverse_ros.evaluation.prediction.evaluate import evaluate, simulated_episodes
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.config import DynamicsStageConfig, TrainingConfig
from deepverse_ros.training.trainer import train

BASELINE = "baseline"
_SHARED = ("codec", "picture")
# Where a figure stands in an evaluation, and whether more is better.
FIGURES: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "PSNR": (("psnr", "model"), "dB", True),
    "SSIM": (("ssim", "model"), "", True),
    "true - shuffled": (("margin_db", "shuffled"), "dB", True),
    "depth, moving": (("depth_abs_rel", "moving", "model"), "", False),
    "tool error": (("tool_position_error_m", "mean"), "m", False),
}


class AblationConfig(BaseModel):
    """Which trainings an ablation compares, and on what.

    training: a training config.
    variants: settings of the dynamics stage that differ, by name.
    seeds: trainings of each.
    episodes: simulated for measuring, of `evaluation_seed`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingConfig
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    seeds: int = Field(default=2, ge=1, le=1000)
    episodes: int = Field(default=40, ge=2, le=1_000_000)
    evaluation_seed: int = Field(default=3, ge=0, le=100_000)

    @model_validator(mode="after")
    def _known(self) -> "AblationConfig":
        for name, settings in self.variants.items():
            try:
                self.dynamics(settings)
            except ValidationError as error:
                raise ValueError(f"variants.{name}: {error}") from error
        return self

    def dynamics(self, settings: dict[str, Any]) -> DynamicsStageConfig:
        """The dynamics stage with these settings changed."""
        return DynamicsStageConfig.model_validate(self.training.dynamics.model_dump() | settings)

    @classmethod
    def load(cls, path: str | Path) -> "AblationConfig":
        """Raises: ConfigError naming the file and the wrong field."""
        file = resources.find(path)
        try:
            return cls.model_validate(files.read_yaml(file))
        except ValidationError as error:
            raise ConfigError(f"{file}: {files.fields(error)}") from error


@dataclass(frozen=True)
class Row:
    """Figures at the last step, one value a seed."""

    name: str
    settings: dict[str, Any]
    values: dict[str, list[float]]

    @property
    def title(self) -> str:
        if not self.settings:
            return self.name
        return f"{self.name} ({', '.join(f'{key} {value}' for key, value in self.settings.items())})"

    def change(self, baseline: "Row", figure: str) -> np.ndarray:
        """(seeds,) against the baseline of the same seed."""
        return np.subtract(self.values[figure], baseline.values[figure])


def ablate(
    config: AblationConfig, out: Path, device: str = "auto", console: Console | None = None,
    on_done: Callable[[str], None] = lambda name: None,
) -> list[Row]:  # fmt: skip
    """Train and measure the baseline and every variant; what is finished in `out` is not done again."""
    console = console or Console()
    rows = []
    for name, settings in {BASELINE: {}, **config.variants}.items():
        values: dict[str, list[float]] = {figure: [] for figure in FIGURES}
        for seed in range(config.seeds):
            report = _measured(config, name, settings, seed, out, device, console)
            for figure, (keys, _, _) in FIGURES.items():
                values[figure].append(_at(report, keys))
            on_done(f"{name}, seed {seed}")
        rows.append(Row(name, settings, values))
    return rows


def _measured(
    config: AblationConfig, name: str, settings: dict[str, Any], seed: int, out: Path, device: str, console: Console
) -> dict[str, Any]:
    run, base = (out / f"{which.replace(' ', '_')}-{seed}" for which in (name, BASELINE))
    run.mkdir(parents=True, exist_ok=True)
    if run != base:
        for stage in _SHARED:
            for suffix in (".state.safetensors", ".csv"):
                shutil.copyfile(base / f"{stage}{suffix}", run / f"{stage}{suffix}")
    trained = run / "checkpoint"
    if not (trained / "config.json").exists():
        changed = config.training.model_copy(
            update={"dynamics": config.dynamics(settings), "seed": config.training.seed + seed}
        )
        train(changed, run, resume=True, device=device, console=console)
    model = WorldModel.load(trained, device)
    return evaluate(model, simulated_episodes(model, out / "episodes", config.episodes, config.evaluation_seed))


def _at(report: dict[str, Any], keys: tuple[str, ...]) -> float:
    for key in keys:
        report = report[key]
    return float(report[-1])  # type: ignore[index]


def to_markdown(rows: list[Row]) -> str:
    """A table of means over the seeds with the difference to the baseline and its range, and what it says in words."""
    header = ["variant", *(f"{name} [{unit}]" if unit else name for name, (_, unit, _) in FIGURES.items())]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        cells = [row.title]
        for figure, values in row.values.items():
            text = f"{np.mean(values):.4g}"
            if row is not rows[0]:
                change = row.change(rows[0], figure)
                text += f" ({change.mean():+.2g}, {change.min():+.2g} to {change.max():+.2g})"
            cells.append(text)
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {row.title}: {_in_words(row, rows[0])}." for row in rows[1:])]
    return "\n".join(lines) + "\n"


def _in_words(row: Row, baseline: Row) -> str:
    """What is better or worse with every seed, and by which share of the baseline's."""
    better, worse = [], []
    for figure, (_, _, more_is_better) in FIGURES.items():
        change = row.change(baseline, figure)
        said = f"{figure} ({change.mean() / np.mean(baseline.values[figure]):+.1%})"
        gain = change if more_is_better else -change
        if (gain > 0).all():
            better.append(said)
        elif (gain < 0).all():
            worse.append(said)
    found = [("better", better), ("worse", worse)]
    sentence = "; ".join(f"{word} with every seed: {', '.join(names)}" for word, names in found if names)
    return sentence or "no figure is better or worse with every seed"


def page(config: AblationConfig, rows: list[Row], command: str) -> str:
    """docs/ablations.md: how the table came about, the table, and what the package does by default."""
    training = config.training
    keys = sorted({key for settings in config.variants.values() for key in settings})
    fields = DynamicsStageConfig.model_fields
    return f"""# What the options of the training buy

Made by `{command}`: a small network
({training.height}x{training.width} pixels, {training.dynamics.steps} steps of the dynamics), {config.seeds} seeds,
measured at the last of {training.horizon} steps on {config.episodes} fresh episodes. In brackets the difference to the
baseline: its mean, and the smallest and largest over the seeds. Codec and readout of pictures are shared by all rows of
a seed.

{to_markdown(rows)}
By default the package trains with {", ".join(f"`{key}` {fields[key].default}" for key in keys)}: what does not help, or
hardly, is off.
"""
