"""iCEM: a cross-entropy search that keeps its elites, draws coloured noise and follows what it learns of the slope."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.search.samplers import WayPointConfig, WayPoints
from deepverse_ros.robot.embodiment import Embodiment

# One guided step moves a target by at most this share of what the robot can move within the horizon.
TRUST = 0.25
# The share of the plans seen that count as near the goal in the linear fit: few enough for a line, but not so few that
# late rounds fit a handful of plans from all over the joint space.
NEAR = 0.25
# Damping of the linear fits, as a share of the mean diagonal.
DAMPING = 0.01


@dataclass(frozen=True)
class IcemConfig(WayPointConfig):
    """How `Icem` searches, beside what plans it draws.

    samples: plans of the first round.
    shrink: each round has this share of the plans of the round before, but never fewer than twice the elites.
    elites: fraction of the first round's plans, at least 2, that shape the next round.
    kept: best plans that are carried over unchanged.
    momentum: share of the last mean and spread that stays.
    guided: fraction of the plans that are proposed by the local linear fit from way points to offsets, where offsets
        are told.
    """

    shrink: float = 0.8
    elites: float = 0.06
    kept: int = 3
    momentum: float = 0.1
    guided: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, most in (
            ("shrink", self.shrink, 1.0),
            ("elites", self.elites, 0.5),
            ("momentum", self.momentum, 1.0),
            ("guided", self.guided, 1.0),
        ):
            if not 0 <= value <= most:
                raise ShapeError(f"{name} must be 0 to {most}, got {value}")
        if self.kept < 1:
            raise ShapeError(f"kept must be at least 1, got {self.kept}")

    @property
    def elite_count(self) -> int:
        return max(2, int(self.elites * self.samples))


class Icem:
    """Cross-entropy search over a plan's way points (iCEM, Pinneri et al. 2020, arXiv 2008.06389).

    As there: noise that is coloured in time, elites that are kept, a population that shrinks. Added to it are guided
    plans, which step to where a linear fit of the told offsets expects the goal. The same seed and costs give the
    same plans.
    """

    def __init__(self, embodiment: Embodiment, config: IcemConfig | None = None) -> None:
        self.embodiment = embodiment
        self.config = config or IcemConfig()

    def reset(self, start: np.ndarray, seed: int, warm: np.ndarray | None = None) -> None:
        self._way = WayPoints(self.embodiment, self.config, start)
        self._rng = np.random.default_rng(seed)
        self._mean, self._std = self._way.begin(warm)
        self._elite = self._mean[None] if warm is not None else self._mean[None][:0]
        self._guided = self._elite[:0]
        self._population = self.config.samples
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []

    def ask(self) -> np.ndarray:
        known = np.concatenate([self._elite, self._guided])[: self._population]
        drawn = self._way.draw(self._rng, self._mean, self._std, self._population - len(known))
        self._points = np.concatenate([known, drawn])
        return self._way.plans(self._points)

    def tell(self, costs: np.ndarray, offsets: np.ndarray | None = None) -> None:
        if costs.shape != (len(self._points),):
            raise ShapeError(f"costs: expected shape ({len(self._points)},), got {costs.shape}")
        config = self.config
        order = np.argsort(np.where(np.isfinite(costs), costs, np.inf), kind="stable")
        order = order[: int(np.isfinite(costs).sum())]
        elites = self._points[order[: config.elite_count]]
        if len(elites) > 1:
            self._mean = config.momentum * self._mean + (1 - config.momentum) * elites.mean(axis=0)
            self._std = config.momentum * self._std + (1 - config.momentum) * elites.std(axis=0)
        self._elite = elites[: config.kept]
        self._population = max(int(self._population * config.shrink), 2 * config.elite_count)
        if offsets is not None and config.guided > 0:
            order = order[np.isfinite(offsets[order]).all(axis=1)]
            self._seen.append((self._points[order], offsets[order]))
            self._guided = self._follow_offsets(order[: round(config.guided * self._population)], offsets)

    def _follow_offsets(self, best: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Way points that a linear fit of all outcomes seen so far expects at the goal (damped Gauss-Newton).

        The fit, from targets to offsets, weighs plans by how near to the goal they ended; each of the `best` plans
        (indices) takes its own step from its own offset, so that the proposals keep the variety they come from.
        """
        targets = np.concatenate([points[:, -1] for points, _ in self._seen]) / self._way.reach
        outcomes = np.concatenate([seen for _, seen in self._seen])
        if len(best) == 0 or len(targets) < 2 * targets.shape[1]:
            return self._points[:0]
        distance = np.linalg.norm(outcomes, axis=1)
        near = np.sort(distance)[max(2 * targets.shape[1], int(NEAR * len(distance))) - 1]
        weight = np.exp(-0.5 * np.square(distance / max(near, 1e-3)))
        x = targets - np.average(targets, 0, weight)
        y = outcomes - np.average(outcomes, 0, weight)
        slope = _solve_damped((x * weight[:, None]).T @ x, (x * weight[:, None]).T @ y)  # (A, D)
        step = -offsets[best] @ _solve_damped(slope.T @ slope, slope.T)
        step = np.clip(step * self._rng.uniform(0.6, 1.1, (len(best), 1)), -TRUST, TRUST)
        points = self._points[best].copy()
        points[:, -1] += (step * self._way.reach).astype(np.float32)
        return self._way.clip(points)


def _solve_damped(square: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve `square @ x = right` for a positive semi-definite matrix, damped by a share of its mean diagonal."""
    damping = max(DAMPING * float(np.trace(square)) / len(square), 1e-12)
    return np.linalg.solve(square + damping * np.eye(len(square)), right)
