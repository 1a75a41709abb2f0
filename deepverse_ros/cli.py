"""The `deepverse` command: collect, train, calibrate, evaluate, benchmark, imagine, info, card.

What is heavy (torch, MuJoCo) is imported by the command that needs it, so that `deepverse --help` is quick.
"""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from deepverse_ros import resources
from deepverse_ros.errors import CheckpointError, DeepverseError, EpisodeError, ShapeError

if TYPE_CHECKING:
    from rich.progress import Progress

app = typer.Typer(
    help="Imagination for a robot: collect data, train a world model, and measure it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Model = Annotated[str, typer.Argument(help="Checkpoint folder, such as models/arm.", metavar="MODEL")]
CheckpointOption = Annotated[str, typer.Option("--model", help="Checkpoint folder.", metavar="MODEL")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the figures here.", metavar="FILE")]

_RANKED_SCENES = 10
"""Scenes whose plans are ranked on both levels: 256 on the fine one take a second or two."""


def main() -> None:
    """Entry point. Exit codes: 0 done, 2 wrong input or environment, 130 interrupted."""
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


@app.command()
def collect(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the episode store; an interrupted collection is resumed.")],
    embodiment: Annotated[str, typer.Option(help="Robot to simulate.")] = "arm",
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

    from deepverse_ros.data.synthetic import collect as simulate
    from deepverse_ros.embodiment import Embodiment

    with _progress() as progress:
        task = progress.add_task(f"collecting into {out}", total=episodes)
        simulate(
            Embodiment.load(embodiment), episodes, seed, out, workers=workers or os.cpu_count() or 1, frames=frames,
            size=(size, size), progress=lambda done, _: progress.update(task, completed=done),
        )  # fmt: skip


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="Such as config/training/arm.yaml.", metavar="CONFIG")],
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME of the config if not given.")] = None,
    embodiment: Annotated[str | None, typer.Option(help="Robot, in place of the config's.", metavar="NAME")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Train on this episode store as it is; collect nothing.", metavar="DIR")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from the weights of this checkpoint.", metavar="CHECKPOINT")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in this folder stopped.")] = False,
    device: Device = "auto",
) -> None:
    """Train a world model: collect what is missing, train codec and dynamics, calibrate, write a checkpoint.

    Example: `deepverse train config/training/arm.yaml --out runs/arm`

    Several GPUs: `torchrun --nproc-per-node 8 -m deepverse_ros.cli train config/training/seed.yaml --out runs/seed`
    """
    import os

    from deepverse_ros.training.config import TrainingConfig
    from deepverse_ros.training.loop import Interrupted
    from deepverse_ros.training.trainer import train as run

    settings = TrainingConfig.load(config).changed(embodiment, data, init)
    try:
        run(settings, out or Path("runs") / config.stem, resume, device)
    except Interrupted as stopped:
        if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts, one speaks
            print(stopped, file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def ablate(
    config: Annotated[Path, typer.Argument(help="Such as config/training/ablation.yaml.", metavar="CONFIG")],
    out: Annotated[Path, typer.Option(help="Folder of the trainings; what is finished there is not repeated.")] = Path(
        "runs/ablation"
    ),
    markdown: Annotated[Path | None, typer.Option(help="Also write a page with the table.", metavar="FILE")] = None,
    device: Device = "auto",
) -> None:
    """Train with and without options of the dynamics stage, and compare what is imagined.

    Example: `deepverse ablate config/training/ablation.yaml --markdown docs/ablations.md`
    """
    from deepverse_ros.evaluation.ablation import AblationConfig, ablate, page, to_markdown
    from deepverse_ros.training.loop import Interrupted

    settings = AblationConfig.load(config)
    try:
        rows = ablate(settings, out, device)
    except Interrupted as stopped:
        print(f"{stopped}; the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    print(to_markdown(rows), end="")
    if markdown:
        markdown.write_text(page(settings, rows, f"deepverse ablate {config} --markdown {markdown}"))


@app.command()
def calibrate(
    model: Model,
    *,
    plans: Annotated[int, typer.Option(min=20, help="Plans to choose and execute in simulation.")] = 300,
    level: Annotated[float, typer.Option(min=0.5, max=0.99, help="Probability at which the bounds shall hold.")] = 0.9,
    device: Device = "auto",
) -> None:
    """Set the bounds of verdicts from plans that the planner chooses and the simulation executes.

    Example: `deepverse calibrate models/arm --plans 300`
    """
    from deepverse_ros.model.world_model import WorldModel
    from deepverse_ros.training import calibration

    world = WorldModel.load(model, device)
    with _progress() as progress:
        task = progress.add_task("planning and executing", total=plans)
        errors = calibration.executed_errors(world, plans, lambda done, _: progress.update(task, completed=done))
        task = progress.add_task("planning past obstacles", total=plans)
        past = calibration.avoiding_errors(world, plans, lambda done, _: progress.update(task, completed=done))
    errors = dataclasses.replace(errors, clearance_m=past)
    values = calibration.calibrate(model, level, None, errors, device)
    multiples = ", ".join(f"{z:.2f}" for z in values["goal_error_z"])
    Console().print(
        f"{model}: bounds at {level:.0%}, in multiples of the predicted spread: of the goal distance, steps 1, 2, ...: "
        f"{multiples}; of the way there, all steps together: {values['path_error_z'][0]:.2f}"
    )


@app.command()
def evaluate(
    model: Model,
    *,
    simulate: Annotated[int, typer.Option(min=2, help="Fresh simulated episodes to score on.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=100_000, help="Of the fresh episodes and of the shuffling.")] = 0,
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
    plots: Annotated[Path | None, typer.Option(help="Also draw the figures here, as PNG.", metavar="DIR")] = None,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Compare imagined frames with what really happened, next to trivial predictors; test uncertainty and ranking.

    The fresh episodes' seeds are kept apart from every seed of `deepverse collect`, so they are never training data.

    Example: `deepverse evaluate models/arm --simulate 20 --seed 7 --json evaluation.json`
    """
    import itertools
    import tempfile

    from deepverse_ros.data.store import EpisodeStore
    from deepverse_ros.evaluation import evaluate as evaluation
    from deepverse_ros.evaluation import ood as novelty
    from deepverse_ros.evaluation import ranking, report, revisit
    from deepverse_ros.evaluation.lpips import Lpips
    from deepverse_ros.model.world_model import WorldModel

    world, lpips = WorldModel.load(model, device), Lpips.installed()
    if ood:
        next(novelty.sightings(world, ood))  # a folder that holds nothing is told at once
    with tempfile.TemporaryDirectory(prefix="deepverse_evaluate_") as temporary, _progress() as progress:
        if data is None:
            task = progress.add_task("simulating", total=simulate)
            store = evaluation.simulated_episodes(
                world, Path(temporary), simulate, seed, lambda done, _: progress.update(task, completed=done), horizon
            )
        elif data.is_dir():
            store = EpisodeStore(data)
        else:
            raise EpisodeError(f"{data}: no such folder of episodes")
        task = progress.add_task("imagining", total=len(store))
        figures = evaluation.evaluate(
            world, store, seed, on_episode=lambda done, total: progress.update(task, completed=done, total=total),
            horizon=horizon, lpips=lpips,
        )  # fmt: skip
        task = progress.add_task("looking at strangers", total=len(store))
        figures["ood"] = novelty.evaluate(
            world, store, seed, ood, lambda done, total: progress.update(task, completed=done, total=total)
        )
        task = progress.add_task("ranking plans", total=None)
        scenes = itertools.islice(store, _RANKED_SCENES)
        figures["rank_correlation"] = ranking.rank_correlation(world, scenes, coarse=world.rank, seed=seed)
        progress.update(task, completed=1, total=1)
        figures["definitions"] |= {**novelty.DEFINITIONS, **ranking.DEFINITIONS}
        if revisits:
            task = progress.add_task("returning", total=revisits)
            returns = revisit.collect_revisits(world, Path(temporary) / "revisits", revisits, seed)
            figures["revisit"] = revisit.evaluate_revisits(world, returns, lambda: progress.advance(task))
    source = f"--data {data} --seed {seed}" if data else f"--simulate {simulate} --seed {seed}"
    source += "".join(f" --{name} {value}" for name, value in (("horizon", horizon), ("ood", ood)) if value is not None)
    figures = {
        "model": model,
        "model_sha256": _config(model)["weights_sha256"],
        "command": f"deepverse evaluate {model} {source}",
        "collection_seed": evaluation.EVALUATION_SEEDS + seed if data is None else None,
        **figures,
    }
    Console().print(report.evaluation_table(figures), report.summary_table(figures))
    if json:
        report.write_json(json, figures)
    if plots:
        from deepverse_ros.evaluation.plots import draw

        draw(figures, plots)


benchmarks = typer.Typer(invoke_without_command=True)
app.add_typer(benchmarks, name="benchmark")


@benchmarks.callback()
def benchmark(
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
    from deepverse_ros.evaluation import report
    from deepverse_ros.evaluation.benchmark import benchmark as measure
    from deepverse_ros.model.world_model import WorldModel

    world = WorldModel.load(model, device)
    with Console(stderr=True).status("measuring"):
        figures = {"model": model, "model_sha256": _config(model)["weights_sha256"], **measure(world)}
    Console().print(report.benchmark_table(figures))
    if json:
        report.write_json(json, figures)


@benchmarks.command()
def planning(
    model: CheckpointOption = "models/arm",
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task, for each variant of the planner.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of the episodes; the same seed gives the same ones.")] = 0,
    task: Annotated[
        list[str] | None, typer.Option(help="reach, push or avoid; may be given again; default all.")
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Of the planner; may be given again; default all.")] = None,
    horizon: Annotated[int, typer.Option(min=2, max=32, help="Steps of a plan.")] = 8,
    verdicts: Annotated[int, typer.Option(min=0, help="Plans whose verdicts are compared with the truth.")] = 500,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Let the planner solve tasks in simulation, with and without its parts, and compare verdicts with the truth.

    Example: `deepverse benchmark planning --episodes 50 --seed 3 --json planning.json`
    """
    from deepverse_ros.evaluation import planning_benchmark, report
    from deepverse_ros.model.world_model import WorldModel

    world = WorldModel.load(model, device)
    known = planning_benchmark.variants(horizon)
    for option, given, names in (("--task", task, planning_benchmark.TASK_NAMES), ("--variant", variant, known)):
        for name in given or ():
            if name not in names:
                raise ShapeError(f"{option}: there is no '{name}'; there are {', '.join(names)}")
    with _progress() as progress:
        bars: dict[str, Any] = {}

        def update(part: str, done: int, total: int) -> None:
            if part not in bars:
                bars[part] = progress.add_task(part, total=total)
            progress.update(bars[part], completed=done)

        figures = planning_benchmark.benchmark(
            world, episodes, seed, horizon, task or planning_benchmark.TASK_NAMES, variant, verdicts, update
        )
    figures = {"model": model, "model_sha256": _config(model)["weights_sha256"], **figures}
    for table in report.planning_tables(figures):
        Console().print(table)
    if json:
        report.write_json(json, figures)


@benchmarks.command()
def prefilter(
    model: CheckpointOption = "models/arm",
    scenarios: Annotated[
        int, typer.Option(min=2, help="Of each kind; in every second one the command does harm.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenarios; the same seed gives the same ones.")] = 0,
    latency: Annotated[float, typer.Option(min=0.0, max=1.0, help="From image to verdict, simulated seconds.")] = 0.2,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; the results are the same with any number.")] = 1,
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Send commands to the simulated arm through the safety prefilter, of which half would do harm.

    They touch an obstacle, or push an object to where nothing may be.

    Example: `deepverse benchmark prefilter --scenarios 20 --seed 3 --jobs 2 --json prefilter.json`
    """
    from deepverse_ros.evaluation import prefilter_benchmark, report

    with _progress() as progress:
        bar = progress.add_task("scenarios", total=scenarios)
        figures = prefilter_benchmark.benchmark(
            model, scenarios, seed, latency, device, jobs, lambda done, _total: progress.update(bar, completed=done)
        )
    figures = {"model": model, "model_sha256": _config(model)["weights_sha256"], **figures}
    for table in report.prefilter_tables(figures):
        Console().print(table)
    if json:
        report.write_json(json, figures)


@app.command()
def imagine(
    model: Model,
    episode: Annotated[Path, typer.Argument(help="Episode file of a store.", metavar="EPISODE")],
    out: Annotated[Path, typer.Option(help="Picture to write: .png strip or .gif film.")],
    start: Annotated[int, typer.Option(min=0, help="First observed frame.")] = 0,
    device: Device = "auto",
) -> None:
    """Draw the imagined future above the real one.

    Example: `deepverse imagine models/arm data_cache/arm/episode_000007.h5 --out imagined.png`
    """
    import numpy as np

    from deepverse_ros.data.store import EpisodeStore
    from deepverse_ros.evaluation.evaluate import windows_of
    from deepverse_ros.evaluation.film import film, montage
    from deepverse_ros.model.world_model import WorldModel

    kind = out.suffix.lower()
    if kind not in (".png", ".gif"):
        raise ShapeError(f"{out}: pictures are written as .png or .gif")
    world = WorldModel.load(model, device)
    recorded = EpisodeStore(episode.parent).read(episode)
    windows = windows_of(world, recorded, stride=1)
    if windows is None or start >= len(windows):
        window = world.config.context + world.config.horizon
        raise EpisodeError(f"{episode}: {len(recorded)} frames, {start + window} are needed to start at frame {start}")
    one = windows.only(start)
    future = world.imagine(world.observe(one.seen, one.past), one.plans)
    rows = {
        name: np.rint(255 * rgb[0].float().cpu().permute(0, 2, 3, 1).numpy()).clip(0, 255).astype(np.uint8)
        for name, rgb in (("imagined", future.rgb), ("real", one.rgb))
    }
    headings = [f"+{(step + 1) * recorded.dt:.1f} s" for step in range(len(rows["real"]))]
    if kind == ".gif":
        film(out, rows, headings, recorded.dt)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        montage(rows, headings).save(out)
    Console().print(f"wrote {out}: imagined above, real below, {recorded.dt:g} s a frame")


@app.command()
def info(model: Model) -> None:
    """Show what a checkpoint is: its robot, its shape, its calibration and its card.

    Example: `deepverse info models/arm`
    """
    from rich.markdown import Markdown
    from rich.pretty import Pretty

    config = _config(model)
    console = Console()
    console.print(Pretty(config, expand_all=False))
    card = resources.find(model) / "README.md"
    if card.is_file():
        console.print(Markdown(card.read_text()))


@app.command()
def card(
    model: Model,
    evaluation: Annotated[
        Path | None,
        typer.Option("--json", "--evaluation", help="Written by `deepverse evaluate --json`.", metavar="FILE"),
    ] = None,
    benchmark: Annotated[
        Path | None, typer.Option(help="Written by `deepverse benchmark --json`.", metavar="FILE")
    ] = None,
) -> None:
    """Write a checkpoint's model card from measured figures.

    Example: `deepverse card models/arm --json evaluation.json --benchmark benchmark.json`
    """
    from deepverse_ros.evaluation import model_card, report

    config = _config(model)
    figures = [report.read_json(path) if path else None for path in (evaluation, benchmark)]
    for path, measured in zip((evaluation, benchmark), figures, strict=True):
        if measured is not None and measured.get("model_sha256") != config["weights_sha256"]:
            raise CheckpointError(f"{path}: measured on other weights than those of {model}; measure again")
    path = model_card.write(resources.find(model), config, *figures)
    Console().print(f"wrote {path}")


def _config(model: str) -> dict[str, Any]:
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


def _progress() -> "Progress":
    """A progress bar on stderr, so that stdout holds results only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


if __name__ == "__main__":
    main()
