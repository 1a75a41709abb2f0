"""Figures as JSON for machines and as tables for people."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from deepverse_ros import files
from deepverse_ros.errors import ResourceError
from deepverse_ros.evaluation.prefilter.bag import BagReport
from deepverse_ros.evaluation.reporting.moving import moving_rows, world_rows

_MOST_BYTES = 64 << 20
LONG = (1, 2, 4, 6, 8, 12, 16, 20, 24, 28)
"""Steps that a table of a long horizon shows, beside the last."""

READ = {
    "from_pictures": "pictures alone",
    "by_reader": "pictures, other reader",
    "by_reader_true": "true pictures, other reader",
}
"""Ways to read the tool from pictures, and what a table calls them."""


def write_json(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as partial:
        partial.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read figures. Raises: ResourceError naming the file."""
    return files.read_json(path, _MOST_BYTES, ResourceError)


def evaluation_rows(figures: Mapping[str, Any]) -> list[tuple[str, str, Sequence[float | None]]]:
    """What an evaluation's table shows. Returns: (name, number format, one value per step) for each row."""
    # It brings torch, which takes seconds, and tables of bags and plans need none.
    from deepverse_ros.evaluation.prediction import registry

    rows: list[tuple[str, str, Sequence[float | None]]] = world_rows(figures)
    for metric in registry.METRICS:
        values = registry.measured(figures, metric) or {}
        rows += [(metric.label(n), metric.number, metric.shown_values(values[n])) for n in metric.shown if n in values]
    rows += [(f"PSNR above {name} [dB]", ".2f", figures["margin_db"][name]) for name in ("persistence", "shuffled")]
    if "gap_closed" in figures:
        rows.append(("MSE gap closed [%]", ".0f", _percent(figures["gap_closed"])))
    tool = figures["tool_position_error_m"]
    rows += [
        ("tool error mean [cm]", ".1f", _percent(tool["mean"])),
        ("tool error median [cm]", ".1f", _percent(tool["median"])),
        ("tool persistence [cm]", ".1f", _percent(tool["persistence_mean"])),
    ]
    for key, name in READ.items():
        if key in tool:
            rows.append((f"tool error mean, {name} [cm]", ".1f", _percent(tool[key])))
            rows.append((f"tool error median, {name} [cm]", ".1f", _percent(tool[f"{key}_median"])))
    if "uncertainty" in figures:
        rows.append(("tool, predicted spread [cm]", ".1f", _percent(figures["uncertainty"]["spread_m"])))
        rows.append(("spread ranks errors", ".2f", figures["uncertainty"]["spearman"]["per_step"]))
    if figures.get("coverage"):
        level = 100 * figures["coverage"]["level"]
        rows.append((f"within the {level:.0f} % bound [%]", ".0f", _percent(figures["coverage"]["per_step"])))
    return [(name, number, [*values, *[None] * (figures["horizon"] - len(values))]) for name, number, values in rows]


def shown_steps(horizon: int) -> list[int]:
    """The steps (from 1) that a table has room for."""
    return list(range(1, horizon + 1)) if horizon <= 12 else [s for s in LONG if s < horizon] + [horizon]


def evaluation_table(figures: Mapping[str, Any]) -> Table:
    """One column per step."""
    size = f"{figures['width']}x{figures['height']} pixels, {figures['context']} frames in"
    title = f"{figures['n_windows']} windows of {figures['n_episodes']} episodes, {size}, {figures['dt']:g} s a step"
    table = Table(title=title, title_justify="left", caption=_not_measured(figures), caption_justify="left")
    table.add_column("step")
    steps = shown_steps(figures["horizon"])
    for step in steps:
        table.add_column(str(step), justify="right")
    for name, number, values in evaluation_rows(figures):
        table.add_row(escape(name), *(_format(values[step - 1], number) for step in steps))
    return table


