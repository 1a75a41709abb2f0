"""How often the planner reaches its goals in simulation, what each of its parts buys, and how often verdicts are right.

Episodes are drawn by seed from scenes that no training, evaluation or calibration has seen (simulation/tasks).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deepverse_ros.data.collect import scene_seed
from deepverse_ros.evaluation.ood.evaluate import auroc
from deepverse_ros.model.observation import Goal
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.robot_control import RobotControl
from deepverse_ros.planning.search.icem import IcemConfig
from deepverse_ros.planning.search.mpc import MpcConfig
from deepverse_ros.planning.search.result import PlanResult
from deepverse_ros.planning.verdicts.judge import Limits
from deepverse_ros.planning.verdicts.verdict import Reason
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks import make_task
from deepverse_ros.simulation.arm.tasks.base import MAX_STEPS, Task

DEFINITIONS = {
    "success": f"share of episodes in which the goal is reached at the end of a step, within {MAX_STEPS} steps",
    "contact": "share of episodes in which the arm touched something (task avoid)",
    "steps": "mean steps of the episodes that reach their goal",
    "plans": "mean plans that were executed in an episode; rejected: mean plans that were refused; rejected_for: why",
    "without verdict": "the best plan is executed, accepted or not; so in all variants below it but fine only",
    "coarse only": "nothing is imagined on the fine level to search or to choose",
    "fine only": "a quarter of the candidates in half of the rounds, imagined on the fine level",
    "kinematic way": "the way that the planner's search begins from, to the place that is read from the goal picture; "
    "nothing is imagined",
    "random plans": "the best of four that are drawn around where the robot stands",
    "verdicts": "plans of the planner, to the goal that is judged and to another one in the same scene, each executed "
    "and compared with its verdict; auroc: how well the bound of the goal distance tells plans that end within the "
    "tolerance from those that do not; accepted_that_miss: share of the accepted; rejected_that_hit: share of the "
    "rejected; hits_rejected: share of the plans that hit",
    "impossible": "goal pictures of a tool beyond the arm's reach: how many had any plan accepted",
    "plan_ms": "planning until a plan is accepted or the replans are used up: up to two searches, their verification",
}
TOLERANCE = 0.05
"""Metres within which a plan must end; the tasks' own tolerance for the tool."""
TASK_NAMES = ("reach", "push", "avoid")
_CONTEXT_FRAMES = 3


@dataclass(frozen=True)
class Variant:
    """A planner: its search, and whether it holds when no plan is accepted."""

    config: MpcConfig
    obeys: bool = True


def variants(horizon: int) -> dict[str, Variant]:
    """What is compared. Args: horizon: steps of a plan."""
    limits = Limits(tolerance=TOLERANCE)
    base = MpcConfig(sampler=IcemConfig(horizon=horizon), max_replans=1, limits=limits)
    few = replace(base, sampler=IcemConfig(horizon=horizon, samples=64), iterations=3)
    drawn = IcemConfig(horizon=horizon, samples=4)  # the fewest that a search may have
    blind = replace(base, sampler=drawn, iterations=1, max_replans=0, verified=1)
    # Without any spread all four are the way that the search would begin from.
    known = replace(drawn, spread=0.0, warm_spread=0.0, bend=0.0, bow=0.0)
    return {
        "planner": Variant(base),
        "without verdict": Variant(replace(base, max_replans=0), obeys=False),
        "coarse only": Variant(replace(base, corrected=0, max_replans=0, verified=1), obeys=False),
        "fine only": Variant(replace(few, search_level="fine")),
        "kinematic way": Variant(replace(blind, sampler=known), obeys=False),
        "random plans": Variant(replace(blind, approaches=0), obeys=False),
    }


@dataclass
class _Episode:
    reached: bool = False
    touched: bool = False
    steps: int = 0
    plans: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # why plans were refused
    plan_ms: list[float] = field(default_factory=list)


def benchmark(
    model: WorldModel,
    episodes: int,
    seed: int,
    horizon: int = 8,
    tasks: Sequence[str] = TASK_NAMES,
    names: Sequence[str] | None = None,
    verdict_plans: int = 500,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, Any]:
    """Run every variant on the same episodes of every task, then judge and execute mixed plans, then impossible goals.

    Args:
        names: of the variants, all if not given.
        verdict_plans: 0 leaves that part out.
        progress(part, done, total): called as the work goes on.
    Raises: RenderingError where nothing can render.
    """
    chosen = {name: v for name, v in variants(horizon).items() if names is None or name in names}
    width, height = model.config.width, model.config.height
    report: dict[str, Any] = {
        "episodes": episodes, "seed": seed, "horizon": horizon, "tolerance_m": TOLERANCE, "tasks": {},
        "definitions": DEFINITIONS,
    }  # fmt: skip
    with ArmSimulation(width=width, height=height, embodiment=model.embodiment) as simulation:
        for task_name in tasks:
            report["tasks"][task_name] = {}
            task = make_task(task_name, simulation)
            for name, variant in chosen.items():
                control = RobotControl(model, _for_task(variant.config, task_name), seed)
                runs = []
                for number in range(episodes):
                    runs.append(_run(control, task, scene_seed(seed, number), variant.obeys))
                    progress(f"{task_name}, {name}", number + 1, episodes)
                report["tasks"][task_name][name] = _summary(runs)
        control = RobotControl(model, replace(variants(horizon)["planner"].config, max_replans=0), seed)
        if verdict_plans:
            report["verdicts"] = _verdicts(control, simulation, verdict_plans, seed, progress)
        report["impossible"] = _impossible(control, simulation, episodes, seed, progress)
    return report


