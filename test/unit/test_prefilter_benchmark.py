"""The prefilter's benchmark: scenarios are what they claim to be, and the gate with a world model prevents contacts."""

import numpy as np
import pytest
import torch

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.evaluation import prefilter_benchmark, report
from deepverse_ros.evaluation.prefilter_scenarios import draw, drive
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.simulation.arm import ArmSimulation

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


@pytest.mark.slow
def test_what_is_prevented_and_what_it_costs():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    figures = prefilter_benchmark.benchmark(WorldModel.load("models/arm", device="cpu"), ARM, 2, 5)
    torch.set_num_threads(threads)
    mapped = figures["zones"]["mapped"]
    assert {name: row["touched"] for name, row in mapped.items()} == {
        "none": 1.0, "present only": 1.0, "kinematic": 0.0, "prefilter": 0.0,
    }  # fmt: skip
    assert mapped["prefilter"]["harmless_stopped"] == 0.0
    # It waits for its first verdict, and no longer.
    assert mapped["prefilter"]["extra_s"] == pytest.approx(0.2, abs=0.05)
    assert mapped["none"]["judged_ms"]["p50"] is None
    tables = report.prefilter_tables(figures)
    assert [table.row_count for table in tables] == [4, 4]
    assert "1 touching and 1 harmless" in str(tables[0].title)