def evaluation_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Of what moves, as far as that was measured, then of the steps, then of single figures."""
    first = [moving_table(figures)] if moving_rows(figures) else []
    return [*first, evaluation_table(figures), summary_table(figures)]


def moving_table(figures: Mapping[str, Any]) -> Table:
    """One row per figure of `moving_rows`."""
    share = figures.get("moving")
    title = "what moves" if share is None else f"what moves; in {100 * share:.0f} % of the windows a thing does"
    table = Table(title=title, title_justify="left")
    for column in ("measured", "model", "beside it"):
        table.add_column(column, justify="right" if column == "model" else "left")
    for row in moving_rows(figures):
        table.add_row(*(escape(text) for text in row))
    return table


def _not_measured(figures: Mapping[str, Any]) -> str | None:
    """The metrics that are null, each with its definition, which says why; None where there are none."""
    from deepverse_ros.evaluation.prediction import registry

    names = [(m.title, m.path()[0]) for m in registry.METRICS if m.path()[0] in figures]
    missing = [f"{title}: {figures['definitions'][name]}" for title, name in names if figures[name] is None]
    return escape("\n".join(missing)) or None


def summary_rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an evaluation says in single figures: uncertainty, strangers, ranking. Returns: (name, text)."""
    rows = []
    if "reliability" in figures:
        reliability, scaled = figures["reliability"], figures["reliability"]["scaled"]
        text = f"{reliability['ece']['all']:.3f}"
        if scaled:
            text += (
                f"; on one half of the episodes {scaled['ece_unscaled']:.3f}, with the spread times "
                f"{scaled['factor']:.2f} (fitted on the other half) {scaled['ece']['all']:.3f}"
            )
        rows.append(("calibration error of the spread", text))
    if "uncertainty" in figures:
        sparse = figures["uncertainty"]["sparsification"]
        values = zip(sparse["left_out"], sparse["error_m"]["all"], sparse["oracle_m"]["all"], strict=True)
        text = ", ".join(f"{100 * share:.0f} %: {100 * e:.1f} ({100 * best:.1f})" for share, e, best in values)
        rows.append(("tool error [cm], most uncertain windows left out (at best)", text))
        ranks = _format(figures["uncertainty"]["spearman"]["all"], ".2f")
        rows.append(("rank correlation of spread and tool error, windows", ranks))
    if figures.get("ood"):
        ood = figures["ood"]
        rows.append(("ordinary windows flagged as unknown", f"{100 * ood['ordinary']['flagged']:.0f} %"))
        groups = {**ood["corrupted"], **{f"scene: {k}": v for k, v in (ood["simulated"] or {}).items()}}
        if ood["folder"]:
            groups[ood["folder"]["path"]] = ood["folder"]
        rows += [
            (f"told apart: {name.replace('_', ' ')}", f"AUROC {g['auroc']:.3f}, {100 * g['flagged']:.0f} % flagged")
            for name, g in groups.items()
        ]
    if figures.get("rank_correlation"):
        ranks = figures["rank_correlation"]
        text = ", ".join(f"{name} {_format(ranks[name], '.2f')}" for name in ("median", "mean", "min"))
        rows.append((f"rank correlation coarse, fine ({ranks['n_scenes']} x {ranks['n_plans']} plans)", text))
    if figures.get("revisit"):
        gain, better = figures["revisit"]["uncovered"]["gain_db"], figures["revisit"]["uncovered"]["better"]
        text = f"{gain:+.1f} dB where a return uncovers something, better in {100 * better:.0f} % of returns"
        rows.append((f"memory ({figures['revisit']['episodes']} returns)", text))
    return rows


def summary_table(figures: Mapping[str, Any]) -> Table:
    """One row per figure of `summary_rows`."""
    table = Table(title="uncertainty and strangers", title_justify="left", show_header=False)
    for name, text in summary_rows(figures):
        table.add_row(escape(name), escape(text))
    return table


def benchmark_table(figures: Mapping[str, Any]) -> Table:
    """One row per measurement."""
    machine = figures["machine"]
    title = f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}, {figures['dtype']}"
    table = Table(title=title, title_justify="left")
    for column in ("measured", "p50", "p95", "unit"):
        table.add_column(column, justify="left" if column in ("measured", "unit") else "right")
    for row in figures["measurements"]:
        table.add_row(escape(row["name"]), _format(row["p50"], ".1f"), _format(row.get("p95"), ".1f"), row["unit"])
    return table


