"""Where the tool is, read from a frame's latent, with the spread that the network itself expects."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Standard deviations between 1 mm and 1 m.
_LOG_STD = (-6.9, 0.0)


class ToolReadout(nn.Module):
    def __init__(self, tokens: int, token_dim: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(token_dim, 48)
        self.body = nn.Sequential(
            nn.Linear(48 * tokens, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 4)
        )

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Args: latents (..., S, P). Returns: position (..., 3) metres in the base frame, std (...) metres."""
        x = F.silu(self.squeeze(latents.float())).flatten(-2)
        position, log_std = self.body(x).split([3, 1], -1)
        return position, log_std[..., 0].clamp(*_LOG_STD).exp()


def gaussian_nll(position: Tensor, std: Tensor, truth: Tensor) -> Tensor:
    """Negative log-likelihood (...) of an isotropic Gaussian; position and truth (..., 3), std (...)."""
    return ((position - truth) ** 2).sum(-1) / (2 * std**2) + 3 * torch.log(std)
