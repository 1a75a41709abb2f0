"""The newest frame with its things where they will be: what a decoder may copy instead of imagining it.

Pixels of a thing move with it, as a rigid body, and appear where the camera will see them; where they were, and where
the robot is, the clean plate shows. What a thing hid of itself and shows once it has turned is taken to be like what
it showed, mirrored through its middle, which holds for boxes, cylinders and balls.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.model.things.plate import dilated
from deepverse_ros.model.things.slots import MOST, Motion, Slots

CHANNELS = 7
"""See `draw_moved`."""
_STILL, _STRAIGHT = 2e-3, math.radians(0.5)
# From this turn on a thing shows what it hid.
_SHOWS_MORE = math.radians(20.0)
# Metres by which a thing may be behind what it stands on before that hides it: poses are not exact.
_SUNK = 0.015
# Metres nearer than which a thing would be in the lens.
_CLOSEST = 0.02
_QUANTUM = 1e-4
# Beyond the key of any depth.
_EMPTY = 1 << 62
# Pixels around what is drawn of a thing, so that gaps in it can be told from its outside.
_MARGIN = 2


class Looks(NamedTuple):
    """What things look like that the newest frame does not show.

    picture: (B, 5, H, W) as the codec takes frames, seen from where the newest one is.
    pixels: (B, H, W) uint8: 1 + k where thing k is in it, 0 elsewhere.
    """

    picture: Tensor
    pixels: Tensor

    @classmethod
    def remembered(cls, frames: Tensor, shown: Tensor) -> "Looks | None":
        """From older frames; of two in one pixel the newer. None where there is nothing to remember.

        Args: frames (B, T, 5, H, W); shown (B, T, H, W), as `track` returns it.
        """
        if not bool(shown.any()):
            return None
        picture, pixels = frames[:, 0], shown[:, 0]
        for t in range(1, shown.shape[1]):
            newer = shown[:, t] > 0
            picture = torch.where(newer[:, None], frames[:, t], picture)
            pixels = torch.where(newer, shown[:, t], pixels)
        return cls(picture, pixels)


def is_elsewhere(travel: Tensor, rotation: Tensor) -> Tensor:
    """Whether things are no longer where and as they were, (*) bool. Args: travel (*, 3) m; rotation (*, 3, 3)."""
    return (travel.norm(dim=-1) > _STILL) | _is_turned(rotation, _STRAIGHT)


def _is_turned(rotation: Tensor, angle: float) -> Tensor:
    """Whether rotations (*, 3, 3) are by more than `angle` rad."""
    # Of a turn by an angle a, the entries change by 2 sqrt(2) sin(a / 2) in all.
    turn = (rotation - torch.eye(3, device=rotation.device)).flatten(-2).norm(dim=-1)
    return turn > 2 * math.sqrt(2) * math.sin(angle / 2)


def draw_moved(
    newest: Tensor, plate: Tensor, slots: Slots, covered: Tensor, motion: Motion, intrinsics: Tensor,
    camera_to_world: Tensor, near: float, far: float, remembered: Looks | None = None,
) -> Tensor:  # fmt: skip
    """Pictures of imagined frames, without the robot, for a camera that stands still.

    Args:
        newest: (B, 5, H, W): rgb, sqrt-disparity, 1 where that is known.
        plate: (B, 5, H, W) behind robot and things, see `clean_plate`.
        slots: of B beliefs.
        covered: (B, H, W) bool: where the robot is in the newest frame.
        motion: (N, H) frames, N = B plans or, where B is 1, any number.
        intrinsics: (3, 3) or (B, 3, 3) pixels.
        camera_to_world: (B, 4, 4), world being the frame of the things' positions.
        near, far: metres, the range of the disparities.
        remembered: looks of things that the robot hides in the newest frame; None: they are not drawn.
    Returns: (N * H, 7, H, W): rgb, sqrt-disparity, 1 where that is known; 1 where a thing is that moved or was hidden;
    1 where the plate shows what robot or thing hid before. Every other pixel, those of things that stay included, is
    exactly the newest frame's.
    """
    batch, _, height, width = newest.shape
    plans, horizon = motion.position.shape[:2]
    per = plans * horizon // batch
    moves = _moves(slots, motion, batch)  # (B, per, 8)
    looks = Looks(newest, slots.pixels)
    if remembered is not None:
        # They are not in the newest frame, so they are drawn wherever they are; a pixel may be of both kinds.
        moves = moves | (_drawable(slots, motion, batch) & ~slots.seen[:, None])
    old = slots.pixels[:, None]
    uncovered = (covered & (slots.pixels == 0))[:, None].expand(batch, per, height, width)
    moving = [k for k, any_ in enumerate(moves.flatten(0, 1).any(0).tolist()) if any_]
    for k in moving:
        # With the pixels around it, as far as nothing else is there: outlines are not sharp.
        left = dilated(old == k + 1, 1) & ((old == k + 1) | (old == 0))
        uncovered = uncovered | (left & moves[:, :, k, None, None])
    out = newest.new_zeros(batch, per, CHANNELS, height, width)
    torch.where(uncovered[:, :, None], plate[:, None], newest[:, None], out=out[:, :, :5])
    out[:, :, 6] = uncovered
    out = out.flatten(0, 1)
    if not moving:
        return out
    behind, before = (_limit(picture, near, far)[:, None] for picture in (plate, newest))
    nearest = torch.where(uncovered, behind, before).flatten(0, 1)
    camera = _Camera.of(intrinsics, camera_to_world, batch)
    for k in moving:
        if remembered is not None:
            seen = slots.seen[:, k, None, None]
            looks = Looks(
                torch.where(seen[:, None], newest, remembered.picture),
                torch.where(seen, slots.pixels, remembered.pixels),
            )
        _draw_thing(k, out, nearest, looks, slots, motion, moves[..., k], camera, near, far)
    return out


@dataclass(frozen=True)
class MovedPictures:
    """What `draw_moved` draws from, until somebody looks; fields as there."""

    newest: Tensor
    plate: Tensor
    slots: Slots
    covered: Tensor
    motion: Motion
    intrinsics: Tensor
    camera_to_world: Tensor
    near: float
    far: float
    remembered: Looks | None = None

    def draw(self) -> Tensor:
        """(N * H, 7, H, W)."""
        return draw_moved(
            self.newest, self.plate, self.slots, self.covered, self.motion, self.intrinsics, self.camera_to_world,
            self.near, self.far, self.remembered,
        )  # fmt: skip

    def select(self, plans: Tensor) -> "MovedPictures":
        """Those of some plans. Args: plans (M,) int."""
        if len(self.newest) == 1:
            return replace(self, motion=self.motion[plans])
        matrices = self.intrinsics if self.intrinsics.ndim == 2 else self.intrinsics[plans]
        return MovedPictures(
            self.newest[plans], self.plate[plans], self.slots[plans], self.covered[plans], self.motion[plans],
            matrices, self.camera_to_world[plans], self.near, self.far,
            None if self.remembered is None else Looks(*(part[plans] for part in self.remembered)),
        )  # fmt: skip


@dataclass(frozen=True)
class _Camera:
    """focal, centre (B, 2) pixels as x, y; rotation (B, 3, 3), position (B, 3) metres: where it stands in the world."""

    focal: Tensor
    centre: Tensor
    rotation: Tensor
    position: Tensor

    @classmethod
    def of(cls, intrinsics: Tensor, camera_to_world: Tensor, batch: int) -> "_Camera":
        pose = camera_to_world.float().expand(batch, 4, 4)
        k = intrinsics.to(pose).expand(batch, 3, 3)
        return cls(k[:, [0, 1], [0, 1]], k[:, :2, 2], pose[:, :3, :3], pose[:, :3, 3])

    def seen(self, points: Tensor) -> Tensor:
        """Points (B, ..., 3) of the world in the camera's optical frame."""
        flat = points.flatten(1, -2) - self.position[:, None]
        return (flat @ self.rotation).reshape(points.shape)


