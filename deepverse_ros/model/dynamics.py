"""Next-latent prediction: a block-causal transformer, factored into space and time.

Every layer attends over the tokens of one frame; every `time_every`-th layer also attends over time, each token over
its own past. The action that leads to the next frame enters as a token and as adaptive layer norm (one shared
modulation with a bias per layer, as in PixArt-alpha, arXiv 2310.00426). The network predicts the clean next latent.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from deepverse_ros.model.actions import ActionEncoder
from deepverse_ros.model.config import WorldModelConfig

KeyValue = tuple[Tensor, Tensor]


@dataclass
class Suffix:
    """Preallocated keys and values of imagined frames, one pair per time layer: (N, S, H, heads, d)."""

    layers: list[KeyValue]
    length: int = 0


class _SpaceAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (M, S, width): attention over S."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        # Written out: for so few tokens the fused kernel's backward pass is several times slower on a CPU.
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
        return self.out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))


class _TimeAttention(nn.Module):
    """Causal attention of every token over its own past, with a learned bias per distance in frames."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.distance_bias = nn.Parameter(torch.zeros(heads, window))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, S, T, width) to q, k, v (B, S, T, heads, d)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return q * q.shape[-1] ** -0.5, k, v

    def bias(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Bias (heads, Tq, Tk) for frame indices; -inf for the future and beyond the window."""
        distance = queries[:, None] - keys[None, :]
        bias = self.distance_bias[:, distance.clamp(0, self.window - 1)]
        return bias.masked_fill((distance < 0) | (distance >= self.window), float("-inf"))

    def attend(self, q: Tensor, blocks: list[KeyValue], bias: Tensor) -> Tensor:
        """Attend over several key-value blocks without joining them: a prefix of batch 1 is never copied.

        q (N, S, Tq, heads, d); blocks of (N or 1, S, T, heads, d), in order; bias (heads, Tq, sum of T).
        """
        scores = torch.cat([_scores(q, k) for k, _ in blocks], -1) + bias
        weights = scores.softmax(-1).to(q.dtype).split([k.shape[2] for k, _ in blocks], -1)
        mixed = [_mix(w, v) for w, (_, v) in zip(weights, blocks, strict=True)]
        return self.out(sum(mixed[1:], mixed[0]).flatten(-2))


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """(N, S, heads, Tq, Tk) from q (N, S, Tq, heads, d) and k (N or 1, S, Tk, heads, d)."""
    if k.shape[0] == 1 and q.shape[0] > 1:
        return torch.einsum("nsqhd,skhd->nshqk", q, k[0])
    return torch.einsum("nsqhd,nskhd->nshqk", q, k)


def _mix(weights: Tensor, v: Tensor) -> Tensor:
    """(N, S, Tq, heads, d) from weights (N, S, heads, Tq, Tk) and v (N or 1, S, Tk, heads, d)."""
    if v.shape[0] == 1 and weights.shape[0] > 1:
        return torch.einsum("nshqk,skhd->nsqhd", weights, v[0])
    return torch.einsum("nshqk,nskhd->nsqhd", weights, v)


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, window: int, with_time: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.space = _SpaceAttention(width, heads)
        self.time = _TimeAttention(width, heads, window) if with_time else None
        self.time_norm = nn.LayerNorm(width) if with_time else None
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulation = nn.Parameter(torch.zeros(6, width))


class Dynamics(nn.Module):
    """Latents and actions to the next latents. A frame's latent is (S, P): S tokens of P numbers."""

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        width, heads = config.dynamics.width, config.dynamics.heads
        self.window = config.window
        self.actions = ActionEncoder(config.embodiment, width)
        self.embed = nn.Linear(config.token_dim, width)
        self.place = nn.Parameter(torch.randn(1 + config.tokens, width) * 0.02)
        modulation = nn.Linear(width, 6 * width)
        self.modulate = nn.Sequential(nn.SiLU(), modulation)
        self.layers = nn.ModuleList(
            _Layer(
                width, heads, self.window, with_time=i % config.dynamics.time_every == config.dynamics.time_every - 1
            )
            for i in range(config.dynamics.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.token_dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(modulation.weight)

    @property
    def _time_layers(self) -> list[_TimeAttention]:
        return [layer.time for layer in self._layers if layer.time is not None]

    @property
    def _layers(self) -> list[_Layer]:
        return cast(list[_Layer], list(self.layers))

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predict every next frame of a window from the frames before it.

        Args: latents (B, T, S, P); actions (B, T, A): actions[:, t] leads from frame t to t+1.
        Returns: (B, T, S, P) float32: the prediction of frame t+1 at place t.
        """
        return self._run(latents, actions, None, None)[0]

    def prefix(self, latents: Tensor, actions: Tensor) -> list[KeyValue]:
        """Keys and values (B, S, T, heads, d) per time layer of frames whose following action is known."""
        if latents.shape[1] == 0:
            return [(key[:, :, :0], value[:, :, :0]) for key, value in self.suffix(latents.shape[0], 1).layers]
        return self._run(latents, actions, None, None)[1]

    def suffix(self, plans: int, steps: int) -> Suffix:
        """An empty cache for `steps` imagined frames of `plans` plans."""

        def empty(attention: _TimeAttention) -> Tensor:
            shape = (plans, self.place.shape[0], steps, attention.heads, self.embed.out_features // attention.heads)
            return self.embed.weight.new_empty(shape)

        return Suffix([(empty(attention), empty(attention)) for attention in self._time_layers])

    def step(self, latent: Tensor, action: Tensor, prefix: list[KeyValue], suffix: Suffix) -> Tensor:
        """One frame ahead; the suffix grows by this frame.

        Args: latent (N, S, P); action (N, A). Returns: (N, S, P) float32.
        """
        return self._run(latent[:, None], action[:, None], prefix, suffix)[0][:, 0]

    def _run(
        self, latents: Tensor, actions: Tensor, prefix: list[KeyValue] | None, suffix: Suffix | None
    ) -> tuple[Tensor, list[KeyValue]]:
        batch, time = latents.shape[:2]
        action = self.actions(actions)
        tokens = self.embed(latents.to(self.embed.weight.dtype))
        x = torch.cat([action[:, :, None], tokens], 2) + self.place
        shared = self.modulate(action).unflatten(-1, (6, -1))
        past = prefix[0][0].shape[2] + suffix.length if prefix and suffix else 0
        frames = torch.arange(past + time, device=x.device)
        cache: list[KeyValue] = []
        for layer in self._layers:
            # (B, T, 1, width) each: shift, scale and gate of attention and MLP
            shift1, scale1, gate1, shift2, scale2, gate2 = (shared + layer.modulation)[:, :, :, None].unbind(2)
            h = layer.norm(x) * (1 + scale1) + shift1
            x = x + (1 + gate1) * layer.space(h.flatten(0, 1)).unflatten(0, (batch, time))
            if layer.time is not None and layer.time_norm is not None:
                q, k, v = layer.time.project(layer.time_norm(x).transpose(1, 2))
                blocks = [(k, v)]
                if prefix is not None and suffix is not None:
                    index, keep = len(cache), suffix.length + 1
                    keys, values = suffix.layers[index]
                    keys[:, :, suffix.length], values[:, :, suffix.length] = k[:, :, 0], v[:, :, 0]
                    blocks = [prefix[index], (keys[:, :, :keep], values[:, :, :keep])]
                cache.append((k, v))
                x = x + layer.time.attend(q, blocks, layer.time.bias(frames[past:], frames)).transpose(1, 2)
            x = x + (1 + gate2) * layer.mlp(layer.norm(x) * (1 + scale2) + shift2)
        if suffix is not None:
            suffix.length += 1
        change = self.head(self.norm(x[:, :, 1:])).float()
        return latents.float() + change, cache


def to_tokens(cells: Tensor, patch: int) -> Tensor:
    """(..., D, h, w) latent cells to (..., S, D*patch*patch) tokens."""
    *lead, d, h, w = cells.shape
    x = cells.reshape(*lead, d, h // patch, patch, w // patch, patch)
    n = len(lead)
    x = x.permute(*range(n), n + 1, n + 3, n, n + 2, n + 4)
    return x.reshape(*lead, (h // patch) * (w // patch), d * patch * patch)


def to_cells(tokens: Tensor, patch: int, rows: int) -> Tensor:
    """The inverse of `to_tokens`; rows: latent rows h."""
    *lead, s, p = tokens.shape
    a = rows // patch
    b, d = s // a, p // (patch * patch)
    n = len(lead)
    x = tokens.reshape(*lead, a, b, d, patch, patch).permute(*range(n), n + 2, n, n + 3, n + 1, n + 4)
    return x.reshape(*lead, d, rows, b * patch)
