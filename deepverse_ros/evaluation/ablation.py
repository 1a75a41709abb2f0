"""What choices of a training buy: the same training with and without them, measured on the same episodes.

Stages that no choice touches are trained once a seed and shared, so that only what follows from it differs.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from rich.console import Console

from deepverse_ros import files, resources
from deepverse_ros.errors import ConfigError
from deepverse_ros.evaluation.prediction.evaluate import evaluate, simulated_episodes
from deepverse_ros.evaluation.prediction.pairs import evaluate_pairs
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.config import TrainingConfig
from deepverse_ros.training.trainer import train

BASELINE = "baseline"
TITLE = "# What choices of the training buy"
# Where a figure stands in an evaluation (lists: its last step), and whether more is better.
FIGURES: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "PSNR": (("psnr", "model"), "dB", True),
    "SSIM": (("ssim", "model"), "", True),
    "true - shuffled": (("margin_db", "shuffled"), "dB", True),
    "depth, moving": (("depth_abs_rel", "moving", "model"), "", False),
    "tool error": (("tool_position_error_m", "mean"), "m", False),
    "world pixels, gap closed": (("world", "gap_closed"), "", True),
    "world pixels, MSE against copy": (("world", "against_copy"), "", False),
    "things, median": (("things", "error_m", "model", "median"), "m", False),
    "things, mean": (("things", "error_m", "model", "mean"), "m", False),
    "things, coarse": (("things", "error_m", "coarse", "median"), "m", False),
    "blocked tool": (("blocked", "error_m", "model"), "m", False),
    "pairs right": (("counterfactual", "share"), "", True),
}
_USUAL = ("PSNR", "SSIM", "true - shuffled", "depth, moving", "tool error")


class AblationConfig(BaseModel):
    """Which trainings an ablation compares, and on what.

    title: of the section that tells of it.
    training: a training config.
    variants: what is different in it, by name: parts of a training config; null takes a part away.
    shared: stages that no variant touches, nor what comes before them.
    figures: names of `FIGURES`.
    seeds: trainings of each.
    episodes: simulated for measuring, of `evaluation_seed`; pairs: as many pairs of plans.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    training: TrainingConfig
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    shared: tuple[str, ...] = ("codec", "picture")
    figures: tuple[str, ...] = Field(default=_USUAL, min_length=1)
    seeds: int = Field(default=2, ge=1, le=1000)
    episodes: int = Field(default=40, ge=2, le=1_000_000)
    pairs: int = Field(default=0, ge=0, le=1_000_000)
    evaluation_seed: int = Field(default=3, ge=0, le=100_000)

    @model_validator(mode="after")
    def _known(self) -> "AblationConfig":
        for what, names, among in (
            ("shared", self.shared, self.training.stages()), ("figures", self.figures, FIGURES)
        ):  # fmt: skip
            for name in names:
                if name not in among:
                    raise ValueError(f"{what}: there is no '{name}'; expected some of {', '.join(among)}")
        for name, settings in self.variants.items():
            try:
                self.changed(settings)
            except ValidationError as error:
                raise ValueError(f"variants.{name}: {error}") from error
        return self

    def changed(self, settings: dict[str, Any], seed: int = 0) -> TrainingConfig:
        """The training with these settings changed. Args: seed: is added to its own."""
        values = _merged(self.training.model_dump(), settings)
        return TrainingConfig.model_validate(values | {"seed": values["seed"] + seed})

    @classmethod
    def load(cls, path: str | Path) -> "AblationConfig":
        """Raises: ConfigError naming the file and the wrong field."""
        file = resources.find(path)
        try:
            return cls.model_validate(files.read_yaml(file))
        except ValidationError as error:
            raise ConfigError(f"{file}: {files.fields(error)}") from error


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries of settings, of which some change."""
    out = dict(values)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merged(out[key], value) if both else value
    return out


def _settings(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings, each as its dotted name and its value."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


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
        return f"{self.name} ({', '.join(f'{key} {_text(value)}' for key, value in _settings(self.settings))})"

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
        values: dict[str, list[float]] = {figure: [] for figure in config.figures}
        for seed in range(config.seeds):
            report = _measured(config, name, settings, seed, out, device, console)
            for figure in config.figures:
                values[figure].append(_at(report, FIGURES[figure][0]))
            on_done(f"{name}, seed {seed}")
        rows.append(Row(name, settings, values))
    return rows


def _measured(
    config: AblationConfig, name: str, settings: dict[str, Any], seed: int, out: Path, device: str, console: Console
) -> dict[str, Any]:
    run, base = (out / f"{which.replace(' ', '_')}-{seed}" for which in (name, BASELINE))
    run.mkdir(parents=True, exist_ok=True)
    if run != base:
        for stage in config.shared:
            for suffix in (".state.safetensors", ".csv"):
                shutil.copyfile(base / f"{stage}{suffix}", run / f"{stage}{suffix}")
    trained = run / "checkpoint"
    if not (trained / "config.json").exists():
        train(config.changed(settings, seed), run, resume=True, device=device, console=console)
    model = WorldModel.load(trained, device)
    report = evaluate(model, simulated_episodes(model, out / "episodes", config.episodes, config.evaluation_seed))
    if config.pairs:
        report["counterfactual"] = evaluate_pairs(model, config.pairs, config.evaluation_seed)
    return report


def _at(report: Any, keys: tuple[str, ...]) -> float:
    """A figure, the last step's of several; NaN where a model has none."""
    for key in keys:
        report = None if report is None else report.get(key)
    value = report[-1] if isinstance(report, list) else report
    return float("nan") if value is None else float(value)


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def to_markdown(rows: list[Row]) -> str:
    """A table of means over the seeds with the difference to the baseline and its range, and what it says in words."""
    figures = {name: FIGURES[name][1] for name in rows[0].values}
    header = ["variant", *(f"{name} [{unit}]" if unit else name for name, unit in figures.items())]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        cells = [row.title]
        for figure, values in row.values.items():
            text = "–" if np.isnan(values).any() else f"{np.mean(values):.4g}"
            if row is not rows[0] and not np.isnan(change := row.change(rows[0], figure)).any():
                text += f" ({change.mean():+.2g}, {change.min():+.2g} to {change.max():+.2g})"
            cells.append(text)
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {row.title}: {_in_words(row, rows[0])}." for row in rows[1:])]
    return "\n".join(lines) + "\n"


