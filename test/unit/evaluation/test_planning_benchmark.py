"""The benchmark of planning: the same episodes for everyone, shares that add up, wrong names named."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from untrained import untrained_checkpoint

from deepverse_ros.cli import app
from deepverse_ros.errors import ShapeError
from deepverse_ros.evaluation.planning.benchmark import benchmark
from deepverse_ros.evaluation.reporting.report import planning_tables
from deepverse_ros.model.world_model import WorldModel


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_checkpoint(tmp_path_factory.mktemp("model"))


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    rows = {task: {n: row | {"plan_ms": None} for n, row in rows.items()} for task, rows in report["tasks"].items()}
    return report | {"tasks": rows}


def test_the_same_seed_gives_the_same_figures_and_the_shares_add_up(checkpoint: Path) -> None:
    model, seen = WorldModel.load(checkpoint, "cpu"), []

    def run() -> dict[str, Any]:
        return benchmark(
            model, 2, 5, 8, ("reach", "avoid"), ("random plans", "without verdict"), verdict_plans=6,
            progress=lambda part, done, total: seen.append((part, done, total)),
        )  # fmt: skip

    report = run()
    assert without_times(run()) == without_times(report)
    for rows in report["tasks"].values():
        assert set(rows) == {"random plans", "without verdict"}
        for row in rows.values():
            assert row["success"] in (0, 0.5, 1)
            # 30 steps are four plans of eight, the last one cut; a contact or the goal ends an episode earlier.
            assert 0 < row["plans"] <= 4
    assert report["tasks"]["reach"]["random plans"]["contact"] == 0  # nobody looks for contacts there
    verdicts = report["verdicts"]
    assert verdicts["plans"] == 6
    assert (verdicts["accepted_that_miss"] is None) == (verdicts["accepted"] == 0)
    assert (verdicts["hits_rejected"] is None) == (verdicts["miss"] == 6)
    assert report["impossible"]["goals"] == 2
    assert ("avoid, random plans", 2, 2) in seen
    assert ("verdicts", 6, 6) in seen
    assert len(planning_tables(report)) == 3


def test_an_untrained_planner_that_obeys_its_verdicts_executes_only_what_was_accepted(checkpoint: Path) -> None:
    model = WorldModel.load(checkpoint, "cpu")
    model.calibration = {"level": 0.9, "goal_error_z": [1e6] * 8}  # a bound that nothing keeps
    row = benchmark(model, 1, 5, 8, ("reach",), ("planner",), verdict_plans=0)["tasks"]["reach"]["planner"]
    assert row["plans"] == 0
    assert row["rejected"] > 0
    assert row["success"] == 0


@pytest.mark.parametrize(("option", "name"), [("--task", "juggle"), ("--variant", "clairvoyant")])
def test_a_task_or_variant_that_is_none_is_named(checkpoint: Path, option: str, name: str) -> None:
    result = CliRunner().invoke(app, ["benchmark", "planning", "--model", str(checkpoint), option, name])
    assert isinstance(result.exception, ShapeError)
    assert f"there is no '{name}'" in str(result.exception)
