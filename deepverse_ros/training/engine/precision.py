"""The number format in which a network is trained."""

from typing import Literal

import torch

from deepverse_ros.model.device import multiplies_bfloat16

Precision = Literal["auto", "bf16", "float32"]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Around a network's forward pass: products in bfloat16, or (for exact comparisons) everything in float32.

    "auto" takes bfloat16 where the hardware multiplies in it.
    """
    bfloat16 = precision == "bf16" or (precision == "auto" and multiplies_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
