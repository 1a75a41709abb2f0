"""MPPI: one plan, moved towards its perturbations by how little they cost."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.search.samplers import WayPointConfig, WayPoints
from deepverse_ros.robot.embodiment import Embodiment


@dataclass(frozen=True)
class MppiConfig(WayPointConfig):
    """How `Mppi` searches, beside what plans it draws.

    temperature: how far from the best a plan may be and still count, as a fraction of the distance from the best to
    the median cost of the round, so that neither the unit nor an offset of the costs matters. shrink: each round's
    perturbations are this share of the round's before.
    """

    temperature: float = 0.05
    shrink: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < np.inf:
            raise ShapeError(f"temperature must be above 0, got {self.temperature}")
        if not 0 < self.shrink <= 1:
            raise ShapeError(f"shrink must be above 0 and at most 1, got {self.shrink}")


class Mppi:
    """Information-theoretic MPC over a plan's way points (Williams et al. 2017, arXiv 1707.02342).

    Keeps one nominal plan. Each round perturbs it by coloured noise and moves it by the mean of the perturbations,
    weighted by exp(-cost / temperature). As a search here has few rounds, the perturbations get smaller from round to
    round. The best plan seen so far is asked again unchanged, and the nominal plan with it. The same seed and costs
    give the same plans.
    """

    def __init__(self, embodiment: Embodiment, config: MppiConfig | None = None) -> None:
        self.embodiment = embodiment
        self.config = config or MppiConfig()

    def reset(self, start: np.ndarray, seed: int, warm: np.ndarray | None = None) -> None:
        self._way = WayPoints(self.embodiment, self.config, start)
        self._rng = np.random.default_rng(seed)
        self._nominal, self._std = self._way.begin(warm)
        self._best = self._nominal

    def ask(self) -> np.ndarray:
        perturbed = self._way.draw(self._rng, self._nominal, self._std, self.config.samples - 2)
        self._points = np.concatenate([self._best[None], self._nominal[None], perturbed])
        return self._way.plans(self._points)

    def tell(self, costs: np.ndarray, offsets: np.ndarray | None = None) -> None:
        if costs.shape != (len(self._points),):
            raise ShapeError(f"costs: expected shape ({len(self._points)},), got {costs.shape}")
        usable = np.isfinite(costs)
        if not usable.any():
            return
        costs, points = costs[usable].astype(float), self._points[usable]
        self._best = points[int(costs.argmin())]
        excess = costs - costs.min()
        scale = self.config.temperature * float(np.median(excess))
        weight = np.exp(-excess / scale) if scale > 0 else (excess == 0).astype(float)
        self._nominal = np.average(points, axis=0, weights=weight).astype(np.float32)
        self._std = self._std * self.config.shrink
