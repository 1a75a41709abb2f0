"""Where the tool is, with the spread that the network itself expects: read from a picture, or from an imagined frame.

Two networks, because they are told different things. A picture (what the camera sees now, a goal) is read pixel by
pixel, and nobody says how the joints stand in it. An imagined frame has a latent, which tells what happens to the
arm, and the action that leads to it, which tells exactly where the joints shall be.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.model.codec import IN_CHANNELS, Block

# A clearance beyond this is as good as free, metres.
FREE = 0.5
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
        return position_and_std(self.head(self.trunk(frames).flatten(1)))


class ActionFeatures(nn.Module):
    """Actions as numbers that a small network can use: scaled to [-1, 1], angles also as sines and cosines."""

    scale: Tensor
    centre: Tensor
    angles: Tensor

    def __init__(self, embodiment: Embodiment) -> None:
        super().__init__()
        span = torch.from_numpy(embodiment.upper - embodiment.lower)
        self.register_buffer("scale", 2 / span, persistent=False)
        self.register_buffer("centre", torch.from_numpy(embodiment.lower) + span / 2, persistent=False)
        angles = torch.tensor([m.units == "rad" for m in embodiment.modalities for _ in range(m.dim)])
        self.register_buffer("angles", angles.nonzero()[:, 0], persistent=False)
        self.dim = embodiment.action_dim + 2 * len(_HARMONICS) * len(self.angles)

    def forward(self, actions: Tensor) -> Tensor:
        """(..., A) physical units, NaN (absent) as the middle of the range, to (..., dim)."""
        actions = torch.where(torch.isfinite(actions), actions, self.centre)
        angles = actions[..., self.angles]
        waves = [f(k * angles) for k in _HARMONICS for f in (torch.sin, torch.cos)]
        return torch.cat([(actions - self.centre) * self.scale, *waves], -1)


class Outcome(NamedTuple):
    """tool_position (..., 3) metres in the base frame; tool_std (...) metres, of each axis; clearance (...) metres to
    the nearest thing, at most FREE; clearance_std (...) metres.
    """

    tool_position: Tensor
    tool_std: Tensor
    clearance: Tensor
    clearance_std: Tensor


class OutcomeReadout(nn.Module):
    """The tool in an imagined frame, and how near the robot is to what it might touch.

    Where the tool is, the joints of the action tell for an arm that moves freely; that it stands elsewhere, or was
    stopped by something, and what is in its way, only the latent shows.
    """

    def __init__(self, embodiment: Embodiment, tokens: int, token_dim: int, width: int = 160) -> None:
        super().__init__()
        self.features = ActionFeatures(embodiment)
        self.squeeze = nn.Linear(token_dim, 32)
        self.latent = nn.Linear(32 * tokens, width)
        self.action = nn.Linear(self.features.dim, width)
        self.body = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 6)
        )

    def forward(self, latents: Tensor, actions: Tensor) -> Outcome:
        """Args: latents (..., S, P); actions (..., A) that lead to these frames, physical units."""
        seen = self.latent(F.silu(self.squeeze(latents.float())).flatten(-2))
        tool, clearance = self.body(seen + self.action(self.features(actions))).split([4, 2], -1)
        return Outcome(*position_and_std(tool), clearance[..., 0].float(), _std(clearance[..., 1]))


def position_and_std(raw: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 4) outputs of a network to position (..., 3) metres and std (...) metres."""
    return raw[..., :3].float(), _std(raw[..., 3])


def _std(raw: Tensor) -> Tensor:
    return raw.float().clamp(*_LOG_STD).exp()


def gaussian_nll(error: Tensor, std: Tensor) -> Tensor:
    """Negative log-likelihood (...) of an error (..., D) under an isotropic Gaussian of deviation std (...)."""
    return error.square().sum(-1) / (2 * std**2) + error.shape[-1] * torch.log(std)


def robust_nll(error: Tensor, std: Tensor) -> Tensor:
    """`gaussian_nll` (...), each example weighted by its detached spread (beta-NLL, arXiv 2203.09168).

    Without the weights a few sharp examples own the gradient.
    """
    return gaussian_nll(error, std) * std.detach()
