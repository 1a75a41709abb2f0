"""Training of the fine dynamics on encoded episodes: next-frame prediction, then its own predictions as input."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.codec import Source
from deepverse_ros.model.dynamics import KeyValue, Past, Prediction, Steps, to_tokens
from deepverse_ros.model.fidelity import psnr
from deepverse_ros.model.stance import reconcile
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.batches.windows import EncodedEpisodes
from deepverse_ros.training.config import DynamicsStageConfig
from deepverse_ros.training.engine.curves import picture_rows
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.engine.precision import Precision, autocast
from deepverse_ros.training.losses.terms import ConsistencyTerms


@torch.inference_mode()
def encode_episodes(
    model: WorldModel,
    episodes: Episodes,
    progress: Callable[[int, int, str], None],
    precision: Precision = "auto",
    blind_every: int = 0,
) -> EncodedEpisodes:
    """Run the codec once over every frame.

    Args: blind_every: every so many episodes is encoded without its depth, as a robot without a depth camera would
    see it; 0: none.
    """
    latents = []
    times = np.arange(episodes.length)
    for e in range(len(episodes)):
        frames = episodes.frames(np.full_like(times, e), times, model.device)
        if blind_every and e % blind_every == 0:
            frames[:, 3:] = 0
        with autocast(model.device, precision):
            cells, _, _ = model.codec.encode(frames)
        latents.append(to_tokens(cells, model.config.dynamics.token_patch).half().cpu())
        progress(e + 1, len(episodes), "")
    return EncodedEpisodes(episodes, torch.stack(latents), model.config)


class DynamicsStage:
    """Trains the fine dynamics on encoded episodes, from true frames and then from its own predictions."""

    name = "dynamics"

    def __init__(
        self,
        model: WorldModel,
        config: DynamicsStageConfig,
        train: EncodedEpisodes,
        held_out: EncodedEpisodes,
        seed: int = 0,
        precision: Precision = "auto",
    ) -> None:
        self.model = model
        self.config = config
        self.precision = precision
        self.train, self.held_out = train, held_out
        self.module = model.dynamics
        weighted = config.spacetime_weight or config.causal_weight
        self.consistency = ConsistencyTerms(model, config, train.episodes, seed) if weighted else None

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        c = self.model.config
        device = self.model.device
        batch = self.config.batch
        # Every second step comes with frames from before its windows, as memory recalls them.
        recalled = c.dynamics.recalled * (step % 2) if self.train.length - c.window >= c.dynamics.recalled else 0
        index = draw.integers(0, len(self.train), batch)
        start = draw.integers(recalled, self.train.length - c.window + 1, batch)
        whole = self.train.steps(index, start, device)
        truth = whole.latents
        given = self._spoiled(whole[:, :-1], draw)
        memory: list[KeyValue] = []
        if recalled:
            frames = self.train.before(index, start, recalled, device)
            with autocast(device, self.precision):
                memory = self.module.recall(frames)
        weight = self._moving_weight(truth)
        total = truth.new_zeros(())
        latent_losses = []
        ahead = None
        for _ in range(self.config.rollout):
            steps = given if ahead is None else self._on_own(given, ahead)
            with autocast(device, self.precision):
                out = self.module(steps, memory)
            # The first pass learns every step, the later ones only what follows their own predictions.
            part = slice(0 if ahead is None else c.context - 1, None)
            latent_losses.append(self._latent_loss(out, truth[:, 1:], weight)[:, part].mean())
            total = total + latent_losses[-1] + self._own_loss(out, whole, index, start)[:, part].mean()
            ahead = out
        terms: dict[str, Tensor] = {}
        if self.consistency is not None and ahead is not None:
            with autocast(device, self.precision):
                terms = self.consistency.loss(ahead, whole, index, start)
            total = total + sum(terms.values())
        return {"total": total, "one_step": latent_losses[0], "rollout": latent_losses[-1], **terms}

    def _spoiled(self, steps: Steps, draw: Draw) -> Steps:
        """What a robot gives: noisy latents, and now and then without proprioception, pose, or an action modality."""
        c = self.config
        batch = self.config.batch
        frames = steps.latents.shape[1]
        device = steps.latents.device
        noise = draw.uniform(batch, frames, 1, 1) * draw.normal(batch, frames, *steps.latents.shape[2:])

        def unknown(values: Tensor, share: float, *shape: int) -> Tensor:
            where = (draw.uniform(batch, *shape) < share).to(device)
            return values.masked_fill(where.view(*where.shape, *[1] * (values.ndim - where.ndim)), torch.nan)

        states = unknown(steps.states, c.proprioception_dropout)
        # The oldest frame's is unknown where past actions tell the others'.
        states = torch.cat([unknown(states[:, :1], 0.5), states[:, 1:]], 1)
        actions = steps.actions
        slices = list(self.model.embodiment.slices.values())
        absent = draw.integers(0, len(slices), batch)
        dropped = draw.uniform(batch).numpy() < c.action_dropout
        if len(slices) > 1 and dropped.any():
            actions = actions.clone()
            for row in np.flatnonzero(dropped):
                actions[row, :, slices[absent[row]]] = torch.nan
        return Steps(
            latents=steps.latents + (noise * c.context_noise).to(device),
            actions=actions,
            states=states,
            rays=unknown(steps.rays, c.pose_dropout),
        )

    def _on_own(self, given: Steps, ahead: Prediction) -> Steps:
        """The same window with the predictions in place of the frames after the context."""
        context = self.model.config.context
        latents = torch.cat([given.latents[:, :context], ahead.latents[:, context - 1 : -1]], 1)
        own = torch.where(torch.isfinite(given.states[:, context:]), ahead.states[:, context - 1 : -1], torch.nan)
        return replace(given, latents=latents, states=torch.cat([given.states[:, :context], own], 1))

    def _latent_loss(self, out: Prediction, truth: Tensor, weight: Tensor) -> Tensor:
        """(B, T - 1) of the prediction."""
        return ((out.latents - truth).square().mean(-1) * weight).mean(-1)

    def _own_loss(self, out: Prediction, whole: Steps, index: np.ndarray, start: np.ndarray) -> Tensor:
        """(B, T - 1) of the measured state and, where the camera moves, of its motion."""
        scale = self.module.states
        gap = scale.normalised(out.states) - scale.normalised(whole.states[:, 1:])
        loss = self.config.state_weight * gap.square().mean(-1)
        if not self.model.embodiment.camera.fixed:
            motion = self.train.motion(index, start).to(out.motion)
            loss = loss + self.config.motion_weight * (out.motion - motion).square().mean(-1)
        return loss

    def _moving_weight(self, truth: Tensor) -> Tensor:
        """(B, T-1, S): tokens that differ from the newest observed frame weigh more."""
        newest = truth[:, self.model.config.context - 1 : self.model.config.context]
        change = (truth[:, 1:] - newest).square().mean(-1).clamp(max=1)
        return 1 + self.config.moving_weight * change

    def validate(self) -> dict[str, float]:
        """See `prediction_scores`."""
        return prediction_scores(self.model, self.held_out, self.precision)

    @torch.inference_mode()
    def sample(self) -> np.ndarray:
        """True (upper) and imagined (lower) frames of the horizon of two held-out windows, uint8 (h, w, 3)."""
        index = np.linspace(0, len(self.held_out) - 1, min(2, len(self.held_out))).astype(int)
        whole = self.held_out.steps(index, 0 * index, self.model.device)
        frames, source = _pictures(self.model, self.held_out.episodes, index, 0 * index, self.precision)
        latents = imagine(self.model, whole, self.precision)
        drawn = _drawn(self.model, self.held_out.episodes, latents, whole, index)
        rgb = self.model.decode(latents.flatten(0, 1), source.repeat(latents.shape[1]), drawn).rgb
        return picture_rows(frames[:, self.model.config.context :, :3], rgb.unflatten(0, latents.shape[:2]))


@torch.inference_mode()
def prediction_scores(model: WorldModel, held_out: EncodedEpisodes, precision: Precision) -> dict[str, float]:
    """PSNR at the first and last imagined step on held-out windows, with true and with shuffled actions."""
    rng = np.random.default_rng(0)
    count = min(64, 4 * len(held_out))
    index = rng.permutation(np.arange(count) % len(held_out))
    start = rng.integers(0, held_out.length - model.config.window + 1, count)
    scores: dict[str, list[Tensor]] = {}
    for i in range(0, count, 16):
        for name, values in _predict(model, held_out, index[i : i + 16], start[i : i + 16], precision).items():
            scores.setdefault(name, []).append(values)
    return {k: float(torch.cat(v).mean()) for k, v in scores.items()}


def _predict(
    model: WorldModel, held_out: EncodedEpisodes, index: np.ndarray, start: np.ndarray, precision: Precision
) -> dict[str, Tensor]:
    c = model.config
    whole = held_out.steps(index, start, model.device)
    frames, source = _pictures(model, held_out.episodes, index, start, precision)
    out = {}
    for name, order in (("", 0), ("_shuffled", 1)):
        # Shuffled: the plan of the next window in the batch, after this window's own past.
        plans = whole.actions[:, c.context - 1 : -1].roll(order, 0)
        actions = torch.cat([whole.actions[:, : c.context - 1], plans, whole.actions[:, -1:]], 1)
        windows = replace(whole, actions=actions)
        latents = imagine(model, windows, precision)
        drawn = _drawn(model, held_out.episodes, latents, windows, index)
        for t in (0, c.horizon - 1):
            truth = frames[:, c.context + t, :3]
            shown = None if drawn is None else drawn.unflatten(0, latents.shape[:2])[:, t]
            out[f"psnr{t + 1}{name}"] = psnr(model.decode(latents[:, t], source, shown).rgb, truth)
            if not name:
                out[f"persistence{t + 1}"] = psnr(frames[:, c.context - 1, :3], truth)
    return out


def _pictures(
    model: WorldModel, episodes: Episodes, index: np.ndarray, start: np.ndarray, precision: Precision
) -> tuple[Tensor, Source]:
    """The codec's input of windows (B, window, 5, H, W), and what may be copied from the observed frames."""
    c = model.config
    times = start[:, None] + np.arange(c.window)
    frames = episodes.frames(np.broadcast_to(index[:, None], times.shape), times, model.device)
    with autocast(model.device, precision):
        _, views = model.codec.observe(frames[:, : c.context])
        return frames, model.codec.decoder.source(views[0], views[-1])


