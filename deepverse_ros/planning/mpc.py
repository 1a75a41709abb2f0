"""Receding-horizon planning: search in imagination, judge the best, return a plan and its verdict."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.objectives import (
    Certainty,
    Future,
    Goal,
    GoalImage,
    Objective,
    Smoothness,
    WeightedSum,
)
from deepverse_ros.planning.samplers import Icem, IcemConfig, Sampler
from deepverse_ros.planning.verdict import Belief, Calibration, Limits, Reason, Verdict, check_plan, judge, rejected


class Imagination(Protocol):
    """What planning needs of a world model."""

    @property
    def embodiment(self) -> Embodiment: ...

    @property
    def calibration(self) -> dict[str, Any] | None: ...

    def imagine(self, belief: Any, plans: np.ndarray) -> Future: ...


@dataclass(frozen=True)
class MpcConfig:
    """How the planner searches and what it accepts.

    sampler: the search. iterations: rounds of candidates per search. max_replans: further searches with another seed
    while no plan is accepted. verified: how many of the best plans of a search are judged. early, latent, certainty,
    smoothness: weights of the objectives (see there). limits: what a plan must keep to be accepted.
    """

    sampler: IcemConfig = field(default_factory=IcemConfig)
    iterations: int = 3
    max_replans: int = 2
    verified: int = 4
    early: float = 0.05
    latent: float = 0.01
    certainty: float = 1.0
    smoothness: float = 0.005
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name, least in (("iterations", 1), ("max_replans", 0), ("verified", 1)):
            if getattr(self, name) < least:
                raise ShapeError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Candidates:
    """The last plans that were imagined in a search: plans (N, H, A), costs (N,), tool paths (N, H, 3) metres."""

    plans: np.ndarray
    costs: np.ndarray
    tool_paths: np.ndarray


@dataclass(frozen=True)
class PlanResult:
    """A plan with its verdict; where it is rejected, the robot must hold.

    plan (H, A), future of that plan alone; both None when the deadline left no time to imagine anything.
    searches: how many searches were made; rejected: verdicts of the best plans of the searches that failed.
    """

    plan: np.ndarray | None
    verdict: Verdict
    future: Future | None
    candidates: Candidates | None
    iterations: int
    searches: int
    latency_ms: float
    rejected: tuple[Verdict, ...] = ()


class Mpc:
    """Plans to a goal image from what the robot believes now.

    The last accepted plan warms up the next search. The same seed, belief and goal give the same plans, as long as
    no deadline cuts a search short. Not thread-safe.
    """

    def __init__(
        self, model: Imagination, config: MpcConfig | None = None, seed: int = 0, sampler: Sampler | None = None
    ) -> None:
        self.model = model
        self.config = config or MpcConfig()
        self.embodiment = model.embodiment
        self.calibration = Calibration.from_model(model.calibration)
        self.seed = seed
        self._sampler: Sampler = sampler or Icem(self.embodiment, self.config.sampler)
        self.forget()

    def forget(self) -> None:
        """Drop what the last goal left behind: its plan and the count of plans."""
        self._last: np.ndarray | None = None
        self._plans = 0

    def objective(self, goal: Goal) -> Objective:
        config = self.config
        return WeightedSum(
            [
                (1.0, GoalImage(goal, config.early, config.latent)),
                (config.certainty, Certainty()),
                (config.smoothness, Smoothness(self.embodiment)),
            ]
        )

    def plan(
        self,
        belief: Belief,
        goal: Goal,
        joints: np.ndarray,
        *,
        deadline: float = math.inf,
        plan_id: str = "",
        on_verdict: Callable[[Verdict], None] = lambda verdict: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> PlanResult:
        """Search until a plan is accepted, the replans are used up, or the deadline is near.

        Args: joints (A,) where the robot is now; deadline in seconds of time.monotonic(): no round of candidates is
        begun that would not end before it; plan_id: the plans of the searches are called plan_id.0, plan_id.1, …;
        on_verdict: called with the verdict of each search; stop: asked before each round, True ends planning.
        Returns: the accepted plan, or the rejected one of lowest cost with its reason.
        """
        start = time.monotonic()
        best: tuple[Verdict, np.ndarray, Future] | None = None
        failed: list[Verdict] = []
        candidates, iterations, searches, round_s = None, 0, 0, 0.0
        for search in range(self.config.max_replans + 1):
            warm = self._last if search == 0 else (best[1] if best is not None and search % 2 else None)
            found = self._search(belief, goal, joints, warm=warm, deadline=deadline, round_s=round_s, stop=stop)
            if found is None:
                break
            verdict, plan, future, candidates, rounds, round_s = found
            verdict = verdict.with_(plan_id=f"{plan_id}.{search}", latency_ms=(time.monotonic() - start) * 1e3)
            iterations, searches = iterations + rounds, search + 1
            on_verdict(verdict)
            if best is None or verdict.accepted or verdict.score < best[0].score:
                best = (verdict, plan, future)
            if verdict.accepted:
                break
            failed.append(verdict)
            if verdict.reason is Reason.OUT_OF_DISTRIBUTION or self.calibration is None:
                break  # another seed cannot change this
        latency = (time.monotonic() - start) * 1e3
        if best is None:
            allowed = max(0.0, (deadline - start) * 1e3)
            text = f"{allowed:.0f} ms were left, too few to imagine one round of plans"
            verdict = rejected(Reason.DEADLINE_MISSED, text, value=latency, threshold=allowed)
            verdict = verdict.with_(plan_id=f"{plan_id}.0", latency_ms=latency)
            on_verdict(verdict)
            return PlanResult(None, verdict, None, None, 0, 0, latency, (verdict,))
        verdict, plan, future = best
        self._last = plan if verdict.accepted else None
        return PlanResult(plan, verdict, future, candidates, iterations, searches, latency, tuple(failed))

    def judge_plan(
        self, belief: Belief, goal: Goal, plan: np.ndarray, joints: np.ndarray
    ) -> tuple[Verdict, Future | None]:
        """Judge a plan (H, A) that somebody else made; the future is None where it is not worth imagining."""
        start = time.monotonic()
        verdict = check_plan(plan, joints, self.embodiment, self.config.limits)
        future = None
        if verdict is None:
            plans = plan[None].astype(np.float32)
            future = self.model.imagine(belief, plans)
            verdict = judge(future, 0, belief, goal, self.calibration, self.config.limits)
            verdict = verdict.with_(score=float(self.objective(goal)(future, torch.from_numpy(plans))[0]))
        return verdict.with_(latency_ms=(time.monotonic() - start) * 1e3), future

    def _search(
        self,
        belief: Belief,
        goal: Goal,
        joints: np.ndarray,
        *,
        warm: np.ndarray | None,
        deadline: float,
        round_s: float,
        stop: Callable[[], bool],
    ) -> tuple[Verdict, np.ndarray, Future, Candidates, int, float] | None:
        """One search. round_s: seconds that a round took so far. None where not one round was possible."""
        objective = self.objective(goal)
        self._sampler.reset(joints, self.seed + self._plans, warm)
        self._plans += 1
        pool: list[tuple[float, np.ndarray, Future]] = []
        candidates, rounds = None, 0
        for _ in range(self.config.iterations):
            began = time.monotonic()
            if began + round_s >= deadline or stop():
                break
            plans = self._sampler.ask()
            future = self.model.imagine(belief, plans)
            costs = objective(future, torch.from_numpy(plans)).detach().float().cpu().numpy()
            tools = future.readout["tool_position"].detach().float().cpu().numpy()
            self._sampler.tell(costs, tools[:, -1] - np.asarray(goal.tool_position, np.float32))
            order = np.argsort(np.where(np.isfinite(costs), costs, np.inf), kind="stable")[: self.config.verified]
            pool += [(float(costs[i]), plans[i], future.select([int(i)])) for i in order]
            candidates = Candidates(plans, costs, tools)
            rounds += 1
            round_s = max(round_s, time.monotonic() - began)
        if candidates is None:
            return None
        pool.sort(key=lambda entry: entry[0] if math.isfinite(entry[0]) else math.inf)
        first: tuple[Verdict, np.ndarray, Future] | None = None
        for cost, plan, future in pool[: self.config.verified]:
            verdict = check_plan(plan, joints, self.embodiment, self.config.limits)
            if verdict is None:
                verdict = judge(future, 0, belief, goal, self.calibration, self.config.limits)
            entry = (verdict.with_(score=cost), plan, future)
            if first is None or verdict.accepted:
                first = entry
            if verdict.accepted:
                break
        assert first is not None
        return (*first, candidates, rounds, round_s)
