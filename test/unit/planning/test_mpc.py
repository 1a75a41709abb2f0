"""Planning against the arm's true kinematics: what is imagined here is where the tool really would be."""

import math
import re
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from reaching import ARM, FORWARD, HOME, reachable, tool_paths

from deepverse_ros.errors import CheckpointError, ShapeError
from deepverse_ros.model.observation import Goal
from deepverse_ros.planning.objectives import registry
from deepverse_ros.planning.objectives.base import Future, read
from deepverse_ros.planning.search.icem import IcemConfig
from deepverse_ros.planning.search.mpc import Mpc, MpcConfig
from deepverse_ros.planning.search.mppi import MppiConfig
from deepverse_ros.planning.search.result import PlanResult
from deepverse_ros.planning.verdicts.judge import Limits
from deepverse_ros.planning.verdicts.verdict import Reason, Verdict
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks import make_task

OUT_OF_REACH = np.array([1.6, 0.0, 0.3], np.float32)


@dataclass
class TrueFuture:
    """Where the arm's kinematics say that the tool will be."""

    tool: torch.Tensor
    uncertainty: torch.Tensor
    embedding: torch.Tensor
    clearance: torch.Tensor

    @property
    def readout(self) -> dict[str, torch.Tensor]:
        return {"tool_position": self.tool, "clearance": self.clearance}

    def select(self, indices: Any) -> "TrueFuture":
        parts = (self.tool, self.uncertainty, self.embedding, self.clearance)
        return TrueFuture(*(part[indices] for part in parts))


@dataclass
class TrueImagination:
    """The Imagination protocol over real kinematics.

    delay: seconds that a call takes, for deadlines. coarse_error: metres that the coarse level is off along x. rounds,
    verified: calls of the coarse and of the fine level. obstacle: a point (3,), the clearance is the tool's distance.
    """

    embodiment: Embodiment = ARM
    calibration: dict[str, Any] | None = field(default_factory=lambda: {"level": 0.9, "goal_error_z": [0.7] * 8})
    std: float = 0.01
    delay: float = 0.0
    rounds: int = 0
    verified: int = 0
    coarse_error: float = 0.0
    obstacle: torch.Tensor = field(default_factory=lambda: torch.full((3,), 9.0))

    def imagine_coarse(self, belief: Any, plans: np.ndarray) -> TrueFuture:
        self.rounds += 1
        future = self._truth(plans)
        future.tool += torch.tensor([self.coarse_error, 0.0, 0.0])
        return future

    def imagine(self, belief: Any, plans: np.ndarray) -> TrueFuture:
        self.verified += 1
        return self._truth(plans)

    def _truth(self, plans: np.ndarray) -> TrueFuture:
        time.sleep(self.delay)
        count, horizon = plans.shape[:2]
        embedding = torch.from_numpy(plans.copy())
        tool = torch.tensor(tool_paths(plans), dtype=torch.float32)
        clearance = (tool - self.obstacle).norm(dim=-1)
        return TrueFuture(tool, torch.full((count, horizon), self.std), embedding, clearance)


@dataclass
class Seen:
    """A belief or a goal image."""

    tool_position: np.ndarray = field(default_factory=lambda: np.zeros(3, np.float32))
    embedding: torch.Tensor = field(default_factory=lambda: torch.from_numpy(HOME.copy()))
    tool_std: float = 0.01
    ood_score: float = 0.3
    doubt: str = "is strange"
    depth: torch.Tensor | None = None
    intrinsics: torch.Tensor | None = None
    camera_to_world: torch.Tensor | None = None
    frame: torch.Tensor | None = None

    @property
    def out_of_distribution(self) -> bool:
        return self.ood_score > 1.0

    def agreement(self, frame: torch.Tensor | None) -> float:
        return 1.0


def goal_at(joints: np.ndarray) -> Seen:
    return Seen(FORWARD.tool_position(joints).astype(np.float32), torch.from_numpy(joints[None].copy()))


def mpc(model: TrueImagination | None = None, seed: int = 0, **changes: Any) -> Mpc:
    few: dict[str, Any] = {"sampler": IcemConfig(samples=64, shrink=1.0), "iterations": 3}
    return Mpc(model or TrueImagination(), MpcConfig(**(few | changes)), seed=seed)


# ---- search


