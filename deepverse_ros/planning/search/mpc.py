"""Receding-horizon planning: search in imagination, judge the best, return a plan and its verdict."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.distance_field import DistanceField
from deepverse_ros.planning.objectives import registry
from deepverse_ros.planning.objectives.base import BiasCorrectedFuture, Future, Goal, Objective, WeightedSum
from deepverse_ros.planning.objectives.goal_image import GoalImage
from deepverse_ros.planning.objectives.goal_position import GoalPosition
from deepverse_ros.planning.search.icem import Icem, IcemConfig
from deepverse_ros.planning.search.kinematic_seed import kinematic_seed
from deepverse_ros.planning.search.mppi import Mppi, MppiConfig
from deepverse_ros.planning.search.result import Candidates, PlanResult
from deepverse_ros.planning.search.samplers import Sampler
from deepverse_ros.planning.verdicts.calibration import Calibration
from deepverse_ros.planning.verdicts.judge import Belief, Limits, check_plan, judge
from deepverse_ros.planning.verdicts.verdict import Reason, Verdict, rejected
from deepverse_ros.robot.embodiment import Embodiment

AVOID = 5.0
"""Least weight of the clearance where verdicts ask for one: 1 cm too near weighs as much as 5 cm beside the goal."""
_RESERVE = 0.01  # metres beyond what a verdict asks for: between the moments of a step and from then to the next look
_DETOURS = 0.3  # share of the candidates that make a detour, where things are to be avoided
_POOL = 4  # times as many plans as are verified are kept of each round, so that distinct ones can be chosen
_DISTINCT = 0.25  # of a largest step, mean over a plan: what differs less is as near to things


class Imagination(Protocol):
    """What planning needs of a world model."""

    @property
    def embodiment(self) -> Embodiment: ...

    @property
    def calibration(self) -> dict[str, Any] | None: ...

    def imagine(self, belief: Any, plans: np.ndarray) -> Future: ...

    def imagine_coarse(self, belief: Any, plans: np.ndarray) -> Future: ...


@dataclass(frozen=True)
class MpcConfig:
    """How the planner searches and what it accepts.

    sampler: the search, Icem or Mppi by the type of its settings; where a clearance is to be kept and it has no
        detours, it gets some.
    longer: how many times as long the plans are in the searches after one whose best plan does not get to the goal, or
        not freely.
    iterations: rounds of candidates per search.
    search_level: where candidates are imagined: coarse, or fine, which takes many times as long.
    corrected: so many of the rounds on the coarse level, the last ones, go by where the fine level sees the tool of the
        best plan before them (0: none), as the two levels are some millimetres apart.
    approaches: so many of the searches begin from the way to the goal that kinematics knows, later ones from where the
        robot stands.
    max_replans: further searches with another seed while no plan is accepted.
    verified: how many of the best plans of a search are imagined on the fine level and judged.
    early, latent: of the way to the goal, see `GoalImage`.
    weights: of other objectives by their names in `objectives.registry`, where they differ from those there.
    margin: of the clearance, metres.
    limits: what a plan must keep to be accepted; with a clearance among them, the search keeps it too, with a weight of
        at least AVOID.
    """

    sampler: IcemConfig | MppiConfig = field(default_factory=IcemConfig)
    longer: int = 2
    iterations: int = 6
    search_level: Literal["coarse", "fine"] = "coarse"
    corrected: int = 3
    approaches: int = 2
    max_replans: int = 2
    verified: int = 4
    early: float = 0.05
    latent: float = 0.01
    weights: Mapping[str, float] = field(default_factory=dict)
    margin: float = 0.05
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", registry.weights(self.weights))
        for least, names in enumerate(
            (("corrected", "approaches", "max_replans"), ("longer", "iterations", "verified"))
        ):
            for name in names:
                if getattr(self, name) < least:
                    raise ShapeError(f"{name} must be at least {least}, got {getattr(self, name)}")


class Mpc:
    """Plans to a goal image, or to a place of the tool, from what the robot believes now.

    The last accepted plan warms up the next search. The same seed, belief and goal give the same plans, as long as
    no deadline cuts a search short. Not thread-safe.
    """

    def __init__(
        self, model: Imagination, config: MpcConfig | None = None, seed: int = 0, sampler: Sampler | None = None
    ) -> None:
        self.model = model
        self.config = config or MpcConfig()
        self.embodiment = model.embodiment.with_known_body()
        self.calibration = Calibration.from_model(model.calibration)
        self.seed = seed
        settings = self.config.sampler
        if self.config.limits.clearance is not None and not settings.detours:
            settings = replace(settings, detours=_DETOURS)
        self._sampler = sampler or _make_sampler(self.embodiment, settings)
        self._longer = self._sampler
        calibrated = 0 if self.calibration is None else len(self.calibration.goal_error_z)
        long = replace(settings, horizon=self.config.longer * settings.horizon)
        # What was never calibrated would be imagined only to be rejected.
        if sampler is None and long.horizon <= calibrated:
            self._longer = _make_sampler(self.embodiment, long)
        self._verify_s = 0.0
        self.forget()

    def forget(self) -> None:
        """Drop what the last goal left behind: its plan and the count of plans."""
        self._last: np.ndarray | None = None  # (1 + H, A), where the last accepted plan began, and the plan
        self._plans = 0

    def surroundings(self, belief: Belief, joints: np.ndarray) -> DistanceField | None:
        """What there is to keep clear of; None where nobody asks for a clearance, or geometry cannot tell.

        Args: joints (A,) where the robot was when the belief's newest frame was taken.
        """
        if self.config.limits.clearance is None and not self.config.weights["clearance"]:
            return None
        return DistanceField.of(belief, np.asarray(joints, np.float32), self.embodiment)

    def objective(
        self, goal: Goal, surroundings: DistanceField | None = None, joints: np.ndarray | None = None
    ) -> Objective:
        """What plans from `joints` (A,) cost. Without surroundings the clearance is what is imagined."""
        config = self.config
        least = self.config.limits.clearance
        margin = config.margin
        weights = dict(config.weights)
        if least is not None:
            weights["clearance"] = max(weights["clearance"], AVOID)
            error = max((self.calibration and self.calibration.clearance_error_m) or (math.inf,))
            if surroundings is not None and math.isfinite(error):
                margin = least + error + _RESERVE
        aim: Objective = GoalPosition(goal.tool_position, config.early)
        if goal.embedding is not None:
            aim = GoalImage(goal, config.early, config.latent)
        search = registry.Search(goal, self.embodiment, margin, surroundings, joints)
        asked = [(weights[entry.name], entry) for entry in registry.OBJECTIVES]
        return WeightedSum([(1.0, aim), *((weight, entry.make(search)) for weight, entry in asked if weight)])

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

        Args:
            joints: (A,) where the robot is now.
            deadline: in seconds of time.monotonic(): no round of candidates is begun that would not end before it.
            plan_id: the plans of the searches are called plan_id.0, plan_id.1, ….
            on_verdict: called with the verdict of each search.
            stop: asked before each round, True ends planning.
        Returns: the accepted plan, or the rejected one of lowest cost with its reason.
        """
        start = time.monotonic()
        surroundings = self.surroundings(belief, joints)
        best: tuple[Verdict, np.ndarray, Future] | None = None
        failed: list[Verdict] = []
        candidates = None
        iterations = 0
        searches = 0
        round_s = 0.0
        for search in range(self.config.max_replans + 1):
            # Where to begin: at the plan that is under way. After a failure every other search goes on from the best
            # plan so far, the ones between from where the robot stands; a plan that did not get there is made longer.
            sampler = self._sampler
            warm = self._last
            steps = self.config.sampler.horizon
            if failed:
                warm = np.concatenate([joints[None], best[1]]) if best is not None and search % 2 else None
                too_short = failed[-1].reason in (Reason.MISSES_GOAL, Reason.COLLISION_ZONE)
                if too_short and self._longer is not sampler:
                    sampler = self._longer
                    warm = None
                    round_s *= self.config.longer
                    steps *= self.config.longer
            # With nothing to go on from, the way that kinematics knows is a better beginning than standing still.
            if warm is None and search < self.config.approaches:
                straight = self.config.weights["straightness"] > 0
                warm = kinematic_seed(self.embodiment, joints, goal.tool_position, steps, straight)
            # One search, and what it costs: `round_s` tells the next one whether the time is enough for another round.
            found = self._search(sampler, belief, goal, joints, surroundings, warm, deadline, round_s, stop)
            if found is None:
                break
            verdict, plan, future, candidates, rounds, round_s = found
            verdict = verdict.with_(plan_id=f"{plan_id}.{search}", latency_ms=(time.monotonic() - start) * 1e3)
            iterations += rounds
            searches = search + 1
            on_verdict(verdict)
            # An accepted plan beats all; among rejected ones the cheapest is reported, with its reason.
            if best is None or verdict.accepted or verdict.score < best[0].score:
                best = (verdict, plan, future)
            if verdict.accepted:
                break
            failed.append(verdict)
            unsure = goal.tool_std > self.config.limits.max_goal_uncertainty
            if verdict.reason is Reason.OUT_OF_DISTRIBUTION or self.calibration is None or unsure:
                break  # another seed cannot change this
        if best is None:
            return _nothing_imagined(plan_id, start, deadline, stop(), on_verdict)
        # The next call goes on from an accepted plan; a rejected one is nothing to go on from.
        latency = (time.monotonic() - start) * 1e3
        verdict, plan, future = best
        self._last = np.concatenate([joints[None], plan]) if verdict.accepted else None
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
            surroundings = self.surroundings(belief, joints)
            verdict = self._judge(future, 0, belief, goal, plan, joints, surroundings)
            cost = self.objective(goal, surroundings, joints)(future, torch.from_numpy(plans))
            verdict = verdict.with_(score=float(cost[0]))
        return verdict.with_(latency_ms=(time.monotonic() - start) * 1e3), future

    def _search(
        self,
        sampler: Sampler,
        belief: Belief,
        goal: Goal,
        joints: np.ndarray,
        surroundings: DistanceField | None,
        warm: np.ndarray | None,
        deadline: float,
        round_s: float,
        stop: Callable[[], bool],
    ) -> tuple[Verdict, np.ndarray, Future, Candidates, int, float] | None:
        """One search. round_s: seconds that a round took so far. None where not one round was possible."""
        # Every search draws from a seed of its own, so that the same belief and goal give the same plans again.
        objective = self.objective(goal, surroundings, joints)
        sampler.reset(joints, self.seed + self._plans, warm)
        self._plans += 1
        coarse = self.config.search_level == "coarse"
        search = self.model.imagine_coarse if coarse else self.model.imagine
        # Half of the rounds at least find the plan that both levels are asked about: it must end where others do later.
        half = (self.config.iterations + 1) // 2
        uncorrected = max(half, self.config.iterations - self.config.corrected)
        uncorrected = uncorrected if coarse and self.config.corrected else -1
        # The best plans of all rounds on one level, of which the distinct ones are verified.
        pool: list[tuple[float, np.ndarray, np.ndarray]] = []  # cost, plan (H, A), coarse path of its tool (H, 3)
        candidates = None
        rounds = 0
        shift: Tensor | None = None
        for number in range(self.config.iterations):
            began = time.monotonic()
            # After the last round there must be time to verify; before the first one nobody knows how much.
            if began + round_s + (self._verify_s or round_s) >= deadline or stop():
                break
            # From here on the coarse level is corrected: by (H, 3) metres that the fine level sees the tool elsewhere
            # on the best plan so far. Costs from before cannot be compared with those after, so the pool begins anew.
            if number == uncorrected and candidates is not None:
                if began + round_s + 2 * (self._verify_s or round_s) >= deadline:
                    break
                _, best, seen = min(pool, key=_cost)
                shift = self._levels_apart(belief, best, seen)
                pool = []
                began = time.monotonic()
            # One round: plans (N, H, A) to costs (N,) and paths of the tool (N, H, 3), which shape the next round.
            plans = sampler.ask()
            future = search(belief, plans)
            if shift is not None:
                future = BiasCorrectedFuture(future, shift)
            costs = self._costs(objective, future, plans)
            tools = future.readout["tool_position"].detach().float().cpu().numpy()
            sampler.tell(costs, tools[:, -1] - np.asarray(goal.tool_position, np.float32))
            # Of each round the cheapest are kept: more than are verified, for many of them are nearly the same plan.
            order = np.argsort(np.where(np.isfinite(costs), costs, np.inf), kind="stable")
            pool += [(float(costs[i]), plans[i], tools[i]) for i in order[: _POOL * self.config.verified]]
            candidates = Candidates(plans, costs, tools)
            rounds += 1
            round_s = max(round_s, time.monotonic() - began)
        if candidates is None:
            return None
        # The coarse level only ranks; what it likes best is imagined and judged on the fine level.
        best_plans = self._distinct([plan for _, plan, _ in sorted(pool, key=_cost)])
        return (*self._verify(belief, goal, best_plans, joints, surroundings, objective), candidates, rounds, round_s)

    def _levels_apart(self, belief: Belief, plan: np.ndarray, coarse: np.ndarray) -> Tensor:
        """(H, 3) metres from where the coarse level sees the tool on a plan (H, A), to where the fine level does."""
        fine = self.model.imagine(belief, plan[None]).readout["tool_position"][0]
        return fine - torch.from_numpy(coarse).to(fine)

    def _distinct(self, plans: list[np.ndarray]) -> np.ndarray:
        """(V, H, A): the first plans; with a clearance to keep, without those that are like one before."""
        if self.config.limits.clearance is None:
            return np.stack(plans[: self.config.verified])
        chosen = plans[:1]
        for plan in plans[1:]:
            apart = (np.abs(plan - other) / self.embodiment.max_step for other in chosen)
            if len(chosen) < self.config.verified and min(float(a.mean()) for a in apart) > _DISTINCT:
                chosen.append(plan)
        return np.stack(chosen)

    def _judge(
        self,
        future: Future,
        index: int,
        belief: Belief,
        goal: Goal,
        plan: np.ndarray,
        joints: np.ndarray,
        surroundings: DistanceField | None,
    ) -> Verdict:
        """Args: plan (H, A): number `index` of the future."""
        seen = None if surroundings is None else surroundings.judged_clearance(plan, joints)
        return judge(future, index, belief, goal, self.calibration, self.config.limits, seen)

    def _verify(
        self,
        belief: Belief,
        goal: Goal,
        plans: np.ndarray,
        joints: np.ndarray,
        surroundings: DistanceField | None,
        objective: Objective,
    ) -> tuple[Verdict, np.ndarray, Future]:
        """Imagine plans (N, H, A) on the fine level and judge them there.

        Returns: the accepted one of lowest cost, else the one of lowest cost with the reason why it was rejected.
        """
        # All plans in one batch. How long that takes is what a search has to leave before its deadline; the estimate
        # falls slowly, as one quick verification does not make the next one quick.
        began = time.monotonic()
        future = self.model.imagine(belief, plans)
        costs = self._costs(objective, future, plans)
        self._verify_s = max(0.9 * self._verify_s, time.monotonic() - began)
        found: list[tuple[Verdict, np.ndarray, Future]] = []
        # From the cheapest on, so that the first accepted plan is the best one.
        for i in np.argsort(np.where(np.isfinite(costs), costs, np.inf), kind="stable"):
            verdict = check_plan(plans[i], joints, self.embodiment, self.config.limits)
            if verdict is None:
                verdict = self._judge(future, int(i), belief, goal, plans[i], joints, surroundings)
            found.append((verdict.with_(score=float(costs[i])), plans[i], future.select([int(i)])))
            if verdict.accepted:
                return found[-1]
        return found[0]

    @staticmethod
    def _costs(objective: Objective, future: Future, plans: np.ndarray) -> np.ndarray:
        return objective(future, torch.from_numpy(plans)).detach().float().cpu().numpy()


