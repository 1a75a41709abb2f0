"""Planning against the arm's true kinematics: what is imagined here is where the tool really would be."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.errors import CheckpointError, ShapeError
from deepverse_ros.planning.mpc import Mpc, MpcConfig
from deepverse_ros.planning.objectives import Certainty, GoalImage, Smoothness, WeightedSum, goal_distance
from deepverse_ros.planning.samplers import Icem, IcemConfig
from deepverse_ros.planning.verdict import Limits, Reason
from deepverse_ros.simulation.kinematics import ArmKinematics

ARM = Embodiment.load("arm")
HOME = np.asarray(ARM.home, np.float32)
FORWARD = ArmKinematics(ARM)
OUT_OF_REACH = np.array([1.6, 0.0, 0.3], np.float32)


@dataclass
class TrueFuture:
    """Where the arm's kinematics say that the tool will be."""

    tool: torch.Tensor
    uncertainty: torch.Tensor
    latents: torch.Tensor

    @property
    def readout(self) -> dict[str, torch.Tensor]:
        return {"tool_position": self.tool}

    def select(self, indices: Any) -> "TrueFuture":
        return TrueFuture(self.tool[indices], self.uncertainty[indices], self.latents[indices])


@dataclass
class TrueImagination:
    """The Imagination protocol over real kinematics. delay: seconds that a call takes, for deadlines."""

    embodiment: Embodiment = ARM
    calibration: dict[str, Any] | None = field(default_factory=lambda: {"level": 0.9, "goal_error_z": [0.7] * 8})
    std: float = 0.01
    delay: float = 0.0
    calls: int = 0

    def imagine(self, belief: Any, plans: np.ndarray) -> TrueFuture:
        self.calls += 1
        time.sleep(self.delay)
        tool = [[FORWARD.tool_position(action) for action in plan] for plan in plans]
        count, horizon = plans.shape[:2]
        latents = torch.from_numpy(plans[:, :, None].copy())
        return TrueFuture(
            torch.tensor(np.array(tool), dtype=torch.float32), torch.full((count, horizon), self.std), latents
        )


@dataclass
class Seen:
    """A belief or a goal."""

    tool_position: np.ndarray = field(default_factory=lambda: np.zeros(3, np.float32))
    latent: torch.Tensor = field(default_factory=lambda: torch.from_numpy(HOME[None].copy()))
    tool_std: float = 0.01
    ood_score: float = 0.3

    @property
    def out_of_distribution(self) -> bool:
        return self.ood_score > 1.0


def reachable(count: int, seed: int) -> list[np.ndarray]:
    """Joints (8,) with the tool above the table in front of the arm."""
    rng, out = np.random.default_rng(seed), []
    while len(out) < count:
        joints = np.clip(HOME + rng.normal(size=8) * [0.7, 0.45, 0.4, 0.5, 0.5, 0.5, 0.5, 0.3], ARM.lower, ARM.upper)
        tool = FORWARD.tool_position(joints)
        if tool[2] > 0.05 and tool[0] > 0.25:
            out.append(joints.astype(np.float32))
    return out


def goal_at(joints: np.ndarray) -> Seen:
    return Seen(FORWARD.tool_position(joints).astype(np.float32), torch.from_numpy(joints[None].copy()))


def mpc(model: TrueImagination | None = None, seed: int = 0, **changes: Any) -> Mpc:
    return Mpc(model or TrueImagination(), MpcConfig(**changes), seed=seed)


# ---- search


def test_one_search_and_two_replans_find_nearly_every_reachable_goal():
    first, final, start = [], [], HOME
    for number, joints in enumerate(reachable(20, seed=11)):
        planner, goal = mpc(seed=number, max_replans=0), goal_at(joints)
        distances = []
        for _ in range(3):
            result = planner.plan(Seen(), goal, start)
            distances.append(result.verdict.predicted_distance)
            planner._last = result.plan
        first.append(distances[0])
        final.append(min(distances))
        start = joints
    assert np.median(first) < 0.03
    assert np.mean(np.array(final) < 0.03) >= 0.9
    assert np.median(final) < 0.01


def test_offsets_are_what_makes_few_candidates_enough():
    def miss(guided: float) -> float:
        config = MpcConfig(sampler=IcemConfig(guided=guided), max_replans=0)
        runs = [
            Mpc(TrueImagination(), config, seed=i).plan(Seen(), goal_at(joints), HOME).verdict.predicted_distance
            for i, joints in enumerate(reachable(8, seed=3))
        ]
        return float(np.mean(runs))

    assert miss(guided=0.6) < 0.6 * miss(guided=0.0)


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    goal = goal_at(reachable(1, seed=5)[0])
    plans = [mpc(seed=seed, max_replans=0).plan(Seen(), goal, HOME).plan for seed in (4, 4, 5)]
    np.testing.assert_array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0], plans[2])


