"""Named quantities of a robot (what it is commanded, what it measures) to one embedding."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from deepverse_ros.errors import ShapeError
from deepverse_ros.robot.embodiment import Embodiment, Modality

# Frequencies of the sine features: joint angles act on the picture through sines and cosines.
_OCTAVES = 3

Values = np.ndarray | Tensor | Mapping[str, np.ndarray | Tensor]


def pack(modalities: Sequence[Modality], values: Values, field: str, gaps: bool = False) -> Tensor:
    """One vector per step from a dictionary of modalities; modalities that are not in it become NaN: absent.

    Args: values: (..., A) in the listed order, all present, or name -> (..., dim); field: for error messages; gaps:
    whether NaN stands for what is unknown.
    Returns: (..., A) float32.
    Raises: ShapeError for an unknown name, for another dimension, for infinite numbers, and for NaN without gaps.
    """
    known = {m.name: m for m in modalities}
    dim = sum(m.dim for m in modalities)
    if not isinstance(values, Mapping):
        whole = torch.as_tensor(values, dtype=torch.float32)
        if whole.ndim < 1 or whole.shape[-1] != dim:
            raise ShapeError(f"{field}: expected (..., {dim}) for {list(known)}, got {tuple(whole.shape)}")
        return _checked(whole, field, gaps)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ShapeError(f"{field}: unknown modalities {unknown}; this embodiment has {list(known)}")
    if not values:
        raise ShapeError(f"{field}: no modality given; this embodiment has {list(known)}")
    given = {n: _checked(torch.as_tensor(v, dtype=torch.float32), f"{field}['{n}']", gaps) for n, v in values.items()}
    lead = next(iter(given.values())).shape[:-1]
    for name, tensor in given.items():
        if tensor.shape != (*lead, known[name].dim):
            raise ShapeError(f"{field}['{name}']: expected {(*lead, known[name].dim)}, got {tuple(tensor.shape)}")
    device = next(iter(given.values())).device
    parts = [given[m.name] if m.name in given else torch.full((*lead, m.dim), torch.nan) for m in modalities]
    return torch.cat([part.to(device) for part in parts], -1)


def _checked(tensor: Tensor, field: str, gaps: bool) -> Tensor:
    wrong = tensor.isinf() if gaps else ~tensor.isfinite()
    if wrong.any():
        what = "infinite" if gaps else "NaN or infinite"
        raise ShapeError(f"{field}: {what} at index {wrong.nonzero()[0].tolist()}")
    return tensor


class ModalityEncoder(nn.Module):
    """One linear embedding per modality, summed; an absent modality contributes a learned vector instead.

    Values are first scaled to [-1, 1] by their limits and expanded with sines and cosines.
    """

    lower: Tensor
    upper: Tensor

    def __init__(self, modalities: Sequence[Modality], width: int) -> None:
        super().__init__()
        self.dims = {m.name: m.dim for m in modalities}
        # Not in the checkpoint: they stand in the embodiment, and 16 bits would round them.
        for name, limits in _limits(modalities).items():
            self.register_buffer(name, limits, persistent=False)
        features = 1 + 2 * _OCTAVES
        self.embed = nn.ModuleDict({name: nn.Linear(dim * features, width) for name, dim in self.dims.items()})
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name in self.dims})

    def normalised(self, values: Tensor) -> Tensor:
        """(..., A) physical units to [-1, 1] between the limits."""
        return (values - self.lower) / (self.upper - self.lower) * 2 - 1

    def physical(self, normalised: Tensor) -> Tensor:
        """The inverse of `normalised`."""
        return (normalised + 1) / 2 * (self.upper - self.lower) + self.lower

    def forward(self, values: Tensor) -> Tensor:
        """Args: values (..., A) float32 physical units; a modality with a NaN is absent.

        Returns: (..., width) in the dtype of the weights. Raises: ShapeError if A is another dimension.
        """
        if values.shape[-1] != self.lower.shape[0]:
            raise ShapeError(f"{list(self.dims)}: expected {self.lower.shape[0]} values, got {values.shape[-1]}")
        x = self.normalised(values)
        waves = [f(x * (math.pi / 2 * 2**k)) for k in range(_OCTAVES) for f in (torch.sin, torch.cos)]
        features = torch.stack([x, *waves], dim=-1)
        embedded = []
        for name, part in zip(self.dims, features.split(list(self.dims.values()), -2), strict=True):
            known = torch.isfinite(part).flatten(-2).all(-1, keepdim=True)
            linear = self.embed[name]
            there = linear(part.flatten(-2).nan_to_num().to(next(linear.parameters()).dtype))
            embedded.append(torch.where(known, there, self.absent[name]))
        return torch.stack(embedded).sum(0)

    def restore_limits(self, modalities: Sequence[Modality], device: torch.device) -> None:
        """Limits in float32 again, after the module was converted: radians need more digits than bfloat16 has."""
        for name, limits in _limits(modalities).items():
            setattr(self, name, limits.to(device))


def _limits(modalities: Sequence[Modality]) -> dict[str, Tensor]:
    values = {name: np.concatenate([getattr(m, name) for m in modalities]) for name in ("lower", "upper")}
    return {name: torch.from_numpy(limits.astype(np.float32)) for name, limits in values.items()}


class ActionEncoder(ModalityEncoder):
    """Multi-modal actions of an embodiment, mixed by an MLP.

    `forward` takes (..., A) vectors; `pack` makes them from dictionaries such as {"steering": ..., "throttle": ...}.
    """

    def __init__(self, embodiment: Embodiment, width: int) -> None:
        super().__init__(embodiment.modalities, width)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, values: Tensor) -> Tensor:
        return self.mix(super().forward(values))
