"""Figures that compare predicted frames with true ones, and the sampling that the baselines need.

Pictures are floats in [0, 1]; depth is in metres with NaN unknown. "*" is any number of leading dimensions.
"""

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from deepverse_ros.errors import ShapeError
from deepverse_ros.model.fidelity import require_same_shape


def ssim(predicted: Tensor, true: Tensor) -> Tensor:
    """Structural similarity of each frame (11x11 Gaussian window). Args: (*, 3, H, W) in [0, 1]. Returns: (*)."""
    require_same_shape(predicted, true)
    lead, picture = predicted.shape[:-3], predicted.shape[-3:]
    value = structural_similarity_index_measure(
        predicted.float().reshape(-1, *picture),
        true.float().reshape(-1, *picture),
        data_range=1.0,
        reduction="none",
    )
    return value.reshape(lead)  # type: ignore[union-attr]


def depth_abs_rel(predicted: Tensor, true: Tensor, where: Tensor | None = None) -> Tensor:
    """Mean of |predicted - true| / true of each depth image, over the pixels that are known in both.

    Args: predicted, true (*, H, W) metres; where (*, H, W) bool restricts the pixels further.
    Returns: (*), NaN for an image in which no pixel counts.
    """
    require_same_shape(predicted, true)
    counts = predicted.isfinite() & true.isfinite() & (true > 0)
    if where is not None:
        counts &= where
    relative = torch.where(counts, (predicted - true).abs() / true, 0.0)
    return relative.sum(dim=(-2, -1)) / counts.sum(dim=(-2, -1))


def changed_pixels(rgb: Tensor, depth: Tensor, last_rgb: Tensor, last_depth: Tensor) -> Tensor:
    """Where the true future differs from the last frame that was seen.

    A pixel moves when a colour changed by more than 0.1 or the depth by more than 3 cm.

    Args:
        rgb: (B, H, 3, h, w).
        depth: (B, H, h, w).
        last_rgb: (B, 3, h, w).
        last_depth: (B, h, w).
    Returns: (B, H, h, w) bool.
    """
    colour = (rgb - last_rgb[:, None]).abs().amax(dim=-3) > 0.1
    return colour | ((depth - last_depth[:, None]).abs() > 0.03)


def gap_closed(persistence: float, model: float, codec: float) -> float | None:
    """Share of the way from persistence to the codec's ceiling, from mean squared errors; None where there is none."""
    return (persistence - model) / (persistence - codec) if persistence > codec else None


def derangement(groups: np.ndarray, seed: int) -> np.ndarray:
    """A permutation that gives every element one of another group.

    Args: groups (N,) labels, such as the episode of each window. Returns: (N,) indices with
    groups[result] != groups everywhere.
    Raises: ShapeError where none exists: one group holds more than half of the elements.
    """
    groups = np.asarray(groups)
    count = len(groups)
    _, sizes = np.unique(groups, return_counts=True)
    largest = int(sizes.max(initial=0))
    if count == 0 or 2 * largest > count:
        raise ShapeError(
            f"shuffling needs windows of several episodes: the largest of {len(sizes)} has {largest} of {count} windows"
        )
    # Sorted by group, a shift by anything from `largest` to `count - largest` leaves every group.
    rng = np.random.default_rng(seed)
    label = rng.permutation(len(sizes))[np.unique(groups, return_inverse=True)[1]]
    order = np.lexsort((rng.random(count), label))
    shift = int(rng.integers(largest, count - largest + 1))
    out = np.empty(count, np.int64)
    out[order] = np.roll(order, -shift)
    return out
