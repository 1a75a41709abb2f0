"""A whole training run: episodes, codec, dynamics, readouts, novelty, calibration, checkpoint."""

import platform
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deepverse_ros.data.collect import collect
from deepverse_ros.data.practice import Practice, practise
from deepverse_ros.data.practice import read as read_practice
from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.files import locked, replacing
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.progress import Bars
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.batches.practice import PracticeWindows
from deepverse_ros.training.calibration import avoiding_errors, calibrate, executed_errors
from deepverse_ros.training.config import DataConfig, PracticeConfig, StageConfig, TrainingConfig
from deepverse_ros.training.engine.curves import draw_curves, draw_samples
from deepverse_ros.training.engine.distributed import Processes, joined
from deepverse_ros.training.engine.loop import Stage, run_stage
from deepverse_ros.training.engine.resumption import CONFIG, require_unchanged
from deepverse_ros.training.engine.warm_start import warm_start
from deepverse_ros.training.stages.blocking import BlockingStage, Drives
from deepverse_ros.training.stages.coarse import CoarseStage
from deepverse_ros.training.stages.codec import CodecStage
from deepverse_ros.training.stages.contact import ContactStage
from deepverse_ros.training.stages.decoder import DecoderStage
from deepverse_ros.training.stages.dynamics import DynamicsStage, encode_episodes
from deepverse_ros.training.stages.ood import novelty_features
from deepverse_ros.training.stages.outcome import OutcomeStage
from deepverse_ros.training.stages.picture import PictureStage
from deepverse_ros.training.stages.reading import ReadingStage


def train(
    config: TrainingConfig, out: Path, resume: bool = False, device: str = "auto", console: Console | None = None,
    *, accept_changes: bool = False,
) -> Path:  # fmt: skip
    """Train a world model from nothing, or from `config.init`, to a calibrated checkpoint.

    In a process that torchrun started, together with the others: see distributed.py.

    Args:
        out: run folder: states, CSV logs, curves, sample pictures and `checkpoint/`.
        resume: go on where the last run in `out` stopped, also with another number of processes. On a CPU, a resumed
            run ends with the same weights as one that was never stopped.
        accept_changes: also with another config than the one that the run in `out` began with.
    Returns: the checkpoint's folder.
    Raises: FileExistsError if `out` holds a run and `resume` is False; ConfigError if a batch cannot be shared out to
    the processes, or naming what differs from the config that the run began with; BusyError if another training works
    in `out`; WriteError, such as on a full disk; loop.Interrupted after Ctrl-C; loop.Diverged.
    """
    with joined(device) as processes:
        console = (console or Console()) if processes.first else Console(quiet=True)
        begun = any(out.glob("*.state.safetensors"))
        if begun and not resume:
            raise FileExistsError(f"{out} holds a run; give --resume to go on with it, or another --out")
        if begun and not accept_changes:
            require_unchanged(config, out / CONFIG)
        for name, settings in config.stages().items():
            settings.require_divisible(name, processes.count)
        torch.manual_seed(config.seed)
        model = WorldModel(config.model_config_())
        start = warm_start(model, config.init, console) if config.init else None
        with locked(out, "a training") if processes.first else nullcontext():
            return _train(config, model.to(processes.device), start, out, processes, console)


def _train(
    config: TrainingConfig, model: WorldModel, start: dict[str, Any] | None, out: Path, processes: Processes,
    console: Console,
) -> Path:  # fmt: skip
    """Args: start: what the provenance says about the weights that `model` begins with."""
    where = processes.device
    shape = model.config
    precision = config.precision
    if processes.first:
        with replacing(out / CONFIG) as new:
            new.write_text(config.model_dump_json(indent=2) + "\n")
    console.print(f"logs and sample pictures: {out}/*.csv, {out}/samples_*.png")

    training, held_out = _episodes(config, config.data, processes, console)
    scenes = _episodes(config, config.scenes, processes, console) if config.scenes else (training, held_out)
    with _progress(console) as bars:

        def reporter(name: str):  # type: ignore[no-untyped-def]
            task = bars.add_task(name, total=None, text="")
            return lambda done, total, text: bars.update(task, completed=done, total=total, text=text)

        def run(stage: Stage, settings: StageConfig, seed: int) -> None:
            """Seeds of stages are kept apart."""
            progress = reporter(stage.name)
            run_stage(stage, settings, config.seed + seed, out, config.save_every, console, progress, processes)

        codec = CodecStage(
            model.codec, config.codec, training, held_out, shape.context, shape.horizon, where, precision
        )
        run(codec, config.codec, 0)
        model.codec.requires_grad_(False).eval()
        # Every process makes all latents, which is quick beside the training.
        picture = PictureStage(model.picture_readout, config.picture, *scenes, where, precision)
        run(picture, config.picture, 3)
        model.picture_readout.requires_grad_(False).eval()
        if model.things is not None:
            _train_things(model, config, (training, held_out), run, processes, console)
            model.things.requires_grad_(False).eval()
        blind = config.dynamics.blind_every
        latents = encode_episodes(model, training, reporter("latents"), precision, blind)
        seen = encode_episodes(model, held_out, reporter("validation latents"), precision)
        dynamics = DynamicsStage(model, config.dynamics, latents, seen, config.seed + 1, precision)
        run(dynamics, config.dynamics, 1)
        model.dynamics.requires_grad_(False).eval()
        outcome = OutcomeStage(model, config.outcome, latents, seen, config.seed + 2, precision)
        run(outcome, config.outcome, 2)
        model.outcome_readout.requires_grad_(False).eval()
        if config.decoder:
            model.codec.decoder.requires_grad_(True)
            decoder = DecoderStage(model, config.decoder, latents, seen, precision)
            run(decoder, config.decoder, 5)
            model.codec.requires_grad_(False).eval()
        coarse = CoarseStage(model, config.coarse, latents, seen, config.seed + 4, precision)
        run(coarse, config.coarse, 4)

    checkpoint = out / "checkpoint"
    if processes.first:
        model.provenance = _provenance(config, training, scenes[0], processes)
        if start:
            model.provenance["init"] = start
        _finish(model, config, held_out, scenes, out, checkpoint, console)
    processes.wait()
    return checkpoint