def test_one_search_and_two_replans_find_nearly_every_reachable_goal():
    first, final, start = [], [], HOME
    for number, joints in enumerate(reachable(20, seed=11)):
        planner, goal = mpc(seed=number, max_replans=0), goal_at(joints)
        distances = []
        for _ in range(3):
            result = planner.plan(Seen(), goal, start)
            distances.append(result.verdict.predicted_distance)
            planner._last = np.concatenate([start[None], result.plan])
        first.append(distances[0])
        final.append(min(distances))
        start = joints
    assert np.median(first) < 0.03
    assert np.mean(np.array(final) < 0.03) >= 0.9
    assert np.median(final) < 0.01


def test_a_search_begins_from_the_way_that_kinematics_knows():
    """So few candidates would not find goals on the other side of the table."""
    for number, joints in enumerate(reachable(8, seed=3)):
        start = joints * np.float32([-1, 1, 1, 1, 1, 1, 1, 1])
        few = {"sampler": IcemConfig(horizon=16, samples=8), "iterations": 1, "max_replans": 0}
        for changes in ({}, {"weights": {"straightness": 4.0}}):
            result = mpc(seed=number, **few, **changes).plan(Seen(), goal_at(joints), start)
            assert result.verdict.predicted_distance < 0.03


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    goal = goal_at(reachable(1, seed=5)[0])
    plans = [mpc(seed=seed, max_replans=0).plan(Seen(), goal, HOME).plan for seed in (4, 4, 5)]
    np.testing.assert_array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0], plans[2])


@pytest.mark.parametrize(("calibrated", "steps"), [(9, 9), (3, 3)])
def test_a_goal_beyond_one_plan_is_reached_by_a_longer_one_where_that_is_calibrated(calibrated, steps):
    far = HOME.copy()
    far[0] += 8 * ARM.max_step[0]  # plans of 3 steps move for 2 of them, plans of 9 for 8
    calibration = {"level": 0.9, "goal_error_z": [0.7] * calibrated}
    planner = mpc(TrueImagination(calibration=calibration), sampler=IcemConfig(horizon=3), longer=3, iterations=6)
    result = planner.plan(Seen(), goal_at(far), HOME)
    assert result.plan.shape == (steps, 8)
    assert result.verdict.accepted == (calibrated == 9)
    assert result.rejected[0].reason is Reason.MISSES_GOAL
    planner.forget()
    # The plan to the next goal is a short one again.
    assert planner.plan(Seen(), goal_at(HOME), HOME).plan.shape == (3, 8)


def test_a_planner_that_cannot_work_is_refused():
    with pytest.raises(ShapeError, match="iterations"):
        MpcConfig(iterations=0)
    with pytest.raises(ShapeError, match=r"no objective 'hurry'; known: certainty, smoothness"):
        MpcConfig(weights={"hurry": 1.0})
    with pytest.raises(CheckpointError, match="goal_error_z"):
        Mpc(TrueImagination(calibration={"level": 0.9}))


@dataclass(frozen=True)
class High:
    """Keep the tool high: the mean of what it is below a height, in metres. As docs/guides/add_objective.md has it."""

    height: float

    def __call__(self, future: Future, plans: torch.Tensor) -> torch.Tensor:
        return (self.height - read(future, "tool_position")[..., 2]).clamp_min(0).mean(dim=1)


def test_an_own_objective_is_a_class_and_an_entry_and_changes_the_plan(monkeypatch):
    entry = registry.Entry("height", 0.0, "Cost of a tool below 0.8 m, per metre.", lambda search: High(0.8))
    monkeypatch.setattr(registry, "OBJECTIVES", (*registry.OBJECTIVES, entry))
    goal = goal_at(reachable(1, seed=3)[0])

    def lowest(weight: float) -> float:
        planner = mpc(max_replans=0, weights={"height": weight}, limits=Limits(tolerance=math.inf))
        return float(planner.plan(Seen(), goal, HOME).tool_path[:, 2].min())

    assert lowest(100.0) > lowest(0.0) + 0.05


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
    assert (model.rounds, model.verified) == (9, 6)  # each search asks the fine level once more, to be corrected
    assert len(result.rejected) == len(verdicts) == 3
    assert [v.plan_id for v in verdicts] == ["g.0", "g.1", "g.2"]
    assert result.verdict.plan_id in {"g.0", "g.1", "g.2"}
    assert 0 < verdicts[0].latency_ms < verdicts[2].latency_ms <= result.latency_ms
    assert result.candidates.plans.shape == (64, 8, 8)
    assert result.candidates.tool_paths.shape == (64, 8, 3)


