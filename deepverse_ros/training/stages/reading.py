"""Training of the reader of things: single frames, of which it is known which pixels show which thing."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros.model.body_rendering import STRIDE
from deepverse_ros.model.body_rendering import draw as draw_body
from deepverse_ros.model.inputs import codec_frames
from deepverse_ros.model.readout import robust_nll
from deepverse_ros.model.things.clustering import LEAST_PIXELS, Found, find
from deepverse_ros.model.things.reader import Reader, Votes, points_of
from deepverse_ros.model.things.slots import MOST
from deepverse_ros.training.batches.changes import Labels, labels_from_change
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.config import ReadingStageConfig
from deepverse_ros.training.engine.curves import picture_rows
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.engine.precision import Precision, autocast

# In a batch, the expected share of frames in which a thing moves, and of those in which one is off what it lay on. Both
# are rare (24 % and 6 % of the arm's) and what has to be imagined next; half covered by a hand, things look otherwise.
_MOVING, _RAISED = 0.25, 0.25
# From one frame to the next a thing that moves goes so far, and a raised one is so high above its lowest; metres.
_MOVES, _RISES = 0.005, 0.03
# In Episodes.segmentation, the first thing's.
_FIRST = 2
# Few pixels are of things; and of what is small or half hidden, such as what the hand holds, so few that each counts
# as much more as it has fewer than that, up to so many times.
_THING_WEIGHT, _PIXELS, _MOST_WEIGHT = 2.0, 60, 6.0
# Errors of votes are counted in this unit, metres.
_UNIT = 0.02
# A thing is found within so many metres.
_FOUND = 0.03
# Frames of an episode that are validated, and how many are read at a time; neighbouring frames look alike.
_VALIDATED, _AT_A_TIME = 3, 32
# Other frames that say what changed.
_OTHERS = 4
# Of things in pictures for people.
_COLOURS = torch.tensor(
    [
        *([230, 60, 50], [60, 180, 75], [65, 105, 225], [255, 200, 30]),
        *([200, 60, 200], [70, 210, 210], [245, 130, 48], [250, 190, 212]),
    ]
)


class _Seen(NamedTuple):
    """Frames: rgb (B, 3, H, W) in [0, 1]; depth (B, H, W) metres, NaN unknown; drawn (B, 4, H/2, W/2) the robot."""

    rgb: Tensor
    depth: Tensor
    drawn: Tensor


class ReadingStage:
    """Trains the network that tells things from the rest and votes for their middles.

    Of episodes without a segmentation it learns which pixels show a thing by what changes, and no votes.
    """

    name = "reading"

    def __init__(
        self,
        module: Reader,
        config: ReadingStageConfig,
        train: Episodes,
        held_out: Episodes,
        device: torch.device,
        precision: Precision = "auto",
    ) -> None:
        self.module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = config
        self.train = train
        self.held_out = held_out
        self.device = device
        self.precision = precision
        self._moving = self._raised = np.zeros((0, 2), np.int64)
        if train.poses is not None:
            self._moving, self._raised = _telling(train.poses[..., :3])

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        del step
        index, times = self._chosen(draw)
        others = draw.integers(0, self.train.length, self.config.batch, _OTHERS)
        seen = self._spoilt(self._seen(self.train, index, times), draw)
        votes = self._read(self.train, index, times, seen)
        if self.train.segmentation is None or self.train.poses is None:
            pixels = _pixel_loss(votes.logit, self._changed(self.train, index, times, others))
            return {"total": pixels, "pixels": pixels}
        label = torch.from_numpy(self.train.segmentation[index, times]).to(self.device)
        middles = self.train.poses[index, times, :, :3].to(self.device)
        sure = Labels(label >= _FIRST, _small_counts(label))
        losses = {"pixels": _pixel_loss(votes.logit, sure), **_vote_loss(votes, label, middles)}
        return {"total": losses["pixels"] + self.config.vote_weight * losses["votes"], **losses}

    def _chosen(self, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        """Episodes and times of a batch's frames."""
        batch = self.config.batch
        index = draw.integers(0, len(self.train), batch)
        times = draw.integers(0, self.train.length, batch)
        kind, low = draw.uniform(batch).numpy(), 0.0
        for frames, share in ((self._moving, _MOVING), (self._raised, _RAISED)):
            if len(frames):
                chosen = frames[draw.integers(0, len(frames), batch)].T
                index, times = np.where((kind >= low) & (kind < low + share), chosen, (index, times))
            low += share
        return index, times

    def _seen(self, episodes: Episodes, index: np.ndarray, times: np.ndarray) -> _Seen:
        """The frames at (index, times)."""
        rgb = torch.from_numpy(episodes.rgb[index, times]).to(self.device).movedim(-1, -3).float() / 255
        depth = torch.from_numpy(episodes.depth[index, times].astype(np.float32)).to(self.device) / 1000
        return _Seen(rgb, torch.where(depth > 0, depth, torch.nan), self._drawn(episodes, index, times))

    def _drawn(self, episodes: Episodes, index: np.ndarray, times: np.ndarray) -> Tensor:
        states = episodes.states[index, times].to(self.device)
        poses = episodes.camera_to_robot(index, times).to(self.device)
        return draw_body(episodes.embodiment, states, episodes.intrinsics[index], poses, *episodes.rgb.shape[2:4])

    def _spoilt(self, seen: _Seen, draw: Draw) -> _Seen:
        """As a worse camera would see it, to a random degree."""
        c, (height, width) = self.config, seen.depth.shape[1:]

        def random(*shape: int) -> Tensor:
            return draw.uniform(c.batch, *shape).to(self.device)

        rgb = (seen.rgb * (1 + c.brightness * (2 * random(3, 1, 1) - 1))).clamp(0, 1)
        noise = draw.normal(c.batch, height, width).to(self.device)
        depth = seen.depth + c.depth_noise * random(1, 1) * noise
        holes = random(height, width) < c.holes * random(1, 1)
        blind = random(1, 1) < c.depth_dropout
        undrawn = random(1, 1, 1) < c.body_dropout
        return _Seen(rgb, depth.masked_fill(holes | blind, torch.nan), seen.drawn.masked_fill(undrawn, 0.0))

    def _read(self, episodes: Episodes, index: np.ndarray, times: np.ndarray, seen: _Seen) -> Votes:
        points = points_of(seen.depth, episodes.intrinsics[index], episodes.camera_to_world[index, times])
        frames = codec_frames(seen.rgb, seen.depth, episodes.embodiment)
        with autocast(self.device, self.precision):
            return self.module(frames, points, seen.drawn)

    def _changed(self, episodes: Episodes, index: np.ndarray, times: np.ndarray, others: np.ndarray) -> Labels:
        """Labels of frames by other frames of the same episodes. Args: others (B, N) times."""
        when = np.concatenate([times[:, None], others], 1)
        rows = index[:, None].repeat(when.shape[1], 1)
        seen = self._seen(episodes, rows.ravel(), when.ravel())
        rgb, depth, drawn = (t.unflatten(0, when.shape) for t in seen)
        robot = F.interpolate((drawn[:, :, 0] > 0).float(), scale_factor=STRIDE, mode="nearest") > 0
        pose = episodes.camera_to_world[rows, when]
        still = ((pose - pose[:, :1]).abs().flatten(2).amax(-1) < 1e-3).to(self.device)
        return labels_from_change(rgb, depth.masked_fill(~still[:, :, None, None], torch.nan), robot)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """What is found in held-out frames.

        found: share of the things of at least 12 pixels with depth; phantoms: a frame; median_cm: error of the middles
        of what is found; overlap: of the pixels, intersection over union. Without a segmentation only the last one.
        """
        overlap = np.zeros(2)
        scores = _Scores()
        for index, times in self._validated():
            seen = self._seen(self.held_out, index, times)
            votes = self._read(self.held_out, index, times, seen)
            if self.held_out.segmentation is None or self.held_out.poses is None:
                others = np.broadcast_to(
                    np.linspace(0, self.held_out.length - 1, _OTHERS).astype(int), (len(index), _OTHERS)
                )
                thing, weight = self._changed(self.held_out, index, times, others)
                shown = (votes.logit > 0) & (weight == 1)
            else:
                label = torch.from_numpy(self.held_out.segmentation[index, times]).to(self.device)
                thing, shown = label >= _FIRST, votes.logit > 0
                middles = self.held_out.poses[index, times, :, :3]
                scores.add(find(votes, seen.depth), _visible(label, seen.depth).cpu(), middles)
            overlap += int((thing & shown).sum()), int((thing | shown).sum())
        return {**scores.result(), "overlap": float(overlap[0] / max(1, overlap[1]))}

    @torch.inference_mode()
    def sample(self) -> np.ndarray | None:
        """Things as they are, above what is found, of a few held-out frames."""
        if self.held_out.segmentation is None:
            return None
        index, times = next(self._validated())
        index, times = index[: 4 * _VALIDATED], times[: 4 * _VALIDATED]
        seen = self._seen(self.held_out, index, times)
        found = find(self._read(self.held_out, index, times, seen), seen.depth)
        label = torch.from_numpy(self.held_out.segmentation[index, times]).to(self.device)
        true, read = (
            _coloured(seen.rgb, pixels).unflatten(0, (-1, _VALIDATED))
            for pixels in (label.clamp_min(_FIRST - 1) - (_FIRST - 1), found.pixels)
        )
        return picture_rows(true, read)

    def _validated(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Episodes and times of the frames that are validated, some at a time."""
        when = np.linspace(0, self.held_out.length - 1, _VALIDATED).astype(int)
        episodes = max(1, _AT_A_TIME // _VALIDATED)
        for begin in range(0, len(self.held_out), episodes):
            rows = np.arange(begin, min(begin + episodes, len(self.held_out)))
            index, times = np.meshgrid(rows, when, indexing="ij")
            yield index.ravel(), times.ravel()


class _Scores:
    """What was found and what was not, summed up over frames."""

    def __init__(self) -> None:
        self.frames = self.things = self.phantoms = 0
        self.errors: list[float] = []

    def add(self, found: Found, visible: Tensor, middles: Tensor) -> None:
        """Args: visible (N, 8) pixels of each true thing; middles (N, 8, 3) metres, NaN where there is none."""
        self.frames += len(visible)
        counted = (visible >= LEAST_PIXELS) & torch.isfinite(middles).all(-1)
        self.things += int(counted.sum())
        for n in range(len(visible)):
            here = found.position[n, found.there[n]].cpu()
            error = torch.cdist(here, middles[n].nan_to_num(torch.inf)).nan_to_num(torch.inf)
            self.phantoms += len(here)
            while error.numel() and float(error.min()) < _FOUND:
                i, k = divmod(int(error.argmin()), MOST)
                self.phantoms -= 1
                if counted[n, k]:
                    self.errors.append(float(error[i, k]))
                error[i], error[:, k] = torch.inf, torch.inf

    def result(self) -> dict[str, float]:
        if not self.frames:
            return {}
        return {
            "found": len(self.errors) / max(1, self.things),
            "phantoms": self.phantoms / self.frames,
            "median_cm": float(np.median(self.errors)) * 100 if self.errors else float("nan"),
        }


def _telling(places: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Episodes and times (M, 2) of the frames in which a thing moves, and of those in which one is raised.

    Args: places (E, T, 8, 3) metres, NaN where there is no thing.
    """
    steps = (places[:, 1:] - places[:, :-1]).norm(dim=-1).nan_to_num().amax(-1) > _MOVES
    moving = F.pad(steps, (1, 0)) | F.pad(steps, (0, 1))
    height = places[..., 2].nan_to_num()
    raised = (height - height.amin(1, keepdim=True)).amax(-1) > _RISES
    return moving.nonzero().numpy(), raised.nonzero().numpy()


def _pixel_loss(logit: Tensor, labels: Labels) -> Tensor:
    """Cross-entropy of which pixels show a thing."""
    weight = labels.weight * torch.where(labels.thing, _THING_WEIGHT, 1.0)
    loss = F.binary_cross_entropy_with_logits(logit, labels.thing.float(), reduction="none")
    return (loss * weight).sum() / weight.sum().clamp_min(1)


def _small_counts(label: Tensor) -> Tensor:
    """(B, H, W) what each pixel counts: 1 but where a thing shows few. Args: label as in Episodes.segmentation."""
    which = label.long() + torch.arange(len(label), device=label.device)[:, None, None] * 256
    count = torch.bincount(which.flatten(), minlength=256 * len(label))[which]
    return torch.where(label >= _FIRST, (_PIXELS / count).clamp(1.0, _MOST_WEIGHT), 1.0)


def _vote_loss(votes: Votes, label: Tensor, middles: Tensor) -> dict[str, Tensor]:
    """Of the votes of pixels with depth, every thing counting alike however many pixels show it.

    Args: label (B, H, W) as in Episodes.segmentation; middles (B, 8, 3) metres, NaN where there is none.
    """
    thing = label.long() - _FIRST
    b, v, u = ((thing >= 0) & (thing < MOST) & torch.isfinite(votes.middle).all(-1)).nonzero().unbind(1)
    thing = thing[b, v, u]
    error = votes.middle[b, v, u] - middles[b, thing]
    known = torch.isfinite(error).all(-1)
    which, error, std = (b * MOST + thing)[known], error[known], votes.std[b, v, u][known]
    pixels = torch.bincount(which, minlength=len(label) * MOST)
    share = 1 / pixels[which].clamp_min(LEAST_PIXELS)
    total = share.sum().clamp_min(1e-6)
    nll = robust_nll(error / _UNIT, std / _UNIT)
    return {"votes": (nll * share).sum() / total, "vote_m": (error.norm(dim=-1) * share).sum() / total}


def _visible(label: Tensor, depth: Tensor) -> Tensor:
    """(N, 8) pixels with depth of each thing. Args: label as in Episodes.segmentation, depth: (N, H, W)."""
    known = torch.isfinite(depth)
    return torch.stack([((label == _FIRST + k) & known).sum((1, 2)) for k in range(MOST)], 1)


def _coloured(rgb: Tensor, pixels: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) with the things (N, H, W), 1 + k where thing k is, in colours of their own."""
    paint = torch.cat([torch.zeros(1, 3), _COLOURS / 255]).to(rgb)[pixels.long().clamp_max(MOST)].movedim(-1, 1)
    return torch.where((pixels > 0)[:, None], 0.3 * rgb + 0.7 * paint, 0.7 * rgb)
