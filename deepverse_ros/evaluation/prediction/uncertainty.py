"""Whether the spread that the model predicts for the tool fits the errors that it makes, and whether it ranks them.

The model promises an isotropic Gaussian around the imagined tool position, of standard deviation sigma along each axis.
Then error / sigma is chi-distributed with 3 degrees of freedom, and at every level p a share p of the errors must lie
within the radius that this distribution gives p (a reliability curve; Guo et al., "On Calibration of Modern Neural
Networks", 2017, arXiv 1706.04599, for the expected calibration error).
"""

from typing import Any

import numpy as np
import torch
from torchmetrics.functional import spearman_corrcoef

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
LEFT_OUT = (0.0, 0.1, 0.2, 0.5)
"""Shares of the windows, the most uncertain ones, that a sparsification leaves out."""
_FACTORS = np.geomspace(0.02, 50, 393)
"""Tried for the one scale of all spreads; two neighbours differ by 2 %."""

DEFINITIONS = {
    "reliability": "share of tool errors within the radius that the predicted 3D Gaussian gives each nominal level "
    "(observed), over all steps and per step; ece: mean of |observed - nominal| over the levels; scaled: all spreads "
    "times one factor, which is fitted (least ece) on one half of the episodes and tested on the other, whose ece "
    "without it is ece_unscaled",
    "uncertainty": "spearman: rank correlation of predicted spread and tool error, per step and (all) of their means "
    "over the steps of each window, null where either is constant; sparsification: mean tool error when the most "
    "uncertain share of windows is left out; oracle: when those of the largest error are",
}


def reliability(errors: np.ndarray, spread: np.ndarray, episode: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Nominal against observed levels, before and after one common scale.

    Args:
        errors, spread: (N, H) metres, tool errors and predicted standard deviations.
        episode: (N,) which episode each window is of.
        seed: of the halves.
    Returns: see `DEFINITIONS`; scaled is None with fewer than two episodes.
    """
    ratio = errors / spread
    out: dict[str, Any] = {"levels": list(LEVELS), **_curve(ratio)}
    names = np.random.default_rng(seed).permutation(np.unique(episode))
    if len(names) < 2:
        return {**out, "scaled": None}
    fitted = np.isin(episode, names[: len(names) // 2])
    factor = float(min(_FACTORS, key=lambda scale: _ece(_observed(ratio[fitted].ravel() / scale))))
    return {
        **out,
        "scaled": {
            "factor": factor,
            "n_windows_fitted": int(fitted.sum()),
            "n_windows_tested": int((~fitted).sum()),
            "ece_unscaled": _ece(_observed(ratio[~fitted].ravel())),
            **_curve(ratio[~fitted] / factor),
        },
    }


def ranking(errors: np.ndarray, spread: np.ndarray) -> dict[str, Any]:
    """Whether a larger spread means a larger error. Args: as in `reliability`. Returns: see `DEFINITIONS`."""
    steps = range(errors.shape[1])
    mean_error, mean_spread = errors.mean(1), spread.mean(1)
    sparse = [sparsification(errors[:, t], spread[:, t]) for t in steps]
    return {
        "spearman": {
            "all": spearman(mean_spread, mean_error),
            "per_step": [spearman(spread[:, t], errors[:, t]) for t in steps],
        },
        "sparsification": {
            "left_out": list(LEFT_OUT),
            "error_m": {"all": sparsification(mean_error, mean_spread), "per_step": sparse},
            "oracle_m": {"all": sparsification(mean_error, mean_error)},
        },
    }


def sparsification(errors: np.ndarray, uncertainty: np.ndarray) -> list[float]:
    """Mean error (N,) of what is kept when each share in `LEFT_OUT`, the most uncertain first, is left out."""
    order = np.argsort(uncertainty, kind="stable")
    kept = [max(1, round((1 - share) * len(errors))) for share in LEFT_OUT]
    return [float(errors[order[:count]].mean()) for count in kept]


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Rank correlation of two series (N,), ties sharing their mean rank; None where one of them is constant."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    # Ranks are taken in double precision: float32 would tie what differs by little.
    pair = (torch.from_numpy(np.asarray(x, np.float64)) for x in (first, second))
    return float(spearman_corrcoef(*pair))


def _curve(ratio: np.ndarray) -> dict[str, Any]:
    """Observed shares and their ece, over all steps and per step, for errors in multiples of the spread (N, H)."""
    whole = _observed(ratio.ravel())
    steps = [_observed(column) for column in ratio.T]
    return {
        "observed": {"all": whole.tolist(), "per_step": [o.tolist() for o in steps]},
        "ece": {"all": _ece(whole), "per_step": [_ece(o) for o in steps]},
    }


def _observed(ratio: np.ndarray) -> np.ndarray:
    """Share of ratios (N,) that lie within the radius of each level."""
    # The chi distribution's CDF with 3 degrees of freedom: an error is within the radius of p where its CDF is below p.
    level = torch.special.gammainc(torch.tensor(1.5, dtype=torch.float64), torch.from_numpy(ratio**2 / 2).double())
    return (level.numpy()[:, None] <= np.array(LEVELS)).mean(axis=0)


def _ece(observed: np.ndarray) -> float:
    return float(np.abs(observed - np.array(LEVELS)).mean())
