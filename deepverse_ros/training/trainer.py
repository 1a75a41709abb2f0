"""A whole training run: episodes, codec, dynamics, readout, novelty, calibration, checkpoint."""

import json
import platform
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.data.synthetic import collect
from deepverse_ros.model.device import resolve_device
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.verdict import conformal_quantile
from deepverse_ros.training.codec_stage import CodecStage
from deepverse_ros.training.config import TrainingConfig
from deepverse_ros.training.curves import draw_curves, draw_samples
from deepverse_ros.training.dataset import Episodes, window_actions
from deepverse_ros.training.dynamics_stage import DynamicsStage, encode_episodes
from deepverse_ros.training.loop import run_stage
from deepverse_ros.training.novelty_fit import novelty_features
from deepverse_ros.training.readout_stage import ReadoutStage


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

    episodes = _episodes(config, console)
    training, held_out = episodes.split(config.data.validation)
    console.print(f"{len(training)} training and {len(held_out)} validation episodes, {episodes.skipped} skipped")
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
        examples = reporter("readout examples")
        readout = ReadoutStage(model, config.readout, *pairs, seed=config.seed + 2, progress=examples)
        run_stage(readout, config.readout, config.seed + 2, out, config.save_every, console, reporter("readout"))

    model.novelty.cpu().fit(novelty_features(model, training), novelty_features(model, held_out))
    model.provenance = {
        "episodes": len(training),
        "frames": len(training) * episodes.length,
        "data_seed": config.data.seed,
        "codec_steps": config.codec.steps,
        "dynamics_steps": config.dynamics.steps,
        "readout_steps": config.readout.steps,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {where.type}, torch {torch.__version__}",
    }
    checkpoint = out / "checkpoint"
    model.save(checkpoint)
    calibrate(checkpoint, held_out, config.level, device)
    draw_curves(out)
    draw_samples(WorldModel.load(checkpoint, device), held_out, out / "samples.png")
    console.print(f"checkpoint: {checkpoint}")
    return checkpoint


def calibrate(checkpoint: Path, held_out: Episodes, level: float, device: str = "auto") -> dict[str, object]:
    """Bound the imagined outcome's error per step by split conformal prediction, and write it into the checkpoint.

    tool_error_q bounds the distance in metres from the imagined to the true tool position. goal_error_z bounds the
    distance from the imagined tool to where a picture of the true outcome shows it, in multiples of the predicted
    spread: what a verdict adds when it compares an imagined outcome with a goal picture. Episodes, not windows, are
    exchangeable: of every held-out episode one window is taken.
    """
    model = WorldModel.load(checkpoint, device)
    quantiles = {
        name: [float(conformal_quantile(errors[:, t], level)) for t in range(errors.shape[1])]
        for name, errors in imagined_errors(model, held_out).items()
    }
    model.calibration = {"level": level, **quantiles, "windows": len(held_out)}
    # The file itself, not model.save: the weights in memory are in the inference format.
    path = checkpoint / "config.json"
    values = json.loads(path.read_text()) | {"calibration": model.calibration}
    path.write_text(json.dumps(values, indent=2) + "\n")
    return model.calibration


def imagined_errors(model: WorldModel, episodes: Episodes, seed: int = 0) -> dict[str, np.ndarray]:
    """Errors (E, H) as described in `calibrate`, by the names there; one random window an episode."""
    c = model.config
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, episodes.length - c.window + 1, len(episodes))
    tool_errors, goal_errors = [], []
    for e, start in enumerate(starts):
        index, begin = np.array([e]), np.array([start])
        actions = window_actions(episodes, index, begin, c.window, c.context)
        seen = slice(start, start + c.context)
        depth = episodes.depth[e, seen].astype(np.float32) / 1000
        observation = Observation.from_numpy(episodes.rgb[e, seen], np.where(depth > 0, depth, np.nan))
        future = model.imagine(model.observe(observation, actions[:, : c.context - 1]), actions[:, c.context - 1 :])
        imagined = future.readout["tool_position"][0].cpu().numpy()
        outcome = range(start + c.context, start + c.window)
        shown = [model.encode_goal(episodes.rgb[e, t]) for t in outcome]
        tool_errors.append(np.linalg.norm(imagined - episodes.tool[e, outcome].numpy(), axis=-1))
        gap = np.linalg.norm(imagined - np.stack([goal.tool_position for goal in shown]), axis=-1)
        spread = np.hypot(future.uncertainty[0].cpu().numpy(), [goal.tool_std for goal in shown])
        goal_errors.append(gap / spread)
    return {"tool_error_q": np.stack(tool_errors), "goal_error_z": np.stack(goal_errors)}


def _episodes(config: TrainingConfig, console: Console) -> Episodes:
    data, shape = config.data, config.model_config_()
    if data.episodes:
        with _progress(console) as bars:
            task = bars.add_task("collect", total=data.episodes, text="")
            collect(
                shape.embodiment, data.episodes, data.seed, data.directory, workers=data.workers, frames=data.frames,
                size=(config.width, config.height),
                progress=lambda done, total: bars.update(task, completed=done, total=total),
            )  # fmt: skip
    return Episodes.load(EpisodeStore(data.directory), shape.embodiment, (config.height, config.width), data.frames)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    return Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=console,
        refresh_per_second=2,
    )  # fmt: skip
