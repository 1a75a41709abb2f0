"""What the novelty detector is fitted on: frames of the training data, as cameras may give them."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros.model.dynamics import to_tokens
from deepverse_ros.model.ood import content, texture
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.engine.precision import Precision, autocast

# Neighbouring frames look alike; every fourth is enough.
_STRIDE = 4


@torch.inference_mode()
def novelty_features(model: WorldModel, episodes: Episodes, precision: Precision = "auto") -> tuple[Tensor, Tensor]:
    """Content (N, P) and texture (N, 12) of every fourth frame.

    Content with depth and without, because a goal picture has none; texture also as a camera of a higher resolution
    would give it, whose pictures are smoother once they are scaled down.
    """
    times = np.arange(0, episodes.length, _STRIDE)
    contents, textures = [], []
    for e in range(len(episodes)):
        frames = episodes.frames(np.full_like(times, e), times, model.device)
        blind = frames.clone()
        blind[:, 3:] = 0
        with autocast(model.device, precision):
            cells, _, _ = model.codec.encode(torch.cat([frames, blind]))
        contents.append(content(to_tokens(cells, model.config.dynamics.token_patch)).cpu())
        smooth = F.avg_pool2d(F.pad(frames, (0, 1, 0, 1), mode="replicate"), 2, 1)
        textures.append(texture(torch.cat([frames, (frames + smooth) / 2, smooth])).cpu())
    return torch.cat(contents), torch.cat(textures)
