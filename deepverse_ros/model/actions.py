"""Multi-modal action vectors to one embedding."""

import math

import torch
from torch import Tensor, nn

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import ShapeError

# Frequencies of the sine features: joint angles act on the picture through sines and cosines.
_OCTAVES = 3


class ActionEncoder(nn.Module):
    """One linear embedding per modality, summed; an absent modality contributes a learned vector instead.

    Values are first scaled to [-1, 1] by the embodiment's limits and expanded with sines and cosines.
    """

    lower: Tensor
    upper: Tensor

    def __init__(self, embodiment: Embodiment, width: int) -> None:
        super().__init__()
        self.slices = embodiment.slices
        self.register_buffer("lower", torch.from_numpy(embodiment.lower), persistent=False)
        self.register_buffer("upper", torch.from_numpy(embodiment.upper), persistent=False)
        features = 1 + 2 * _OCTAVES
        self.embed = nn.ModuleDict({m.name: nn.Linear(m.dim * features, width) for m in embodiment.modalities})
        self.absent = nn.ParameterDict({m.name: nn.Parameter(torch.zeros(width)) for m in embodiment.modalities})
        self.mix = nn.Sequential(
            nn.SiLU(), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width), nn.SiLU(),
            nn.Linear(2 * width, width),
        )  # fmt: skip

    def forward(self, actions: Tensor, present: frozenset[str] | None = None) -> Tensor:
        """Args: actions (..., A) float32 in physical units; present: names of the modalities that hold values.

        Returns: (..., width) in the dtype of the weights.
        Raises: ShapeError if A is not the embodiment's action dimension or a name is unknown.
        """
        if actions.shape[-1] != self.lower.shape[0]:
            raise ShapeError(f"actions: expected {self.lower.shape[0]} values per step, got {actions.shape[-1]}")
        unknown = set(present or ()) - set(self.slices)
        if unknown:
            raise ShapeError(f"modalities {sorted(unknown)} are unknown; this embodiment has {sorted(self.slices)}")
        x = (actions - self.lower) / (self.upper - self.lower) * 2 - 1
        waves = [f(x * (math.pi / 2 * 2**k)) for k in range(_OCTAVES) for f in (torch.sin, torch.cos)]
        features = torch.stack([x, *waves], dim=-1).to(next(self.mix.parameters()).dtype)
        embedded = [
            self.embed[name](features[..., where, :].flatten(-2))
            if present is None or name in present
            else self.absent[name].expand(*actions.shape[:-1], -1)
            for name, where in self.slices.items()
        ]
        return self.mix(torch.stack(embedded).sum(0))
