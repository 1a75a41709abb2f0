"""The prefilter's benchmark: scenarios are what they claim to be, and the gate with a world model prevents contacts."""

import numpy as np
import pytest
import torch

from deepverse_ros.evaluation.prefilter import benchmark
from deepverse_ros.evaluation.prefilter.pushes import draw_push
from deepverse_ros.evaluation.prefilter.scenarios import draw, drive
from deepverse_ros.evaluation.reporting import report
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks.push import Push

ARM = Embodiment.load("arm")


def test_scenarios_are_the_same_again_and_half_of_them_touch():
    with ArmSimulation(width=64, height=64, embodiment=ARM) as simulation:
        for number in range(4):
            first, again = (draw(simulation, 11, number, 8) for _ in range(2))
            assert (first.scene, first.touches) == (again.scene, again.touches)
            assert np.array_equal(first.commands, again.commands)
            assert (first.touches is not None) == (number % 2 == 0)
            simulation.reset(first.scene, joints=first.start)
            touches, names, clearance = drive(simulation, first.commands)
            assert touches == first.touches
            assert clearance == pytest.approx(first.clearance)
            assert any(name.startswith("obstacle") for name in names) == (number % 2 == 0)


def test_pushes_are_twins_of_which_one_brings_its_object_into_the_zone():
    with ArmSimulation(width=64, height=64, embodiment=ARM) as simulation:
        task = Push(simulation)
        for number in (0, 2):
            dangerous, harmless, again = (draw_push(task, 11, n) for n in (number, number + 1, number))
            assert (dangerous.dangerous, harmless.dangerous) == (True, False)
            assert (
                (dangerous.scene, dangerous.pushed) == (harmless.scene, harmless.pushed) == (again.scene, again.pushed)
            )
            assert np.array_equal(dangerous.commands, harmless.commands)
            assert dangerous.zones.model_dump() == again.zones.model_dump()
            assert dangerous.zones.model_dump() != harmless.zones.model_dump()
            simulation.reset(dangerous.scene, joints=dangerous.start)
            entered = []
            for action in dangerous.commands:
                assert not harmless.violated(simulation)
                entered.append(dangerous.violated(simulation))
                simulation.step(action)
            assert not entered[0]
            assert dangerous.violated(simulation)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_is_prevented_and_what_it_costs():
    figures = benchmark.benchmark("models/arm", 2, 5, device="cpu", jobs=2)
    for kind in ("mapped", "pushed"):
        # Before the object is there nothing is in its zone, and the body may go there.
        simpler = 0.0 if kind == "mapped" else 1.0
        rows = figures["zones"][kind]
        assert {name: row["violated"] for name, row in rows.items()} == {
            "none": 1.0, "present only": 1.0, "kinematic": simpler, "prefilter": 0.0,
        }, kind  # fmt: skip
        assert rows["prefilter"]["harmless_stopped"] == 0.0
        # It waits for its first verdict, and no longer.
        assert rows["prefilter"]["extra_s"] == pytest.approx(0.2, abs=0.05)
        assert rows["none"]["judged_ms"]["p50"] is None
    tables = report.prefilter_tables(figures)
    assert [table.row_count for table in tables] == [4, 4, 4, 4]
    streamed = figures["zones"]["streamed"]
    assert (streamed["none"]["violated"], streamed["prefilter"]["violated"]) == (1.0, 0.0)
    assert streamed["prefilter"]["passed"] > 0.5
    assert "1 dangerous and 1 harmless" in str(tables[0].title)
    # The same scenario in this process, without another one before it.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = benchmark.Worker(WorldModel.load("models/arm", device="cpu"), 5, 0.2).run(1)
    torch.set_num_threads(threads)
    assert [row["stopped"] for row in figures["runs"] if row["scenario"] == 1] == [
        [name for name, run in row.runs.items() if run.arrived is None] for row in rows
    ]
