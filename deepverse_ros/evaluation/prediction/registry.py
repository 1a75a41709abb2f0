"""The metrics that predictions are measured by: an own one is a class, and its name in `METRICS`.

It is then in what `evaluate` returns and in its JSON, with its definition, and in tables, model cards and plots.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from deepverse_ros.evaluation.prediction import metrics
from deepverse_ros.evaluation.prediction.lpips import INSTALL, Lpips
from deepverse_ros.evaluation.prediction.windows import Windows
from deepverse_ros.model.fidelity import mse, psnr

PREDICTORS = ("model", "persistence", "shuffled", "codec")
"""Whose frames are measured; what they are says `evaluate`."""


@dataclass(frozen=True)
class Predicted:
    """What one predictor shows of the future, in float32.

    rgb: (B, H, 3, h, w) in [0, 1].
    depth: (B, H, h, w) metres.
    """

    rgb: Tensor
    depth: Tensor


class Metric(ABC):
    """A figure that compares predicted frames with true ones.

    name: of the figure in the JSON; with a point in it, such as depth_abs_rel.moving, it stands in a group.
    title: in tables and plots.
    definition: what is measured, and how it becomes one value a step; no sentence, but a clause.
    higher_is_better: which direction is good.
    unit: of tables and plots; empty for none.
    factor: what a value of the JSON is multiplied by to be in that unit.
    number: its format in tables.
    predictors: whose frames are measured.
    shown: those of them that have a row in tables.
    plotted: whether there is a plot of it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    definition: ClassVar[str]
    higher_is_better: ClassVar[bool]
    unit: ClassVar[str] = ""
    factor: ClassVar[float] = 1.0
    number: ClassVar[str] = ".3f"
    predictors: ClassVar[tuple[str, ...]] = PREDICTORS
    shown: ClassVar[tuple[str, ...]] = ("model", "persistence")
    plotted: ClassVar[bool] = True

    @classmethod
    def make(cls, lpips: Lpips | None) -> "Metric | None":
        """For one evaluation; None where it cannot be measured, and the figure is null.

        Args: lpips: the network of LPIPS; None where its weights are not there.
        """
        del lpips
        return cls()

    @abstractmethod
    def per_step(self, predicted: Predicted, true: Windows) -> Tensor:
        """(B, H) one value a frame; NaN for a frame that has none, and is left out of the mean over windows."""

    def scores(self, predicted: Mapping[str, Predicted], true: Windows) -> Iterator[tuple[str, Tensor]]:
        """(predictor, (B, H)) of each in `predictors`; overridden where there is work that they share."""
        for name in self.predictors:
            yield name, self.per_step(predicted[name], true)

    @classmethod
    def path(cls) -> tuple[str, ...]:
        """Where the figure stands in the JSON."""
        return tuple(cls.name.split("."))

    @classmethod
    def label(cls, of: str = "") -> str:
        """What tables call it. Args: of: whose frames."""
        return " ".join(part for part in (cls.title, of, f"[{cls.unit}]" if cls.unit else "") if part)

    @classmethod
    def shown_values(cls, values: list[float | None]) -> list[float | None]:
        """Values of the JSON in `unit`."""
        return [None if value is None else cls.factor * value for value in values]


class Psnr(Metric):
    """Peak signal-to-noise ratio."""

    name = "psnr"
    title = "PSNR"
    definition = (
        "dB, at most 60; mean over windows of each frame's PSNR, from its MSE over all pixels and colours in [0, 1]"
    )
    higher_is_better = True
    unit = "dB"
    number = ".2f"
    shown = PREDICTORS

    def per_step(self, predicted: Predicted, true: Windows) -> Tensor:
        return psnr(predicted.rgb, true.rgb)


class Ssim(Metric):
    """Structural similarity."""

    name = "ssim"
    title = "SSIM"
    definition = "mean over windows; 11x11 Gaussian window"
    higher_is_better = True

    def per_step(self, predicted: Predicted, true: Windows) -> Tensor:
        return metrics.ssim(predicted.rgb, true.rgb)


@dataclass(frozen=True)
class PerceptualDistance(Metric):
    """LPIPS, where its weights are installed."""

    network: Lpips

    name = "lpips"
    title = "LPIPS"
    definition = (
        "mean over windows; AlexNet, version 0.1 (arXiv 1801.03924), on pictures of the model's size; null where its "
        f"weights are not installed ({INSTALL})"
    )
    higher_is_better = False
    shown = ("model", "persistence", "codec")

    @classmethod
    def make(cls, lpips: Lpips | None) -> "Metric | None":
        return None if lpips is None else cls(lpips)

    def per_step(self, predicted: Predicted, true: Windows) -> Tensor:
        return self.network(predicted.rgb, true.rgb)

    def scores(self, predicted: Mapping[str, Predicted], true: Windows) -> Iterator[tuple[str, Tensor]]:
        # The true frames are looked at once, and the one picture that persistence shows at every step.
        features = self.network.features(true.rgb)
        for name in self.predictors:
            rgb = true.last_rgb[:, None] if name == "persistence" else predicted[name].rgb
            yield name, self.network.between(self.network.features(rgb), features)


class Mse(Metric):
    """Mean squared error of colours."""

    name = "mse"
    title = "MSE"
    definition = "mean over windows; colours in [0, 1]"
    higher_is_better = False
    unit = "1e-4"
    factor = 1e4
    number = ".1f"
    plotted = False

    def per_step(self, predicted: Predicted, true: Windows) -> Tensor:
        return mse(predicted.rgb, true.rgb)


class DepthError(Metric):
    """Relative error of depth."""

    name = "depth_abs_rel.all"
    title = "depth error"
    definition = "mean of |predicted - true| / true over known pixels"
    higher_is_better = False
    unit = "%"
    factor = 100.0
    number = ".2f"
    predictors = ("model", "persistence", "codec")
    plotted = False

    def per_step(self, predicted: Predicted, true: Windows) -> Tensor:
        return metrics.depth_abs_rel(predicted.depth, true.depth)


class MovingDepthError(DepthError):
    """Relative error of depth where something changed; NaN for a frame in which nothing did."""

    name = "depth_abs_rel.moving"
    title = "depth, moving"
    definition = (
        "moving: pixels whose colour changed by more than 0.1 or whose depth changed by more than 3 cm since the last "
        "seen frame"
    )
    number = ".1f"

    def per_step(self, predicted: Predicted, true: Windows) -> Tensor:
        return metrics.depth_abs_rel(predicted.depth, true.depth, true.moving)


METRICS: tuple[type[Metric], ...] = (Psnr, Ssim, PerceptualDistance, Mse, DepthError, MovingDepthError)
"""In the order of tables."""


def definitions() -> dict[str, str]:
    """Of every metric, by name; those of a group are one."""
    parts: dict[str, list[str]] = {}
    for metric in METRICS:
        parts.setdefault(metric.path()[0], []).append(metric.definition)
    return {name: "; ".join(each) for name, each in parts.items()}


def measured(figures: Mapping[str, Any], metric: type[Metric]) -> Mapping[str, list[float | None]] | None:
    """The values of an evaluation by predictor, in the JSON's unit; None where it has none of this metric."""
    found: Any = figures
    for key in metric.path():
        found = (found or {}).get(key)
    return found
