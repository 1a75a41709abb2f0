"""An evaluation's figures as pictures: curves over the steps, and predicted against observed uncertainty."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepverse_ros.evaluation.prediction import registry


def draw(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write psnr.png and so on of the metrics that were measured, tool_error.png and reliability.png.

    Args: figures: what `evaluate` returned or `deepverse evaluate --json` wrote. Returns: the files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seconds = [(k + 1) * figures["dt"] for k in range(figures["horizon"])]
    title = (
        f"{figures['n_windows']} windows of {figures['n_episodes']} episodes, {figures['width']}x{figures['height']}"
    )
    written: list[Path] = []
    for metric in registry.METRICS:
        values = registry.measured(figures, metric)
        if not metric.plotted or not values:
            continue
        with _saved(folder / f"{metric.name.replace('.', '_')}.png", written) as axes:
            for predictor, series in values.items():
                axes.plot(seconds, _values(metric.shown_values(series)), marker=".", label=predictor)
            better = "higher" if metric.higher_is_better else "lower"
            label = f"{metric.label()}, {better} is better"
            axes.set(xlabel="seconds after the last seen frame", ylabel=label, title=title)
    tool = figures["tool_position_error_m"]
    with _saved(folder / "tool_error.png", written) as axes:
        for key, label in (("mean", "model, mean"), ("median", "model, median"), ("persistence_mean", "persistence")):
            axes.plot(seconds, [100 * v for v in _values(tool[key])], marker=".", label=label)
        axes.set(
            xlabel="seconds after the last seen frame", ylabel="tool position error [cm]", title=title, yscale="log"
        )
    with _saved(folder / "reliability.png", written) as axes:
        _reliability(axes, figures["reliability"])
        axes.set(title=title)
    return written


def _reliability(axes: Axes, figures: Mapping[str, Any]) -> None:
    levels, scaled = figures["levels"], figures["scaled"]
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="as promised")
    for step in figures["observed"]["per_step"]:
        axes.plot(levels, step, color="tab:blue", alpha=0.15)
    ece = figures["ece"]["all"]
    axes.plot(levels, figures["observed"]["all"], color="tab:blue", marker=".", label=f"all steps (ece {ece:.3f})")
    if scaled:
        label = f"spread times {scaled['factor']:.2f}, other half (ece {scaled['ece']['all']:.3f})"
        axes.plot(levels, scaled["observed"]["all"], color="tab:orange", marker=".", label=label)
    axes.set(xlabel="predicted share of errors within the radius", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")


@contextmanager
def _saved(path: Path, written: list[Path]) -> Iterator[Axes]:
    """Axes of a figure that is written to `path` at the end. A bare Figure draws without a display."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    yield axes
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    written.append(path)


def _values(series: list[float | None]) -> list[float]:
    """A step without a figure leaves a gap."""
    return [float("nan") if value is None else value for value in series]