def test_a_place_of_the_tool_is_a_goal_with_nothing_uncertain_about_it():
    for joints in reachable(4, seed=2):
        place = FORWARD.tool_position(joints)
        result = mpc(seed=1, limits=Limits(tolerance=0.04), max_replans=3).plan(Seen(), Goal.at(place), HOME)
        assert result.verdict.accepted
        assert np.linalg.norm(FORWARD.tool_position(result.plan[-1]) - place) < 0.04 - 0.7 * 0.01
        # Only what is imagined has a spread.
        assert result.verdict.value == pytest.approx(result.verdict.predicted_distance + 0.7 * 0.01)
    assert mpc().plan(Seen(), Goal.at(OUT_OF_REACH), HOME).verdict.reason is Reason.MISSES_GOAL
    unsure = mpc().plan(Seen(), Goal.at(place, std=0.05), HOME)
    assert unsure.verdict.reason is Reason.TOO_UNCERTAIN


def test_what_the_coarse_level_gets_wrong_is_not_accepted():
    joints = reachable(1, seed=3)[0]
    for level, accepted in (("coarse", False), ("fine", True)):
        model = TrueImagination(coarse_error=0.3)
        result = mpc(model, search_level=level, corrected=0).plan(Seen(), goal_at(joints), HOME)
        assert result.verdict.accepted is accepted
        assert (model.rounds == 0) is accepted


def test_the_fine_level_corrects_the_search_on_the_coarse_one():
    for joints in reachable(3, seed=3):
        distances = [
            mpc(TrueImagination(coarse_error=0.03), corrected=corrected, iterations=6, max_replans=0)
            .plan(Seen(), goal_at(joints), HOME)
            .verdict.predicted_distance
            for corrected in (0, 3)
        ]
        assert distances[0] > 0.02
        assert distances[1] < 0.015


@pytest.mark.parametrize("sampler", [IcemConfig(), MppiConfig()])
def test_either_sampler_finds_a_plan_and_a_clearance_leads_it_round_an_obstacle(sampler: IcemConfig | MppiConfig):
    goal, results = goal_at(reachable(1, seed=2)[0]), []
    model = TrueImagination()
    for weight in (0.0, 20.0):
        planner = mpc(model, sampler=sampler, iterations=6, max_replans=0, weights={"clearance": weight}, margin=0.08)
        results.append(planner.plan(Seen(), goal, HOME))
        model.obstacle = results[0].future.tool[0, 3]  # on the way of the first plan
    assert [result.verdict.accepted for result in results] == [True, True]
    assert float((results[1].future.tool - model.obstacle).norm(dim=-1).min()) > 0.06


def test_what_the_camera_sees_is_kept_clear_of_without_a_word_about_it_from_the_model():
    """Past the obstacles of the task, which the straight way touches; the model calls every plan free."""
    calibration = {"level": 0.9, "goal_error_z": [0.7] * 16, "clearance_error_m": [0.01] * 16}
    reckless, careful = [], []
    with ArmSimulation(width=128, height=128, embodiment=ARM) as simulation:
        task = make_task("avoid", simulation)
        for seed in range(4):
            task.reset(seed)
            _, depth = simulation.render()
            pose, joints = simulation.camera_to_world, simulation.joints.astype(np.float32)
            view = (torch.tensor(depth)[None], torch.tensor(simulation.intrinsics), torch.tensor(pose)[None])
            belief = Seen(depth=view[0], intrinsics=view[1], camera_to_world=view[2])
            goal = replace(Seen(), tool_position=task.goal.tool_position.astype(np.float32))
            for least, found in ((None, reckless), (0.0, careful)):
                planner = mpc(
                    TrueImagination(calibration=calibration), sampler=IcemConfig(samples=128), iterations=6, latent=0.0,
                    limits=Limits(tolerance=0.06, clearance=least),
                )  # fmt: skip
                result = planner.plan(belief, goal, joints)
                way = np.concatenate([joints[None], result.plan])
                moments = (a + (b - a) * s for a, b in pairwise(way) for s in np.linspace(0, 1, 9))
                found.append((result, min(simulation.clearance_at(q) for q in moments)))
            # The reckless way is judged no better when somebody else proposes it.
            if reckless[-1][1] <= 0:
                verdict, _ = planner.judge_plan(belief, goal, reckless[-1][0].plan, joints)
                assert verdict.reason is Reason.COLLISION_ZONE
    accepted = [clear for result, clear in careful if result.verdict.accepted]
    assert len(accepted) >= 3
    assert min(accepted) > 0
    assert sum(clear <= 0 for _, clear in reckless) >= 2


