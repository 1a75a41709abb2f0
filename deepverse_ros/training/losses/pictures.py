"""What the codec is trained on: pictures and depth, with weight on what moves."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros.model.codec import Decoded


def ssim(a: Tensor, b: Tensor, window: int = 8, stride: int = 4) -> Tensor:
    """Structural similarity (B,) of pictures (B, C, H, W) in [0, 1] (Wang et al. 2004).

    Uniform windows that overlap by half: a loss does not need one around every pixel.
    """
    c1, c2 = 0.01**2, 0.03**2

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, stride)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    return (((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean((1, 2, 3))


CHANGED = 0.05
"""A pixel has changed where one of its colours, in [0, 1], differs by more."""


def codec_loss(
    decoded: Decoded, rgb: Tensor, disparity: Tensor, previous_rgb: Tensor, moving_weight: float,
    beside_robot: Tensor | None = None, world_weight: float = 0.0,
) -> dict[str, Tensor]:  # fmt: skip
    """Named scalars; "total" is what is minimised.

    Pixels that differ from `previous_rgb` weigh `1 + moving_weight` times as much as those that stand still, or small
    things would not survive; those that the robot did not change `world_weight` more, since things are small.

    Args:
        rgb: (B, 3, H, W).
        disparity: (B, H, W), NaN unknown.
        previous_rgb: the newest frame that may be copied.
        beside_robot: (B, H, W) bool: where the robot is in neither; None where nobody knows.
    """
    moving = (rgb - previous_rgb).abs().amax(1) > CHANGED
    weight = 1 + moving_weight * _grown(moving)
    if beside_robot is not None:
        weight = weight + world_weight * _grown(moving & beside_robot) * beside_robot
    error = decoded.rgb - rgb
    rgb_loss = (weight * (error.abs().mean(1) + 4 * error.square().mean(1))).mean()
    similarity = ssim(decoded.rgb, rgb).mean()

    known = torch.isfinite(disparity)
    truth = torch.where(known, disparity, decoded.disparity)
    gap = (decoded.disparity - truth).abs()
    laplace = gap * torch.exp(-decoded.log_scale) + decoded.log_scale
    depth_nll = (laplace * known).sum() / known.sum().clamp_min(1)
    depth_l1 = (weight * gap * known).sum() / known.sum().clamp_min(1)
    slope = _gradient_gap(decoded.disparity, truth)
    total = rgb_loss + 0.1 * (1 - similarity) + 2 * depth_l1 + 0.01 * depth_nll + slope
    return {"total": total, "rgb": rgb_loss, "ssim": similarity, "depth_l1": depth_l1, "mse": error.square().mean()}


def _grown(mask: Tensor) -> Tensor:
    """A mask (B, H, W) and the pixels next to it, as 0 and 1."""
    return F.max_pool2d(mask.float()[:, None], 3, 1, 1)[:, 0]


def _gradient_gap(a: Tensor, b: Tensor) -> Tensor:
    """Mean difference of the depth gradients: edges stay where they are."""
    d = a - b
    return d.diff(dim=1).abs().mean() + d.diff(dim=2).abs().mean()
