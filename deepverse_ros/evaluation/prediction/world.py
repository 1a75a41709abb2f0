"""How the world beside the robot is imagined: the pixels that change and that the robot does not cover."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.evaluation.prediction.metrics import gap_closed
from deepverse_ros.evaluation.prediction.registry import Predicted
from deepverse_ros.evaluation.prediction.windows import Windows

ROBOT = 1
"""What an episode's segmentation calls the robot."""

PREDICTORS = ("model", "persistence", "copy", "codec")

DEFINITIONS = {
    "world": "pixels that the robot covers neither in the last seen nor in the true future frame (the simulator's "
    "segmentation) and that changed by more than 0.1 in a colour or 3 cm in depth since the last seen frame; mse, and "
    "depth_m, the mean distance of predicted and true depth in metres, over all such pixels of all windows together; "
    "pixels: their share of all pixels; gap_closed: as that of whole pictures; against_copy: mse of the model / mse of "
    "copy; null where there are none",
    "copy": "kinematics and copying: the last seen frame without the robot, filled from older seen frames where they "
    "show the place and else from the nearest pixel, and the robot drawn where the commands bring it: the best that "
    "needs no world model; null where the simulator cannot build an episode's scene again",
}


def world_pixels(windows: Windows) -> Tensor | None:
    """(B, H, h, w) bool, what `DEFINITIONS` calls the world's pixels; None where nobody knows where the robot is."""
    if windows.segmentation is None or windows.segmentation_seen is None:
        return None
    robot = (windows.segmentation == ROBOT) | (windows.segmentation_seen[:, -1:] == ROBOT)
    return windows.moving & ~robot


class WorldErrors:
    """Errors in the world's pixels, summed up window by window."""

    def __init__(self, horizon: int) -> None:
        self._all = np.zeros(horizon)
        self._chosen = np.zeros(horizon)
        self._squared = {name: np.zeros(horizon) for name in PREDICTORS}
        self._depth = {name: np.zeros((2, horizon)) for name in PREDICTORS}  # metres, and of how many pixels
        self._absent: set[str] = set()

    def add(self, windows: Windows, predicted: Mapping[str, Predicted]) -> None:
        """Args: predicted: by the names in `PREDICTORS`; what one window lacks, the figures lack."""
        where = world_pixels(windows)
        if where is None:
            return
        self._all += where[0, 0].numel() * len(windows)
        self._chosen += _per_step(where)
        known = where & windows.depth.isfinite() & windows.last_depth.isfinite()[:, None]
        for name in PREDICTORS:
            if name not in predicted:
                self._absent.add(name)
                continue
            seen = predicted[name]
            self._squared[name] += _per_step((seen.rgb - windows.rgb).square().mean(2) * where)
            away = (seen.depth - windows.depth).abs()
            counts = known & away.isfinite()
            self._depth[name] += [_per_step(torch.where(counts, away, 0.0)), _per_step(counts)]

    def figures(self) -> dict[str, Any] | None:
        """Lists with one value a step; None where no window told where the robot is."""
        if not self._all.any():
            return None
        present = {name: name not in self._absent for name in PREDICTORS}
        mse = {n: _ratio(self._squared[n], self._chosen) if present[n] else None for n in PREDICTORS}
        depth = {n: _ratio(*self._depth[n]) if present[n] else None for n in PREDICTORS}
        gap = [
            None if p is None or m is None or c is None else gap_closed(p, m, c)
            for p, m, c in _steps(mse, ("persistence", "model", "codec"))
        ]
        against = (
            None
            if mse["copy"] is None
            else [m / c if m is not None and c else None for m, c in _steps(mse, ("model", "copy"))]
        )
        return {
            "mse": mse,
            "depth_m": depth,
            "gap_closed": gap,
            "against_copy": against,
            "pixels": _ratio(self._chosen, self._all),
        }


def _steps(values: Mapping[str, list[float | None] | None], names: tuple[str, ...]) -> list[tuple[float | None, ...]]:
    """Of each step the values of some predictors that are present."""
    return list(zip(*(values[name] or [] for name in names), strict=True))


def _per_step(values: Tensor) -> np.ndarray:
    """(H,) sums of (B, H, h, w)."""
    return values.double().sum(dim=(0, 2, 3)).numpy()


def _ratio(total: np.ndarray, count: np.ndarray) -> list[float | None]:
    return [float(t / c) if c else None for t, c in zip(total, count, strict=True)]
