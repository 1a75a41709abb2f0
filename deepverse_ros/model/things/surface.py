"""A thing's surface as few points: what the camera sees of it, and the same mirrored through its middle.

The side that nobody sees is taken to be like the one that is seen, which holds for boxes, cylinders and balls.
"""

import torch
from torch import Tensor

from deepverse_ros.model.things.slots import MOST, SURFACE


def surface_of(points: Tensor, pixels: Tensor, position: Tensor) -> Tensor:
    """The surfaces of things in pictures.

    Args: points (B, H, W, 3) metres in the base frame, NaN unknown; pixels (B, H, W) uint8, 1 + k where thing k is;
    position (B, 8, 3) of their middles, metres.
    Returns: (B, 8, 32, 3) metres relative to the middle: evenly among its pixels, each beside its mirror image; 0 where
    no pixel with depth shows the thing.
    """
    surface = points.new_zeros(len(points), MOST, SURFACE, 3)
    known = torch.isfinite(points).all(-1)
    share = (torch.arange(SURFACE // 2, device=points.device) + 0.5) / (SURFACE // 2)
    for b in range(len(points)):
        labels = torch.where(known[b], pixels[b], 0)
        for k in torch.unique(labels).tolist():
            if k == 0 or k > MOST:
                continue
            found = points[b][labels == k]
            chosen = found[(share * len(found)).long()] - position[b, k - 1]
            surface[b, k - 1] = torch.stack([chosen, -chosen], 1).flatten(0, 1)
    return surface