def _train_things(
    model: WorldModel, config: TrainingConfig, episodes: tuple[Episodes, Episodes],
    run: Callable[[Stage, StageConfig, int], None], processes: Processes, console: Console,
) -> None:  # fmt: skip
    """What knows things: the reader from pictures, the others from practice."""
    things, where, precision = model.things, processes.device, config.precision
    assert things is not None
    assert config.practice
    assert config.reading
    assert config.contact
    assert config.blocking
    run(ReadingStage(things.reader, config.reading, *episodes, where, precision), config.reading, 6)
    training, held_out = _practice(config, config.practice, processes, console)
    windows, seen = (PracticeWindows(some, model.embodiment, where) for some in (training, held_out))
    run(ContactStage(things.contact, config.contact, windows, seen), config.contact, 7)
    drives, driven = (Drives.of(some) for some in (training, held_out))
    run(BlockingStage(things.blocking, model.embodiment, config.blocking, drives, driven, where), config.blocking, 8)


def _practice(
    config: TrainingConfig, data: PracticeConfig, processes: Processes, console: Console
) -> tuple[Practice, Practice]:
    """Practice to train on and to validate with; what is missing is practised first, by one process."""
    embodiment = Embodiment.load(config.embodiment)
    if data.episodes and processes.first:
        with _progress(console) as bars:
            task = bars.add_task("practise", total=data.episodes, text="")
            practise(
                embodiment, data.episodes, data.seed, data.directory, data.workers, data.frames,
                lambda done, total: bars.update(task, completed=done, total=total),
            )  # fmt: skip
    processes.wait()
    practice = read_practice(data.directory, embodiment)
    training, held_out = practice.split(data.validation)
    console.print(f"{data.directory}: {len(training)} training and {len(held_out)} validation episodes of practice")
    return training, held_out


def _finish(
    model: WorldModel, config: TrainingConfig, held_out: Episodes, scenes: tuple[Episodes, Episodes], out: Path,
    checkpoint: Path, console: Console,
) -> None:  # fmt: skip
    """What follows the training: novelty, checkpoint, calibration, pictures."""
    device = str(model.device)
    seen, unseen = (novelty_features(model, episodes, config.precision) for episodes in scenes)
    model.novelty.cpu().fit(seen, unseen)
    model.save(checkpoint)
    executed = None
    if config.calibration_plans:
        with _progress(console) as bars:
            task = bars.add_task("calibration plans", total=None, text="")
            ready = WorldModel.load(checkpoint, device)

            def progress(done: int, total: int) -> None:
                bars.update(task, completed=done, total=total)

            executed = executed_errors(ready, config.calibration_plans, progress)
            executed = replace(executed, clearance_m=avoiding_errors(ready, config.calibration_plans, progress))
    calibrate(checkpoint, config.level, held_out, executed, device)
    draw_curves(out)
    draw_samples(WorldModel.load(checkpoint, device), held_out, out / "samples.png")
    console.print(f"checkpoint: {checkpoint}")


def _provenance(config: TrainingConfig, training: Episodes, scenes: Episodes, processes: Processes) -> dict[str, Any]:
    where = processes.device.type
    threads = torch.get_num_threads()
    return {
        "episodes": len(training),
        "frames": len(training) * training.length,
        "scenes_of_the_picture_readout": len(scenes),
        "data_seed": config.data.seed,
        **{f"{name}_steps": settings.steps for name, settings in config.stages().items()},
        "machine": f"{platform.machine()}, {threads} threads, {where}, torch {torch.__version__}",
        "processes": processes.count,
    }


def _episodes(
    config: TrainingConfig, data: DataConfig, processes: Processes, console: Console
) -> tuple[Episodes, Episodes]:
    """Training and validation episodes; what is missing is collected first, by one process."""
    embodiment = Embodiment.load(config.embodiment)
    if data.episodes and processes.first:
        with _progress(console) as bars:
            task = bars.add_task("collect", total=data.episodes, text="")
            collect(
                embodiment, data.episodes, data.seed, data.directory, workers=data.workers, frames=data.frames,
                size=(config.width, config.height), free=data.free,
                progress=lambda done, total: bars.update(task, completed=done, total=total),
            )  # fmt: skip
    processes.wait()
    size = config.height, config.width
    with warnings.catch_warnings():
        if not processes.first:  # one warning for a damaged episode is enough
            warnings.simplefilter("ignore")
        episodes = Episodes.load(EpisodeStore(data.directory), embodiment, size, data.frames)
    training, held_out = episodes.split(data.validation)
    console.print(
        f"{data.directory}: {len(training)} training and {len(held_out)} validation episodes, "
        f"{episodes.skipped} skipped"
    )
    return training, held_out


def _progress(console: Console) -> Bars:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    return Bars(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=console,
        refresh_per_second=2,
    )  # fmt: skip
