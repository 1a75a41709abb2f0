"""What the planner says while it is configured, and how many steps it then plans."""

from typing import Any

import pytest
from planner_world import Result, World, picture
from rclpy.parameter import Parameter as RosParameter

from deepverse_ros.nodes.planner.node import PlannerNode


def configure(robot: Any, checkpoint: Any, **parameters: Any) -> Any:
    node = robot.start(PlannerNode, active=False, checkpoint=str(checkpoint), device="cpu", **parameters)
    return node, node.trigger_configure().name


def test_a_checkpoint_that_is_not_there_is_named(robot, capfd):
    _, answer = configure(robot, "models/nowhere")
    assert answer == "FAILURE"
    assert "models/nowhere" in capfd.readouterr().err


def test_a_horizon_beyond_the_calibration_is_warned_of_at_configure(robot, small_checkpoint, capfd):
    _, answer = configure(robot, small_checkpoint, horizon=9)
    assert answer == "SUCCESS"
    said = capfd.readouterr().err
    assert "horizon is 9 steps; the calibration of" in said
    assert "covers 8: every plan will be rejected" in said


@pytest.mark.parametrize("horizon", [0, 2, 8])
def test_a_horizon_within_the_calibration_is_no_matter(robot, small_checkpoint, capfd, horizon):
    _, answer = configure(robot, small_checkpoint, horizon=horizon)
    assert answer == "SUCCESS"
    assert "horizon" not in capfd.readouterr().err


def test_a_horizon_that_no_search_has_fails_configure(robot, small_checkpoint, capfd):
    node, answer = configure(robot, small_checkpoint, horizon=1)
    assert answer == "FAILURE"
    assert "horizon at least 2, got 256, 1" in capfd.readouterr().err
    assert not node.set_parameters([RosParameter("horizon", value=33)])[0].successful
    assert node.set_parameters([RosParameter("horizon", value=4)])[0].successful
    assert node.trigger_configure().name == "SUCCESS"
    assert not node.set_parameters([RosParameter("horizon", value=5)])[0].successful  # applied by configure


@pytest.mark.parametrize("horizon", [4, 9])
def test_plans_have_as_many_steps_as_the_horizon_and_beyond_the_calibration_none_is_accepted(small_checkpoint, horizon):
    world = World(small_checkpoint, horizon=horizon)
    try:
        world.rest()
        world.set(execute_steps=32)
        client = world.client
        answer = client.result(client.send(picture(), max_plans=1)).result
        assert len(client.heard["planner/imagined_outcome"][0].rgb) == horizon
        plans = [p.horizon for p in client.heard["planner/plan"] if p.id != "hold"]
        if horizon <= 8:
            assert (answer.code, plans) == (Result.NOT_REACHED, [horizon])
        else:
            assert (answer.code, plans) == (Result.NO_ACCEPTED_PLAN, [])
            assert "has 9 steps, of which the calibration covers 8" in answer.text
    finally:
        world.close()
