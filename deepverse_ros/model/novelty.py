"""Is this picture like those of the training data? Mahalanobis distance of pooled latents.

After Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018 (arXiv 1807.03888),
with one Gaussian for the whole training set.
"""

import torch
from torch import Tensor, nn


def pooled_features(latents: Tensor) -> Tensor:
    """Args: latents (B, D, h, w). Returns: (B, 2D), means and deviations over the cells."""
    cells = latents.float().flatten(2)
    return torch.cat([cells.mean(-1), cells.std(-1)], -1)


class Novelty(nn.Module):
    """score 1 is the calibrated limit: what lies above it is out of distribution."""

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
        """(B, F) features to (B,) scores; infinite before `fit`."""
        distance = ((features.float() - self.mean) @ self.whiten).square().mean(-1).sqrt()
        return torch.where(self.limit > 0, distance / self.limit.clamp_min(1e-9), torch.inf)

    @torch.no_grad()
    def fit(self, features: Tensor, held_out: Tensor, quantile: float = 0.999, margin: float = 1.15) -> None:
        """Args: features (N, F) of training frames, held_out (M, F) of validation frames, which set the limit."""
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
