"""Frames to latent cells and back.

The decoder sees the belief's newest frame and an older one beside the latent: what did not move is copied from them
pixel by pixel, and the latent has to carry only what changes. (Compositing of generated and copied pixels: Ebert et
al., "Self-Supervised Visual Planning with Temporal Skip Connections", 2017, arXiv 1710.05268.) A decoder of a world
that moves sees the newest frame with its things where they will be, too, and copies from that as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepverse_ros.model.body_rendering import CHANNELS, STRIDE
from deepverse_ros.model.config import CodecConfig
from deepverse_ros.model.things.moved import CHANNELS as MOVED_CHANNELS

# rgb, sqrt-disparity, 1 where the depth is known
IN_CHANNELS = 5
_SOURCES = 2
# generated rgb and disparity, weights of {generated, sources} for rgb and for depth, depth log-scale
_OUT_CHANNELS = 4 + 2 * (1 + _SOURCES) + 1
_FULL_RES = 12
# What the decoder's last layer reads.
_LAST = 16
# Numbers that a decoder learns for each capsule of the body: its looks.
_LOOKS = 6
# Of copying a picture of moved things, in an untrained decoder: a little where nothing moved, which the newest frame
# shows as well, and mostly where something did.
_SAME, _MOVED = -4.0, 2.0
# Log-scales of sqrt-disparity are kept in this range so that one pixel cannot own the loss.
_LOG_SCALE = (-6.0, 0.0)


class View(NamedTuple):
    """A frame as the encoder sees it.

    frame: (B, 5, H, W).
    x8: (B, C1, H/8, W/8).
    x4: (B, C0, H/4, W/4).
    """

    frame: Tensor
    x8: Tensor
    x4: Tensor


@dataclass(frozen=True)
class Source:
    """What the decoder may copy from: the newest frame of a belief and an older one.

    frames: (B, 2*5, H, W) float32.
    at8, at4, at1: (B, C1, H/8, W/8), (B, C0, H/4, W/4) and (B, 16, H, W), what both frames add to the decoder's
        features at these strides, the same for every picture that is decoded from one belief.
    """

    frames: Tensor
    at8: Tensor
    at4: Tensor
    at1: Tensor

    def repeat(self, times: int) -> "Source":
        """Every entry `times` times in a row, as views where the batch is 1."""
        if self.frames.shape[0] == 1:
            return self._map(lambda t: t.expand(times, -1, -1, -1))
        return self._map(lambda t: t.repeat_interleave(times, 0))

    def __getitem__(self, index: slice | Tensor) -> "Source":
        return self._map(lambda t: t[index])

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Source":
        return Source(*(change(t) for t in (self.frames, self.at8, self.at4, self.at1)))


@dataclass(frozen=True)
class Decoded:
    """Pictures out of latents.

    rgb: (B, 3, H, W) in [0, 1].
    disparity: (B, H, W) sqrt-disparity in [0, 1].
    log_scale: of its Laplace.
    """

    rgb: Tensor
    disparity: Tensor
    log_scale: Tensor


def conv3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution of 3 x 3, (B, C, H, W) to (B, out, H, W).

    Computed with a multiple of 8 of output channels, of which the last ones are cut off: on CPUs that is up to twice as
    quick at full resolution.
    """
    count = len(weight)
    more = -count % 8
    weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, more)).contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, None if bias is None else F.pad(bias, (0, more)), padding=1)[:, :count]