def _nothing_imagined(
    plan_id: str, start: float, deadline: float, canceled: bool, on_verdict: Callable[[Verdict], None]
) -> PlanResult:
    """Args: start, deadline: of the planning, seconds of time.monotonic()."""
    latency, allowed = (time.monotonic() - start) * 1e3, max(0.0, (deadline - start) * 1e3)
    text = f"no round of plans could be imagined in the {allowed:.0f} ms that there were for it"
    if canceled:
        text = f"canceled after {latency:.0f} ms, before one round of plans was imagined"
    verdict = rejected(Reason.DEADLINE_MISSED, text, value=latency, threshold=allowed)
    verdict = verdict.with_(plan_id=f"{plan_id}.0", latency_ms=latency)
    if not canceled:  # who canceled waits for no verdict, and no plan was there to be judged
        on_verdict(verdict)
    return PlanResult(None, verdict, None, None, 0, 0, latency, (verdict,))


def _cost(entry: tuple[float, np.ndarray, np.ndarray]) -> float:
    return entry[0] if math.isfinite(entry[0]) else math.inf


def _make_sampler(embodiment: Embodiment, config: IcemConfig | MppiConfig) -> Sampler:
    return Icem(embodiment, config) if isinstance(config, IcemConfig) else Mppi(embodiment, config)
