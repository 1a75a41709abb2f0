"""Commands that show a model, imagine, info, checksum and card, and what a prefilter did, prefilter-metrics."""

from pathlib import Path
from typing import Annotated

import typer

from deepverse_ros import files
from deepverse_ros.cli.common import Device, Json, Model, results
from deepverse_ros.errors import CheckpointError, EpisodeError, ShapeError

_RING = 0.03
"""Metres: radius of a ring around a thing."""


def imagine(
    model: Model,
    episode: Annotated[Path, typer.Argument(help="Episode file of a store.", metavar="EPISODE")],
    out: Annotated[Path, typer.Option(help="Picture to write: .png strip or .gif film.")],
    start: Annotated[int, typer.Option(min=0, help="First observed frame.")] = 0,
    device: Device = "auto",
) -> None:
    """Draw the imagined future above the real one; rings show where a model of things imagines each of them.

    Example: `deepverse imagine models/arm data_cache/arm/episode_000007.h5 --out imagined.png`
    """
    import numpy as np
    import torch

    from deepverse_ros import geometry
    from deepverse_ros.data.store import EpisodeStore
    from deepverse_ros.evaluation.prediction.evaluate import windows_of
    from deepverse_ros.evaluation.reporting.film import film, montage, ringed
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
    things = future.things
    if things is not None and future.intrinsics is not None and future.camera_to_world is not None:
        poses = future.camera_to_world[0].cpu()
        pixels, depth = geometry.project(things.position[0].cpu(), future.intrinsics.cpu(), poses)
        pixels[things.there[0].cpu() < 0.5] = torch.nan
        radii = _RING * float(future.intrinsics[0, 0]) / depth
        rows = {name: ringed(frames, pixels.numpy(), radii.numpy()) for name, frames in rows.items()}
    headings = [f"+{(step + 1) * recorded.dt:.1f} s" for step in range(len(rows["real"]))]
    if kind == ".gif":
        film(out, rows, headings, recorded.dt)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        montage(rows, headings).save(out)
    results().print(f"wrote {out}: imagined above, real below, {recorded.dt:g} s a frame")


def info(model: Model) -> None:
    """Show what a checkpoint is: its robot, its shape, its calibration and its card.

    Example: `deepverse info models/arm`
    """
    from rich.markdown import Markdown
    from rich.pretty import Pretty

    from deepverse_ros.model import checkpoint

    folder, config = checkpoint.read_config(model)
    console = results()
    console.print(f"{folder}:", highlight=False, soft_wrap=True)
    console.print(Pretty(config, expand_all=False))
    card = folder / "README.md"
    if card.exists():
        console.print(Markdown(files.read_text(card)))


def checksum(model: Model) -> None:
    """Write the checksum of a checkpoint's config.json, which is old and has none, or was edited on purpose.

    Its fields are checked first, and so is that it belongs to the weights.

    Example: `deepverse checksum runs/arm/checkpoint`
    """
    from deepverse_ros.model import checkpoint

    results().print(f"wrote {checkpoint.seal(model)}", soft_wrap=True)


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
    from deepverse_ros.evaluation.reporting import model_card, report
    from deepverse_ros.model import checkpoint

    folder, config = checkpoint.read_config(model)
    figures = [report.read_json(path) if path else None for path in (evaluation, benchmark)]
    for path, measured in zip((evaluation, benchmark), figures, strict=True):
        if measured is not None and measured.get("model_sha256") != config["weights_sha256"]:
            raise CheckpointError(f"{path}: measured on other weights than those of {model}; measure again")
    try:
        path = model_card.write(folder, config, *figures)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        given = " and ".join(str(p) for p in (evaluation, benchmark) if p)
        raise CheckpointError(f"{given}: not what deepverse writes as JSON: {type(error).__name__}: {error}") from error
    results().print(f"wrote {path}")


def prefilter_metrics(
    bag: Annotated[Path, typer.Argument(help="Folder of a ROS 2 bag, MCAP or SQLite.", metavar="BAG")],
    *,
    commands: Annotated[str, typer.Option(help="Topic of the commands.")] = "/prefilter/command_in",
    status: Annotated[str, typer.Option(help="Topic of the prefilter's status.")] = "/prefilter/status",
    verdicts: Annotated[str, typer.Option(help="Topic of the verdicts.")] = "/world_model/command_verdict",
    json: Json = None,
) -> None:
    """Say when the prefilter stopped the robot in a recording, or would have while monitoring, and how well.

    Record it with `ros2 bag record /prefilter/command_in /prefilter/status /world_model/command_verdict`.

    Example: `deepverse prefilter-metrics rosbag2_2026_01_31-12_00_00 --json stops.json`
    """
    from deepverse_ros.evaluation.prefilter import bag as prefilter_bag
    from deepverse_ros.evaluation.reporting import report

    found = prefilter_bag.report(bag, commands, status, verdicts)
    for table in report.stop_tables(found):
        results().print(table)
    if json:
        report.write_json(json, report.stop_figures(found))
