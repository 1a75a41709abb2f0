"""Where candidate plans come from: samplers that see only costs, never a model."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import ShapeError

# One guided step moves a target by at most this share of what the robot can move within the horizon.
TRUST = 0.25
# Damping of the linear fits, as a share of the mean diagonal.
DAMPING = 0.01


class Sampler(Protocol):
    """Proposes plans and learns from their costs (ask and tell)."""

    def reset(self, start: np.ndarray, seed: int, warm: np.ndarray | None = None) -> None:
        """Begin a search from `start` (A,); `warm` (H, A) is a plan to continue from, already shifted."""
        ...

    def ask(self) -> np.ndarray:
        """(N, H, A) float32 candidate plans within the embodiment's limits."""
        ...

    def tell(self, costs: np.ndarray, offsets: np.ndarray | None = None) -> None:
        """Learn from the plans of the last `ask`.

        Args: costs (N,), NaN counts as worst; offsets (N, D): how far, in each of D directions, each plan's outcome
        is from the goal, for samplers that can use more than a number per plan.
        """
        ...


@dataclass(frozen=True)
class IcemConfig:
    """How `Icem` searches.

    samples: plans per iteration. horizon: steps H of a plan. knots: joint-space way points of a plan. settle: steps
    at the end of a plan that hold its target, so that the judged frame shows the robot at rest. spread, bend: first
    standard deviation of the target and of the way points' deviation from the straight line, as a fraction of what
    the robot can move within the horizon. warm_spread: the same for the target when a last plan is continued.
    elites: fraction of the plans that shape the next iteration. kept: best plans that are carried over unchanged.
    momentum: share of the last mean and spread that stays. guided: fraction of the plans that are proposed by the
    local linear fit from way points to offsets, where offsets are told.
    """

    samples: int = 64
    horizon: int = 8
    knots: int = 2
    settle: int = 1
    spread: float = 0.18
    bend: float = 0.04
    warm_spread: float = 0.08
    elites: float = 0.12
    kept: int = 3
    momentum: float = 0.1
    guided: float = 0.6

    def __post_init__(self) -> None:
        if self.samples < 4 or self.horizon < 2:
            raise ShapeError(f"samples must be at least 4 and horizon at least 2, got {self.samples}, {self.horizon}")
        if not 1 <= self.knots <= self.horizon - self.settle:
            raise ShapeError(f"knots must be 1 to {self.horizon - self.settle} (horizon - settle), got {self.knots}")


