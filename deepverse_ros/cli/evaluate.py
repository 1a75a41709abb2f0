"""Commands that measure a model: evaluate and benchmark."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from deepverse_ros.cli.common import CheckpointOption, Device, Json, Model, checkpoint_config, progress_bars, results
from deepverse_ros.errors import EpisodeError, ShapeError

if TYPE_CHECKING:
    from deepverse_ros.progress import Bars

_RANKED_SCENES = 10
"""Scenes whose plans are ranked on both levels: 256 on the fine one take a second or two."""
_PAIRS = 60
"""Pairs of plans, if not told otherwise: about a third of a second each."""


def evaluate(
    model: Model,
    *,
    simulate: Annotated[int, typer.Option(min=2, help="Fresh simulated episodes to score on.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=100_000, help="Seed of the fresh episodes and of the shuffling.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Score on this episode store instead.", metavar="DIR")] = None,
    horizon: Annotated[
        int | None, typer.Option(min=1, max=32, help="Imagined steps; the model's own if not given.")
    ] = None,
    ood: Annotated[
        Path | None, typer.Option(help="Pictures or DROID recordings that the model cannot know.", metavar="DIR")
    ] = None,
    revisits: Annotated[
        int, typer.Option(min=0, help="Simulated returns of the arm, imagined with memory and without.")
    ] = 0,
    pairs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Simulated pairs of plans of which one moves a thing; if not given, 60 beside fresh episodes, "
            "else none.",
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint of this robot, trained apart, that also reads the tool from the imagined pictures.",
            metavar="MODEL",
        ),
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Also draw the figures here, as PNG.", metavar="DIR")] = None,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Compare imagined frames with what really happened, next to trivial predictors; test uncertainty and ranking.

    First comes what moves: pixels beside the robot, places of things, pairs of plans of which one moves a thing and
    one does not, blocked arms. Where episodes tell what their pictures show, half of the windows have a thing that
    moves, if there are enough.

    The fresh episodes' seeds are kept apart from every seed of `deepverse collect`, so they are never training data.

    Example: `deepverse evaluate models/arm --simulate 20 --seed 7 --json evaluation.json`
    """
    import itertools
    import tempfile

    from deepverse_ros.data.store import EpisodeStore
    from deepverse_ros.evaluation.ood import evaluate as novelty
    from deepverse_ros.evaluation.prediction import evaluate as evaluation
    from deepverse_ros.evaluation.prediction import pairs as counterfactual
    from deepverse_ros.evaluation.prediction import ranking, revisit
    from deepverse_ros.evaluation.prediction.lpips import Lpips
    from deepverse_ros.evaluation.reporting import report
    from deepverse_ros.model.world_model import WorldModel

    world = WorldModel.load(model, device)
    lpips = Lpips.installed()
    witness = WorldModel.load(reader, device) if reader else None
    evaluation.check_reader(world, witness)  # before anything is simulated
    usual = _PAIRS if data is None else 0
    pairs = usual if pairs is None else pairs
    if ood:
        next(novelty.ood_windows(world, ood))  # a folder that holds nothing is told at once
    with tempfile.TemporaryDirectory(prefix="deepverse_evaluate_") as temporary, progress_bars() as progress:
        if data is None:
            store = evaluation.simulated_episodes(
                world, Path(temporary), simulate, seed, _bar(progress, "simulating"), horizon
            )
        elif data.is_dir():
            store = EpisodeStore(data)
        else:
            raise EpisodeError(f"{data}: no such folder of episodes")
        figures = evaluation.evaluate(
            world, store, seed, on_episode=_bar(progress, "imagining"), horizon=horizon, lpips=lpips, reader=witness
        )
        figures["counterfactual"] = (
            counterfactual.evaluate_pairs(world, pairs, seed, _bar(progress, "imagining pairs")) if pairs else None
        )
        figures["ood"] = novelty.evaluate(world, store, seed, ood, _bar(progress, "looking at strangers"))
        ranked = _bar(progress, "ranking plans")
        scenes = itertools.islice(store, _RANKED_SCENES)
        figures["rank_correlation"] = ranking.rank_correlation(world, scenes, coarse=world.rank, seed=seed)
        ranked(1, 1)
        figures["definitions"] |= {**counterfactual.DEFINITIONS, **novelty.DEFINITIONS, **ranking.DEFINITIONS}
        if revisits:
            task = progress.add_task("returning", total=revisits)
            returns = revisit.collect_revisits(world, Path(temporary) / "revisits", revisits, seed)
            figures["revisit"] = revisit.evaluate_revisits(world, returns, lambda: progress.advance(task))
    source = f"--data {data} --seed {seed}" if data else f"--simulate {simulate} --seed {seed}"
    options = {"pairs": None if pairs == usual else pairs, "horizon": horizon, "ood": ood, "reader": reader}
    source += "".join(f" --{name} {value}" for name, value in options.items() if value is not None)
    figures = {
        "model": model,
        "model_sha256": checkpoint_config(model)["weights_sha256"],
        "command": f"deepverse evaluate {model} {source}",
        "collection_seed": evaluation.EVALUATION_SEEDS + seed if data is None else None,
        **figures,
    }
    results().print(*report.evaluation_tables(figures))
    if json:
        report.write_json(json, figures)
    if plots:
        from deepverse_ros.evaluation.reporting.plots import draw

        draw(figures, plots)


