"""Pixels' votes to things: where many votes meet, there is one."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros.model.things.reader import Votes
from deepverse_ros.model.things.slots import MOST

LEAST_PIXELS = 12
"""A thing is at least so many pixels with depth."""
# Of those so many must be inside, not at its rim; and they show a thing with at least this probability, in the mean:
# what stands fast is taken for a thing in patches, and with doubts.
_LEAST_INSIDE, _LEAST_SURE = 4, 0.65
# Neighbours that differ by more, in metres of depth, belong to different surfaces. What a camera measures there is
# a mixture of both, and such pixels agree on a middle beside the thing.
_RIM = 0.025
# Votes are counted in cells of this side, and smoothed by a Gaussian of this deviation, metres.
_CELL, _SMOOTH = 0.007, 0.007
# Two middles are at least this far apart, metres; nearer than _TWO only with a valley between them: fewer votes midway
# than this share of the fewer ones at their ends.
_APART, _TWO, _VALLEY = 0.02, 0.08, 0.6
# A vote this far from a middle may still be for it, metres, and a good many deviations of its own.
_GATHERED, _DEVIATIONS = 0.04, 2.0
# A part of a thing that votes for a middle of its own: nearer to the thing's than this, metres.
_SPLINTER = 0.025
# The spread of a vote that counts half as much as an exact one; the least spread of a middle, metres.
_USUAL_STD, _LEAST_STD = 0.01, 0.002
# Middles that are looked at, cells that are: a thing-less mess has more.
_MOST_MODES, _MOST_CELLS = 24, 1500


@dataclass(frozen=True)
class Found:
    """What is found in N frames, each on its own; slots are filled from the first on, of most pixels first.

    there (N, 8) bool; position (N, 8, 3) metres, base frame, of the middle, 0 where nothing is; std (N, 8) metres;
    pixels (N, H, W) uint8, 1 + k where thing k is.
    """

    there: Tensor
    position: Tensor
    std: Tensor
    pixels: Tensor

    def windows(self, frames: int) -> list["Found"]:
        """Of windows of `frames` frames that follow each other, the first frames, the second ones and so on."""
        tensors = (self.there, self.position, self.std, self.pixels)
        return [Found(*(t.unflatten(0, (-1, frames))[:, i] for t in tensors)) for i in range(frames)]


def find(votes: Votes, depth: Tensor) -> Found:
    """Find the things that pixels vote for. Args: depth (N, H, W) metres along the optical axis, NaN unknown."""
    count, height, width = depth.shape
    there = torch.zeros(count, MOST, dtype=torch.bool, device=depth.device)
    position = depth.new_zeros(count, MOST, 3)
    std = depth.new_zeros(count, MOST)
    pixels = torch.zeros(count, height, width, dtype=torch.uint8, device=depth.device)
    shown = votes.logit > 0
    voting = shown & torch.isfinite(votes.middle).all(-1)
    inside = voting & ~rims(depth)
    for n in range(count):
        where = voting[n].nonzero()
        if len(where) < LEAST_PIXELS:
            continue
        rows, columns = where.unbind(1)
        middle, spread = votes.middle[n, rows, columns], votes.std[n, rows, columns]
        founder = inside[n, rows, columns]
        label = _gather(middle, spread, founder)
        label = _without_splinters(label, middle, spread, founder, where, (height, width))
        label, counts = _largest_first(label, founder, votes.logit[n, rows, columns].sigmoid())
        for k in range(counts):
            mine = (label == k) & founder
            position[n, k], std[n, k] = _middle(middle[mine], spread[mine])
        there[n, :counts] = True
        pixels[n, rows, columns] = (label + 1).to(torch.uint8)
    return Found(there, position, std, _fill(pixels, shown))


def rims(depth: Tensor) -> Tensor:
    """(N, H, W) bool: pixels of which a neighbour is much nearer or farther. Args: depth (N, H, W), NaN unknown."""
    out = torch.zeros_like(depth, dtype=torch.bool)
    down = (depth[:, 1:] - depth[:, :-1]).abs() > _RIM
    across = (depth[:, :, 1:] - depth[:, :, :-1]).abs() > _RIM
    out[:, 1:] |= down
    out[:, :-1] |= down
    out[:, :, 1:] |= across
    out[:, :, :-1] |= across
    return out


def _gather(middle: Tensor, spread: Tensor, founder: Tensor) -> Tensor:
    """Which middle each of M votes is for, (M,) from 0 on, -1 for none.

    Args: middle (M, 3), spread (M,) metres; founder (M,) bool: who may found a thing.
    """
    none = torch.full_like(founder, -1, dtype=torch.long)
    if not bool(founder.any()):
        return none
    modes, kin = _modes(middle[founder], 1 / (1 + (spread[founder] / _USUAL_STD).square()))
    away, nearest = torch.cdist(middle, modes).min(1)
    return torch.where(away < torch.maximum(_DEVIATIONS * spread, spread.new_tensor(_GATHERED)), kin[nearest], none)


def _modes(votes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Where votes (M, 3) of some weight (M,) meet: places (P, 3), and the number (P,) of the thing each is of."""
    cell = (votes / _CELL).floor().long() + 2**15
    key, index = torch.unique((cell[:, 0] << 32) + (cell[:, 1] << 16) + cell[:, 2], return_inverse=True)
    mass = votes.new_zeros(len(key)).index_add_(0, index, weight)
    centre = votes.new_zeros(len(key), 3).index_add_(0, index, weight[:, None] * votes) / mass[:, None]
    mass, kept = mass.topk(min(len(mass), _MOST_CELLS))
    centre = centre[kept]
    away = torch.cdist(centre, centre)
    near = _kernel(away)
    density = near @ mass
    highest = density >= torch.where(away < _APART, density, 0).amax(1)
    density, order = torch.where(highest, density, 0).topk(min(len(mass), _MOST_MODES))
    order = order[density > 0]
    density = density[: len(order)]
    modes = (near[order] * mass) @ centre / density[:, None]
    # Midway between every two of them, at three places.
    share = votes.new_tensor([0.35, 0.5, 0.65])[:, None, None, None]
    midway = (share * modes[:, None] + (1 - share) * modes).flatten(0, -2)
    lowest = (_kernel(torch.cdist(midway, centre)) @ mass).view(3, len(modes), len(modes)).amin(0)
    apart = torch.cdist(modes, modes)
    one = (apart < _APART) | ((apart < _TWO) & (lowest > _VALLEY * torch.minimum(density[:, None], density)))
    kin = list(range(len(modes)))
    for i, row in enumerate(one.tolist()):  # a mode belongs to the highest one that it is one with
        kin[i] = next(kin[j] for j in range(i + 1) if row[j])
    return modes, torch.tensor(kin, device=votes.device)