def test_plans_that_are_judged_differ_where_something_is_to_be_kept_clear_of():
    plans = [np.full((8, 8), value, np.float32) * ARM.max_step for value in (0.0, 0.0, 0.1, 1.0, 1.1, 2.0, 3.0, 4.0)]
    some = mpc(limits=Limits(clearance=0.0))._distinct(plans)
    np.testing.assert_allclose(some[:, 0, 0] / ARM.max_step[0], [0, 1, 2, 3], atol=1e-6)
    every = mpc()._distinct(plans)
    np.testing.assert_allclose(every[:, 0, 0] / ARM.max_step[0], [0, 0, 0.1, 1], atol=1e-6)


def test_planning_can_be_stopped_between_rounds():
    model = TrueImagination()
    result = mpc(model, max_replans=5).plan(Seen(), Seen(OUT_OF_REACH), HOME, stop=lambda: model.rounds >= 4)
    assert result.searches == 2
    assert model.rounds == 4
    assert model.verified == 3  # the second search ends before it is corrected
    assert not result.verdict.accepted


def test_a_deadline_ends_the_search_with_what_was_found():
    model = TrueImagination(delay=0.2)
    began = time.monotonic()
    result = mpc(model, max_replans=4).plan(Seen(), Seen(OUT_OF_REACH), HOME, deadline=began + 0.7)
    assert time.monotonic() - began < 0.9
    assert 1 <= model.rounds <= 3
    assert result.plan is not None
    assert result.verdict.reason is Reason.MISSES_GOAL


@pytest.mark.parametrize("best", [1, 2])
def test_at_its_deadline_the_best_rejected_plan_is_returned_whichever_search_found_it(best: int):
    few: dict[str, Any] = {"sampler": IcemConfig(samples=8), "iterations": 1, "corrected": 0, "approaches": 0}

    def three_searches(seed: int, seconds: float) -> tuple[PlanResult, list[Verdict]]:
        """As many as there are before the deadline, which passes with the third one's verdict."""
        verdicts: list[Verdict] = []
        deadline = time.monotonic() + seconds

        def on_verdict(verdict: Verdict) -> None:
            verdicts.append(verdict)
            while len(verdicts) == 3 and time.monotonic() < deadline < math.inf:
                time.sleep(0.01)

        planner = mpc(TrueImagination(), seed=seed, max_replans=2 if seconds == math.inf else 9, **few)
        return planner.plan(Seen(), Seen(OUT_OF_REACH), HOME, deadline=deadline, on_verdict=on_verdict), verdicts

    def best_of(seed: int) -> int:
        return int(np.argmin([verdict.score for verdict in three_searches(seed, math.inf)[1]]))

    seed = next(seed for seed in range(200) if best_of(seed) == best)
    result, verdicts = three_searches(seed, seconds=3.0)
    assert result.searches == len(verdicts) == 3
    assert result.verdict == verdicts[best]
    assert result.verdict.plan_id == f".{best}"
    tool = FORWARD.tool_position(result.plan[-1])
    assert np.linalg.norm(tool - OUT_OF_REACH) == pytest.approx(verdicts[best].predicted_distance, abs=1e-4)
    others = [verdict.predicted_distance for verdict in verdicts if verdict is not verdicts[best]]
    assert min(abs(other - verdicts[best].predicted_distance) for other in others) > 1e-3


def test_a_deadline_that_has_passed_is_reported():
    model = TrueImagination()
    result = mpc(model).plan(Seen(), Seen(OUT_OF_REACH), HOME, deadline=time.monotonic() - 1.0)
    assert model.rounds == model.verified == 0
    assert result.plan is None
    assert result.verdict.reason is Reason.DEADLINE_MISSED
    assert not result.verdict.accepted


def test_a_canceled_search_says_so_and_gives_no_verdict_to_anybody():
    heard = []
    result = mpc(TrueImagination()).plan(
        Seen(), Seen(OUT_OF_REACH), HOME, deadline=time.monotonic() + 15.0, on_verdict=heard.append, stop=lambda: True
    )
    assert result.plan is None
    assert not result.verdict.accepted
    assert re.match(r"canceled after \d+ ms, before one round of plans", result.verdict.text)
    assert not heard


def test_without_calibration_nothing_is_accepted_and_no_time_is_wasted():
    model = TrueImagination(calibration=None)
    result = mpc(model).plan(Seen(), goal_at(reachable(1, seed=2)[0]), HOME)
    assert result.verdict.reason is Reason.TOO_UNCERTAIN
    assert "no calibration" in result.verdict.text
    assert (model.rounds, model.verified) == (3, 2)


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
