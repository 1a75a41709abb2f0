"""The number format in which a network is trained."""

from typing import Literal

import torch

Precision = Literal["bf16", "float32"]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Around a network's forward pass: products in bfloat16, or (for exact comparisons) everything in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
