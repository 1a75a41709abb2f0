"""The `deepverse` command: collect, train, ablate, calibrate, evaluate, benchmark, and what shows or mends a model.

What is heavy (torch, MuJoCo) is imported by the command that needs it, so that `deepverse --help` is quick.
"""

import sys

import typer

from deepverse_ros.cli import evaluate, inspect, train
from deepverse_ros.errors import DeepverseError
from deepverse_ros.processes import keep_freed_memory

app = typer.Typer(
    help="Imagination for a robot: collect data, train a world model, and measure it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (
    train.collect,
    train.train,
    train.ablate,
    train.calibrate,
    evaluate.evaluate,
    inspect.imagine,
    inspect.info,
    inspect.checksum,
    inspect.card,
    inspect.prefilter_metrics,
):
    app.command()(command)
app.add_typer(evaluate.benchmarks, name="benchmark")


def main() -> None:
    """Entry point. Exit codes: 0 done, 2 wrong input or environment, 130 interrupted."""
    keep_freed_memory()  # as the nodes do, so that what is measured here is what they take
    try:
        app(prog_name="deepverse")
    except DeepverseError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("deepverse_ros"):
            raise
        _fail(f"the Python package '{error.name}' is missing here: pip install {error.name}")
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
