"""Figures as JSON for machines and as tables for people."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from deepverse_ros.errors import ResourceError


def write_json(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read figures. Raises: ResourceError naming the file."""
    try:
        figures = json.loads(path.read_text())
    except OSError as error:
        raise ResourceError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ResourceError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(figures, dict):
        raise ResourceError(f"{path}: expected an object of figures, got {type(figures).__name__}")
    return figures


def evaluation_rows(figures: Mapping[str, Any]) -> list[tuple[str, str, Sequence[float | None]]]:
    """What an evaluation's table shows. Returns: (name, number format, one value per step) for each row."""
    depth, tool = figures["depth_abs_rel"], figures["tool_position_error_m"]
    rows: list[tuple[str, str, Sequence[float | None]]] = [
        *(
            (f"PSNR {name} [dB]", ".2f", figures["psnr"][name])
            for name in ("model", "persistence", "shuffled", "codec")
        ),
        *((f"SSIM {name}", ".3f", figures["ssim"][name]) for name in ("model", "persistence")),
        *((f"depth error {name} [%]", ".2f", _percent(depth["all"][name])) for name in ("model", "persistence")),
        *((f"depth, moving {name} [%]", ".1f", _percent(depth["moving"][name])) for name in ("model", "persistence")),
        ("tool error mean [cm]", ".1f", _percent(tool["mean"])),
        ("tool error median [cm]", ".1f", _percent(tool["median"])),
        ("tool persistence [cm]", ".1f", _percent(tool["persistence_mean"])),
    ]
    if figures.get("coverage"):
        level = 100 * figures["coverage"]["level"]
        rows.append((f"within the {level:.0f} % bound [%]", ".0f", _percent(figures["coverage"]["per_step"])))
    return rows


def evaluation_table(figures: Mapping[str, Any]) -> Table:
    """One column per step."""
    title = f"{figures['n_windows']} windows of {figures['n_episodes']} episodes, {figures['dt']:g} s a step"
    table = Table(title=title, title_justify="left")
    table.add_column("step")
    for step in range(figures["horizon"]):
        table.add_column(str(step + 1), justify="right")
    for name, number, values in evaluation_rows(figures):
        table.add_row(escape(name), *(_format(value, number) for value in values))
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


def _format(value: float | None, number: str) -> str:
    return "-" if value is None else format(value, number)


def _percent(values: Sequence[float | None]) -> list[float | None]:
    """Hundredths: shares in per cent, metres in centimetres."""
    return [None if v is None else 100 * v for v in values]
