"""How well a world model predicts episodes that it has not seen, next to what a trivial predictor would get.

Every window shows the model `context` frames and asks for the next `horizon`, given the actions that were really
taken. Baselines: `persistence` repeats the last seen frame; `shuffled` gives the model the actions of a window of
another episode; `codec` encodes and decodes the true future, the most that any dynamics could reach.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.data.collect import collect
from deepverse_ros.data.store import Episode, EpisodeStore
from deepverse_ros.errors import EmbodimentError, EpisodeError, ShapeError
from deepverse_ros.evaluation.prediction import metrics, moving_world, registry, uncertainty
from deepverse_ros.evaluation.prediction.drawing import drawn_windows, starts, thing_poses, thing_positions
from deepverse_ros.evaluation.prediction.lpips import Lpips
from deepverse_ros.evaluation.prediction.metrics import gap_closed
from deepverse_ros.evaluation.prediction.moving_world import MovingWorld
from deepverse_ros.evaluation.prediction.registry import Metric, Predicted
from deepverse_ros.evaluation.prediction.windows import Windows
from deepverse_ros.model.inputs import MAX_HORIZON, codec_frames
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.things.moved import MovedPictures
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.batches.moved import true_motion, truly_moved

EVALUATION_SEEDS = 10_000_000
"""Episodes simulated for evaluation are collected with seeds from here on; training stays below 1,000,000."""

GAP = ("persistence", "model", "codec")

DEFINITIONS = {  # of what is no metric in `registry`
    "margin_db": "psnr of the model less that of the baseline",
    "n_windows": "windows that were scored; n_episodes: episodes that they are from, of the seeds episode_seeds",
    "gap_closed": "(mse of persistence - mse of model) / (mse of persistence - mse of codec): the share that the model "
    "covers of the way from repeating the last frame to the best that its codec can show; null where there is no way",
    "tool_position_error_m": "distance between the tool position that the model reads from its imagined frame and the "
    "action that leads to it, and the true one; from_pictures: read from the imagined picture alone, by the picture "
    "readout, which was trained on true frames (and to which the decoder learned to look right); by_reader: the same "
    "by the picture readout of the checkpoint given with --reader; by_reader_true: by that from the true future "
    "picture, which is what reading costs by itself; persistence: the tool stays where it was in the last seen frame; "
    "median: over windows, the others are means",
    "coverage": "share of windows whose tool position error is within the checkpoint's calibrated bound; only for the "
    "steps that have one",
    **uncertainty.DEFINITIONS,
    **moving_world.DEFINITIONS,
    "persistence": "the last seen frame, repeated",
    "shuffled": "the model, given the actions of a window of another episode",
    "codec": "the true future frame, encoded and decoded with the same context, the joints as they were measured and "
    "the things where they truly went",
}


def windows_of(
    model: WorldModel, episode: Episode, stride: int, horizon: int | None = None, first: np.ndarray | None = None
) -> Windows | None:
    """Cut an episode into windows; None if there is none.

    Args:
        stride: frames between two windows.
        horizon: H, the model's own if not given.
        first: (B,) the first frame of each window, in place of one every `stride`.
    Raises: EmbodimentError if it shows another robot, or one at another rate.
    """
    robot = model.embodiment
    if episode.embodiment != robot.name:
        raise EmbodimentError(f"the episodes show '{episode.embodiment}', the model was trained for '{robot.name}'")
    if not np.isclose(episode.dt, robot.dt):
        raise EmbodimentError(f"the episodes have a frame every {episode.dt} s, the model one every {robot.dt} s")
    context, horizon = model.config.context, horizon or model.config.horizon
    first = starts(len(episode.rgb), context + horizon, stride) if first is None else first
    if not first.size:
        return None
    frames = first[:, None] + np.arange(context + horizon)
    depth = np.where(episode.depth > 0, episode.depth / np.float32(1000), np.float32(np.nan))
    whole = Observation.from_numpy(
        episode.rgb[frames], depth[frames], episode.intrinsics, episode.camera_to_world[0]
    ).fitted(model.config.height, model.config.width)
    assert whole.depth is not None
    done, measured = (
        np.concatenate([episode.state[m.name] for m in modalities], axis=-1)
        for modalities in (robot.modalities, robot.measured)
    )
    return Windows(
        seen=Observation(whole.rgb[:, :context], whole.depth[:, :context], whole.intrinsics, whole.camera_to_world),
        rgb=whole.rgb[:, context:],
        depth=whole.depth[:, context:],
        past=done[frames[:, 1:context]],
        plans=episode.actions[frames[:, context - 1 : -1]],
        tool=episode.state["tool_position"][frames[:, context - 1 :]],
        states=measured[frames[:, context:]],
        **_told_by_simulator(episode, frames, whole, context),
    )


def _told_by_simulator(episode: Episode, frames: np.ndarray, fitted: Observation, context: int) -> dict[str, Any]:
    """Those fields of `Windows` that only a simulator tells, as far as an episode has them.

    Args: frames (B, C+H); fitted: what they show, at the model's resolution.
    """
    told: dict[str, Any] = {}
    things, state = thing_positions(episode), episode.state
    if things is not None:
        told["things"] = things[frames[:, context - 1 :]]
        if "object_touched" in state:
            told["touched"] = state["object_touched"][frames[:, context:], : things.shape[1]] > 0
    if (poses := thing_poses(episode)) is not None:
        told["poses"] = poses[frames[:, context - 1 :]]
    if "base_position" in state:
        told["base"] = state["base_position"][frames[:, context - 1]]
    if episode.segmentation is not None:
        labels = torch.from_numpy(episode.segmentation[frames]).float()
        # As depth is: nearest, so that no label is a mean of two.
        resampled = Observation(labels[:, :, None].expand(-1, -1, 3, -1, -1), labels).fitted(*fitted.rgb.shape[-2:])
        assert resampled.depth is not None
        told["segmentation_seen"], told["segmentation"] = resampled.depth.to(torch.uint8).split(
            [context, labels.shape[1] - context], 1
        )
    return told


def simulated_episodes(
    model: WorldModel,
    out: Path,
    count: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    horizon: int | None = None,
) -> EpisodeStore:
    """Simulate `count` episodes for evaluation into `out`, as large as the model's frames.

    Args:
        seed: 0 and up; the same seed gives the same episodes.
        progress(done, of): called after each episode.
        horizon: the episodes are long enough for four windows of it (4 frames apart); the model's own if not given.
    """
    size = (model.config.width, model.config.height)
    frames = max(24, model.config.context + (horizon or model.config.horizon) + 12)
    return collect(
        model.embodiment, count, EVALUATION_SEEDS + seed, out, workers=os.cpu_count() or 1, frames=frames, size=size,
        progress=progress,
    )  # fmt: skip


def evaluate(
    model: WorldModel,
    episodes: Sequence[Episode] | EpisodeStore,
    seed: int = 0,
    stride: int = 4,
    on_episode: Callable[[int, int], None] | None = None,
    horizon: int | None = None,
    lpips: Lpips | None = None,
    reader: WorldModel | None = None,
) -> dict[str, Any]:
    """Score a model on episodes; figures are lists with one value per step, as their definitions say.

    Args:
        episodes: a sequence, or a store; iterated twice.
        seed: of the shuffled baseline and of the halves on which the spread's scale is fitted and tested.
        stride: frames between two windows of an episode.
        on_episode(done, of): called after each episode.
        horizon: imagined steps, 1 to 32, the model's own if not given.
        lpips: None leaves what needs it out.
        reader: a model of the same robot and picture size, trained apart from this one, whose picture readout also
            reads where the tool is.
    Raises: EpisodeError if there is nothing to score; ShapeError if there are too few episodes to shuffle actions, for
    another horizon, or a reader of other pictures; EmbodimentError if the reader is of another robot.
    """
    began = time.monotonic()
    horizon = model.config.horizon if horizon is None else horizon
    if not 1 <= horizon <= MAX_HORIZON:
        raise ShapeError(f"horizon: expected 1 to {MAX_HORIZON} steps, got {horizon}")
    check_reader(model, reader)
    drawn = drawn_windows(episodes, model.config.context, horizon, stride, seed)
    count = [len(first) for first in drawn.first]
    if not sum(count):
        raise EpisodeError(
            f"nothing to evaluate: none of {len(count)} episodes is as long as a window of "
            f"{model.config.context + horizon} frames"
        )
    of_episode = np.repeat(np.arange(len(count)), count)
    order = metrics.derangement(of_episode, seed)
    shuffled = np.split(np.concatenate(drawn.plans)[order], np.cumsum(count)[:-1])

    measured = {metric.path(): metric.make(lpips) for metric in registry.METRICS}
    scores: dict[tuple[str, ...], list[np.ndarray]] = defaultdict(list)
    seeds = []
    moving = MovingWorld(model, horizon)
    for number, (episode, first, others) in enumerate(zip(episodes, drawn.first, shuffled, strict=True)):
        windows = windows_of(model, episode, stride, horizon, first)
        if windows is not None:
            seeds.append(episode.seed)
            for name, value in _scores(model, windows, episode, others, measured, reader, moving):
                scores[name].append(value)
        if on_episode is not None:
            on_episode(number + 1, len(count))
    moving.close()

    result: dict[str, Any] = {
        "n_windows": sum(count),
        "n_episodes": len(seeds),
        "episode_seeds": seeds,
        "shuffle_seed": seed,
        "stride": stride,
        "context": model.config.context,
        "horizon": horizon,
        "height": model.config.height,
        "width": model.config.width,
        "dt": model.embodiment.dt,
        "moving": drawn.moving,
        **moving.figures(),
    }
    for path, metric in measured.items():
        _store(result, path, None if metric is None else {})
    for name, parts in scores.items():
        _store(result, name, _mean(np.concatenate(parts)))
    result["gap_closed"] = [gap_closed(*step) for step in zip(*(result["mse"][n] for n in GAP), strict=True)]
    for name in ("from_pictures", *(("by_reader", "by_reader_true") if reader else ())):
        read = np.concatenate(scores["tool_position_error_m", name])
        result["tool_position_error_m"][f"{name}_median"] = np.median(read, axis=0).tolist()
    errors = np.concatenate(scores["tool_position_error_m", "mean"])
    spread = np.concatenate(scores["uncertainty", "spread_m"])
    result["uncertainty"] |= uncertainty.ranking(errors, spread)
    result["reliability"] = uncertainty.reliability(errors, spread, of_episode, seed)
    result["tool_position_error_m"]["median"] = np.median(errors, axis=0).tolist()
    result["coverage"] = coverage(errors, model.calibration)
    result["margin_db"] = {
        name: np.subtract(result["psnr"]["model"], result["psnr"][name]).tolist()
        for name in ("persistence", "shuffled")
    }
    result["definitions"] = registry.definitions() | DEFINITIONS
    result["seconds"] = time.monotonic() - began
    return result


def check_reader(model: WorldModel, reader: WorldModel | None) -> None:
    """Raises: EmbodimentError if `reader` is of another robot than `model`; ShapeError if it reads other pictures."""
    if reader is None:
        return
    if reader.embodiment.name != model.embodiment.name:
        raise EmbodimentError(f"reader: it knows '{reader.embodiment.name}', the model '{model.embodiment.name}'")
    theirs, ours = ((m.config.width, m.config.height) for m in (reader, model))
    if theirs != ours:
        raise ShapeError("reader: it reads pictures of {}x{} pixels, the model shows {}x{}".format(*theirs, *ours))


def coverage(errors: np.ndarray, calibration: dict[str, Any] | None) -> dict[str, Any] | None:
    """Share of tool errors (N, H) within the calibrated bound of their step; None where none was calibrated."""
    if calibration is None or calibration.get("tool_error_q") is None:
        return None
    bound = np.asarray(calibration["tool_error_q"], float)
    steps = min(len(bound), errors.shape[1])
    within = (errors[:, :steps] <= bound[:steps]).mean(axis=0)
    return {"level": calibration["level"], "per_step": within.tolist(), "bound_m": bound[:steps].tolist()}


def _scores(
    model: WorldModel,
    windows: Windows,
    episode: Episode,
    others: np.ndarray,
    measured: Mapping[tuple[str, ...], Metric | None],
    reader: WorldModel | None,
    moving: MovingWorld,
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Every figure of some windows of an episode that has one value a window and step, (B, H); the rest is added.

    Args:
        others: (B, H, A) actions of other episodes.
        measured: the metrics, by where their figures stand.
        moving: gathers the figures of what moves.
    """
    belief = model.observe(windows.seen, windows.past)
    true = model.imagine(belief, windows.plans)
    states = torch.from_numpy(windows.states).float()
    codec = model.reconstruct(belief, windows.rgb, windows.depth, states, _truly_moved(model, windows))
    shuffled = model.imagine(belief, others)
    predicted = {
        "model": Predicted(true.rgb.float().cpu(), true.depth.float().cpu()),
        "persistence": Predicted(
            windows.last_rgb[:, None].expand_as(windows.rgb), windows.last_depth[:, None].expand_as(windows.depth)
        ),
        "shuffled": Predicted(shuffled.rgb.float().cpu(), shuffled.depth.float().cpu()),
        "codec": Predicted(codec.rgb.float().cpu(), codec.depth.float().cpu()),
    }
    moving.add(windows, episode, belief, true, predicted)
    for path, metric in measured.items():
        if metric is not None:
            for name, values in metric.scores(predicted, windows):
                yield (*path, name), values.numpy()
    yield ("tool_position_error_m", "mean"), _tool_error(true.readout["tool_position"], windows)
    yield ("tool_position_error_m", "from_pictures"), _tool_error(_read(model, windows, true.rgb, true.depth), windows)
    if reader is not None:
        for name, rgb, depth in (("by_reader", true.rgb, true.depth), ("by_reader_true", windows.rgb, windows.depth)):
            yield ("tool_position_error_m", name), _tool_error(_read(reader, windows, rgb, depth), windows)
    yield ("uncertainty", "spread_m"), true.uncertainty.float().cpu().numpy()
    stays = np.linalg.norm(windows.tool[:, :1] - windows.tool[:, 1:], axis=-1)
    yield ("tool_position_error_m", "persistence_mean"), stays


