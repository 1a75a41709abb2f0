"""Windows of practice: what a reader of pictures would know of things, where the robot went, what became of them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.data.practice import STEPS, Practice, looks
from deepverse_ros.model.things.body import Parts
from deepverse_ros.model.things.chain import Chain
from deepverse_ros.model.things.ground import LEAST, LOWER, UPPER, HeightMap
from deepverse_ros.model.things.slots import MOST, MOVED, Slots
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.engine.draw import Draw

PIXELS = 12
"""That show a thing at least, where a reader finds it."""
NOISE = 0.003
"""Metres: standard deviation of where a reader sees a thing, per axis."""
_TURN_NOISE = 0.05  # rad
_NO_TURN = 0.5  # share of windows in which nobody saw how things turned
# Shares of the windows that are drawn: in which something falls or tips over, and in which something moves.
_TUMBLING, _MOVING = 0.3, 0.35
# It does from here on: metres deeper; cosine of the angle that what was up has gone aside.
_FELL, _TIPPED = 0.02, 0.94


@dataclass(frozen=True)
class Window:
    """B windows: what is known of things, where the robot goes in H steps, and what becomes of the things.

    parts (B, 1 + H, C). position (B, H, 8, 3) and rotation (B, H, 8, 3, 3) since the newest frame, as in `Motion`;
    touched (B, H, 8) 0 or 1: by then; known (B, H, 8) bool: whether a thing is there, and has not fallen off the map;
    start (B, 8, 3): where things truly are at the newest frame.
    """

    slots: Slots
    parts: Parts
    ground: HeightMap
    position: Tensor
    rotation: Tensor
    touched: Tensor
    known: Tensor
    start: Tensor


@dataclass(frozen=True)
class _TurnedGround(HeightMap):
    """Filled heights of a world that is turned about the robot. turn (B, 2, 2): to the turned world."""

    turn: Tensor

    def filled(self) -> HeightMap:
        return self

    def under(self, x: Tensor, y: Tensor, which: Tensor | None) -> Tensor:
        turn = self.turn[0 if which is None else which]
        back = [turn[..., 0, axis] * x + turn[..., 1, axis] * y for axis in (0, 1)]
        return super().under(back[0], back[1], which)


class PracticeWindows:
    """Windows of `steps` steps that begin at the frames of a practice that a camera looked at."""

    def __init__(self, practice: Practice, embodiment: Embodiment, device: torch.device, steps: int = STEPS) -> None:
        """Raises: ValueError for more steps than follow every look, or where the body is not described."""
        if steps > STEPS:
            raise ValueError(f"steps: at most {STEPS} follow the frames that are looked at, got {steps}")
        if embodiment.body is None:
            raise ValueError(f"the body of '{embodiment.name}' is not described")
        self._chain = Chain(embodiment, embodiment.body).to(device)
        self.device, self.steps = device, steps
        self._practice = practice
        self._looks = np.array(looks(practice.poses.shape[1]))
        there = (practice.pixels >= PIXELS) & np.isfinite(practice.poses[..., 0][:, self._looks])
        self._there = there
        place = practice.poses[..., :3]
        after = self._looks[:, None] + np.arange(1, steps + 1)
        way = np.nan_to_num(place[:, after] - place[:, self._looks][:, :, None])
        moves = np.linalg.norm(way, axis=-1).max(2) > MOVED
        upright = _upright(practice.poses[:, self._looks][:, :, None, :, 3:], practice.poses[:, after][..., 3:])
        tumbles = (way[..., 2].min(2) < -_FELL) | (upright.min(2) < _TIPPED)
        self.every, self.moving, self.tumbling = (
            np.argwhere((there & those).any(-1)) for those in (there, moves, moves & tumbles)
        )
        """(M, 2) episode and look, of all windows in which a thing is seen, of those in which one moves, and of those
        in which one also falls or tips over."""

    def drawn(self, batch: int, draw: Draw) -> Window:
        """Windows, most of them (where there are any) such that something moves; turned and mirrored at random.

        What falls or tips over is rare, and the hardest to tell: it is drawn more often than it happens.
        """
        share, number = draw.uniform(batch).numpy(), draw.uniform(batch).double().numpy()
        index: np.ndarray = np.zeros((len(share), 2), int)
        for pool, up_to in ((self.every, 1.0), (self.moving, _TUMBLING + _MOVING), (self.tumbling, _TUMBLING)):
            if len(pool):
                chosen = pool[np.minimum((number * len(pool)).astype(int), len(pool) - 1)]
                index = np.where((share < up_to)[:, None], chosen, index)
        noise = draw.normal(batch, 2, MOST, 6).to(self.device)
        seen = draw.uniform(batch, MOST).to(self.device) >= _NO_TURN
        return self._turned(self.window(index, noise, seen), draw.uniform(batch), draw.uniform(batch) < 0.5)

    def window(self, index: np.ndarray, noise: Tensor, turns: Tensor) -> Window:
        """The windows at `index` (B, 2): episode and look.

        Args: noise (B, 2, 8, 6) of unit variance, on the poses of the frame before and the newest; turns (B, 8) bool:
        whether it was seen how a thing turned.
        """
        episode, look = index.T
        times = self._looks[look][:, None] + np.arange(-1, self.steps + 1)
        data, rows = self._practice, episode[:, None]
        poses = torch.from_numpy(data.poses[rows, times]).to(self.device)
        there = torch.from_numpy(self._there[episode, look]).to(self.device)
        place = torch.where(there[:, None, :, None], poses[..., :3], 0.0)
        rotation = rotation_from_quaternion(torch.where(there[:, None, :, None], poses[..., 3:], 0.5))
        since = rotation[:, 2:] @ rotation[:, 1:2].mT
        away = torch.where(there[..., None], NOISE * noise[..., :3].movedim(1, 0), 0.0)
        turned = torch.zeros(*there.shape, 4, 4, device=self.device)
        turned[..., :3, :3] = rotation[:, 1] @ rotation[:, 0].mT
        turn = geometry.motion_from_pose(turned)[..., 3:] + _TURN_NOISE * noise[:, 1, :, 3:]
        last = torch.cat([place[:, 1] - place[:, 0] + away[1] - away[0], turn * turns[..., None]], -1)
        surface = torch.from_numpy(data.surface[episode, look]).to(self.device, torch.float32)
        # What is seen stays where it is; its mirror image goes with the middle that it is mirrored through.
        sides = torch.tensor([-1.0, 1.0], device=self.device).repeat(surface.shape[2] // 2)[:, None]
        low, high = (torch.tensor([*c], device=self.device) for c in (LOWER, UPPER))
        on_map = ((place[..., :2] > low) & (place[..., :2] < high)).all(-1) & (place[..., 2] > LEAST)
        slots = Slots(
            there=there,
            seen=there,
            position=place[:, 1] + away[1],
            std=NOISE * there,
            surface=(surface + sides * away[1][:, :, None]) * there[..., None, None],
            last=last * there[..., None],
            pixels=torch.zeros(len(index), 1, 1, dtype=torch.uint8, device=self.device),
        )
        touched = torch.from_numpy(data.touched[rows, times[:, 2:]]).to(self.device).cummax(1).values
        heights = torch.from_numpy(data.ground[episode, look]).to(self.device, torch.float32)
        return Window(
            slots=slots,
            parts=self._chain.parts(torch.from_numpy(data.measured[rows, times[:, 1:]]).to(self.device)),
            ground=_TurnedGround(heights, torch.eye(2, device=self.device).expand(len(index), 2, 2)),
            position=place[:, 2:],
            rotation=since,
            touched=touched.float(),
            known=on_map[:, 2:] & there[:, None],
            start=place[:, 1],
        )

    def _turned(self, window: Window, turn: Tensor, mirror: Tensor) -> Window:
        """Physics is the same all around, and in a mirror. Args: turn (B,) of a whole turn; mirror (B,) bool."""
        angle = turn.to(self.device) * (2 * torch.pi)
        side = torch.where(mirror.to(self.device), -1.0, 1.0)
        by = torch.zeros(len(angle), 3, 3, device=self.device)
        by[:, 0, 0], by[:, 0, 1] = angle.cos(), -angle.sin() * side
        by[:, 1, 0], by[:, 1, 1] = angle.sin(), angle.cos() * side
        by[:, 2, 2] = 1

        def vectors(values: Tensor) -> Tensor:
            return (values.flatten(1, -2) @ by.mT).view_as(values)

        s, p = window.slots, window.parts
        over = by[:, None, None]
        spin = vectors(s.last[..., 3:]) * side[:, None, None]
        slots = Slots(
            s.there, s.seen, vectors(s.position), s.std, vectors(s.surface),
            torch.cat([vectors(s.last[..., :3]), spin], -1), s.pixels,
        )  # fmt: skip
        return Window(
            slots=slots,
            parts=Parts(
                vectors(p.start), vectors(p.end), vectors(p.origin), over @ p.rotation, p.radius, vectors(p.tool)
            ),
            ground=_TurnedGround(window.ground.heights, by[:, :2, :2]),
            position=vectors(window.position),
            rotation=over @ window.rotation @ over.mT,
            touched=window.touched,
            known=window.known,
            start=vectors(window.start),
        )


def _upright(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(...) cosine of the angle between what was up at pose `before` (..., 4) and is where at `after`; 1 for NaN."""
    x, y, z, w = np.moveaxis(before, -1, 0)
    a, b, c, d = np.moveaxis(after, -1, 0)
    across = np.square(a * w - d * x - b * z + c * y) + np.square(b * w - d * y + a * z - c * x)
    return np.nan_to_num(1 - 2 * across, nan=1.0)


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of quaternions (..., 4) as x, y, z, w; any length but 0."""
    x, y, z, w = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
