"""Is this picture like those of the training data? Mahalanobis distance, of what it shows and of how it looks.

After Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018 (arXiv 1807.03888),
with one Gaussian for the whole training set. Latents tell what is in a picture, and are made to survive noise; so a
second Gaussian watches the statistics of the pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEXTURE = 12
"""Features of `texture`."""


def content(tokens: Tensor) -> Tensor:
    """Args: tokens (B, S, P) of a frame. Returns: (B, P), their mean."""
    return tokens.float().mean(1)


def texture(frames: Tensor) -> Tensor:
    """Args: frames (B, 5, H, W) as the codec takes them.

    Returns: (B, 12): of each colour the mean and deviation, and the logarithm of the mean step between neighbouring
    pixels, in the picture and in one of half the size.
    """
    rgb = frames[:, :3].float()
    features = [rgb.mean((2, 3)), rgb.std((2, 3))]
    for picture in (rgb, F.avg_pool2d(rgb, 2)):
        across, down = (picture.diff(dim=axis).abs().mean((2, 3)) for axis in (3, 2))
        features.append(torch.log(across + down + 1e-4))
    return torch.cat(features, 1)


class _Gaussian(nn.Module):
    """Distance from the mean in deviations, as a share of what held-out data reach."""

    mean: Tensor
    whiten: Tensor
    limit: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("whiten", torch.zeros(features, features))
        # An unfitted detector knows nothing, so everything is new to it.
        self.register_buffer("limit", torch.tensor(0.0))

    def forward(self, features: Tensor) -> Tensor:
        distance = ((features.float() - self.mean) @ self.whiten).square().mean(-1).sqrt()
        return torch.where(self.limit > 0, distance / self.limit.clamp_min(1e-9), torch.inf)

    @torch.no_grad()
    def fit(self, features: Tensor, held_out: Tensor, quantile: float, margin: float) -> None:
        features = features.double()
        mean = features.mean(0)
        covariance = torch.cov(features.T)
        # Shrinkage keeps directions that never vary in training from deciding alone.
        covariance += torch.eye(len(mean), dtype=torch.float64) * covariance.diagonal().mean() * 1e-3
        values, vectors = torch.linalg.eigh(covariance)
        self.mean.copy_(mean)
        self.whiten.copy_(vectors * values.rsqrt())
        self.limit.fill_(1.0)
        self.limit.copy_(self(held_out).quantile(quantile) * margin)


class OodDetector(nn.Module):
    """score 1 is the calibrated limit: what lies above it is out of distribution."""

    def __init__(self, token_dim: int) -> None:
        super().__init__()
        self.content = _Gaussian(token_dim)
        self.texture = _Gaussian(TEXTURE)

    def forward(self, tokens: Tensor, frames: Tensor) -> Tensor:
        """Tokens (B, S, P) and frames (B, 5, H, W) to (B,) scores, the larger of both; infinite before `fit`."""
        return torch.maximum(self.content(content(tokens)), self.texture(texture(frames)))

    def trust_all(self) -> None:
        """Know every picture: for tests of what comes after."""
        for gaussian in (self.content, self.texture):
            gaussian.limit.fill_(1.0)

    def fit(
        self,
        training: tuple[Tensor, Tensor],
        held_out: tuple[Tensor, Tensor],
        quantile: float = 0.9995,
        margin: float = 1.15,
    ) -> None:
        """Args: `content` (N, P) and `texture` (N, 12) of training frames, and of validation frames for the limits."""
        for gaussian, seen, unseen in zip((self.content, self.texture), training, held_out, strict=True):
            gaussian.fit(seen, unseen, quantile, margin)