class Block(nn.Module):
    """Two convolutions, added to what comes in; the weights of the second begin at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class Wide(nn.Module):
    """A look at twice the stride, added: what is far off in the picture counts too."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(c1, c2, 4, stride=2, padding=1)
        self.block = Block(c2)
        self.up = nn.Conv2d(c2, 4 * c1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.pixel_shuffle(self.up(F.silu(self.block(self.down(F.silu(x))))), 2)


class Encoder(nn.Module):
    """Frames (B, 5, H, W) to latent cells (B, D, H/8, W/8) and features at strides 8 and 4."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        c0, c1, c2 = config.channels
        self.stem = nn.Conv2d(IN_CHANNELS, c0, 6, stride=4, padding=1)
        self.block0 = Block(c0)
        self.down1 = nn.Conv2d(c0, c1, 4, stride=2, padding=1)
        self.block1 = Block(c1)
        self.wide = Wide(c1, c2)
        self.head = nn.Conv2d(c1, config.latent_dim, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                # What is the same for every picture would drown the picture when the latent is normalised.
                nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x4 = self.block0(self.stem(frames))
        x8 = self.wide(self.block1(self.down1(F.silu(x4))))
        # Unit variance per cell: the dynamics' loss and noise then mean the same everywhere.
        z = self.head(F.silu(x8)).float()
        z = F.layer_norm(z.movedim(1, -1), z.shape[1:2]).movedim(-1, 1)
        return z, x8, x4


class OwnBody(nn.Module):
    """What the decoder makes of a drawing of the robot's body (see body_rendering.draw): features at stride 4 and 1.

    They are added to its own, so that a drawing of nothing changes nothing.

    to1: of weights (at1, C, 3, 3); the decoder applies them.
    """

    def __init__(self, capsules: int, at4: int, at1: int) -> None:
        super().__init__()
        self.looks = nn.Embedding(1 + capsules, _LOOKS, padding_idx=0)
        channels = CHANNELS - 1 + _LOOKS
        self.to4 = nn.Conv2d(channels, at4, 4, stride=4 // STRIDE, padding=1, bias=False)
        self.to1 = nn.Conv2d(channels, at1, 3, padding=1, bias=False)
        for layer in (self.to4, self.to1):  # so that a decoder which knew no body begins as it was
            nn.init.zeros_(layer.weight)

    def forward(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Args: drawn (B, 4, H/2, W/2). Returns: (B, at4, H/4, W/4), and the picture (B, C, H, W) that `to1` is for."""
        looks = self.looks(drawn[:, 0].long()).movedim(-1, 1)
        x = torch.cat([drawn[:, 1:].to(looks.dtype), looks], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        return self.to4(x), F.interpolate(x, scale_factor=STRIDE, mode="bilinear")


class MovedThings(nn.Module):
    """What the decoder makes of a picture of moved things (see things.moved.draw_moved).

    Features at stride 4 and 1, which are added to its own, and how much of it is copied. One of nothing but zeros is
    taken as none.

    to1: of weights (at1 + 2, 7, 3, 3), for the features and for what its masks add to the weights of copying it;
        the decoder applies them.
    """

    def __init__(self, at4: int, at1: int) -> None:
        super().__init__()
        self.to4 = nn.Conv2d(MOVED_CHANNELS, at4, 6, stride=4, padding=1, bias=False)
        self.to1 = nn.Conv2d(MOVED_CHANNELS, at1 + 2, 3, padding=1, bias=False)
        self.copied = nn.Conv2d(at1, 2, 3, padding=1)
        for layer in (self.to4, self.to1, self.copied):  # so that a decoder which knew no things begins as it was
            nn.init.zeros_(layer.weight)
        nn.init.constant_(self.to1.weight[at1:, -2:, 1, 1], _MOVED - _SAME)
        nn.init.constant_(self.copied.bias, _SAME)  # type: ignore[arg-type]

    def forward(self, moved: Tensor) -> tuple[Tensor, Tensor]:
        """Args: moved (B, 7, H, W). Returns: (B, at4, H/4, W/4), and the picture (B, 7, H, W) that `to1` is for."""
        x = moved.to(self.to1.weight.dtype).contiguous(memory_format=torch.channels_last)
        return self.to4(x), x


class Merge(nn.Conv2d):
    """A convolution of features beside a source's, whose part is computed once for all pictures of a belief."""

    def __init__(self, own: int, source: int, out: int) -> None:
        super().__init__(own + source, out, 3, padding=1)
        self._own = own

    def of_source(self, source: Tensor) -> Tensor:
        """Args: source (B, source, h, w). Returns: (B, out, h, w), for `forward`."""
        return F.conv2d(source, self.weight[:, self._own :], self.bias, padding=1)

    @property
    def of_own(self) -> Tensor:
        """(out, own, 3, 3), the weights of the features."""
        return self.weight[:, : self._own]

    def forward(self, x: Tensor, of_source: Tensor) -> Tensor:  # type: ignore[override]
        """Args: x (B, own, h, w); of_source as made above. Returns: (B, out, h, w)."""
        return F.conv2d(x, self.of_own, padding=1) + of_source


class Decoder(nn.Module):
    """Latent cells, a Source and, where they are known, pictures of the robot's body and of moved things to a frame.

    A body is known where it is described, things where the model imagines them.
    """

    def __init__(self, config: CodecConfig, capsules: int = 0, moved: bool = False) -> None:
        """Args: capsules: of the body; 0 where it is not described. moved: pictures of moved things are copied too."""
        super().__init__()
        c0, c1, c2 = config.channels
        self.fuse8 = nn.Conv2d(_SOURCES * c1, c1, 1)
        self.fuse4 = nn.Conv2d(_SOURCES * c0, c0, 1)
        self.lift = nn.Conv2d(config.latent_dim, c1, 3, padding=1)
        self.merge8 = Merge(c1, c1, c1)
        self.wide = Wide(c1, c2)
        self.block8 = Block(c1)
        self.up4 = nn.Conv2d(c1, 4 * c0, 1)
        self.merge4 = Merge(c0, c0, c0)
        self.block4 = Block(c0)
        self.up1 = nn.Conv2d(c0, 16 * _FULL_RES, 3, padding=1)
        self.full1 = Merge(_FULL_RES, _SOURCES * IN_CHANNELS, _LAST)
        self.full2 = nn.Conv2d(_LAST, _OUT_CHANNELS, 3, padding=1)
        self.body = OwnBody(capsules, c0, _LAST) if capsules else None
        self.moved = MovedThings(c0, _LAST) if moved else None

    def source(self, older: View, newest: View) -> Source:
        """Fuse the two, once per belief."""
        frames, skip8, skip4 = (torch.cat(pair, 1) for pair in zip(older, newest, strict=True))
        return Source(
            frames.float(),
            self.merge8.of_source(self.fuse8(F.silu(skip8))),
            self.merge4.of_source(self.fuse4(F.silu(skip4))),
            self.full1.of_source(frames.to(self.full1.weight.dtype)),
        )

    def forward(
        self, latent: Tensor, source: Source, drawn: Tensor | None = None, moved: Tensor | None = None
    ) -> Decoded:
        """Pictures of latents.

        Args:
            latent: (B, D, h, w).
            source: with the same batch.
            drawn: (B, 4, H/2, W/2), see body_rendering.draw.
            moved: (B, 7, H, W), see things.moved.draw_moved; all zeros where it is not known.
        """
        x = self.lift(latent.to(self.lift.weight.dtype))
        x = self.block8(self.wide(self.merge8(x, source.at8)))
        x = self.merge4(F.pixel_shuffle(self.up4(F.silu(x)), 2), source.at4)
        # What stands at full resolution beside its own features is read with them, by one convolution of all.
        pictures, layers = [], [self.full1.of_own]
        if self.body is not None and drawn is not None:
            body4, picture = self.body(drawn)
            x, pictures, layers = x + body4, [picture], [*layers, self.body.to1.weight]
        if self.moved is not None and moved is not None:
            moved4, picture = self.moved(moved)
            x, pictures, layers = x + moved4, [*pictures, picture], [*layers, self.moved.to1.weight[:_LAST]]
        x = F.silu(F.pixel_shuffle(self.up1(F.silu(self.block4(x))), 4))
        x = F.silu(conv3(torch.cat([x, *pictures], 1), torch.cat(layers, 1)) + source.at1)
        if self.moved is None or moved is None:
            return _composite(_planes(conv3(x, self.full2.weight, self.full2.bias)), source.frames)
        last = self.full2, self.moved.copied
        out = _planes(conv3(x, *(torch.cat([getattr(layer, name) for layer in last]) for name in ("weight", "bias"))))
        weights = out[:, _OUT_CHANNELS:] + _planes(conv3(pictures[-1], self.moved.to1.weight[_LAST:]))
        return _composite(out[:, :_OUT_CHANNELS], source.frames, moved.float(), weights)


def _planes(x: Tensor) -> Tensor:
    """Channels that are blended one by one: in their own planes that is quicker."""
    return x.to(torch.float32, memory_format=torch.contiguous_format)


def _composite(out: Tensor, frames: Tensor, moved: Tensor | None = None, moved_logits: Tensor | None = None) -> Decoded:
    """Blend the generated picture with the source frames, pixel by pixel.

    Args: out (B, 11, H, W); frames (B, 2*5, H, W); moved (B, 7, H, W) and the logits (B, 2, H, W) of copying it for rgb
    and for depth.
    """
    n = 1 + _SOURCES
    generated, rgb_logits, depth_logits, log_scale = out.split([4, n, n, 1], 1)
    generated = generated.sigmoid()
    sources = list(frames.unflatten(1, (_SOURCES, IN_CHANNELS)).unbind(1))
    # A source pixel without depth cannot be copied.
    known = [source[:, 4] > 0.5 for source in sources]
    if moved is not None and moved_logits is not None:
        # Depth that was filled in is not known, and yet worth something.
        known.append((moved[:, 4] > 0.5) | (moved[:, 3] > 0))
        absent = ~moved.flatten(1).any(1)
        rgb_logits = torch.cat([rgb_logits, moved_logits[:, :1].masked_fill(absent[:, None, None, None], -1e4)], 1)
        depth_logits = torch.cat([depth_logits, moved_logits[:, 1:]], 1)
        sources.append(moved)
    copied = depth_logits[:, 1:].masked_fill(~torch.stack(known, 1), -1e4)
    for_rgb, for_depth = rgb_logits.softmax(1), torch.cat([depth_logits[:, :1], copied], 1).softmax(1)
    rgb, disparity = generated[:, :3] * for_rgb[:, :1], generated[:, 3] * for_depth[:, 0]
    for k, source in enumerate(sources, 1):
        rgb = torch.addcmul(rgb, source[:, :3], for_rgb[:, k, None])
        disparity = torch.addcmul(disparity, source[:, 3], for_depth[:, k])
    return Decoded(rgb, disparity, log_scale[:, 0].clamp(*_LOG_SCALE))


class Codec(nn.Module):
    """Encoder and decoder: RGB-D frames to latent cells, and latent cells back to pictures."""

    def __init__(self, config: CodecConfig, capsules: int = 0, moved: bool = False) -> None:
        """Args: capsules, moved: see `Decoder`."""
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, capsules, moved)

    def channels_last(self) -> "Codec":
        """Keep the weights in the order in which convolutions are fastest."""
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Args: frames (B, 5, H, W). Returns: latents (B, D, h, w) float32, features at strides 8 and 4."""
        return self.encoder(frames.to(self.encoder.stem.weight.dtype).contiguous(memory_format=torch.channels_last))

    def observe(self, frames: Tensor) -> tuple[Tensor, list[View]]:
        """Encode a window and keep what may be copied from it.

        Args: frames (B, T, 5, H, W).
        Returns: latents (B, T, D, h, w) float32, the T views.
        """
        batch, time = frames.shape[:2]
        z, x8, x4 = (t.unflatten(0, (batch, time)) for t in self.encode(frames.flatten(0, 1)))
        return z, [View(frames[:, i], x8[:, i], x4[:, i]) for i in range(time)]
