"""How near pictures are to true ones. Pictures are floats in [0, 1]; "*" is any number of leading dimensions."""

from torch import Tensor

from deepverse_ros.errors import ShapeError

MSE_FLOOR = 1e-6
"""Frames closer than this count as equal (the rounding to 8 bits alone is 1.3e-6): a PSNR never exceeds 60 dB."""


def mse(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean squared error of each frame. Args: predicted, true (*, 3, H, W) in [0, 1]. Returns: (*)."""
    require_same_shape(predicted, true)
    return (predicted.float() - true.float()).square().mean(dim=(-3, -2, -1))


def psnr(predicted: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame in dB, over all its pixels and colours, at most 60.

    Args: predicted, true (*, 3, H, W) in [0, 1]. Returns: (*).
    """
    return -10 * mse(predicted, true).clamp(min=MSE_FLOOR).log10()


def require_same_shape(predicted: Tensor, true: Tensor) -> None:
    """Raises: ShapeError."""
    if predicted.shape != true.shape:
        raise ShapeError(f"predicted frames are {tuple(predicted.shape)}, the true ones {tuple(true.shape)}")