STRAIGHT = 4.0


def _for_task(config: MpcConfig, task: str) -> MpcConfig:
    """What a user would set: touching is the purpose of a push, and to be kept from in avoid."""
    if task == "avoid":
        return replace(config, limits=replace(config.limits, clearance=0.0))
    if task == "push":  # the hand goes straight through where the thing stands
        return replace(config, weights={**config.weights, "straightness": STRAIGHT})
    return config


def _begin(control: RobotControl, task: Task, seed: int) -> Goal:
    """A task at its start, looked at for as long as the model looks back."""
    task.reset(seed)
    control.reset()
    _see(control, task.simulation)
    for _ in range(_CONTEXT_FRAMES):
        _move(control, task, task.simulation.joints)
    # Every second picture has no depth, as in calibration.
    shown = task.goal
    depth = shown.depth if seed % 2 else None
    return control.model.encode_goal(shown.rgb, depth, shown.intrinsics, shown.camera_to_world)


def _see(control: RobotControl, simulation: ArmSimulation) -> None:
    rgb, depth = simulation.render()
    control.see(
        rgb, simulation.joints, depth, intrinsics=simulation.intrinsics, camera_to_world=simulation.camera_to_world
    )


def _move(control: RobotControl, task: Task, action: np.ndarray) -> None:
    task.step(action)
    _see(control, task.simulation)


def _plan(control: RobotControl, task: Task, goal: Goal) -> PlanResult:
    return control.mpc.plan(control.believe(), goal, task.simulation.joints.astype(np.float32))


def _run(control: RobotControl, task: Task, seed: int, obeys: bool) -> _Episode:
    goal = _begin(control, task, seed)
    run = _Episode()
    while run.steps < MAX_STEPS and not (task.reached() or task.failed()):
        result = _plan(control, task, goal)
        run.plan_ms.append(result.latency_ms)
        refused = result.plan is None or not (result.verdict.accepted or not obeys)
        run.reasons.update(verdict.reason.name for verdict in result.rejected)
        run.plans += not refused
        hold = task.simulation.joints[None]
        for action in hold if refused or result.plan is None else result.plan:
            _move(control, task, action)
            run.steps += 1
            if task.reached() or task.failed() or run.steps == MAX_STEPS:
                break
    run.reached, run.touched = task.reached(), task.failed()
    return run


def _summary(runs: Sequence[_Episode]) -> dict[str, Any]:
    steps = [run.steps for run in runs if run.reached]
    times = [ms for run in runs for ms in run.plan_ms]
    p50, p95 = np.percentile(times, [50, 95]) if times else (None, None)
    reasons = sum((run.reasons for run in runs), Counter[str]())
    return {
        "success": float(np.mean([run.reached for run in runs])),
        "contact": float(np.mean([run.touched for run in runs])),
        "steps": float(np.mean(steps)) if steps else None,
        "plans": float(np.mean([run.plans for run in runs])),
        "rejected": sum(reasons.values()) / len(runs),
        "rejected_for": {name: count / len(runs) for name, count in reasons.most_common()},
        "plan_ms": {"p50": p50, "p95": p95},
    }


def _verdicts(
    control: RobotControl, simulation: ArmSimulation, count: int, seed: int, progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """Plans to the goal of one task and to that of another in the same scene, all judged against the first goal."""
    task = make_task("reach", simulation)
    bounds: list[float] = []
    misses: list[bool] = []
    accepted: list[bool] = []
    number = 0
    while len(bounds) < count:
        of_scene = scene_seed(seed, 1_000_000 + number)
        number += 1
        goal = _begin(control, task, of_scene)
        belief = control.believe()
        start = simulation.joints.astype(np.float32)
        for aim in (goal, _elsewhere(goal, of_scene)):
            found = control.mpc.plan(belief, aim, start)
            if found.plan is None or len(bounds) == count:
                continue
            verdict, _ = control.mpc.judge_plan(belief, goal, found.plan, start)
            _begin(control, task, of_scene)
            for action in found.plan:
                task.step(action)
            told = verdict.reason in (Reason.ACCEPTED, Reason.MISSES_GOAL)  # else it says no bound
            bounds.append(verdict.value if told else np.inf)
            misses.append(task.distance() > TOLERANCE)
            accepted.append(verdict.accepted)
            progress("verdicts", len(bounds), count)
    value, miss, took = np.array(bounds), np.array(misses), np.array(accepted)
    return {
        "plans": count,
        "miss": int(miss.sum()),
        "accepted": int(took.sum()),
        "auroc": auroc(value[~miss], value[miss]) if miss.any() and not miss.all() else None,
        "accepted_that_miss": float(miss[took].mean()) if took.any() else None,
        "rejected_that_hit": float((~miss)[~took].mean()) if not took.all() else None,
        "hits_rejected": float((~took)[~miss].mean()) if not miss.all() else None,
    }


def _elsewhere(goal: Goal, seed: int) -> Goal:
    """A goal from 6 to 30 cm beside the first, where a plan is a near or a clear miss."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3)
    shift = direction / np.linalg.norm(direction) * rng.uniform(0.06, 0.30)
    return replace(goal, tool_position=(np.asarray(goal.tool_position) + shift).astype(np.float32))


def _impossible(
    control: RobotControl, simulation: ArmSimulation, count: int, seed: int, progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    task = make_task("impossible", simulation)
    accepted = 0
    for number in range(count):
        goal = _begin(control, task, scene_seed(seed, 2_000_000 + number))
        accepted += _plan(control, task, goal).verdict.accepted
        progress("impossible goals", number + 1, count)
    return {"goals": count, "accepted": accepted}
