"""What several commands share: options, a checkpoint's config, progress bars."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from deepverse_ros import resources
from deepverse_ros.errors import CheckpointError

if TYPE_CHECKING:
    from deepverse_ros.progress import Bars

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Model = Annotated[str, typer.Argument(help="Checkpoint folder, such as models/arm.", metavar="MODEL")]
CheckpointOption = Annotated[str, typer.Option("--model", help="Checkpoint folder.", metavar="MODEL")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the figures here.", metavar="FILE")]


def checkpoint_config(model: str) -> dict[str, Any]:
    """A checkpoint's config.json. Raises: CheckpointError naming the file."""
    import json

    path = resources.find(model) / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint config: {error}") from error
    if not isinstance(config, dict) or not {"model", "weights_sha256"} <= config.keys():
        raise CheckpointError(f"{path}: not a checkpoint config: 'model' and 'weights_sha256' must stand in it")
    return config


def results() -> Console:
    """Stdout; a file or a pipe is wide enough for every table, unless COLUMNS says how wide it is."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=160)


def progress_bars() -> "Bars":
    """A progress bar on stderr, so that stdout holds results only."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from deepverse_ros.progress import Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Bars(*columns, console=Console(stderr=True))
