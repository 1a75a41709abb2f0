"""Does the model notice what it does not know? Its out-of-distribution score on ordinary windows and on strangers.

Strangers are the same windows with corrupted pictures, simulated scenes that training never shows (`scenes.py`), and
what a user's folder holds.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from deepverse_ros import files
from deepverse_ros.data.importers.droid import STATES_PER_FRAME, read_recording
from deepverse_ros.data.store import Episode, EpisodeStore
from deepverse_ros.errors import EpisodeError
from deepverse_ros.evaluation.ood.scenes import OodWindow, Strangers, kinds_of
from deepverse_ros.evaluation.prediction.evaluate import windows_of
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel

_MOST_PIXELS = 100_000_000
"""Of a picture, and bytes of its file."""
MOST = 64
"""Windows of each kind, at most."""
_STRIDE = 4
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

DEFINITIONS = {
    "ood": "of the score that the model gives to what it observes (above 1: out of distribution): auroc, how often a "
    "stranger scores higher than an ordinary window of these episodes (0.5: not told apart), and flagged, the share "
    "above 1; corrupted: these windows with all seen pictures corrupted, depth as it was (upside_down turns it too); "
    "simulated: scenes drawn as in training (ordinary: the control) but seen from elsewhere, in other colours and "
    "light, or with another robot; folder: the pictures or recordings of --ood",
}

Corruption = Callable[[Tensor, torch.Generator], Tensor]


def _noise(rgb: Tensor, generator: torch.Generator) -> Tensor:
    return rgb + 0.1 * torch.randn(rgb.shape, generator=generator)


def _frozen_noise(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """The same in every frame of a window, as of a dirty or broken sensor."""
    return rgb + 0.1 * torch.randn(rgb[:, :1].shape, generator=generator)


def _blur(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian, of a standard deviation of 1/64 of the picture's height."""
    sigma = rgb.shape[-2] / 64
    reach = int(np.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    flat = F.pad(rgb.reshape(-1, 1, *rgb.shape[-2:]), (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(flat, kernel[None, None, :, None]), kernel[None, None, None]).reshape(rgb.shape)


def _patch(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """An opaque rectangle of one random colour, half as wide and half as high as the picture, somewhere in it."""
    height, width = rgb.shape[-2:]
    out = rgb.clone()
    for window in out:
        top, left = (int(torch.randint(0, s - s // 2 + 1, (1,), generator=generator)) for s in (height, width))
        colour = torch.rand(3, 1, 1, generator=generator)
        window[..., top : top + height // 2, left : left + width // 2] = colour
    return out


CORRUPTIONS: dict[str, Corruption] = {
    "noise": _noise,
    "blur": _blur,
    "channels_swapped": lambda rgb, _: rgb.flip(-3),
    "inverted": lambda rgb, _: 1 - rgb,
    "darkened": lambda rgb, _: 0.15 * rgb,
    "patch": _patch,
    "frozen_noise": _frozen_noise,
    "upside_down": lambda rgb, _: rgb.flip(-2),
}
"""What is done to the pictures (B, T, 3, H, W) of some windows."""


def evaluate(
    model: WorldModel,
    episodes: Sequence[Episode] | EpisodeStore,
    seed: int = 0,
    folder: Path | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score ordinary windows and strangers; see `DEFINITIONS`.

    Args:
        episodes: ordinary ones, unseen in training.
        seed: of what is drawn.
        folder: pictures, or DROID recordings (their `annotation` and `videos`).
        on_step(done, of): called as the work goes on.
    Returns: {"limit", "ordinary": {"n", "flagged", "median"}, "corrupted": {name: group}, "simulated": {kind: group} or
    None where the robot has no simulation, "folder": group or None}; a group is {"n", "auroc", "flagged", "median"},
    its median None where the model cannot tell (infinite before its detector is fitted).
    Raises: EpisodeError if no episode is long enough, or the folder holds nothing to look at.
    """
    simulated = kinds_of(model.embodiment)
    total = len(episodes) + len(simulated) + (folder is not None)
    steps = iter(range(1, total + 1))

    def step() -> None:
        if on_step is not None:
            on_step(next(steps), total)

    scores = _corrupted(model, episodes, torch.Generator().manual_seed(seed), step)
    known = scores.pop("")
    out: dict[str, Any] = {
        "limit": 1.0,
        "ordinary": _summary(known),
        "corrupted": {name: separation(known, values) for name, values in scores.items()},
        "simulated": None,
        "folder": None,
    }
    if simulated:
        scores = _simulated(model, min(MOST, len(known)), seed, step)
        out["simulated"] = {kind: separation(known, values) for kind, values in scores.items()}
    if folder is not None:
        seen = [_novelty(model, sight.seen, sight.past) for sight in ood_windows(model, folder)]
        out["folder"] = {"path": str(folder), **separation(known, np.concatenate(seen))}
        step()
    return out


def _corrupted(
    model: WorldModel,
    episodes: Sequence[Episode] | EpisodeStore,
    generator: torch.Generator,
    step: Callable[[], None],
) -> dict[str, np.ndarray]:
    """Scores of up to `MOST` windows with each corruption, and with none under the name ""."""
    per_episode = max(1, MOST // max(1, len(episodes)))
    scores: dict[str, list[np.ndarray]] = {name: [] for name in ("", *CORRUPTIONS)}
    for episode in episodes:
        if len(scores[""]) < MOST:
            for seen, past in _windows(model, episode, per_episode):
                scores[""].append(_novelty(model, seen, past))
                for name in CORRUPTIONS:
                    scores[name].append(_novelty(model, corrupt(seen, name, generator), past))
        step()
    if not scores[""]:
        raise EpisodeError(f"no episode is as long as a window of {model.config.window} frames")
    return {name: np.concatenate(parts) for name, parts in scores.items()}


def _simulated(model: WorldModel, count: int, seed: int, step: Callable[[], None]) -> dict[str, np.ndarray]:
    """Scores of `count` simulated scenes of each kind."""
    c = model.config
    out = {}
    with Strangers(model.embodiment, c.width, c.height) as strangers:
        for kind in strangers.kinds:
            sights = (strangers.sight(kind, seed * MOST + k, c.context) for k in range(count))
            out[kind] = np.concatenate([_novelty(model, sight.seen, sight.past) for sight in sights])
            step()
    return out


def auroc(ordinary: np.ndarray, strangers: np.ndarray) -> float:
    """Probability that a stranger's score is above an ordinary one's, equal ones counting half (Mann-Whitney)."""
    ordered = np.sort(ordinary)
    below, not_above = (np.searchsorted(ordered, strangers, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(ordered)))


def separation(ordinary: np.ndarray, strangers: np.ndarray) -> dict[str, Any]:
    """How well scores (N,) of strangers stand out from ordinary ones."""
    return {"auroc": auroc(ordinary, strangers), **_summary(strangers)}


def corrupt(seen: Observation, name: str, generator: torch.Generator) -> Observation:
    """The same view with its pictures corrupted. Args: name: a key of `CORRUPTIONS`."""
    rgb = CORRUPTIONS[name](seen.rgb, generator).clamp(0, 1)
    depth = seen.depth.flip(-2) if name == "upside_down" and seen.depth is not None else seen.depth
    return Observation(rgb, depth, seen.intrinsics, seen.camera_to_world)


def ood_windows(model: WorldModel, folder: Path) -> Iterator[OodWindow]:
    """What a folder holds: each picture, as if the camera had seen nothing else; or windows of DROID recordings.

    At most `MOST`, evenly chosen. Raises: EpisodeError naming the folder or the file that cannot be used.
    """
    if not folder.is_dir():
        raise EpisodeError(f"{folder}: no such folder of pictures or recordings")
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    recordings = [path for path in found if path.suffix == ".json" and "annotation" in path.parts]
    pictures = [path for path in found if path.suffix.lower() in _PICTURES]
    if not recordings and not pictures:
        kinds = ", ".join(_PICTURES)
        raise EpisodeError(f"{folder}: holds neither pictures ({kinds}) nor DROID recordings (annotation/*/*.json)")
    c = model.config
    still = np.tile(np.asarray(model.embodiment.home, np.float32), (1, c.context - 1, 1))
    for path in _evenly(pictures, MOST):
        rgb = _picture(path)
        yield OodWindow(_fitted(model, np.repeat(rgb[None], c.context, axis=0)), still)
    chosen = _evenly(recordings, MOST)
    for path in chosen:
        recording = read_recording(path)
        measured = np.column_stack([recording.joints, recording.gripper])[::STATES_PER_FRAME]
        starts = range(0, len(recording.rgb) - c.context + 1, c.context)
        for start in _evenly(starts, max(1, MOST // len(chosen))):
            past = measured[None, start + 1 : start + c.context].astype(np.float32)
            known = past.shape == still.shape  # another robot than the arm has other joints
            yield OodWindow(_fitted(model, recording.rgb[start : start + c.context]), past if known else still)


def _picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8. Raises: EpisodeError."""
    files.require_regular(path, _MOST_PIXELS, EpisodeError)
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise EpisodeError(
                    f"{path}: {picture.width}x{picture.height} pixels are more than the {_MOST_PIXELS} read"
                )
            return np.asarray(picture.convert("RGB"))
    except EpisodeError:
        raise
    except Exception as error:  # the decoders of damaged pictures raise what they like, SyntaxError among it
        raise EpisodeError(f"{path}: not a readable picture: {error}") from error


def _windows(model: WorldModel, episode: Episode, count: int) -> Iterator[tuple[Observation, np.ndarray]]:
    """The observed part of up to `count` windows of an episode, evenly spread, in one batch."""
    windows = windows_of(model, episode, _STRIDE)
    if windows is None:
        return
    index = _evenly(range(len(windows)), count)
    seen = windows.seen
    depth = None if seen.depth is None else seen.depth[index]
    yield Observation(seen.rgb[index], depth, seen.intrinsics, seen.camera_to_world), windows.past[index]


def _fitted(model: WorldModel, rgb: np.ndarray) -> Observation:
    return Observation.from_numpy(rgb).fitted(model.config.height, model.config.width)


def _novelty(model: WorldModel, seen: Observation, past: np.ndarray) -> np.ndarray:
    """(B,) one score per window."""
    return model.observe(seen, past).strangeness.float().cpu().numpy()


def _summary(scores: np.ndarray) -> dict[str, Any]:
    median = float(np.median(scores))
    return {"n": len(scores), "flagged": float((scores > 1).mean()), "median": median if np.isfinite(median) else None}


def _evenly(values: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the values, evenly spread."""
    if len(values) <= count:
        return list(values)
    return [values[int(k)] for k in np.linspace(0, len(values) - 1, count).round()]
