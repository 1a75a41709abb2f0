"""The coarse level: a frame as one vector, and an ensemble of small networks that says how actions change it.

It ranks hundreds of plans in the time in which the fine level imagines a few. The vector holds the leading principal
components of every token, so that it means the same in every training run; the heads of the ensemble are distilled
from the fine level, each on its own bootstrap of the episodes, and their spread tells how little they know
(Lakshminarayanan et al., "Deep Ensembles", 2017, arXiv 1612.01474).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.readout import CAMERA_FEATURES, ActionFeatures, position_and_std
from deepverse_ros.model.things.slots import Things

_TOGETHER = 256
"""Plans whose imagined vectors are in memory at once: with more, the caches of a CPU no longer hold them either."""


@dataclass(frozen=True)
class CoarseFuture:
    """The outcome of N plans over H steps, without pictures.

    embedding (N, H, E): mean of the heads; readout["tool_position"] (N, H, 3) metres in the base frame and
    readout["clearance"] (N, H) metres, means of the heads; uncertainty (N, H) metres: standard deviation of the tool
    position, what the heads expect and how far they are apart; things (N, H, 8): what becomes of things, None for a
    model that knows none.
    """

    embedding: Tensor
    readout: Mapping[str, Tensor]
    uncertainty: Tensor
    things: Things | None = None

    def select(self, plans: Any) -> "CoarseFuture":
        """The futures of some plans only."""
        index = torch.as_tensor(plans, device=self.embedding.device)
        readout = {name: value[index] for name, value in self.readout.items()}
        things = None if self.things is None else self.things[index]
        return CoarseFuture(self.embedding[index], readout, self.uncertainty[index], things)


class Coarse(nn.Module):
    """Pooled vector, ensemble of heads, readouts of tool position and clearance."""

    mean: Tensor
    basis: Tensor

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        c = config.coarse
        self.heads = c.heads
        self.register_buffer("mean", torch.zeros(config.token_dim))
        self.register_buffer("basis", torch.zeros(config.token_dim, c.token_dim))
        self.features = ActionFeatures(config.embodiment)
        embedding = config.tokens * c.token_dim
        told = self.features.dim + (CAMERA_FEATURES if config.posed else 0)
        self.posed = config.posed
        self.weights = nn.ParameterList(
            _weight(c.heads, fan_in, fan_out)
            for fan_in, fan_out in ((embedding + told, c.hidden), (c.hidden, c.hidden), (c.hidden, embedding))
        )
        nn.init.zeros_(self.weights[-1])  # at first nothing changes
        self.biases = nn.ParameterList(torch.zeros(c.heads, 1, n) for n in (c.hidden, c.hidden, embedding))
        self.read = nn.Sequential(
            nn.Linear(embedding + told, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 5)
        )

    @torch.no_grad()
    def fit_pool(self, tokens: Tensor) -> None:
        """Take the leading principal components of tokens (N, P), scaled to unit variance."""
        tokens = tokens.double()
        mean = tokens.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(tokens.T))
        # Which way along a component is up says nothing: its largest entry does.
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        leading = slice(-self.basis.shape[1], None)
        self.mean.copy_(mean)
        self.basis.copy_(vectors[:, leading] * values[leading].clamp_min(1e-6).rsqrt())

    def pool(self, latents: Tensor) -> Tensor:
        """(..., S, P) tokens to (..., E)."""
        return ((latents.float() - self.mean) @ self.basis).flatten(-2)

    def step(self, embedding: Tensor, told: Tensor) -> Tensor:
        """One frame ahead, by every head.

        Args: embedding (heads, N, E); told (N, F) or (heads, N, F): features of the action. Returns: (heads, N, E).
        """
        x = torch.cat([embedding, told.expand(self.heads, -1, -1)], -1)
        for weight, bias in zip(self.weights[:-1], list(self.biases)[:-1], strict=True):
            x = F.silu(torch.baddbmm(bias, x, weight))
        return embedding + torch.baddbmm(self.biases[-1], x, self.weights[-1])

    def outcome(self, embedding: Tensor, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read (..., E) with the features (..., F) of the action that led there.

        Returns: tool position (..., 3) metres in the base frame, its std (...) metres, clearance (...) metres.
        """
        raw, clearance = self.read(torch.cat([embedding, told], -1)).split([4, 1], -1)
        return *position_and_std(raw), clearance[..., 0]

    def told(self, actions: Tensor, camera: Tensor | None = None) -> Tensor:
        """What the networks are told: (..., H, A) physical units, and (..., 13) of the camera, to (..., H, F)."""
        told = self.features(actions)
        if not self.posed:
            return told
        assert camera is not None
        return torch.cat([told, camera[..., None, :].expand(*told.shape[:-1], -1)], -1)

    def imagine(self, embedding: Tensor, actions: Tensor, camera: Tensor | None = None) -> CoarseFuture:
        """Of thousands of plans, _TOGETHER are imagined at once.

        Args:
            embedding: (E,) or (N, E) of the newest frame.
            actions: (N, H, A) physical units.
            camera: (1 or N, 13) see `readout.Camera`; needed where it is `posed`.
        """
        first, told = embedding.expand(len(actions), -1), self.told(actions, camera)
        parts = [self._imagine(*part) for part in zip(first.split(_TOGETHER), told.split(_TOGETHER), strict=True)]
        if len(parts) == 1:
            return parts[0]
        return CoarseFuture(
            torch.cat([part.embedding for part in parts]),
            {name: torch.cat([part.readout[name] for part in parts]) for name in parts[0].readout},
            torch.cat([part.uncertainty for part in parts]),
        )

    def _imagine(self, embedding: Tensor, told: Tensor) -> CoarseFuture:
        """Args: embedding (N, E); told (N, H, F)."""
        state = embedding.expand(self.heads, told.shape[0], -1)
        frames = []
        for t in range(told.shape[1]):
            state = self.step(state, told[:, t])
            frames.append(state)
        ahead = torch.stack(frames, 2)
        position, std, clearance = self.outcome(ahead, told.expand(self.heads, -1, -1, -1))
        spread = position.var(0, correction=0).mean(-1)  # per axis, as the std
        return CoarseFuture(
            embedding=ahead.mean(0),
            readout={"tool_position": position.mean(0), "clearance": clearance.mean(0)},
            uncertainty=(std.square().mean(0) + spread).sqrt(),
        )


def _weight(heads: int, fan_in: int, fan_out: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(heads, fan_in, fan_out) * fan_in**-0.5)
