"""The world model under the names of the DeepVerse paper (arXiv 2506.01103), for those who come from there."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from deepverse_ros.errors import ShapeError
from deepverse_ros.model.actions import Values
from deepverse_ros.model.future import Future
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel


class DeepVerseAR:
    """encoder, temporal_model and decoder of a WorldModel, and their autoregressive use."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model

    @property
    def encoder(self) -> nn.Module:
        """Frames (B, 5, H, W) to latent cells."""
        return self.model.codec.encoder

    @property
    def temporal_model(self) -> nn.Module:
        """Latents and actions to the next latents."""
        return self.model.dynamics

    @property
    def decoder(self) -> nn.Module:
        """Latent cells to pictures with depth."""
        return self.model.codec.decoder

    def autoregressive_generate(
        self,
        initial_frames: Observation,
        action_sequence: Values,
        num_future_steps: int,
        past_actions: Tensor | None = None,
    ) -> Future:
        """Frames that follow from each other.

        Args:
            initial_frames: B observations of T frames.
            action_sequence: (B or N, >= num_future_steps, A) physical units, from the newest frame on.
            past_actions: (B, T-1, A) between the initial frames, needed for T > 1.
        Raises: ShapeError naming what is wrong.
        """
        plans = _first(action_sequence, num_future_steps)
        return self.model.predict_future(initial_frames, plans, past_actions)


def _first(actions: Values, steps: int) -> Values:
    if isinstance(actions, Mapping):
        return {name: _first_steps(part, steps) for name, part in actions.items()}
    return _first_steps(actions, steps)


def _first_steps(actions: np.ndarray | Tensor, steps: int) -> np.ndarray | Tensor:
    if actions.ndim != 3 or not 1 <= steps <= actions.shape[1]:
        raise ShapeError(
            f"action_sequence: expected (N, at least num_future_steps = {steps}, A), got {tuple(actions.shape)}"
        )
    return actions[:, :steps]