def test_every_candidate_keeps_position_and_rate_limits_and_ends_at_rest():
    start = ARM.upper - 0.01
    sampler = Icem(ARM, IcemConfig(spread=1.0, bend=0.5))
    sampler.reset(start, seed=0)
    for _ in range(3):
        plans = sampler.ask()
        assert plans.shape == (64, 8, 8)
        assert (plans >= ARM.lower).all()
        assert (plans <= ARM.upper).all()
        steps = np.diff(np.concatenate([np.broadcast_to(start, (64, 1, 8)), plans], axis=1), axis=1)
        assert (np.abs(steps) <= ARM.max_step + 1e-5).all()
        sampler.tell(np.linalg.norm(plans[:, -1] - HOME, axis=1), plans[:, -1, :3] - HOME[:3])
    gentle = Icem(ARM, IcemConfig(spread=0.1))
    gentle.reset(HOME, seed=0)
    plans = gentle.ask()
    settled = np.abs(plans[:, -1] - plans[:, -2]).max(axis=1)
    assert np.median(settled) < 1e-6


def test_a_search_keeps_its_best_plan_and_survives_nan_costs():
    sampler = Icem(ARM, IcemConfig(samples=16))
    sampler.reset(HOME, seed=1)
    plans = sampler.ask()
    costs = np.linalg.norm(plans[:, -1] - (HOME + 0.2), axis=1)
    costs[int(np.argmin(costs)) - 1] = np.nan
    sampler.tell(costs, np.full((16, 3), np.nan))
    best = plans[int(np.nanargmin(costs))]
    assert any(np.allclose(best, plan) for plan in sampler.ask())
    with pytest.raises(ShapeError, match="costs"):
        sampler.tell(costs[:-1])


def test_a_warm_start_begins_at_the_last_plan():
    sampler = Icem(ARM)
    last = np.tile(HOME + 0.3, (8, 1)).astype(np.float32)
    sampler.reset(HOME, seed=0, warm=last)
    targets = sampler.ask()[:, -1]
    np.testing.assert_allclose(targets[0], ARM.limit_plan(last, HOME)[-1], atol=1e-5)
    cold = Icem(ARM)
    cold.reset(HOME, seed=0)
    assert (
        np.linalg.norm(targets - last[-1], axis=1).mean() < np.linalg.norm(cold.ask()[:, -1] - last[-1], axis=1).mean()
    )


@pytest.mark.parametrize("values", [{"samples": 2}, {"horizon": 1}, {"knots": 0}, {"knots": 8}])
def test_a_sampler_that_cannot_work_is_refused(values):
    with pytest.raises(ShapeError):
        IcemConfig(**values)


def test_a_planner_that_cannot_work_is_refused():
    with pytest.raises(ShapeError, match="iterations"):
        MpcConfig(iterations=0)
    with pytest.raises(CheckpointError, match="goal_error_z"):
        Mpc(TrueImagination(calibration={"level": 0.9}))


# ---- what comes back


def test_a_reachable_goal_is_accepted_and_the_next_search_starts_from_its_plan():
    joints = reachable(1, seed=2)[0]
    planner = mpc(seed=1, limits=Limits(tolerance=0.04), max_replans=3)
    result = planner.plan(Seen(), goal_at(joints), HOME)
    assert result.verdict.accepted
    assert result.verdict.reason is Reason.ACCEPTED
    assert result.verdict.value <= 0.04
    assert result.verdict.level == 0.9
    assert result.verdict.value == pytest.approx(result.verdict.predicted_distance + 0.7 * math.hypot(0.01, 0.01))
    assert result.plan.shape == (8, 8)
    assert result.future.tool.shape == (1, 8, 3)
    reached = FORWARD.tool_position(result.plan[-1])
    assert np.linalg.norm(reached - goal_at(joints).tool_position) < 0.031
    again = planner.plan(Seen(), goal_at(joints), HOME)
    assert again.verdict.predicted_distance <= result.verdict.predicted_distance + 1e-6


def test_a_goal_out_of_reach_is_refused_with_every_search_used():
    model, verdicts = TrueImagination(), []
    planner = mpc(model, max_replans=2)
    result = planner.plan(Seen(), Seen(OUT_OF_REACH), HOME, plan_id="g", on_verdict=verdicts.append)
    assert not result.verdict.accepted
    assert result.verdict.reason is Reason.MISSES_GOAL
    assert result.verdict.first_offending_step == 7
    assert result.verdict.value > 0.3
    assert result.searches == 3
    assert model.calls == 9
    assert len(result.rejected) == len(verdicts) == 3
    assert [v.plan_id for v in verdicts] == ["g.0", "g.1", "g.2"]
    assert result.verdict.plan_id in {"g.0", "g.1", "g.2"}
    assert 0 < verdicts[0].latency_ms < verdicts[2].latency_ms <= result.latency_ms
    assert result.candidates.plans.shape == (64, 8, 8)
    assert result.candidates.tool_paths.shape == (64, 8, 3)


