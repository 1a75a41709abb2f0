"""Training of the codec: later frames of a window, decoded beside the frames that a belief would hold."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from deepverse_ros.model.body_rendering import draw as draw_body
from deepverse_ros.model.codec import Codec, Decoded
from deepverse_ros.model.config import CELL
from deepverse_ros.model.fidelity import MSE_FLOOR, psnr
from deepverse_ros.model.readout import Camera
from deepverse_ros.model.things.slots import MOST
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.batches.moved import beside_robot, moved_pictures
from deepverse_ros.training.config import CodecStageConfig
from deepverse_ros.training.engine.curves import picture_rows
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.engine.precision import Precision, autocast
from deepverse_ros.training.losses.pictures import CHANGED, codec_loss


class Imagined(NamedTuple):
    """What stands in for the latents of some true frames of a batch.

    rows: (N,) of the batch.
    cells: (N, targets, D, h, w) latents.
    states: (N, targets, K) what the robot measures then.
    """

    rows: Tensor
    cells: Tensor
    states: Tensor


class Shown(NamedTuple):
    """What the decoder is shown of N pictures beside their latents and sources, each None where nobody knows it.

    drawn: (N, 4, H/2, W/2) the robot's body.
    moved: (N, 7, H, W) the newest frame with its things where they will be.
    """

    drawn: Tensor | None
    moved: Tensor | None


class CodecStage:
    """Trains encoder and decoder on true frames, with noise on the latents."""

    name = "codec"

    def __init__(
        self, codec: Codec, config: CodecStageConfig, train: Episodes, held_out: Episodes, context: int, horizon: int,
        device: torch.device, precision: Precision = "auto",
    ) -> None:  # fmt: skip
        self.codec = codec.to(device).channels_last()
        self.config = config
        self.module: nn.Module = self.codec
        self.train, self.held_out = train, held_out
        self.context = context
        self.horizon = horizon
        self.device = device
        self.precision = precision

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        del step
        batch, targets = self.config.batch, self.config.targets
        index = draw.integers(0, len(self.train), batch)
        start = draw.integers(0, self._starts(self.train), batch)
        # From the newest observed frame itself to the end of the horizon.
        ahead = draw.integers(0, self.horizon + 1, batch, targets)
        newest = start + self.context - 1
        # Memory recalls a frame from any time before.
        recalled = draw.uniform(batch).numpy() < self.config.recalled
        older = np.where(recalled, (newest * draw.uniform(batch).numpy()).astype(int), start)
        frames = self._frames(self.train, index, older, newest, ahead)
        if self.config.depth_dropout:
            blind = draw.uniform(batch) < self.config.depth_dropout
        else:
            blind = torch.zeros(len(index), dtype=torch.bool)
        strength = draw.uniform(batch, targets, 1, 1, 1) * self.config.latent_noise
        rows, columns = (side // CELL for side in frames.shape[-2:])
        noise = strength * draw.normal(batch, targets, self.codec.encoder.head.out_channels, rows, columns)
        states = self.train.states[index[:, None], newest[:, None] + ahead].to(self.device)
        imagined = self._imagined(index, start, ahead, draw)
        if imagined is not None:
            states[imagined.rows] = imagined.states
        undrawn = draw.uniform(batch) < self.config.body_dropout
        states[undrawn.to(self.device)] = torch.nan
        shown = Shown(self._drawn(self.train, index, newest, states), self._moved(index, newest, ahead, blind, draw))
        camera = self.train.camera(index, newest, self.device).repeat(targets)
        beside = beside_robot(self.train, index, newest, ahead)
        return self._losses(frames, blind.to(self.device), noise, imagined, shown, camera, beside)

    @torch.no_grad()
    def _moved(
        self, index: np.ndarray, newest: np.ndarray, ahead: np.ndarray, blind: Tensor, draw: Draw
    ) -> Tensor | None:
        """Pictures of moved things; all 0 where there shall be none, as without depth nobody finds a thing."""
        if self.codec.decoder.moved is None:
            return None
        batch, targets = self.config.batch, self.config.targets
        absent = (draw.uniform(batch) < self.config.moved_dropout) | blind
        shaken = draw.uniform(batch, 1, 1, 1) < self.config.moved_noise
        shake = draw.normal(batch, targets, MOST, 6) * shaken
        moved = moved_pictures(self.train, index, newest, ahead, self.context, shake, self.device)
        if moved is None:
            return None
        return moved.masked_fill(absent.repeat_interleave(targets).to(self.device)[:, None, None, None], 0.0)

    def _drawn(self, episodes: Episodes, index: np.ndarray, when: np.ndarray, states: Tensor) -> Tensor | None:
        """Drawings (B * N, 4, H/2, W/2) of states (B, N, K), seen by the cameras of the frames at (index, when)."""
        if self.codec.decoder.body is None:
            return None
        count = states.shape[1]
        size = episodes.rgb.shape[2:4]
        matrices = episodes.intrinsics[index].repeat_interleave(count, 0)
        poses = episodes.camera_to_robot(index, when).repeat_interleave(count, 0)
        return draw_body(episodes.embodiment, states.flatten(0, 1), matrices, poses, *size)

    def _imagined(self, index: np.ndarray, start: np.ndarray, ahead: np.ndarray, draw: Draw) -> Imagined | None:
        """What stands in for the latents of true frames."""
        del index, start, ahead, draw
        return None

    def _losses(
        self, frames: Tensor, blind: Tensor, noise: Tensor, imagined: Imagined | None, shown: Shown, camera: Camera,
        beside: Tensor | None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Named scalars of one batch.

        Args:
            frames (B, 2 + targets, 5, H, W): older, newest, targets.
            blind (B,) bool: whose depth is hidden.
            noise (B, targets, D, h, w): on true latents.
            imagined: what stands in for the latents of true frames, if anything does.
            shown: of B * targets pictures.
            camera: of as many.
            beside (B * targets, H, W) bool: where the robot is in neither newest frame nor target, if that is known.
        """
        seen = frames.clone()
        seen[:, :, 3:] *= (~blind)[:, None, None, None, None]
        with autocast(self.device, self.precision):
            z, (older, newer, *_) = self.codec.observe(seen)
            source = self.codec.decoder.source(older, newer)
            latent = z[:, 2:] + noise.to(z)
            if imagined is not None:
                latent = latent.index_copy(0, imagined.rows, imagined.cells.to(latent))
            decoded = self.codec.decoder(latent.flatten(0, 1), source.repeat(self.config.targets), *shown)
        truth, newest = frames[:, 2:].flatten(0, 1), frames[:, 1].repeat_interleave(self.config.targets, 0)
        disparity = torch.where(truth[:, 4] > 0, truth[:, 3], torch.nan)
        losses = codec_loss(
            decoded, truth[:, :3], disparity, newest[:, :3], self.config.moving_weight,
            None if beside is None else beside.to(self.device), self.config.world_weight,
        )  # fmt: skip
        return self._judged(losses, decoded, truth, camera)

    def _judged(self, losses: dict[str, Tensor], decoded: Decoded, truth: Tensor, camera: Camera) -> dict[str, Tensor]:
        """The losses of decoded frames, given the true ones (M, 5, H, W), with what a later stage adds to them."""
        del decoded, truth, camera
        return losses

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """PSNR of the decoded last frame of each held-out window, and of persistence.

        Where episodes know the robot and their things: also over all pixels that changed beside the robot, and there of
        the pictures of moved things, too.
        """
        rng = np.random.default_rng(0)
        index, start = rng.integers(0, len(self.held_out), 64), rng.integers(0, self._starts(self.held_out), 64)
        ours, still = [], []
        world = _WorldPixels()
        for i in range(0, 64, 16):
            some, begin = index[i : i + 16], start[i : i + 16]
            ahead = np.full((16, 1), self.horizon)
            frames = self._window(some, begin, ahead)
            shown = self._shown(some, begin, ahead)
            newest, truth = frames[:, 1, :3], frames[:, 2, :3]
            pictures = {"": self._decoded(frames, shown)[:, 0], "_persistence": newest}
            ours.append(psnr(pictures[""], truth))
            still.append(psnr(newest, truth))
            if shown.moved is not None:
                pictures["_moved"] = shown.moved[:, :3]
            beside = beside_robot(self.held_out, some, begin + self.context - 1, ahead)
            if beside is not None:
                world.add(pictures, newest, truth, beside.to(self.device))
        return {"psnr": float(torch.cat(ours).mean()), "persistence": float(torch.cat(still).mean()), **world.scores()}

    @torch.inference_mode()
    def sample(self) -> np.ndarray:
        """True (upper) and decoded (lower) later frames of three held-out windows, uint8 (h, w, 3)."""
        index = np.linspace(0, len(self.held_out) - 1, min(3, len(self.held_out))).astype(int)
        ahead = np.linspace(1, self.horizon, min(4, self.horizon)).astype(int)
        times = np.tile(ahead, (len(index), 1))
        frames = self._window(index, 0 * index, times)
        return picture_rows(frames[:, 2:, :3], self._decoded(frames, self._shown(index, 0 * index, times)))

    def _shown(self, index: np.ndarray, start: np.ndarray, ahead: np.ndarray) -> Shown:
        """Of held-out windows: the frames `ahead` (B, N) of the newest."""
        newest = start + self.context - 1
        states = self.held_out.states[index[:, None], newest[:, None] + ahead].to(self.device)
        moved = None
        if self.codec.decoder.moved is not None:
            moved = moved_pictures(self.held_out, index, newest, ahead, self.context, None, self.device)
        return Shown(self._drawn(self.held_out, index, newest, states), moved)

    def _decoded(self, frames: Tensor, shown: Shown) -> Tensor:
        """Pictures (B, N, 3, H, W) of the last N frames of `_window`, (B, 2 + N, 5, H, W)."""
        with autocast(self.device, self.precision):
            z, (older, newer, *_) = self.codec.observe(frames)
            source = self.codec.decoder.source(older, newer)
            later = z[:, 2:]
            decoded = self.codec.decoder(later.flatten(0, 1), source.repeat(later.shape[1]), *shown)
        return decoded.rgb.unflatten(0, later.shape[:2])

    def _starts(self, episodes: Episodes) -> int:
        """Places in an episode where a window may begin."""
        return episodes.length - self.context - self.horizon + 1

    def _window(self, index: np.ndarray, start: np.ndarray, ahead: np.ndarray) -> Tensor:
        """Of held-out episodes: oldest and newest frame of windows, and those `ahead` (B, N) of the newest."""
        return self._frames(self.held_out, index, start, start + self.context - 1, ahead)

    def _frames(
        self, episodes: Episodes, index: np.ndarray, older: np.ndarray, newest: np.ndarray, ahead: np.ndarray
    ) -> Tensor:
        times = np.concatenate([older[:, None], newest[:, None], newest[:, None] + ahead], 1)
        return episodes.frames(np.broadcast_to(index[:, None], times.shape), times, self.device)


class _WorldPixels:
    """How near pictures are to true ones in the pixels that something else than the robot changed."""

    def __init__(self) -> None:
        self._squares: dict[str, float] = {}
        self._count = 0.0

    def add(self, pictures: dict[str, Tensor], newest: Tensor, truth: Tensor, beside: Tensor) -> None:
        """Args: pictures, newest, truth (B, 3, H, W) in [0, 1]; beside (B, H, W) bool, see `beside_robot`."""
        world = beside & ((truth - newest).abs().amax(1) > CHANGED)
        self._count += float(world.sum())
        for name, picture in pictures.items():
            squares = (picture.float() - truth).square().mean(1)[world].sum()
            self._squares[name] = self._squares.get(name, 0.0) + float(squares)

    def scores(self) -> dict[str, float]:
        """PSNR in dB over all these pixels, of each kind of picture; none where nothing changed."""
        if not self._count:
            return {}
        return {
            f"world{name}": -10 * math.log10(max(squares / self._count, MSE_FLOOR))
            for name, squares in self._squares.items()
        }