def _drawable(slots: Slots, motion: Motion, batch: int) -> Tensor:
    """(B, per, 8) bool: of which things it is known where and how they are in a frame."""
    position, rotation = motion.position.reshape(batch, -1, MOST, 3), motion.rotation.reshape(batch, -1, MOST, 9)
    return slots.there[:, None] & torch.isfinite(position).all(-1) & torch.isfinite(rotation).all(-1)


def _moves(slots: Slots, motion: Motion, batch: int) -> Tensor:
    """(B, per, 8) bool: which of the things that are seen are elsewhere, or turned, in a frame."""
    position = motion.position.reshape(batch, -1, MOST, 3)
    rotation = motion.rotation.reshape(batch, -1, MOST, 3, 3)
    changed = is_elsewhere(position - slots.position[:, None], rotation)
    return slots.seen[:, None] & changed & _drawable(slots, motion, batch)


def _limit(picture: Tensor, near: float, far: float) -> Tensor:
    """(B, H, W) metres: what lies deeper is hidden. A guess hides nothing."""
    depth = geometry.depth_from_sqrt_disparity(picture[:, 3], near, far)
    return torch.where(picture[:, 4] > 0.5, depth + _SUNK, torch.inf)


def _draw_thing(
    k: int, out: Tensor, nearest: Tensor, looks: Looks, slots: Slots, motion: Motion, moves: Tensor, camera: _Camera,
    near: float, far: float,
) -> None:  # fmt: skip
    """Draw thing k into `out` (B * per, 7, H, W) and its depth into `nearest` (B * per, H, W).

    Args: looks: what it looks like; moves (B, per): in which frames it is to be drawn anew.
    """
    batch, per = moves.shape
    # Its P pixels, and where they are seen from its middle, in the camera's optical frame.
    b, v, u = ((looks.pixels == k + 1) & moves.any(1)[:, None, None]).nonzero().unbind(1)
    if not len(b):
        return
    was = camera.seen(slots.position[:, k, None])[:, 0]
    shown = looks.picture[b, :, v, u]
    colour, code, known = shown[:, :3], shown[:, 3], shown[:, 4] > 0.5
    depth = torch.where(known, geometry.depth_from_sqrt_disparity(code, near, far), was[b, 2])
    pixel = torch.stack([u, v], -1).to(depth)
    ray = torch.cat([(pixel - camera.centre[b]) / camera.focal[b], torch.ones_like(depth)[:, None]], -1)
    arm = ray * depth[:, None] - was[b]
    # Where they will be seen, and behind them the mirror images of what turns: (P + Q, per, 3).
    position, rotation = (t.reshape(batch, per, *t.shape[2:])[:, :, k] for t in (motion.position, motion.rotation))
    turn = camera.rotation.mT[:, None] @ rotation @ camera.rotation[:, None]
    turned = moves & _is_turned(rotation, _SHOWS_MORE)
    mirrored = turned.any(1)[b].nonzero()[:, 0]
    origin = torch.cat([torch.arange(len(b), device=b.device), mirrored])  # which of the pixels they show
    both, drawn = b[origin], torch.cat([moves[b], turned[b[mirrored]]])
    at = (turn[both] * torch.cat([arm, -arm[mirrored]])[:, None, None]).sum(-1) + camera.seen(position)[both]
    place = at[..., :2] / at[..., 2:].clamp_min(_CLOSEST) * camera.focal[both, None] + camera.centre[both, None]
    frame = both[:, None] * per + torch.arange(per, device=b.device)
    splat = _splat(place, at[..., 2], drawn, frame, out.shape)
    if splat is None:
        return
    z, number, (top, bottom, left, right) = splat
    before = nearest[:, top:bottom, left:right]
    wins = z < before
    before.copy_(torch.where(wins, z, before))
    number = origin[number]
    seen, shown = known[number].to(z), wins[:, None].to(z)
    code = (geometry.sqrt_disparity(z, near, far) * seen)[:, None]
    picture = torch.cat([colour[number].movedim(-1, 1), code, seen[:, None], shown, torch.zeros_like(shown)], 1)
    window = out[:, :, top:bottom, left:right]
    window.copy_(torch.where(wins[:, None], picture, window))