def test_planning_can_be_stopped_between_rounds():
    model = TrueImagination()
    result = mpc(model, max_replans=5).plan(Seen(), Seen(OUT_OF_REACH), HOME, stop=lambda: model.calls >= 4)
    assert result.searches == 2
    assert model.calls == 4
    assert not result.verdict.accepted


def test_a_deadline_ends_the_search_with_what_was_found():
    model = TrueImagination(delay=0.2)
    began = time.monotonic()
    result = mpc(model, max_replans=4).plan(Seen(), Seen(OUT_OF_REACH), HOME, deadline=began + 0.7)
    assert time.monotonic() - began < 0.9
    assert 1 <= model.calls <= 3
    assert result.plan is not None
    assert result.verdict.reason is Reason.MISSES_GOAL


def test_a_deadline_that_has_passed_is_reported():
    model = TrueImagination()
    result = mpc(model).plan(Seen(), Seen(OUT_OF_REACH), HOME, deadline=time.monotonic() - 1.0)
    assert model.calls == 0
    assert result.plan is None
    assert result.verdict.reason is Reason.DEADLINE_MISSED
    assert not result.verdict.accepted


def test_without_calibration_nothing_is_accepted_and_no_time_is_wasted():
    model = TrueImagination(calibration=None)
    result = mpc(model).plan(Seen(), goal_at(reachable(1, seed=2)[0]), HOME)
    assert result.verdict.reason is Reason.TOO_UNCERTAIN
    assert "no calibration" in result.verdict.text
    assert model.calls == 3


def test_an_external_plan_gets_the_same_verdict():
    planner = mpc(limits=Limits(tolerance=0.05))
    target = HOME + np.float32(0.2)
    plan = ARM.limit_plan(np.linspace(HOME, target, 9)[1:], HOME)
    verdict, future = planner.judge_plan(Seen(), goal_at(target), plan, HOME)
    assert verdict.accepted
    assert future is not None
    assert math.isfinite(verdict.score)
    verdict, _ = planner.judge_plan(Seen(), Seen(OUT_OF_REACH), plan, HOME)
    assert verdict.reason is Reason.MISSES_GOAL
    verdict, future = planner.judge_plan(Seen(), goal_at(target), np.full((8, 8), np.nan, np.float32), HOME)
    assert verdict.reason is Reason.INVALID_PLAN
    assert future is None


# ---- objectives


def test_objectives_rank_plans_as_they_say():
    tool = torch.zeros(3, 4, 3)
    tool[0, :, 0] = torch.tensor([0.0, 0.0, 0.0, 1.0])  # arrives late
    tool[1, :, 0] = torch.tensor([0.0, 1.0, 1.0, 1.0])  # arrives early
    tool[2, :, 0] = 0.0  # never arrives
    latents = torch.zeros(3, 4, 2, 2)
    latents[0, -1] = 1.0
    std = torch.tensor([[0.1], [0.2], [0.3]]).expand(3, 4)
    future = TrueFuture(tool, std, latents)
    goal = Seen(np.array([1.0, 0.0, 0.0]), torch.tensor([[0.0, 2.0], [0.0, 2.0]]))
    plans = torch.zeros(3, 4, 8)
    assert goal_distance(future, goal)[1].tolist() == [1.0, 0.0, 0.0, 0.0]
    cost = GoalImage(goal, early=0.1, latent=0.0)(future, plans)
    assert cost[1] < cost[0] < cost[2]
    assert cost[2] == pytest.approx(1.1)
    near = GoalImage(Seen(goal.tool_position, torch.ones(2, 2) + torch.eye(2)), early=0.0, latent=1.0)(future, plans)
    assert near[0] < near[1]
    assert Certainty()(future, plans).tolist() == pytest.approx([0.1, 0.2, 0.3])
    plans[0, :, 0] = torch.tensor([0.0, 0.1, 0.2, 0.3])
    plans[1, :, 0] = torch.tensor([0.0, 0.1, 0.0, 0.1])
    smooth = Smoothness(ARM)(future, plans)
    assert smooth[0] == pytest.approx(0.0, abs=1e-9)
    assert smooth[1] > 0.01
    total = WeightedSum([(2.0, Certainty()), (1.0, Smoothness(ARM))])(future, plans)
    torch.testing.assert_close(total, 2.0 * std[:, 0] + smooth)
    assert Smoothness(ARM)(future, plans[:, :2]).tolist() == [0.0, 0.0, 0.0]
