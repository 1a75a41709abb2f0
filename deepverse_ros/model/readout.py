"""Where the tool is, with the spread that the network itself expects: read from a picture, or from an imagined frame.

Two networks, because they are told different things. A picture (what the camera sees now, a goal) is read pixel by
pixel, and nobody says how the joints stand in it. An imagined frame has a latent, which tells what happens to the
arm, and the action that leads to it, which tells exactly where the joints shall be.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.model.codec import IN_CHANNELS, Block

# Standard deviations between 1 mm and 1 m.
_LOG_STD = (-6.9, 0.0)
_HARMONICS = (1, 2)


class PictureReadout(nn.Module):
    """The tool in a frame, at the resolution of the model."""

    def __init__(self, cells: tuple[int, int]) -> None:
        """Args: cells: latent cells (rows, columns) of a frame."""
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(IN_CHANNELS, 24, 6, stride=4, padding=1),
            Block(24),
            nn.SiLU(),
            nn.Conv2d(24, 56, 4, stride=2, padding=1),
            Block(56),
            Block(56),
            nn.SiLU(),
            nn.Conv2d(56, 16, 4, stride=2, padding=1),
            nn.SiLU(),
        )
        # Flat, not pooled: where something is seen is all that counts.
        self.head = nn.Sequential(
            nn.Linear(16 * cells[0] * cells[1], 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 4)
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Args: frames (B, 5, H, W). Returns: position (B, 3) metres in the base frame, std (B,) metres."""
        return _position_and_std(self.head(self.trunk(frames).flatten(1)))


class OutcomeReadout(nn.Module):
    """The tool in an imagined frame.

    For an arm that moves freely the joints of the action are enough; that it stands elsewhere, or was stopped by
    something, only the latent shows.
    """

    scale: Tensor
    centre: Tensor
    angles: Tensor

    def __init__(self, embodiment: Embodiment, tokens: int, token_dim: int, width: int = 192) -> None:
        super().__init__()
        span = torch.from_numpy(embodiment.upper - embodiment.lower)
        self.register_buffer("scale", 2 / span, persistent=False)
        self.register_buffer("centre", torch.from_numpy(embodiment.lower) + span / 2, persistent=False)
        angles = torch.tensor([m.units == "rad" for m in embodiment.modalities for _ in range(m.dim)])
        self.register_buffer("angles", angles.nonzero()[:, 0], persistent=False)
        self.squeeze = nn.Linear(token_dim, 32)
        self.latent = nn.Linear(32 * tokens, width)
        self.action = nn.Linear(embodiment.action_dim + 2 * len(_HARMONICS) * len(self.angles), width)
        self.body = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 4)
        )

    def forward(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Args: latents (..., S, P); actions (..., A) that lead to these frames, physical units.

        Returns: position (..., 3) metres in the base frame, std (...) metres.
        """
        seen = self.latent(F.silu(self.squeeze(latents.float())).flatten(-2))
        angles = actions[..., self.angles]
        waves = [f(k * angles) for k in _HARMONICS for f in (torch.sin, torch.cos)]
        told = self.action(torch.cat([(actions - self.centre) * self.scale, *waves], -1))
        return _position_and_std(self.body(seen + told))


def _position_and_std(raw: Tensor) -> tuple[Tensor, Tensor]:
    position, log_std = raw.float().split([3, 1], -1)
    return position, log_std[..., 0].clamp(*_LOG_STD).exp()


def gaussian_nll(position: Tensor, std: Tensor, truth: Tensor) -> Tensor:
    """Negative log-likelihood (...) of an isotropic Gaussian; position and truth (..., 3), std (...)."""
    return ((position - truth) ** 2).sum(-1) / (2 * std**2) + 3 * torch.log(std)


def robust_nll(position: Tensor, std: Tensor, truth: Tensor) -> Tensor:
    """The mean of `gaussian_nll`, each example weighted by its detached spread (beta-NLL, arXiv 2203.09168).

    Without the weights a few sharp examples own the gradient.
    """
    return (gaussian_nll(position, std, truth) * std.detach()).mean()