def _bar(progress: "Bars", title: str) -> Callable[[int, int], None]:
    """A bar that begins now and is told (done, of)."""
    task = progress.add_task(title, total=None)
    return lambda done, of: progress.update(task, completed=done, total=of)


benchmarks = typer.Typer(invoke_without_command=True)


@benchmarks.callback()
def speed(
    context: typer.Context,
    model: CheckpointOption = "models/arm",
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Time observing, imagining, planning and collecting on this machine; `planning` measures what plans achieve.

    `prefilter` measures what the safety prefilter prevents.

    Example: `deepverse benchmark --model models/arm --json benchmark.json`
    """
    if context.invoked_subcommand is not None:
        return
    from deepverse_ros.evaluation.reporting import report
    from deepverse_ros.evaluation.speed import benchmark as measure
    from deepverse_ros.model.world_model import WorldModel

    world = WorldModel.load(model, device)
    with Console(stderr=True).status("measuring"):
        figures = {"model": model, "model_sha256": checkpoint_config(model)["weights_sha256"], **measure(world)}
    results().print(report.benchmark_table(figures))
    if json:
        report.write_json(json, figures)


@benchmarks.command()
def planning(
    model: CheckpointOption = "models/arm",
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task, for each variant of the planner.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same episodes.")] = 0,
    task: Annotated[
        list[str] | None, typer.Option(help="reach, push or avoid; give it again for more; all if not given.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="Variant of the planner; give it again for more; all if not given.")
    ] = None,
    horizon: Annotated[int, typer.Option(min=2, max=32, help="Steps of a plan.")] = 8,
    verdicts: Annotated[int, typer.Option(min=0, help="Plans whose verdicts are compared with the truth.")] = 500,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Let the planner solve tasks in simulation, with and without its parts, and compare verdicts with the truth.

    Example: `deepverse benchmark planning --episodes 50 --seed 3 --json planning.json`
    """
    from deepverse_ros.evaluation.planning import benchmark
    from deepverse_ros.evaluation.reporting import report
    from deepverse_ros.model.world_model import WorldModel

    world = WorldModel.load(model, device)
    known = benchmark.variants(horizon)
    for option, given, names in (("--task", task, benchmark.TASK_NAMES), ("--variant", variant, known)):
        for name in given or ():
            if name not in names:
                raise ShapeError(f"{option}: there is no '{name}'; there are {', '.join(names)}")
    with progress_bars() as progress:
        bars: dict[str, Any] = {}

        def update(part: str, done: int, total: int) -> None:
            if part not in bars:
                bars[part] = progress.add_task(part, total=total)
            progress.update(bars[part], completed=done)

        figures = benchmark.benchmark(
            world, episodes, seed, horizon, task or benchmark.TASK_NAMES, variant, verdicts, update
        )
    figures = {"model": model, "model_sha256": checkpoint_config(model)["weights_sha256"], **figures}
    for table in report.planning_tables(figures):
        results().print(table)
    if json:
        report.write_json(json, figures)


@benchmarks.command()
def prefilter(
    model: CheckpointOption = "models/arm",
    scenarios: Annotated[
        int, typer.Option(min=2, help="Scenarios of each kind; in every second one the command does harm.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scenarios.")] = 0,
    latency: Annotated[float, typer.Option(min=0.0, max=1.0, help="Simulated seconds from image to verdict.")] = 0.2,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; the results are the same with any number.")] = 1,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Send commands to the simulated arm through the safety prefilter; half of them would do harm.

    Those touch an obstacle, or push an object to where nothing may be.

    Example: `deepverse benchmark prefilter --scenarios 20 --seed 3 --jobs 2 --json prefilter.json`
    """
    from deepverse_ros.evaluation.prefilter import benchmark
    from deepverse_ros.evaluation.reporting import report

    with progress_bars() as progress:
        bar = progress.add_task("scenarios", total=scenarios)
        figures = benchmark.benchmark(
            model, scenarios, seed, latency, device, jobs, lambda done, _total: progress.update(bar, completed=done)
        )
    figures = {"model": model, "model_sha256": checkpoint_config(model)["weights_sha256"], **figures}
    for table in report.prefilter_tables(figures):
        results().print(table)
    if json:
        report.write_json(json, figures)