def _in_words(row: Row, baseline: Row) -> str:
    """What is better or worse with every seed, and by which share of the baseline's."""
    better, worse = [], []
    for figure in row.values:
        change = row.change(baseline, figure)
        said = f"{figure} ({change.mean() / np.mean(baseline.values[figure]):+.1%})"
        gain = change if FIGURES[figure][2] else -change
        if (gain > 0).all():
            better.append(said)
        elif (gain < 0).all():
            worse.append(said)
    found = [("better", better), ("worse", worse)]
    sentence = "; ".join(f"{word} with every seed: {', '.join(names)}" for word, names in found if names)
    return sentence or "no figure is better or worse with every seed"


def section(config: AblationConfig, rows: list[Row], command: str) -> str:
    """Of docs/ablations.md: how a table came about, the table, and what the baseline has where variants differ."""
    training = config.training
    differ = {name for settings in config.variants.values() for name, _ in _settings(settings)}
    baseline = dict(_settings(training.model_dump()))
    pairs = f" and {config.pairs} pairs of plans" if config.pairs else ""
    shared = f"Shared by all rows of a seed: {', '.join(config.shared)}. " if config.shared else ""
    has = ", ".join(f"`{name}` {_text(baseline[name])}" for name in sorted(differ) if name in baseline)
    return f"""## {config.title}

Made by `{command}`: {training.height}x{training.width} pixels, {training.dynamics.steps} steps of the dynamics,
{config.seeds} {"seed" if config.seeds == 1 else "seeds"}, measured at the last of {training.horizon} steps on
{config.episodes} fresh episodes{pairs}. In brackets the difference to the baseline: its mean, and the smallest and
largest over the seeds. {shared}The baseline has {has or "all that variants lack"}.

{to_markdown(rows)}"""


def placed(page: str, new: str) -> str:
    """A page with a section in the place of the one of the same title, or else at its end."""
    before, *sections = re.split(r"(?m)^(?=## )", page)
    title = new.splitlines()[0]
    titles = [section.splitlines()[0] for section in sections]
    if title in titles:
        sections[titles.index(title)] = new
    else:
        sections.append(new)
    return "\n\n".join(part.strip() for part in [before or TITLE, *sections]) + "\n"
