"""Commands that make a model: collect, train, ablate, calibrate."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from deepverse_ros.cli.common import NAMES, Device, Model, progress_bars, results
from deepverse_ros.simulation import robots

_SIMULATED = robots.names()


def collect(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the episode store; an interrupted collection is resumed.")],
    embodiment: Annotated[str, typer.Option(help=f"Robot to simulate: {', '.join(_SIMULATED)}.")] = _SIMULATED[0],
    episodes: Annotated[int, typer.Option(min=1, help="Episodes that the store shall hold.")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=999_999, help="The same seed gives the same episodes.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one per core.")] = 0,
    frames: Annotated[int, typer.Option(min=2, help="Frames per episode.")] = 24,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Pixels along a side of a frame.")] = 128,
) -> None:
    """Simulate episodes: random motion, reaching, pushing and hitting things, mixed.

    Example: `deepverse collect --embodiment arm --episodes 2000 --seed 1 --out data_cache/arm`
    """
    import os

    from deepverse_ros.data.collect import collect as simulate
    from deepverse_ros.robot.embodiment import Embodiment

    with progress_bars() as progress:
        task = progress.add_task(f"collecting into {out}", total=episodes)
        simulate(
            Embodiment.load(embodiment), episodes, seed, out, workers=workers or os.cpu_count() or 1, frames=frames,
            size=(size, size), progress=lambda done, _: progress.update(task, completed=done),
        )  # fmt: skip


def train(
    config: Annotated[
        str, typer.Argument(help="Config of a training. " + NAMES.format("config/training/arm.yaml"), metavar="CONFIG")
    ],
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME of the config if not given.")] = None,
    embodiment: Annotated[str | None, typer.Option(help="Robot, in place of the config's.", metavar="NAME")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Train on this episode store as it is; collect nothing.", metavar="DIR")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from the weights of this checkpoint.", metavar="CHECKPOINT")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in this folder stopped.")] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="With --resume: go on although the config is another.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Train a world model: collect what is missing, train codec and dynamics, calibrate, write a checkpoint.

    Example: `deepverse train config/training/arm.yaml --out runs/arm`

    Several GPUs: `torchrun --nproc-per-node 8 -m deepverse_ros.cli train config/training/seed.yaml --out runs/seed`
    """
    import os

    from deepverse_ros.training.config import TrainingConfig
    from deepverse_ros.training.engine.loop import Interrupted
    from deepverse_ros.training.trainer import train as run

    settings = TrainingConfig.load(config).changed(embodiment, data, init)
    try:
        run(settings, out or Path("runs") / Path(config).stem, resume, device, accept_changes=accept_changes)
    except Interrupted as stopped:
        if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts, one speaks
            print(stopped, file=sys.stderr)
        raise typer.Exit(130) from None


def ablate(
    config: Annotated[
        str,
        typer.Argument(
            help="Config of an ablation. " + NAMES.format("config/training/ablation.yaml"), metavar="CONFIG"
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the trainings; what is finished there is not repeated.")] = Path(
        "runs/ablation"
    ),
    markdown: Annotated[
        Path | None, typer.Option(help="Also put the table into a page, as a section of its own.", metavar="FILE")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train with and without what a config asks about, and compare what is imagined.

    Example: `deepverse ablate config/training/ablation.yaml --markdown docs/ablations.md`
    """
    from deepverse_ros.evaluation.ablation import AblationConfig, ablate, placed, section, to_markdown
    from deepverse_ros.training.engine.loop import Interrupted

    settings = AblationConfig.load(config)
    try:
        rows = ablate(settings, out, device)
    except Interrupted as stopped:
        print(f"{stopped}; the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    print(to_markdown(rows), end="")
    if markdown:
        new = section(settings, rows, f"deepverse ablate {config} --markdown {markdown}")
        markdown.write_text(placed(markdown.read_text() if markdown.exists() else "", new))


def calibrate(
    model: Model,
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of episodes that the model was not trained on.", metavar="[DATA]", show_default=False
        ),
    ] = None,
    *,
    plans: Annotated[int, typer.Option(min=20, help="Plans to choose and execute in simulation.")] = 300,
    level: Annotated[float, typer.Option(min=0.5, max=0.99, help="Probability at which the bounds shall hold.")] = 0.9,
    device: Device = "auto",
) -> None:
    """Set the bounds of verdicts from plans that the planner chooses and the simulation executes.

    With DATA, recorded episodes also set the bound of the imagined tool (tool_error_q); without, it stays as it is.

    Example: `deepverse calibrate models/arm --plans 300`
    """
    from deepverse_ros import resources
    from deepverse_ros.model.world_model import WorldModel
    from deepverse_ros.training import calibration

    world = WorldModel.load(model, device)
    held_out = None if data is None else calibration.held_out_episodes(world, data, level)
    with progress_bars() as progress:
        task = progress.add_task("planning and executing", total=plans)
        errors = calibration.executed_errors(world, plans, lambda done, _: progress.update(task, completed=done))
        task = progress.add_task("planning past obstacles", total=plans)
        past = calibration.avoiding_errors(world, plans, lambda done, _: progress.update(task, completed=done))
    errors = dataclasses.replace(errors, clearance_m=past)
    values = calibration.calibrate(model, level, held_out, errors, device)
    multiples = ", ".join(f"{z:.2f}" for z in values["goal_error_z"])
    results().print(
        f"{resources.find(model)}: bounds at {level:.0%}, in multiples of the predicted spread: "
        "of the goal distance, steps 1, 2, ...: "
        f"{multiples}; of the way there, all steps together: {values['path_error_z'][0]:.2f}"
    )
    if held_out is not None:
        metres = ", ".join(f"{m:.3f}" for m in values["tool_error_q"])
        results().print(f"of the imagined tool in {values['windows']} recorded episodes, metres: {metres}")
