"""The README.md of a checkpoint folder, written from measured figures only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepverse_ros import files
from deepverse_ros.evaluation.reporting.moving import moving_rows
from deepverse_ros.evaluation.reporting.report import evaluation_rows, shown_steps, summary_rows


def write(
    directory: Path,
    config: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None = None,
    benchmark: Mapping[str, Any] | None = None,
) -> Path:
    """Write `directory`/README.md and return its path.

    Args: config: the checkpoint's config.json; evaluation, benchmark: what `deepverse evaluate --json` and
    `deepverse benchmark --json` wrote, None where it was not measured.
    """
    path = directory / "README.md"
    card = text(directory.name, config, evaluation, benchmark)
    with files.replacing(path) as new:
        new.write_text(card)
    return path


def text(
    name: str,
    config: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    benchmark: Mapping[str, Any] | None,
) -> str:
    """The card as Markdown."""
    model = config["model"]
    provenance = config.get("provenance") or {}
    embodiment = model["embodiment"]
    camera = model["embodiment"]["camera"]
    inputs = ", ".join(f"{m['name']} {len(m['lower'])} [{m['units']}]" for m in embodiment["modalities"])
    sections = [
        f"# {name}: a world model of '{embodiment['name']}'",
        (
            f"Predicts RGB-D frames of {model['width']}x{model['height']} pixels, {embodiment['dt']:g} s apart, from "
            f"{model['context']} observed frames and a plan of up to {model['horizon']} trained steps. "
            f"Robot: {embodiment['description'] or embodiment['name']}."
        ),
        (
            f"- Actions per step: {inputs}.\n"
            f"- Depth range: {camera['near']:g} to {camera['far']:g} m; "
            f"positions in the frame `{embodiment['base_frame']}`.\n"
            f'- Load: `WorldModel.load("models/{name}")` (`from deepverse_ros.model.world_model import WorldModel`).'
        ),
        "## How it was made",
        _list(provenance) if provenance else "Not recorded.",
    ]
    if evaluation is not None:
        sections += ["## How well it predicts", *_evaluation(name, evaluation)]
    if benchmark is not None:
        sections += ["## How fast it is", _benchmark(benchmark)]
    sections += ["## Limits", _limits(embodiment, config.get("calibration"), evaluation)]
    return "\n\n".join(sections) + "\n"


def _evaluation(name: str, figures: Mapping[str, Any]) -> list[str]:
    steps = shown_steps(figures["horizon"])
    rows = [
        [label, *("-" if values[s - 1] is None else format(values[s - 1], number) for s in steps)]
        for label, number, values in evaluation_rows(figures)
    ]
    summary = [list(row) for row in summary_rows(figures)]
    kind = (
        f"{figures['n_episodes']} episodes simulated for the evaluation (collection seed {figures['collection_seed']}, "
        "which training never uses)"
        if figures["collection_seed"] is not None
        else f"{figures['n_episodes']} recorded episodes"
    )
    moving = [list(row) for row in moving_rows(figures)]
    definitions = "\n".join(f"- {key}: {value}." for key, value in figures["definitions"].items())
    return [
        (
            f"{figures['n_windows']} windows of {kind}; {figures['context']} frames are seen, the next "
            f"{figures['horizon']} are compared."
        ),
        *([_table(["what moves", "model", "beside it"], moving)] if moving else []),
        _table(["step", *(str(s) for s in steps)], rows),
        *([_table(["", "uncertainty and strangers"], summary)] if summary else []),
        definitions,
        *([f"Again: `{figures['command']}`."] if "command" in figures else []),
    ]


def _benchmark(figures: Mapping[str, Any]) -> str:
    machine = figures["machine"]
    rows = [
        [m["name"], format(m["p50"], ".1f"), "-" if m.get("p95") is None else format(m["p95"], ".1f"), m["unit"]]
        for m in figures["measurements"]
    ]
    return (
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}, {figures['dtype']}.\n\n"
        + _table(["measured", "p50", "p95", "unit"], rows)
    )


def _limits(
    embodiment: Mapping[str, Any], calibration: Mapping[str, Any] | None, evaluation: Mapping[str, Any] | None
) -> str:
    lines = [
        (
            f"- Only for '{embodiment['name']}', seen by a camera placed as in training; other pictures are flagged as "
            "out of distribution, not predicted well."
        ),
        "- Errors grow with each step, as the table shows." if evaluation else "- It has not been evaluated yet.",
        "- One future per plan: it does not show the several ways in which a contact can end.",
    ]
    if calibration and calibration.get("tool_error_q"):
        bounds = ", ".join(f"{100 * q:.1f}" for q in calibration["tool_error_q"])
        lines.append(
            f"- In {100 * calibration['level']:.0f} % of windows like those of the calibration data the tool is within "
            f"{bounds} cm (steps 1, 2, ...) of where it was imagined; elsewhere the bound promises nothing."
        )
    elif not calibration:
        lines.append("- Not calibrated: no plan is accepted on its word.")
    lines.append("- Not a safety device.")
    return "\n".join(lines)


def _list(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key.replace('_', ' ')}: {_plain(value)}" for key, value in values.items())


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])
