"""The clean plate: the picture of what stands fast, with neither the robot nor what may move before it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def clean_plate(frames: Tensor, covered: Tensor) -> Tensor:
    """What stands behind robot and things, from every frame of a window in which it is seen.

    Of each pixel the newest frame that shows it; what none shows is filled from around it, smoothly.

    Args:
        frames: (B, T, 5, H, W) of a camera that stands still, oldest first: rgb, sqrt-disparity, 1 where that is known.
            Of a camera that moves, only the newest frame.
        covered: (B, T, H, W) bool: where the robot or a thing is, a pixel or two around them included (see `dilated`).
    Returns: (B, 5, H, W). A pixel that is covered in no frame, or seen in some, is exactly that frame's; one that is
    filled has a disparity, where any is known, and yet counts as not known.
    """
    plate, hidden = frames[:, -1], covered[:, -1]
    for older in range(frames.shape[1] - 2, -1, -1):
        shown = hidden & ~covered[:, older]
        plate = torch.where(shown[:, None], frames[:, older], plate)
        hidden = hidden & covered[:, older]
    if not bool(hidden.any()):
        return plate
    seen = ~hidden[:, None]
    known = seen & (plate[:, 4:] > 0.5)
    guessed = torch.cat([_filled(plate[:, :3], seen), _filled(plate[:, 3:4], known)], 1)
    guessed = torch.cat([guessed, torch.zeros_like(guessed[:, :1])], 1)
    return torch.where(seen, plate, guessed)


def dilated(mask: Tensor, by: int) -> Tensor:
    """A mask (..., H, W) bool with everything that is at most `by` pixels away from it."""
    for axis in (-2, -1):
        for _ in range(by):
            # Bits that are shifted and joined: pooling costs ten times as much.
            length = mask.shape[axis] - 1
            grown = mask.clone()
            grown.narrow(axis, 1, length).logical_or_(mask.narrow(axis, 0, length))
            grown.narrow(axis, 0, length).logical_or_(mask.narrow(axis, 1, length))
            mask = grown
    return mask


def _filled(values: Tensor, known: Tensor) -> Tensor:
    """Values (B, C, H, W) where known (B, 1, H, W); elsewhere blended from what is known around, 0 if nothing is.

    Averages over ever larger squares, from which the gaps are filled again, coarse to fine (pull-push: Gortler et al.,
    "The Lumigraph", 1996).
    """
    weight = known.to(values.dtype)
    if values.shape[-2:] == (1, 1):
        return values * weight
    halved = F.avg_pool2d(torch.cat([values * weight, weight], 1), 2, ceil_mode=True, count_include_pad=False)
    share = halved[:, -1:]
    coarse = _filled(halved[:, :-1] / share.clamp_min(1e-6), share > 0)
    around = F.interpolate(coarse, values.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(known, values, around)
