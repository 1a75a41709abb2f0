"""Things in RGB-D frames: which pixels show one, and where each such pixel believes its thing's middle to be.

Pixels that vote for a common middle: Qi et al., "Deep Hough Voting for 3D Object Detection in Point Clouds", 2019,
arXiv 1904.09664. What their votes say together is found by `clustering`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepverse_ros.model.body_rendering import STRIDE
from deepverse_ros.model.codec import IN_CHANNELS, Block, conv3

# the codec's frame; x, y, z and the height again, finer; whether the robot is there, and its sqrt-disparity
_SEEN = IN_CHANNELS + 4 + 2
_FULL_RES = 12
# Metres: beyond, a point is as good as far off; the finer height is counted in its own unit.
_FAR, _FINE = 2.0, 0.1
# The network's votes are in this unit, metres.
_OFFSET = 0.1
# The logit of a fresh network: few pixels show things.
_RARE = -2.5
# Standard deviations between 1 mm and 30 cm.
_LOG_STD = (-6.9, -1.2)


class Votes(NamedTuple):
    """What each pixel says.

    logit: (B, H, W) that it shows a thing.
    middle: (B, H, W, 3) metres in the base frame, of the thing that it shows; NaN where the depth is unknown.
    std: (B, H, W) metres of `middle`, per axis.
    """

    logit: Tensor
    middle: Tensor
    std: Tensor


class Reader(nn.Module):
    """A frame to votes: features at strides 2, 4 and 8, and back to the full resolution."""

    def __init__(self, channels: tuple[int, int, int] = (24, 48, 64)) -> None:
        """Args: channels: at strides 2, 4 and 8."""
        super().__init__()
        c2, c4, c8 = channels
        self.stem = nn.Conv2d(_SEEN, c2, 4, stride=2, padding=1)
        self.block2 = Block(c2)
        self.down4 = nn.Conv2d(c2, c4, 4, stride=2, padding=1)
        self.block4 = Block(c4)
        self.down8 = nn.Conv2d(c4, c8, 4, stride=2, padding=1)
        self.block8 = nn.Sequential(Block(c8), Block(c8))
        self.up4 = nn.Conv2d(c8, 4 * c4, 1)
        self.merge4 = Block(c4)
        self.up2 = nn.Conv2d(c4, 4 * c2, 1)
        self.merge2 = Block(c2)
        self.up1 = nn.Conv2d(c2, 4 * _FULL_RES, 1)
        self.full = nn.Conv2d(_SEEN, _FULL_RES, 3, padding=1)
        self.head = nn.Conv2d(_FULL_RES, 5, 3, padding=1)
        with torch.no_grad():
            self.head.bias[0] = _RARE  # type: ignore[index]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, frames: Tensor, points: Tensor, drawn: Tensor | None = None) -> Votes:
        """Read frames.

        Args:
            frames: (B, 5, H, W), the codec's input; sides are multiples of 8.
            points: (B, H, W, 3) metres in the base frame, NaN unknown.
            drawn: (B, 4, H/2, W/2), see body_rendering.draw; None where nobody knows where the robot is.
        """
        seen = _seen(frames, points, drawn).to(self.stem.weight.dtype)
        seen = seen.contiguous(memory_format=torch.channels_last)
        x2 = self.block2(self.stem(seen))
        x4 = self.block4(self.down4(F.silu(x2)))
        x8 = self.block8(self.down8(F.silu(x4)))
        x4 = self.merge4(x4 + F.pixel_shuffle(self.up4(F.silu(x8)), 2))
        x2 = self.merge2(x2 + F.pixel_shuffle(self.up2(F.silu(x4)), 2))
        x1 = F.pixel_shuffle(self.up1(F.silu(x2)), 2) + conv3(seen, self.full.weight, self.full.bias)
        logit, offset, log_std = conv3(F.silu(x1), self.head.weight, self.head.bias).float().split([1, 3, 1], 1)
        middle = points + _OFFSET * offset.movedim(1, -1)
        # At first a pixel's spread is about a thing's size.
        return Votes(logit[:, 0], middle, (log_std[:, 0] - 3.0).clamp(*_LOG_STD).exp())


def points_of(depth: Tensor, intrinsics: Tensor, camera_to_world: Tensor) -> Tensor:
    """Points of pictures, each of its own camera.

    Args: depth (B, H, W) metres along the optical axis, NaN unknown; intrinsics (B, 3, 3) or (3, 3) pixels;
    camera_to_world (B, 4, 4).
    Returns: (B, H, W, 3) metres in the world frame, NaN where the depth is.
    """
    height, width = depth.shape[-2:]
    k = intrinsics.to(depth).expand(len(depth), 3, 3)
    u = (torch.arange(width, device=depth.device) - k[:, 0, 2, None]) / k[:, 0, 0, None]
    v = (torch.arange(height, device=depth.device) - k[:, 1, 2, None]) / k[:, 1, 1, None]
    pose = camera_to_world.to(depth)[:, :3]
    across, down, ahead, origin = (pose[:, None, None, :, i] for i in range(4))
    rays = u[:, None, :, None] * across + v[:, :, None, None] * down + ahead
    return rays * depth[..., None] + origin


def _seen(frames: Tensor, points: Tensor, drawn: Tensor | None) -> Tensor:
    """What the network is shown, (B, 11, H, W)."""
    place = points.movedim(-1, 1).nan_to_num().clamp(-_FAR, _FAR)
    fine = (place[:, 2:] / _FINE).clamp(-3, 3)
    if drawn is None:
        robot = frames.new_zeros(len(frames), 2, *frames.shape[2:])
    else:
        robot = torch.stack([(drawn[:, 0] > 0).to(frames.dtype), drawn[:, 2].to(frames.dtype)], 1)
        robot = F.interpolate(robot, scale_factor=STRIDE, mode="nearest")
    return torch.cat([frames, place, fine, robot], 1)
