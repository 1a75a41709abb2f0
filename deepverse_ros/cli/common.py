"""What several commands share: options, a checkpoint's config, progress bars."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from deepverse_ros.progress import Bars

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
NAMES = "A name such as {} is the package's own; a path of yours begins with / or ./, or is no name of the package."
"""See resources.find."""
_MODEL = "Checkpoint folder. " + NAMES.format("models/arm")
Model = Annotated[str, typer.Argument(help=_MODEL, metavar="MODEL")]
CheckpointOption = Annotated[str, typer.Option("--model", help=_MODEL, metavar="MODEL")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the figures here.", metavar="FILE")]


def checkpoint_config(model: str) -> dict[str, Any]:
    """A checkpoint's config.json. Raises: CheckpointError naming the file."""
    from deepverse_ros.model import checkpoint

    return checkpoint.read_config(model)[1]


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