def planning_tables(figures: Mapping[str, Any]) -> list[Table]:
    """One table per task with a row per variant, and one of the verdicts."""
    tables = []
    for task, rows in figures["tasks"].items():
        title = f"{task}: {figures['episodes']} episodes, seed {figures['seed']}"
        table = Table(title=title, title_justify="left")
        for column in ("planner", "success [%]", "contact [%]", "steps", "plans", "refused", "plan p50 [ms]"):
            table.add_column(column, justify="left" if column == "planner" else "right")
        for name, row in rows.items():
            table.add_row(
                name, _format(100 * row["success"], ".0f"), _format(100 * row["contact"], ".0f"),
                *(_format(row[key], ".1f") for key in ("steps", "plans", "rejected")),
                _format(row["plan_ms"]["p50"], ".0f"),
            )  # fmt: skip
        tables.append(table)
    table = Table("verdicts", "")
    verdicts, impossible = figures.get("verdicts"), figures["impossible"]
    if verdicts:
        table.add_row("plans, of which miss", f"{verdicts['plans']}, {verdicts['miss']}")
        table.add_row("AUROC of the bound", _format(verdicts["auroc"], ".3f"))
        for name in ("accepted_that_miss", "rejected_that_hit", "hits_rejected"):
            share = verdicts[name]
            table.add_row(f"{name.replace('_', ' ')} [%]", _format(None if share is None else 100 * share, ".1f"))
    table.add_row("impossible goals with an accepted plan", f"{impossible['accepted']} of {impossible['goals']}")
    return [*tables, table]


def prefilter_tables(figures: Mapping[str, Any]) -> list[Table]:
    """One table per kind of zones with a row per variant."""
    tables = []
    for kind, rows in figures["zones"].items():
        some = next(iter(rows.values()))
        title = f"{kind} zones: {some['dangerous']} dangerous and {some['harmless']} harmless commands"
        table = Table(title=f"{title}, seed {figures['seed']}", title_justify="left")
        for column in ("filter", "violated [%]", "harmless stopped [%]", "extra (s)", "judged p50 (ms)", "p95"):
            table.add_column(column, justify="left" if column == "filter" else "right")
        for name, row in rows.items():
            shares = (None if row[key] is None else 100 * row[key] for key in ("violated", "harmless_stopped"))
            table.add_row(
                name, *(_format(share, ".0f") for share in shares), _format(row["extra_s"], ".2f"),
                *(_format(row["judged_ms"][key], ".0f") for key in ("p50", "p95")),
            )  # fmt: skip
        tables.append(table)
    return tables


def stop_figures(report: BagReport) -> dict[str, Any]:
    """The figures and stops of a bag as JSON has them: what is not finite is none."""
    figures = asdict(report.metrics)
    figures = {k: v if math.isfinite(v) else None for k, v in figures.items()}
    return {**figures, "stops": [asdict(stop) for stop in report.stops]}


def stop_tables(report: BagReport) -> list[Table]:
    """The metrics of a bag, and every stop with its reason."""
    metrics = report.metrics
    table = Table(title=f"{metrics.dangers} dangers while a command was to move the robot", title_justify="left")
    for column in ("time to stop (s)", "hold share", "resume time (s)", "false stops"):
        table.add_column(column, justify="right")
    table.add_row(
        *(f"{value:.3f}" for value in (metrics.time_to_stop, metrics.hold_share, metrics.resume_time)),
        str(metrics.false_stops),
    )
    stops = Table(title="stops", title_justify="left")
    for column in ("from (s)", "to (s)", "reason"):
        stops.add_column(column, justify="left" if column == "reason" else "right")
    for stop in report.stops:
        stops.add_row(f"{stop.begin:.2f}", f"{stop.end:.2f}", escape(stop.reason))
    return [table, stops]


def _format(value: float | None, number: str) -> str:
    return "-" if value is None else format(value, number)


def _percent(values: Sequence[float | None]) -> list[float | None]:
    """Hundredths: shares in per cent, metres in centimetres."""
    return [None if v is None else 100 * v for v in values]
