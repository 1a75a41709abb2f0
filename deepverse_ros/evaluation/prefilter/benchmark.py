"""What the safety prefilter prevents and what it costs: the real gate and the simulated arm, in simulated time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from deepverse_ros import processes
from deepverse_ros.evaluation.prefilter.loop import Judge, Onlooker, Run, imagining, kinematic, present_only, run
from deepverse_ros.evaluation.prefilter.pushes import PushScenario, draw_push
from deepverse_ros.evaluation.prefilter.scenarios import Scenario, draw, obstacle_zones, tool_zones
from deepverse_ros.judging.command_judge import CommandJudge
from deepverse_ros.judging.command_rollout import CommandRollout
from deepverse_ros.judging.moments import JudgeSettings
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Layout
from deepverse_ros.safety.zones import Zones
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks.push import Push

DEFINITIONS = {
    "scenarios": "an arm at rest gets one trajectory. mapped, seen: in every second one it touches an obstacle within "
    "the horizon, in the others it touches nothing. pushed: it pushes an object, which is in sight before and after; "
    "in every second one into the zone, the one after it is the same push with the zone elsewhere. streamed: as "
    "mapped, but the way comes as 50 set-points a second that replace each other, and takes three times as long",
    "zones": "mapped, streamed: the body is kept out of the obstacles' true regions. seen: nothing is known of them; "
    "what is seen around the hand stops it. pushed: nothing but the robot may be in a box on the table",
    "violated": "share of the dangerous scenarios in which the arm does touch an obstacle, or the object does get into "
    "the zone",
    "harmless_stopped": "share of the harmless scenarios in which the arm is not at its last target at the end",
    "extra_s": "mean time that a harmless command that ends at its target takes longer than without a filter, seconds",
    "passed": "streamed: mean share of the set-points of a harmless scenario that pass",
    "none": "commands pass as they come",
    "present only": "stops while a zone is violated now, as a protective field does",
    "kinematic": "the scene stays as it is seen, the body goes where the command leads; nothing is imagined",
    "prefilter": "the world model imagines the scene and the body",
    "judged_ms": "wall time of a judgement on this machine, with the model's observation; the simulated one takes "
    "`latency_s` whatever this is",
}
KINDS = ("mapped", "seen", "pushed", "streamed")
VARIANTS: dict[str, Judge | None] = {
    "none": None, "present only": present_only, "kinematic": kinematic, "prefilter": imagining,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One scenario with one kind of zones. number: of the scenario; runs: by variant."""

    number: int
    kind: str
    dangerous: bool
    runs: dict[str, Run]


def benchmark(
    checkpoint: str | Path, count: int, seed: int, latency: float = 0.2, device: str = "auto", jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:  # fmt: skip
    """Run every variant on the same scenarios, `count` of each kind.

    Args: latency: simulated seconds from an image to its verdict. jobs: processes, each with one CPU thread; the
    figures but for wall times are the same with any number. progress(scenarios done, in all).
    Raises: RenderingError where nothing can render.
    """
    rows: list[Row] = []
    with processes.workers(min(jobs, count), _start, str(checkpoint), device, seed, latency) as pool:
        for done, new in enumerate(pool.imap_unordered(_work, range(count)), 1):
            rows += new
            progress(done, count)
    rows.sort(key=lambda row: row.number)
    return {
        "scenarios": count, "seed": seed, "latency_s": latency, "definitions": DEFINITIONS,
        "zones": {kind: _summary([row for row in rows if row.kind == kind]) for kind in KINDS},
        "runs": [
            {
                "scenario": row.number, "zones": row.kind, "dangerous": row.dangerous,
                "violated": [name for name, run in row.runs.items() if run.violated],
                "stopped": [name for name, run in row.runs.items() if run.arrived is None],
            }
            for row in rows
        ],
    }  # fmt: skip


class Worker:
    """Runs scenarios one after the other with the same model and renderer."""

    current: ClassVar["Worker"]

    def __init__(self, model: WorldModel, seed: int, latency: float) -> None:
        self.model = model
        self.seed = seed
        self.latency = latency
        self.embodiment = Embodiment.load(model.embodiment.name)  # with the body that a checkpoint's may lack
        c = model.config
        self.simulation = ArmSimulation(
            width=c.width, height=c.height, n_objects=3, n_obstacles=1, embodiment=self.embodiment
        )
        self._push = Push(self.simulation)
        self._settings = JudgeSettings(horizon=c.horizon)

    def run(self, number: int) -> list[Row]:
        """Scenario `number` of each kind."""
        scenario = draw(self.simulation, self.seed, number, self.model.config.horizon)
        zones = {"mapped": obstacle_zones(self.simulation, self.embodiment), "seen": tool_zones(self.embodiment)}
        rows = self._rows(number, scenario, zones)
        rows += self._rows(number, scenario, {"streamed": zones["mapped"]}, streamed=True)
        push = draw_push(self._push, self.seed, number)
        return [*rows, *self._rows(number, push, {"pushed": push.zones})]

    def _rows(
        self, number: int, scenario: Scenario | PushScenario, zones: dict[str, Zones], streamed: bool = False
    ) -> list[Row]:
        onlooker = Onlooker(self.model)
        free = run(self.simulation, onlooker, scenario, None, None, self.latency, streamed)
        rows = []
        for kind, what in zones.items():
            course = CommandRollout(self.embodiment, Layout.of(self.embodiment))
            watch = CommandJudge(self.model, self.embodiment, what, course, self._settings)
            runs = {
                name: run(self.simulation, onlooker, scenario, watch, judge, self.latency, streamed) if judge else free
                for name, judge in VARIANTS.items()
            }
            rows.append(Row(number, kind, scenario.dangerous, runs))
        return rows


def _start(checkpoint: str, device: str, seed: int, latency: float) -> None:
    torch.set_num_threads(1)
    model = WorldModel.load(checkpoint, device)
    model.warm_up()
    Worker.current = Worker(model, seed, latency)


def _work(number: int) -> list[Row]:
    return Worker.current.run(number)


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    """By variant."""
    return {name: _figures(rows, name) for name in VARIANTS}


def _figures(rows: Sequence[Row], variant: str) -> dict[str, Any]:
    dangerous = [row.runs[variant] for row in rows if row.dangerous]
    # A harmless command that does not arrive by itself tells nothing of who stops it.
    free = [(row.runs[variant], row.runs["none"].arrived) for row in rows if not row.dangerous]
    harmless = [(run.arrived, alone) for run, alone in free if alone is not None]
    return {
        "dangerous": len(dangerous),
        "violated": _mean([run.violated for run in dangerous]),
        "harmless": len(harmless),
        "harmless_stopped": _mean([arrived is None for arrived, _ in harmless]),
        "passed": _mean([run.passed for run, alone in free if alone is not None and run.passed is not None]),
        "extra_s": _mean([arrived - alone for arrived, alone in harmless if arrived is not None]),
        "judged_ms": _percentiles([ms for row in rows for ms in row.runs[variant].judged_ms]),
    }


def _mean(values: Sequence[float | bool]) -> float | None:
    return float(np.mean(values)) if values else None


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    p50, p95 = map(float, np.percentile(values, [50, 95])) if values else (None, None)
    return {"p50": p50, "p95": p95}
