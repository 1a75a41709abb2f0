"""What a stage draws its batch with, so that a step may be computed in parts."""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.errors import ConfigError


class Draw:
    """The random numbers of one step, of which one part of the batch is handed out.

    A step may be split into `parts`: micro-batches, processes, or both. Every part draws the numbers of the whole
    batch, in the same order, and keeps its own rows, so all parts together see the examples and the noise that a step
    in one part would. Hence a stage must draw for the whole batch (`config.batch`), never as many numbers as its part
    has rows, and never depending on what it has drawn; noise of several frames a window is drawn a window at a time:
    `draw.normal(batch, frames, *shape).flatten(0, 1)`.
    """

    def __init__(
        self, numpy_rng: np.random.Generator, torch_rng: torch.Generator, part: int = 0, parts: int = 1
    ) -> None:
        if not 0 <= part < parts:
            raise ValueError(f"part: {part} is none of {parts} parts")
        self._numpy = numpy_rng
        self._torch = torch_rng
        self.part = part
        self.parts = parts

    @classmethod
    def of_step(cls, seed: int, step: int, part: int = 0, parts: int = 1) -> "Draw":
        """Numbers that depend on (seed, step) alone: a resumed run draws what an uninterrupted one would."""
        return cls(
            np.random.default_rng([seed, step]), torch.Generator().manual_seed(seed * 1_000_003 + step), part, parts
        )

    def integers(self, low: int, high: int, batch: int, *shape: int) -> np.ndarray:
        """(batch / parts, *shape) int64 in [low, high)."""
        return self._numpy.integers(low, high, (batch, *shape))[self._rows(batch)]

    def uniform(self, batch: int, *shape: int) -> Tensor:
        """(batch / parts, *shape) float32 in [0, 1), on the CPU."""
        return torch.rand(batch, *shape, generator=self._torch)[self._rows(batch)]

    def normal(self, batch: int, *shape: int) -> Tensor:
        """(batch / parts, *shape) float32 of unit variance, on the CPU."""
        return torch.randn(batch, *shape, generator=self._torch)[self._rows(batch)]

    def _rows(self, batch: int) -> slice:
        if batch % self.parts:
            raise ConfigError(
                f"batch: {batch} examples cannot be split into {self.parts} equal parts (accumulate x processes); "
                f"take a multiple of {self.parts}"
            )
        size = batch // self.parts
        return slice(self.part * size, (self.part + 1) * size)
