"""A whole training run: episodes, codec, dynamics, readouts, novelty, calibration, checkpoint."""

import platform
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.data.synthetic import collect
from deepverse_ros.embodiment import Embodiment
from deepverse_ros.model.device import resolve_device
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.calibration import calibrate, executed_errors
from deepverse_ros.training.codec_stage import CodecStage
from deepverse_ros.training.config import DataConfig, TrainingConfig
from deepverse_ros.training.curves import draw_curves, draw_samples
from deepverse_ros.training.dataset import Episodes
from deepverse_ros.training.dynamics_stage import DynamicsStage, encode_episodes
from deepverse_ros.training.loop import run_stage
from deepverse_ros.training.novelty_fit import novelty_features
from deepverse_ros.training.outcome_stage import OutcomeStage
from deepverse_ros.training.picture_stage import PictureStage


def train(
    config: TrainingConfig, out: Path, resume: bool = False, device: str = "auto", console: Console | None = None
) -> Path:
    """Train a world model from nothing to a calibrated checkpoint.

    Args: out: run folder: states, CSV logs, curves, sample pictures and `checkpoint/`; resume: go on where the last run
    in `out` stopped. On a CPU, a resumed run ends with the same weights as one that was never stopped.
    Returns: the checkpoint's folder.
    Raises: FileExistsError if `out` holds a run and `resume` is False; loop.Interrupted after Ctrl-C.
    """
    console = console or Console()
    if any(out.glob("*.state.safetensors")) and not resume:
        raise FileExistsError(f"{out} holds a run; give --resume to go on with it, or another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / "training.json").write_text(config.model_dump_json(indent=2) + "\n")
    where, shape = resolve_device(device), config.model_config_()
    torch.manual_seed(config.seed)
    model = WorldModel(shape).to(where)

    training, held_out = _episodes(config, config.data, console)
    scenes = _episodes(config, config.scenes, console) if config.scenes else (training, held_out)
    with _progress(console) as bars:

        def reporter(name: str):  # type: ignore[no-untyped-def]
            task = bars.add_task(name, total=None, text="")
            return lambda done, total, text: bars.update(task, completed=done, total=total, text=text)

        codec = CodecStage(model.codec, config.codec, training, held_out, shape.context, shape.horizon, where)
        run_stage(codec, config.codec, config.seed, out, config.save_every, console, reporter("codec"))
        model.codec.requires_grad_(False).eval()
        latents = encode_episodes(model, training, reporter("latents"))
        dynamics = DynamicsStage(model, config.dynamics, training, latents, held_out)
        run_stage(dynamics, config.dynamics, config.seed + 1, out, config.save_every, console, reporter("dynamics"))
        model.dynamics.requires_grad_(False).eval()
        pairs = (training, latents), (held_out, encode_episodes(model, held_out, reporter("validation latents")))
        outcome = OutcomeStage(model, config.outcome, *pairs, seed=config.seed + 2)
        run_stage(outcome, config.outcome, config.seed + 2, out, config.save_every, console, reporter("outcome"))
        picture = PictureStage(model.picture_readout, config.picture, *scenes, where)
        run_stage(picture, config.picture, config.seed + 3, out, config.save_every, console, reporter("picture"))

    model.novelty.cpu().fit(novelty_features(model, scenes[0]), novelty_features(model, scenes[1]))
    model.provenance = {
        "episodes": len(training),
        "frames": len(training) * training.length,
        "scenes_of_the_picture_readout": len(scenes[0]),
        "data_seed": config.data.seed,
        "codec_steps": config.codec.steps,
        "dynamics_steps": config.dynamics.steps,
        "outcome_steps": config.outcome.steps,
        "picture_steps": config.picture.steps,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {where.type}, torch {torch.__version__}",
    }
    checkpoint = out / "checkpoint"
    model.save(checkpoint)
    executed = None
    if config.calibration_plans:
        with _progress(console) as bars:
            task = bars.add_task("calibration plans", total=None, text="")
            executed = executed_errors(
                WorldModel.load(checkpoint, device), config.calibration_plans,
                lambda done, total: bars.update(task, completed=done, total=total),
            )  # fmt: skip
    calibrate(checkpoint, config.level, held_out, executed, device)
    draw_curves(out)
    draw_samples(WorldModel.load(checkpoint, device), held_out, out / "samples.png")
    console.print(f"checkpoint: {checkpoint}")
    return checkpoint


def _episodes(config: TrainingConfig, data: DataConfig, console: Console) -> tuple[Episodes, Episodes]:
    """Training and validation episodes; what is missing is collected first."""
    embodiment = Embodiment.load(config.embodiment)
    if data.episodes:
        with _progress(console) as bars:
            task = bars.add_task("collect", total=data.episodes, text="")
            collect(
                embodiment, data.episodes, data.seed, data.directory, workers=data.workers, frames=data.frames,
                size=(config.width, config.height),
                progress=lambda done, total: bars.update(task, completed=done, total=total),
            )  # fmt: skip
    size = config.height, config.width
    episodes = Episodes.load(EpisodeStore(data.directory), embodiment, size, data.frames)
    training, held_out = episodes.split(data.validation)
    console.print(
        f"{data.directory}: {len(training)} training and {len(held_out)} validation episodes, "
        f"{episodes.skipped} skipped"
    )
    return training, held_out


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    return Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=console,
        refresh_per_second=2,
    )  # fmt: skip