def _splat(
    place: Tensor, z: Tensor, drawn: Tensor, frame: Tensor, shape: torch.Size
) -> tuple[Tensor, Tensor, tuple[int, int, int, int]] | None:
    """Points as pixels: of those that fall on one the nearest, and of gaps between them what is around.

    Args: place (P, per, 2) pixels; z (P, per) metres; drawn (P, per) bool; frame (P, per): in which picture; shape of
    all pictures, (F, C, H, W).
    Returns: the box top, bottom, left, right that holds all of them and within that, (F, h, w), the depths, infinite
    where nothing is, and which of the P points is there, any where nothing is. None where no point is in its picture.
    """
    height, width = shape[-2:]
    size = torch.tensor([width, height], device=place.device)
    drawn = drawn & (z > _CLOSEST) & ((place > -0.5) & (place < size - 0.5)).all(-1)
    if not bool(drawn.any()):
        return None
    count = len(place)
    number = torch.arange(count, device=place.device)[:, None].expand_as(drawn)[drawn]
    column, row = place[drawn].round().long().unbind(-1)
    bounds = torch.stack([row.amin(), row.amax() + 1, column.amin(), column.amax() + 1]).tolist()
    top, bottom, left, right = (int(bound) for bound in bounds)
    rows, columns = bottom - top + 2 * _MARGIN, right - left + 2 * _MARGIN
    where = (frame[drawn] * rows + row - top + _MARGIN) * columns + column - left + _MARGIN
    # A point's depth and, behind that, its number.
    key = (z[drawn] / _QUANTUM).round().long() * count + number
    canvas = torch.full((shape[0], rows, columns), _EMPTY, device=place.device)
    canvas.view(-1).scatter_reduce_(0, where, key, "amin")
    canvas = _closed(canvas)[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    hit = canvas < _EMPTY
    depth = torch.where(hit, (canvas // count).to(z) * _QUANTUM, torch.inf)
    return depth, torch.where(hit, canvas % count, 0), (top, bottom, left, right)


def _closed(canvas: Tensor) -> Tensor:
    """Gaps of up to two pixels within what is drawn (F, h, w), filled with the nearest of what is drawn around them.

    What comes nearer or turns towards the camera has fewer pixels than it needs. On the outermost two rows and columns
    nothing is drawn.
    """
    hit = canvas < _EMPTY
    frame, row, column = (~dilated(~dilated(hit, 1), 1) & ~hit).nonzero().unbind(1)
    aside = torch.arange(-1, 2, device=canvas.device)
    around = canvas[frame[:, None, None], row[:, None, None] + aside[:, None], column[:, None, None] + aside]
    return canvas.index_put((frame, row, column), around.flatten(1).amin(1))
