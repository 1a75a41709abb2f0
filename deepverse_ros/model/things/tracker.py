"""Things over the frames of a context: which is which, what hides, and how each moved last."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.model.things.clustering import LEAST_PIXELS, Found, rims
from deepverse_ros.model.things.plate import dilated
from deepverse_ros.model.things.slots import MOST, Slots, nothing
from deepverse_ros.model.things.surface import surface_of

# From one frame to the next a thing moves less, metres.
_REACH = 0.08
# What a difference in size costs: metres of motion per metre of its extent.
_SIZE_COST = 0.5
# A surface is the same one within this, metres along the ray; nearer, something hides it.
_SAME = 0.015
# What is hidden at this share of its pixels may still be there.
_HIDDEN = 0.3
# A camera whose pose differs by less in each entry, metres or the cosine of an angle, has not moved.
_STANDS = 1e-3
# What was found so often stays though once it was not, where its surface still is.
_CONFIRMED = 2
# Pixels that a thing has to have shown which was found but once, and one amid pixels of the robot: fewer are a part of
# the robot that was taken for a thing, and that now is where the robot hides it.
_SHOWN, _AMID = 5 * LEAST_PIXELS, 5 * LEAST_PIXELS // 2
# Share of the pixels around a thing that are the robot's, from which on it is amid them.
_SURROUNDED = 0.45
# Where so many pixels of a thing are not at a rim, those at its rim count that are so near to one of them, metres: the
# others show what is before or behind it.
_SURE, _BESIDE = 8, 0.015
# What is hidden now and was found but once, so near to a thing that is seen, was a part of that, metres.
_PART = 0.05
# In a frame a thing goes no farther than the robot takes it, metres.
_TAKEN = 0.25


@dataclass(frozen=True)
class _Track:
    """One thing up to a frame.

    frame: the newest that shows it; slot: of what was found there; count: frames in which it was found.
    places: where it was found, by frame.
    position (3,), std (), extent (): metres. last (3,): metres since the frame before `frame`, 0 where it was not found
    there.
    """

    frame: int
    slot: int
    count: int
    position: Tensor
    std: Tensor
    extent: Tensor
    last: Tensor
    places: dict[int, Tensor]


@dataclass(frozen=True)
class _Frame:
    """One frame of one belief: points (H, W, 3) metres, NaN unknown; pixels (H, W) as found; robot (H, W) bool."""

    points: Tensor
    pixels: Tensor
    robot: Tensor
    intrinsics: Tensor
    camera_to_world: Tensor

    @cached_property
    def rims(self) -> Tensor:
        """(H, W) bool, see `clustering.rims`."""
        pose = self.camera_to_world
        return rims(((self.points - pose[:3, 3]) @ pose[:3, 2])[None])[0]


def track(
    found: list[Found], points: Tensor, robot: Tensor, intrinsics: Tensor, camera_to_world: Tensor
) -> tuple[Slots, Tensor]:
    """The things of B beliefs at their newest frame, out of what was found in each of T frames.

    Args:
        found: T times of B frames, oldest first, see Found.windows.
        points: (B, T, H, W, 3) metres in the base frame, NaN unknown.
        robot: (B, T, H, W) bool: where the robot is.
        intrinsics: (3, 3) or (B, 3, 3) pixels.
        camera_to_world: (B, T, 4, 4).
    Returns: the things, and (B, T, H, W) uint8 of those that the newest frame does not show: 1 + k where thing k is in
    the frame that showed it last, if that was seen from where the newest is.
    """
    batch, time, height, width = points.shape[:4]
    slots = nothing(batch, height, width, points.device)
    shown = torch.zeros(batch, time, height, width, dtype=torch.uint8, device=points.device)
    intrinsics = intrinsics.to(points).expand(batch, 3, 3)
    for b in range(batch):
        frames = [
            _Frame(points[b, t], found[t].pixels[b], robot[b, t], intrinsics[b], camera_to_world[b, t].to(points))
            for t in range(time)
        ]
        tracks: list[_Track] = []
        for t, there in enumerate(found):
            new = _read(there, b, t, frames[t])
            tracks = _linked(tracks, new, t)
        here, away = [k for k in tracks if k.frame == time - 1], [k for k in tracks if k.frame < time - 1]
        away = [k for k in away if not any(_is_of(k, thing) for thing in here)]
        here += [k for k in away if _still_there(k, frames[k.frame], frames[-1])]
        for k, thing in enumerate(here[:MOST]):
            last = frames[thing.frame]
            _fill(slots, b, k, thing, last, seen=thing.frame == time - 1)
            moved = last.camera_to_world - frames[-1].camera_to_world
            if thing.frame < time - 1 and float(moved.abs().max()) < _STANDS:
                shown[b, thing.frame][last.pixels == thing.slot + 1] = k + 1
    return slots, shown


def _read(found: Found, b: int, frame: int, seen: _Frame) -> list[_Track]:
    """What was found in one frame."""
    things = []
    for k in found.there[b].nonzero()[:, 0].tolist():
        shown = seen.points[(seen.pixels == k + 1)]
        shown = shown[torch.isfinite(shown).all(-1)]
        extent = (shown - shown.mean(0)).norm(dim=-1).mean() if len(shown) else found.std.new_zeros(())
        position = found.position[b, k]
        still, places = torch.zeros_like(position), {frame: position}
        things.append(_Track(frame, k, 1, position, found.std[b, k], extent, still, places))
    return things


def _linked(old: list[_Track], new: list[_Track], frame: int) -> list[_Track]:
    """The tracks with what was found in the next frame: of all pairings the one that costs least."""
    if not old or not new:
        return old + new
    expected = torch.stack([k.position + (k.last if k.frame == frame - 1 else 0) for k in old])
    at, was = torch.stack([k.position for k in new]), torch.stack([k.position for k in old])
    away = torch.minimum(torch.cdist(expected, at), torch.cdist(was, at) + 0.01)
    size = (torch.stack([k.extent for k in old])[:, None] - torch.stack([k.extent for k in new])).abs()
    # A thing that was not found in between may have moved further, but is no likelier for that.
    reach = _REACH * torch.tensor([frame - k.frame for k in old], device=at.device).clamp(max=2)[:, None]
    gain = torch.where(away < reach, (_REACH - away - _SIZE_COST * size).clamp_min(1e-3), 0.0)
    out, taken = [], set()
    for thing, j in zip(old, _assigned(gain.tolist()), strict=True):
        if j is None:
            out.append(thing)
            continue
        taken.add(j)
        moved = new[j].position - thing.position if thing.frame == frame - 1 else torch.zeros_like(thing.position)
        out.append(replace(new[j], count=thing.count + 1, last=moved, places=thing.places | new[j].places))
    return out + [k for j, k in enumerate(new) if j not in taken]


def _assigned(gain: list[list[float]]) -> list[int | None]:
    """For each row a column of its own, or None, so that the sum of gains is largest; only gains > 0 are taken.

    By dynamic programming over the sets of columns: there are at most 8.
    """
    best: dict[int, tuple[float, list[int | None]]] = {0: (0.0, [])}
    for row in gain:
        after: dict[int, tuple[float, list[int | None]]] = {}
        for used, (total, chosen) in best.items():
            for j, value in [(None, 0.0), *enumerate(row)]:
                if j is not None and (value <= 0 or used >> j & 1):
                    continue
                key = used if j is None else used | 1 << j
                if key not in after or after[key][0] < total + value:
                    after[key] = total + value, [*chosen, j]
        best = after
    return max(best.values(), key=lambda entry: entry[0])[1]


def _is_of(missing: _Track, thing: _Track) -> bool:
    """Whether what the newest frame does not show was nothing of its own, but a thing that it does show.

    Either that thing was found first when this no longer was, and may have gone there as the robot goes: nobody could
    link the two. Or this was found but once, beside it: a part of it that was taken for another thing.
    """
    first = min(thing.places)
    if first > missing.frame:
        gone = (thing.places[first] - missing.position).norm()
        return bool(gone < _TAKEN * (first - missing.frame)) and bool(
            (thing.extent - missing.extent).abs() < 0.5 * missing.extent
        )
    beside = thing.places.get(missing.frame)
    return missing.count == 1 and beside is not None and bool((beside - missing.position).norm() < _PART)


def _still_there(thing: _Track, shown: _Frame, newest: _Frame) -> bool:
    """Whether a thing that the newest frame does not show may be hidden there, or was merely missed.

    Args: shown: the newest frame that shows it.
    """
    mine = shown.pixels == thing.slot + 1
    around = dilated(mine, 2) & ~mine
    amid = bool((shown.robot & around).sum() >= _SURROUNDED * around.sum())
    least = _SHOWN if thing.count < _CONFIRMED else _AMID if amid else 0
    if int(mine.sum()) < least:
        return False
    surface = shown.points[mine]
    surface = surface[torch.isfinite(surface).all(-1)]
    pixel, _ = geometry.project(surface, newest.intrinsics, newest.camera_to_world)
    height, width = newest.pixels.shape
    column, row = pixel.nan_to_num(-1.0).round().long().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if not bool(inside.any()):
        return False
    column, row, surface = column[inside], row[inside], surface[inside]
    camera = newest.camera_to_world[:3, 3]
    # How much nearer the newest frame's surface is; NaN where nobody knows.
    nearer = (surface - camera).norm(dim=-1) - (newest.points[row, column] - camera).norm(dim=-1)
    other = newest.pixels[row, column] > 0
    hidden = (nearer > _SAME) | newest.robot[row, column]
    same = (nearer.abs() <= _SAME) & ~hidden & ~other
    if float(hidden.float().mean()) >= _HIDDEN:
        return True
    return thing.count >= _CONFIRMED and float((same | hidden).float().mean()) > 0.5


def _own(mine: Tensor, shown: _Frame) -> Tensor:
    """Those pixels of a thing (H, W) bool that show it, and not what is before or behind its rim."""
    inside, rim = mine & ~shown.rims, mine & shown.rims
    if int(inside.sum()) < _SURE:
        return mine
    away = torch.cdist(shown.points[rim].nan_to_num(torch.inf), shown.points[inside].nan_to_num(torch.inf))
    near = away.nan_to_num(torch.inf).amin(1) < _BESIDE
    return inside.masked_scatter(rim, near)


def _fill(slots: Slots, b: int, k: int, thing: _Track, shown: _Frame, seen: bool) -> None:
    """Write a thing into a slot. Args: shown: the newest frame that shows it, which is the newest of all if `seen`."""
    slots.there[b, k] = True
    slots.seen[b, k] = seen
    slots.position[b, k], slots.std[b, k] = thing.position, thing.std
    mine = shown.pixels == thing.slot + 1
    label = torch.where(_own(mine, shown), k + 1, 0).to(torch.uint8)
    slots.surface[b, k] = surface_of(shown.points[None], label[None], slots.position[b : b + 1])[0, k]
    if seen:
        slots.pixels[b][mine] = k + 1
        slots.last[b, k, :3] = thing.last