def _truly_moved(model: WorldModel, windows: Windows) -> MovedPictures | None:
    """Windows' newest frames with their things where they truly went; None where nobody knows."""
    seen, labels, poses = windows.seen, windows.segmentation_seen, windows.poses
    if model.things is None or labels is None or poses is None or seen.intrinsics is None:
        return None
    assert seen.camera_to_world is not None
    camera = model.inputs.camera(seen.intrinsics, seen.camera_to_world.expand(len(windows), 4, 4))
    assert camera is not None
    before, after = torch.from_numpy(poses).to(model.device).split([1, poses.shape[1] - 1], 1)
    return truly_moved(
        model.frames(model.inputs.fitted(seen)), labels.to(model.device), before[:, 0],
        true_motion(before[:, 0], after), camera.intrinsics, camera.camera_to_world, model.embodiment.camera,
    )  # fmt: skip


def _read(model: WorldModel, windows: Windows, rgb: Tensor, depth: Tensor) -> Tensor:
    """Where the picture readout sees the tool, (B, H, 3) metres, in pictures of windows. Args: as in `Windows`."""
    frames = codec_frames(rgb.float(), depth.float(), model.embodiment).to(model.device)
    pose = windows.seen.camera_to_world
    camera = model.inputs.camera(windows.seen.intrinsics, None if pose is None else pose.expand(len(frames), 4, 4))
    every = None if camera is None else camera.repeat(frames.shape[1])
    position, _ = model.picture_readout(frames.flatten(0, 1), every)
    return position.unflatten(0, frames.shape[:2])


def _tool_error(position: Tensor, windows: Windows) -> np.ndarray:
    """(B, H) metres."""
    return np.linalg.norm(position.float().cpu().numpy() - windows.tool[:, 1:], axis=-1)


def _mean(values: np.ndarray) -> list[float | None]:
    """Mean of (N, H) over the windows that have a value; None for a step at which none has."""
    known = np.isfinite(values)
    total, count = np.where(known, values, 0).sum(axis=0, dtype=np.float64), known.sum(axis=0)
    return [float(t / c) if c else None for t, c in zip(total, count, strict=True)]


def _store(result: dict[str, Any], name: tuple[str, ...], value: object) -> None:
    for key in name[:-1]:
        result = result.setdefault(key, {})
    result[name[-1]] = value