class Icem:
    """Cross-entropy search (iCEM) over a plan's way points in joint space.

    A plan runs from where the robot is through `knots` way points to a target and holds there. Searching way points
    instead of H independent steps correlates the noise over time and leaves knots x A numbers, which a few dozen
    candidates can search. Elites are kept, the spread shrinks with them, and the same seed gives the same plans.
    """

    def __init__(self, embodiment: Embodiment, config: IcemConfig | None = None) -> None:
        self.embodiment = embodiment
        self.config = config or IcemConfig()
        steps = self.config.horizon - self.config.settle
        # (H,) progress along the way points, 0..knots, reached before the settling steps.
        self._progress = np.minimum(np.arange(1, self.config.horizon + 1) / steps, 1.0) * self.config.knots
        self._reach = np.minimum(embodiment.max_step * steps, embodiment.upper - embodiment.lower)

    def reset(self, start: np.ndarray, seed: int, warm: np.ndarray | None = None) -> None:
        config = self.config
        self._start = np.clip(np.asarray(start, np.float32), self.embodiment.lower, self.embodiment.upper)
        self._rng = np.random.default_rng(seed)
        self._mean = np.zeros((config.knots, self._start.size), np.float32)
        self._mean[-1] = self._start if warm is None else warm[-1]
        self._std = np.empty_like(self._mean)
        self._std[:-1] = config.bend * self._reach
        self._std[-1] = (config.spread if warm is None else config.warm_spread) * self._reach
        self._elite = self._mean[None] if warm is not None else self._mean[None][:0]
        self._guided = self._elite[:0]
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []

    def ask(self) -> np.ndarray:
        known = np.concatenate([self._elite, self._guided])
        noise = self._rng.standard_normal((self.config.samples - len(known), *self._mean.shape)).astype(np.float32)
        self._points = np.concatenate([known, self._clip(self._mean + noise * self._std)])
        return self.plans(self._points)

    def tell(self, costs: np.ndarray, offsets: np.ndarray | None = None) -> None:
        if costs.shape != (len(self._points),):
            raise ShapeError(f"costs: expected shape ({len(self._points)},), got {costs.shape}")
        config = self.config
        costs = np.where(np.isfinite(costs), costs, np.inf)
        order = np.argsort(costs, kind="stable")
        elites = self._points[order[: max(2, round(config.elites * config.samples))]]
        self._mean = config.momentum * self._mean + (1 - config.momentum) * elites.mean(axis=0)
        self._std = config.momentum * self._std + (1 - config.momentum) * elites.std(axis=0)
        self._elite = elites[: config.kept]
        if offsets is not None and config.guided > 0:
            usable = np.isfinite(costs) & np.isfinite(offsets).all(axis=1)
            self._seen.append((self._points[usable], offsets[usable]))
            self._guided = self._follow_offsets(order[: round(config.guided * config.samples)], offsets)

    def _follow_offsets(self, best: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Way points that a linear fit of all outcomes seen so far expects at the goal (damped Gauss-Newton).

        The fit, from targets to offsets, weighs plans by how near to the goal they ended; each of the `best` plans
        (indices) takes its own step from its own offset, so that the proposals keep the variety they come from.
        """
        targets = np.concatenate([points[:, -1] for points, _ in self._seen]) / self._reach
        outcomes = np.concatenate([seen for _, seen in self._seen])
        best = best[np.isfinite(offsets[best]).all(axis=1)]
        if len(best) == 0 or len(targets) < 2 * targets.shape[1]:
            return self._points[:0]
        distance = np.linalg.norm(outcomes, axis=1)
        near = np.sort(distance)[2 * targets.shape[1] - 1]
        weight = np.exp(-0.5 * np.square(distance / max(near, 1e-3)))
        x = targets - np.average(targets, 0, weight)
        y = outcomes - np.average(outcomes, 0, weight)
        slope = _solve_damped((x * weight[:, None]).T @ x, (x * weight[:, None]).T @ y)  # (A, D)
        step = -offsets[best] @ _solve_damped(slope.T @ slope, slope.T)
        step = np.clip(step * self._rng.uniform(0.6, 1.1, (len(best), 1)), -TRUST, TRUST)
        points = self._points[best].copy()
        points[:, -1] += (step * self._reach).astype(np.float32)
        return self._clip(points)

    def _clip(self, points: np.ndarray) -> np.ndarray:
        points[:, -1] = np.clip(points[:, -1], self.embodiment.lower, self.embodiment.upper)
        return points

    def plans(self, points: np.ndarray) -> np.ndarray:
        """Way points (N, knots, A) → plans (N, H, A) within limits.

        The last point is the target; the others are deviations from the straight line to it.
        """
        knots = self.config.knots
        line = np.linspace(0.0, 1.0, knots + 1, dtype=np.float32)[:, None]
        path = self._start + line * (points[:, None, -1] - self._start)
        path[:, 1:-1] += points[:, :-1]
        index = np.minimum(self._progress.astype(int), knots - 1)
        fraction = (self._progress - index).astype(np.float32)[:, None]
        plans = path[:, index] * (1 - fraction) + path[:, index + 1] * fraction
        return self.embodiment.limit_plan(plans, self._start)


def _solve_damped(square: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve `square @ x = right` for a positive semi-definite matrix, damped by a share of its mean diagonal."""
    damping = max(DAMPING * float(np.trace(square)) / len(square), 1e-12)
    return np.linalg.solve(square + damping * np.eye(len(square)), right)
