"""Next-latent prediction: a block-causal transformer, factored into space and time.

Every layer attends over the tokens of one frame; every `time_every`-th layer also attends over time, each token over
its own past within the window, and over frames that memory recalled. Two tokens of a frame stand beside its picture:
the action that leads to the next frame (which also modulates every layer: one shared modulation with a bias per
layer, as in PixArt-alpha, arXiv 2310.00426) and what the robot measures of itself. The network predicts the clean
next latent, the next measured state, and how the camera moves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from deepverse_ros.model.actions import ActionEncoder, ModalityEncoder
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.robot.embodiment import Embodiment

KeyValue = tuple[Tensor, Tensor]

_OWN = 2
"""Tokens of a frame before those of its picture: action, state."""


@dataclass(frozen=True)
class Steps:
    """T frames, each with the action that follows it.

    latents: (B, T, S, P).
    actions: (B, T, A) physical units, NaN: modality absent.
    states: (B, T, K) what the robot measured of itself, physical units, NaN: unknown.
    rays: (B, T, S, 6) raymap at the tokens, NaN: pose unknown.
    """

    latents: Tensor
    actions: Tensor
    states: Tensor
    rays: Tensor

    def __getitem__(self, index: tuple[slice, ...] | slice) -> "Steps":
        return Steps(self.latents[index], self.actions[index], self.states[index], self.rays[index])

    def expand(self, count: int) -> "Steps":
        """The same frames for `count` plans, as views."""
        parts = (self.latents, self.actions, self.states, self.rays)
        return Steps(*(t.expand(count, *t.shape[1:]) for t in parts))

    @classmethod
    def join(cls, parts: Sequence["Steps"]) -> "Steps":
        """One after the other."""
        return cls(*(torch.cat([getattr(p, f) for p in parts], 1) for f in ("latents", "actions", "states", "rays")))


@dataclass(frozen=True)
class Prediction:
    """What follows each of T frames.

    latents: (B, T, S, P).
    states: (B, T, K) physical units.
    motion: (B, T, 6) of the camera, in its own frame: metres, then a rotation vector in rad.
    """

    latents: Tensor
    states: Tensor
    motion: Tensor


class _Told(NamedTuple):
    """What actions say of T steps to all layers.

    token: (B, T, width).
    modulation: (B, T, 6, width).
    """

    token: Tensor
    modulation: Tensor


@dataclass
class Past:
    """Keys and values that imagined frames attend to, one pair (N or 1, S', frames, heads, d) per time layer.

    recalled: of memory, visible to every imagined frame.
    context: of the observed frames before the newest one.
    imagined: preallocated for the frames that follow; `length` of them are filled.
    """

    recalled: list[KeyValue]
    context: list[KeyValue]
    imagined: list[KeyValue]
    length: int = field(default=0)


class _SpaceAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attention of x (M, S, width) over S."""
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
        self.recalled_bias = nn.Parameter(torch.zeros(heads))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From x (B, S, T, width) to q, k, v (B, S, T, heads, d)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return q * q.shape[-1] ** -0.5, k, v

    def bias(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Bias (heads, Tq, Tk) for frame indices; -inf for the future and beyond the window."""
        distance = queries[:, None] - keys[None, :]
        bias = self.distance_bias[:, distance.clamp(0, self.window - 1)]
        return bias.masked_fill((distance < 0) | (distance >= self.window), float("-inf"))

    def recalled(self, visible: Tensor, frames: int) -> Tensor:
        """Bias (heads, Tq, frames) of recalled frames; -inf for the queries that are not `visible` (Tq,)."""
        bias = self.recalled_bias[:, None, None].expand(-1, len(visible), frames)
        return bias.masked_fill(~visible[:, None], float("-inf"))

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
    def __init__(self, width: int, heads: int, mlp_ratio: int, window: int | None) -> None:
        """Args: window: frames that time attention spans; None: no time attention."""
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.space = _SpaceAttention(width, heads)
        self.time = None if window is None else _TimeAttention(width, heads, window)
        self.time_norm = None if window is None else nn.LayerNorm(width)
        hidden = mlp_ratio * width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.modulation = nn.Parameter(torch.zeros(6, width))

    def modulated(self, shared: Tensor) -> tuple[Tensor, ...]:
        """(B, T, 1, width) each: shift, scale and gate of attention, then of the MLP; shared (B, T, 6, width)."""
        return (shared + self.modulation)[:, :, :, None].unbind(2)


class Dynamics(nn.Module):
    """The fine level: latents, actions and states to the next latents, states and camera motions."""

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        c = config.dynamics
        self.window, self.context = config.window, config.context
        self.actions = ActionEncoder(config.embodiment, c.width)
        self.states = ModalityEncoder(config.embodiment.measured, c.width)
        self.embed = nn.Linear(config.token_dim, c.width)
        self.rays = nn.Linear(6, c.width)
        self.no_rays = nn.Parameter(torch.zeros(c.width))
        self.place = nn.Parameter(torch.randn(_OWN + config.tokens, c.width) * 0.02)
        modulation = nn.Linear(c.width, 6 * c.width)
        self.modulate = nn.Sequential(nn.SiLU(), modulation)
        self.layers = nn.ModuleList(
            _Layer(c.width, c.heads, c.mlp_ratio, self.window if i % c.time_every == c.time_every - 1 else None)
            for i in range(c.layers)
        )
        self.norm = nn.LayerNorm(c.width)
        self.head = nn.Linear(c.width, config.token_dim)
        self.own_head = nn.Linear(c.width, config.embodiment.state_dim + 6)
        for zero in (self.head, self.own_head, modulation):
            nn.init.zeros_(zero.weight)

    def restore_limits(self, embodiment: Embodiment, device: torch.device) -> None:
        """See ModalityEncoder.restore_limits."""
        self.actions.restore_limits(embodiment.modalities, device)
        self.states.restore_limits(embodiment.measured, device)

    @property
    def _layers(self) -> list[_Layer]:
        return cast(list[_Layer], list(self.layers))

    def forward(self, steps: Steps, recalled: list[KeyValue] | None = None) -> Prediction:
        """Predict every next frame of a window from the frames before it.

        Args: steps of a window; recalled: of memory, seen from the newest context frame on.
        Returns: the prediction of frame t+1 at place t.
        """
        return self._run(steps, self._told(steps.actions), recalled or [], None)[0]

    def keys(self, steps: Steps) -> list[KeyValue]:
        """Keys and values (B, S', T, heads, d) per time layer of frames whose following action is known."""
        if steps.latents.shape[1] == 0:
            return [(key[:, :, :0], value[:, :, :0]) for key, value in self.room(len(steps.latents), 1)]
        return self._run(steps, self._told(steps.actions), [], None)[1]

    def recall(self, steps: Steps) -> list[KeyValue]:
        """Keys and values (B, S', M, heads, d) per time layer of M frames that do not follow each other."""
        batch, frames = steps.latents.shape[:2]
        alone = Steps(*(t.flatten(0, 1)[:, None] for t in (steps.latents, steps.actions, steps.states, steps.rays)))

        def beside(x: Tensor) -> Tensor:
            """(B*M, S', 1, heads, d) to (B, S', M, heads, d)."""
            return x.squeeze(2).unflatten(0, (batch, frames)).transpose(1, 2)

        return [(beside(k), beside(v)) for k, v in self.keys(alone)]

    def room(self, plans: int, steps: int) -> list[KeyValue]:
        """Empty keys and values for `steps` imagined frames of `plans` plans."""

        def empty(attention: _TimeAttention) -> Tensor:
            shape = (plans, self.place.shape[0], steps, attention.heads, self.embed.out_features // attention.heads)
            return self.embed.weight.new_empty(shape)

        return [(empty(layer.time), empty(layer.time)) for layer in self._layers if layer.time is not None]

    def step(self, frame: Steps, past: Past, told: _Told | None = None) -> Prediction:
        """One frame ahead; `past` grows by this frame.

        Args: frame: one frame (T = 1) of N plans; told: what its actions say, where that is known already.
        """
        prediction, _ = self._run(frame, told or self._told(frame.actions), past.recalled, past)
        past.length += 1
        return prediction

    def rollout(
        self, newest: Steps, plans: Tensor, past: Past, rays_after: Callable[[Tensor], Tensor] | None = None
    ) -> Prediction:
        """Frames that follow from each other, H steps ahead.

        Args:
            newest: the newest frame (T = 1) of N plans; its action is not used.
            plans: (N, H, A).
            past: with room for H frames.
            rays_after: raymap (N, 1, S, 6) of the next frame after a camera motion (N, 6), where it moves.
        """
        # Frame by frame, each from the one before: what is predicted at t is the input at t + 1, and its keys and
        # values grow the past. Every input has T = 1.
        latents, states, rays = newest.latents, newest.states, newest.rays
        # What the actions say does not depend on what follows from them: it is asked once.
        told = self._told(plans)
        ahead = []
        for t in range(plans.shape[1]):
            now = slice(t, t + 1)
            frame = Steps(latents, plans[:, now], states, rays)
            ahead.append(self.step(frame, past, _Told(told.token[:, now], told.modulation[:, now])))
            latents = ahead[-1].latents
            # What is not measured now will not be measured next.
            states = torch.where(torch.isfinite(states), ahead[-1].states, torch.nan)
            # A camera that moves sees the next frame from where its predicted motion has brought it.
            if rays_after is not None:
                rays = rays_after(ahead[-1].motion[:, 0])
        # H predictions of one frame to one prediction of H frames.
        return Prediction(
            torch.cat([a.latents for a in ahead], 1),
            torch.cat([a.states for a in ahead], 1),
            torch.cat([a.motion for a in ahead], 1),
        )

    def rollout_tensors(
        self,
        latents: Tensor,
        states: Tensor,
        rays: Tensor,
        plans: Tensor,
        *pairs: Tensor,
        rays_after: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`rollout` of tensors alone, as a CUDA graph wants it: latents (N, H, S, P) and states (N, H, K) ahead.

        Args:
            latents, states, rays: of the newest frame, batch 1 or N.
            plans: (N, H, A).
            pairs: keys and values of the context for each time layer in turn, then those of what is recalled, if
                anything is.
        """
        room = self.room(*plans.shape[:2])
        past = list(zip(pairs[::2], pairs[1::2], strict=True))
        newest = Steps(latents, plans[:, :1], states, rays).expand(len(plans))
        ahead = self.rollout(newest, plans, Past(past[len(room) :], past[: len(room)], room), rays_after)
        return ahead.latents, ahead.states

    def _embedded(self, steps: Steps, action: Tensor) -> Tensor:
        """(B, T, S', width): action, state and picture tokens."""
        dtype = self.embed.weight.dtype
        known = torch.isfinite(steps.rays[..., :1])
        rays = torch.where(known, self.rays(steps.rays.nan_to_num().to(dtype)), self.no_rays)
        tokens = self.embed(steps.latents.to(dtype)) + rays
        state = self.states(steps.states)
        return torch.cat([action[:, :, None], state[:, :, None], tokens], 2) + self.place

    def _told(self, actions: Tensor) -> _Told:
        """Args: actions (B, T, A) physical units."""
        token = self.actions(actions)
        return _Told(token, self.modulate(token).unflatten(-1, (6, -1)))

    def _run(
        self, steps: Steps, told: _Told, recalled: list[KeyValue], past: Past | None
    ) -> tuple[Prediction, list[KeyValue]]:
        # Tokens of T frames, (B, T, S', width).
        batch, time = steps.latents.shape[:2]
        x = self._embedded(steps, told.token)
        # Where these frames stand in time, (T,), from the oldest context frame on. A window sees recalled frames from
        # its newest context frame on, as when imagining: older ones were observed without them.
        begin = past.context[0][0].shape[2] + past.length if past else 0
        now = torch.arange(begin, begin + time, device=x.device)
        visible = now >= (0 if past else self.context - 1)
        cache: list[KeyValue] = []
        for layer in self._layers:
            shift1, scale1, gate1, shift2, scale2, gate2 = layer.modulated(told.modulation)
            # Space: each frame by itself, (B*T, S', width).
            h = layer.norm(x) * (1 + scale1) + shift1
            x = x + (1 + gate1) * layer.space(h.flatten(0, 1)).unflatten(0, (batch, time))
            if layer.time is not None and layer.time_norm is not None:
                # Time: each token over its own past, (B, S', T, heads, d). Known frames are not computed again: their
                # keys and values come from the past, and recalled ones stand before them.
                q, k, v = layer.time.project(layer.time_norm(x).transpose(1, 2))
                index = len(cache)
                blocks, first = ([(k, v)], begin) if past is None else self._window(past, index, k, v)
                frames = torch.arange(first, begin + time, device=x.device)
                bias = layer.time.bias(now, frames)
                if recalled:
                    blocks = [recalled[index], *blocks]
                    bias = torch.cat([layer.time.recalled(visible, recalled[index][0].shape[2]), bias], -1)
                cache.append((k, v))
                x = x + layer.time.attend(q, blocks, bias).transpose(1, 2)
            # Each token by itself.
            x = x + (1 + gate2) * layer.mlp(layer.norm(x) * (1 + scale2) + shift2)
        # What comes out is a change: of the latents (B, T, S, P), and of what the robot measures (B, T, K), which is
        # read from its own token, as is how the camera moves (B, T, 6).
        x = self.norm(x)
        latents = steps.latents.float() + self.head(x[:, :, _OWN:]).float()
        change, motion = self.own_head(x[:, :, 1]).float().split([steps.states.shape[-1], 6], -1)
        states = self.states.physical(self.states.normalised(steps.states).nan_to_num() + change)
        return Prediction(latents, states, motion), cache

    def _window(self, past: Past, index: int, k: Tensor, v: Tensor) -> tuple[list[KeyValue], int]:
        """Write a new frame into the past; the blocks that are within its window, and the index of their first frame.

        However long a rollout is, a step costs the same.
        """
        keys, values = past.imagined[index]
        keys[:, :, past.length], values[:, :, past.length] = k[:, :, 0], v[:, :, 0]
        observed = past.context[index][0].shape[2]
        first = max(0, observed + past.length + 1 - self.window)
        begin, end = max(0, first - observed), past.length + 1
        blocks = [(keys[:, :, begin:end], values[:, :, begin:end])]
        if first < observed:
            blocks.insert(0, (past.context[index][0][:, :, first:], past.context[index][1][:, :, first:]))
        return blocks, first


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
