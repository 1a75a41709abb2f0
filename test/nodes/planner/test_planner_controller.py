"""Plans as goals of a controller's action: executed, or ended with what the controller says."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from planner_world import Result, World, picture, until
from rclpy.parameter import Parameter as RosParameter
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.msg import PlanVerdict

ACTION = "arm_controller/follow_joint_trajectory"


@pytest.fixture(scope="module")
def started(small_checkpoint: Path) -> Iterator[World]:
    world = World(small_checkpoint, sim={"controller_action": ACTION}, command_output="follow_joint_trajectory")
    yield world
    world.close()


def controller_says(world: World) -> str:
    return next(v.value for v in world.planner.diagnostics.status().values if v.key == "controller_state")


def test_a_plan_is_executed_by_the_controller_and_nothing_goes_to_the_topic(world: World) -> None:
    said = world.client.heard["joint_trajectory"]
    answer = world.client.result(world.client.send(picture(), max_plans=1)).result
    assert answer.code == Result.NOT_REACHED, answer.text
    plan = next(p for p in world.client.heard["planner/plan"] if p.id != "hold")
    end = np.array(plan.values).reshape(plan.horizon, -1)[1, :7]
    until(lambda: np.abs(world.joints[:7] - end).max() < 0.1)
    until(lambda: controller_says(world) == "succeeded")  # also the hold that came after it
    assert not [m for m in said if isinstance(m, JointTrajectory)]


def test_what_the_controller_says_ends_the_goal_with_a_hold(world: World) -> None:
    world.sim.set_parameters([RosParameter("path_tolerance", value=1e-4)])
    try:
        answer = world.client.result(world.client.send(picture(), max_plans=2)).result
    finally:
        world.sim.set_parameters([RosParameter("path_tolerance", value=0.3)])
    plans = world.client.heard["planner/plan"]
    assert answer.code == Result.CONTROLLER_FAILED, answer.text
    assert answer.text.startswith(f"the controller aborted plan {plans[0].id}: PATH_TOLERANCE_VIOLATED: joint_")
    assert answer.text.endswith("; the robot holds")
    assert [p.id for p in plans] == [plans[0].id, "hold"]
    verdict = next(v for v in world.client.heard["planner/verdict"] if not v.accepted)
    assert (verdict.reason, verdict.plan_id) == (PlanVerdict.CONTROLLER_FAILED, plans[0].id)
    assert verdict.text in answer.text


def test_without_the_controller_a_goal_ends_and_does_not_hang(world: World) -> None:
    world.sim._controllers.destroy()
    output = world.planner.robot.interface.output
    until(lambda: "there is no action server" in output.check()[0])
    status = world.planner.diagnostics.status()
    assert f"there is no action server '{ACTION}'" in status.message
    answer = world.client.result(world.client.send(picture(), max_plans=2)).result
    assert answer.code == Result.CONTROLLER_FAILED
    assert "no controller took plan goal-" in answer.text
