"""Where candidate plans come from: samplers that see only costs, never a model; and the way points that they search."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.robot.embodiment import Embodiment


class Sampler(Protocol):
    """Proposes plans and learns from their costs (ask and tell)."""

    def reset(self, start: np.ndarray, seed: int, warm: np.ndarray | None = None) -> None:
        """Begin a search from `start` (A,); `warm` (1 + H, A) is a plan to continue from, after where it began.

        What the robot has done of that plan, as `start` tells, is skipped.
        """
        ...

    def ask(self) -> np.ndarray:
        """(N, H, A) float32 candidate plans within the embodiment's limits; N may differ from round to round."""
        ...

    def tell(self, costs: np.ndarray, offsets: np.ndarray | None = None) -> None:
        """Learn from the plans of the last `ask`.

        Args: costs (N,), NaN counts as worst; offsets (N, D): how far, in each of D directions, each plan's outcome
        is from the goal, for samplers that can use more than a number per plan.
        """
        ...


@dataclass(frozen=True)
class WayPointConfig:
    """Which plans are drawn.

    samples: plans per round.
    horizon: steps H of a plan.
    knots: joint-space way points of a plan, at most one per step that moves.
    settle: steps at the end of a plan that hold its target, so that the judged frame shows the robot at rest.
    spread, bend: first standard deviation of the target and of the way points' deviation from the straight line, as a
        fraction of what the robot can move within the horizon.
    warm_spread: the same for the target when a last plan is continued.
    colour: the deviations have the power spectrum 1/f^colour along the way; 0 is white, 2 a random walk; the higher,
        the smoother the detours.
    detours: share of the plans that are drawn with a bow on the way, over or around something, where the embodiment has
        a body.
    bow: standard deviation of its height and width, metres.
    """

    samples: int = 256
    horizon: int = 8
    knots: int = 4
    settle: int = 1
    spread: float = 0.18
    bend: float = 0.1
    warm_spread: float = 0.08
    colour: float = 2.0
    detours: float = 0.0
    bow: float = 0.2

    def __post_init__(self) -> None:
        if self.samples < 4 or self.horizon < 2:
            raise ShapeError(f"samples must be at least 4 and horizon at least 2, got {self.samples}, {self.horizon}")
        if self.knots < 1 or not 0 <= self.settle < self.horizon:
            raise ShapeError(
                f"knots must be at least 1 and settle 0 to {self.horizon - 1} (horizon - 1), "
                f"got {self.knots}, {self.settle}"
            )
        if not 0 <= self.detours <= 1:
            raise ShapeError(f"detours must be 0 to 1, got {self.detours}")
        for name in ("spread", "bend", "warm_spread", "colour", "bow"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ShapeError(f"{name} must be a number of at least 0, got {getattr(self, name)}")


class WayPoints:
    """Plans as a few points in joint space.

    A plan runs from `start` (A,) through `knots` points to a target and holds there. Points are an array (..., knots,
    A): the last is the target, the others are deviations from the straight line to it. Searching them instead of H
    independent steps leaves knots x A numbers, which a few dozen candidates can search, and a detour keeps its shape
    while the target moves.
    """

    def __init__(self, embodiment: Embodiment, config: WayPointConfig, start: np.ndarray) -> None:
        self.embodiment = embodiment
        self.config = config
        self.start = np.clip(np.asarray(start, np.float32), embodiment.lower, embodiment.upper)
        self._moving = config.horizon - config.settle
        self.knots = min(config.knots, self._moving)
        # (H,) progress along the way points, 0..knots, reached before the settling steps.
        self._progress = np.minimum(np.arange(1, config.horizon + 1) / self._moving, 1.0) * self.knots
        self._line = np.linspace(0.0, 1.0, self.knots + 1, dtype=np.float32)[:, None]
        self.reach = np.minimum(embodiment.max_step * self._moving, embodiment.upper - embodiment.lower)

    def plans(self, points: np.ndarray) -> np.ndarray:
        """Way points (N, knots, A) → plans (N, H, A) within limits."""
        path = self.start + self._line * (points[:, None, -1] - self.start)
        path[:, 1:-1] += points[:, :-1]
        index = np.minimum(self._progress.astype(int), self.knots - 1)
        fraction = (self._progress - index).astype(np.float32)[:, None]
        plans = path[:, index] * (1 - fraction) + path[:, index + 1] * fraction
        return self.embodiment.limit_plan(plans, self.start)

    def of(self, course: np.ndarray) -> np.ndarray:
        """(knots, A) way points of what is left of a plan from `start` on.

        Args: course: where the plan began, and the plan, (1 + H, A). All is done up to the row nearest to `start`: but
        for the first one, a robot that has not begun could not be told from one that did the first action roughly.
        """
        course = np.asarray(course, np.float32)
        away = np.linalg.norm((course - self.start) / self.embodiment.max_step, axis=1)
        ahead = min(int(np.argmin(away)) + 1, len(course) - 1)
        path = np.concatenate([self.start[None], course[ahead:]])
        steps = self._line[1:, 0] * self._moving
        points = np.stack([np.interp(steps, np.arange(len(path)), values) for values in path.T], 1)
        points[-1] = course[-1]
        points[:-1] -= (self.start + self._line * (course[-1] - self.start))[1:-1]
        return self.clip(points.astype(np.float32))

    def begin(self, warm: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Way points (knots, A) that a search begins from, and their standard deviation in its first round.

        They stand at `start`, or follow what is left of the plan `warm` (1 + H, A); see `of`.
        """
        fraction = np.full((self.knots, 1), self.config.bend, np.float32)
        fraction[-1] = self.config.spread if warm is None else self.config.warm_spread
        std = fraction * self.reach
        if warm is not None:
            return self.of(warm), std
        points = np.zeros_like(std)
        points[-1] = self.start
        return points, std

    def noise(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, knots, A) of unit variance: coloured along the deviations, independent for the target."""
        knots = self.knots
        actions = self.start.size
        # The noise is periodic: of a longer stretch, the two ends of the way have nothing to do with each other.
        bends = coloured_noise(rng, (count, 2 * (knots - 1), actions), self.config.colour)[:, : knots - 1]
        return np.concatenate([bends, rng.standard_normal((count, 1, actions), np.float32)], 1)

    def draw(self, rng: np.random.Generator, mean: np.ndarray, std: np.ndarray, count: int) -> np.ndarray:
        """(count, knots, A) points around `mean` (knots, A); the share `detours` has a bow instead of bends.

        A bow stands on the straight line, not on the mean: it is another way than the one that is searched.
        """
        points = mean + self.noise(rng, count) * std
        bowed = round(self.config.detours * count)
        if bowed:
            points[:bowed, :-1] = self._bow(rng, bowed)
        return self.clip(points)

    def _bow(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, knots - 1, A) deviations that lift the tool in a bow, upwards and to a side; zeros without a body."""
        lift = self._lift
        if lift is None:
            return np.zeros((count, self.knots - 1, self.start.size), np.float32)
        metres = self.config.bow * rng.standard_normal((count, 3))
        metres[:, 2] = np.abs(metres[:, 2])  # from a table, the way over things is above them
        arch = np.sin(np.pi * self._line[1:-1])
        return (arch * (metres @ lift)[:, None]).astype(np.float32)

    @cached_property
    def _lift(self) -> np.ndarray | None:
        """(3, A): how the actions move for one metre of the tool along x, y, z from `start`; None without a body."""
        robot = self.embodiment
        delta = 1e-3
        if robot.body is None or not robot.actions_place_body or robot.tool_frame not in robot.body.frames:
            return None
        near = self.start + delta * np.concatenate([np.eye(self.start.size), -np.eye(self.start.size)])
        tool = robot.body.forward_kinematics(robot.action_values(near))[robot.tool_frame][:, :3, 3]
        slope = (tool[: self.start.size] - tool[self.start.size :]) / (2 * delta)  # (A, 3)
        return np.linalg.solve(slope.T @ slope + 0.01 * np.eye(3), slope.T)

    def clip(self, points: np.ndarray) -> np.ndarray:
        """Way points whose target is within the position limits (in place)."""
        points[..., -1, :] = np.clip(points[..., -1, :], self.embodiment.lower, self.embodiment.upper)
        return points


def coloured_noise(rng: np.random.Generator, shape: tuple[int, int, int], beta: float) -> np.ndarray:
    """Gaussian noise (N, T, A) float32 of unit variance whose power spectrum over T falls as 1/f^beta.

    White noise, filtered by FFT (Timmer and Koenig 1995, "On generating power law noise"). The constant part has the
    power of the slowest wave, where 1/f^beta would be infinite.
    """
    white = rng.standard_normal(shape)
    steps = shape[1]
    if steps < 2 or beta == 0:
        return white.astype(np.float32)
    frequency = np.maximum(np.abs(np.fft.fftfreq(steps)), 1 / steps)  # (T,)
    gain = frequency ** (-beta / 2)
    gain /= np.sqrt(np.mean(np.square(gain)))
    half = gain[: steps // 2 + 1, None]
    return np.fft.irfft(np.fft.rfft(white, axis=1) * half, steps, axis=1).astype(np.float32)