def _kernel(away: Tensor) -> Tensor:
    return torch.exp(-0.5 * (away / _SMOOTH).square())


def _without_splinters(
    label: Tensor, middle: Tensor, spread: Tensor, founder: Tensor, where: Tensor, size: tuple[int, int]
) -> Tensor:
    """What lies beside or within a larger thing in the picture and has all but its middle belongs to it.

    Args: label, spread, founder (M,); middle (M, 3); where (M, 2) rows and columns in a picture of `size`.
    """
    names, counts = torch.unique(label[(label >= 0) & founder], return_counts=True)
    order = [int(names[i]) for i in counts.argsort(descending=True)]
    middles = {k: _middle(middle[mine := (label == k) & founder], spread[mine])[0] for k in order}
    for i, small in enumerate(order):
        for large in order[:i]:
            if float((middles[small] - middles[large]).norm()) > _SPLINTER:
                continue
            picture = torch.zeros(1, *size, device=label.device)
            rows, columns = where[label == large].unbind(1)
            picture[0, rows, columns] = 1
            grown = F.max_pool2d(picture, 3, 1, 1)[0]
            rows, columns = where[label == small].unbind(1)
            if bool(grown[rows, columns].any()):
                label = torch.where(label == small, large, label)
                break
    return label


def _largest_first(label: Tensor, founder: Tensor, sure: Tensor) -> tuple[Tensor, int]:
    """Labels (M,) numbered by the pixels they have, at most 8 and none too small or unsure; -1 for none; their count.

    Args: label, founder, sure (M,), the last the probability of each pixel to show a thing.
    """
    names, counts = torch.unique(label[label >= 0], return_counts=True)
    out = torch.full_like(label, -1)
    k = 0
    for i in counts.argsort(descending=True).tolist():
        mine = label == names[i]
        enough = int(counts[i]) >= LEAST_PIXELS and int((mine & founder).sum()) >= _LEAST_INSIDE
        if k < MOST and enough and float(sure[mine].mean()) >= _LEAST_SURE:
            out[mine] = k
            k += 1
    return out, k


def _middle(votes: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Median (3,) of the surer half of votes (M, 3), and their spread, metres."""
    usual = spread.median()
    sure = spread <= usual
    return votes[sure].median(0).values, spread[sure].median().clamp_min(_LEAST_STD)


def _fill(pixels: Tensor, shown: Tensor) -> Tensor:
    """Pixels (N, H, W) that show a thing and have no vote that counts are their neighbours'."""
    for _ in range(3):
        grown = F.max_pool2d(pixels.float()[:, None], 3, 1, 1)[:, 0].to(torch.uint8)
        pixels = torch.where(shown & (pixels == 0), grown, pixels)
    return pixels
