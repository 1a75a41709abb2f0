"""What the novelty detector is fitted on: pooled latents of training frames, with and without depth."""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.novelty import pooled_features
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.dataset import Episodes

# Neighbouring frames look alike; every fourth is enough.
_STRIDE = 4


@torch.inference_mode()
def novelty_features(model: WorldModel, episodes: Episodes) -> Tensor:
    """(N, F) of every fourth frame, once with depth and once without: a goal picture has none."""
    times = np.arange(0, episodes.length, _STRIDE)
    features = []
    for e in range(len(episodes)):
        frames = episodes.frames(np.full_like(times, e), times, model.device)
        blind = frames.clone()
        blind[:, 3:] = 0
        with torch.autocast(model.device.type, torch.bfloat16):
            cells, _, _ = model.codec.encode(torch.cat([frames, blind]))
        features.append(pooled_features(cells).cpu())
    return torch.cat(features)