def _drawn(model: WorldModel, episodes: Episodes, latents: Tensor, windows: Steps, index: np.ndarray) -> Tensor | None:
    """Drawings (B * H, ...) of the body in imagined frames (B, H, S, P) of windows, whose cameras stand still."""
    c = model.config
    horizon = latents.shape[1]
    plans = windows.actions[:, c.context - 1 : c.window - 1]
    outcome = model.read_outcome(latents, plans, episodes.camera(index, 0 * index, model.device))
    states = reconcile(model.embodiment, plans, outcome.tool_position, outcome.tool_std)
    if states is None or not model.embodiment.camera.fixed:
        return None
    matrices, poses = (
        t[index].repeat_interleave(horizon, 0) for t in (episodes.intrinsics, episodes.camera_to_world[:, 0])
    )
    return model.draw(states.flatten(0, 1), matrices, poses)


@torch.inference_mode()
def imagine(model: WorldModel, windows: Steps, precision: Precision) -> Tensor:
    """The latents (B, H, S, P) that follow from the observed frames of whole windows and their actions."""
    c = model.config
    dynamics = model.dynamics
    before, newest = windows[:, : c.context - 1], windows[:, c.context - 1 : c.context]
    plans = windows.actions[:, c.context - 1 : c.window - 1]
    rays_after = None
    if not model.embodiment.camera.fixed:
        frames = iter(range(c.context, c.window))

        def rays_after(motion: Tensor) -> Tensor:  # where the camera really went, as the poses of a recording tell
            del motion
            t = next(frames)
            return windows.rays[:, t : t + 1]

    with autocast(model.device, precision):
        past = Past([], dynamics.keys(before), dynamics.room(len(plans), plans.shape[1]))
        return dynamics.rollout(newest, plans, past, rays_after).latents
