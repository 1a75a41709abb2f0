"""Plans of the trained model on their way: a robot that does as imagined is left alone, one that does not is stopped.

The planner follows the simulation's clock: what is tested is the robot, not the speed of this machine.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plan_trajectories import trajectory_from_plan
from planner_world import Result, World, until
from rcl_interfaces.msg import Log
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros import resources
from deepverse_ros.model.checkpoint import read_config, write_calibration
from deepverse_ros.msg import ActionPlan, PlanVerdict
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.image import image_from_array
from deepverse_ros.nodes.planner.node import PlannerNode
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.goals import sample_goal
from deepverse_ros.simulation.arm.simulation import ArmSimulation

ARM = Embodiment.load("arm")
SIZE = 128
FEW = {"samples": 64, "iterations": 4, "stale_timeout": 5.0, "observation_timeout": 20.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model with a wide bound of the path: at the calibrated one, one good plan in ten is stopped."""
    folder = tmp_path_factory.mktemp("model") / "arm"
    shutil.copytree(resources.find("models/arm"), folder)
    write_calibration(folder, read_config(folder)[1]["calibration"] | {"path_error_z": 16 * [13.0]})
    return folder


@pytest.fixture(scope="module")
def started(checkpoint: Path) -> Iterator[World]:
    world = World(checkpoint, SIZE, use_sim_time=True)
    yield world
    world.close()


@pytest.fixture
def world(started: World) -> World:
    started.set(**FEW)
    until(lambda: started.client.heard["camera/image_raw"])
    started.client.settle()
    started.client.clear()
    return started


def goal_picture(number: int) -> Image:
    """A goal that the arm of the world can reach."""
    with ArmSimulation(0, SIZE, SIZE, n_objects=3, n_obstacles=1) as simulation:
        rgb, _, _ = simulation.goal_frame(sample_goal(simulation, number))
    return image_from_array(rgb, "rgb8", Header())


def sent_plans(world: World) -> list[ActionPlan]:
    return [plan for plan in world.client.heard["planner/plan"] if plan.id != "hold"]


def departures(world: World) -> list[PlanVerdict]:
    return [v for v in world.client.heard["planner/verdict"] if v.reason == PlanVerdict.LEFT_IMAGINED_PATH]


def diagnosed(world: World) -> dict[str, str]:
    return {v.key: v.value for v in world.planner.diagnostics.status().values}


def disturb(world: World, turn: float) -> None:
    """Command the arm away from the plan that was sent: its first joint goes on by `turn` rad, the others stay."""
    joints = world.joints
    planned = np.array(sent_plans(world)[-1].values).reshape(-1, ARM.action_dim)
    elsewhere = np.repeat(joints[None], 8, axis=0)
    elsewhere[:, 0] -= np.sign(planned[-1, 0] - joints[0]) * turn * np.arange(1, 9) / 8
    publisher = world.client.create_publisher(JointTrajectory, "joint_trajectory", qos.command())
    until(publisher.get_subscription_count)
    publisher.publish(trajectory_from_plan(elsewhere, JointLayout(ARM), Header()))


def pursue(world: World, image: Image, turn: float, max_plans: int) -> Any:
    """Disturb the first plan of a goal. Returns: the goal's result."""
    handle = world.client.send(image, max_plans=max_plans)
    until(lambda: sent_plans(world), 30.0)
    disturb(world, turn)
    return world.client.result(handle, 90.0).result


def rosout() -> QoSProfile:
    """What was said before is heard too."""
    return QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def test_a_robot_that_does_as_imagined_is_not_stopped(world: World) -> None:
    answer = world.client.result(world.client.send(goal_picture(1), max_plans=4), 90.0).result
    assert answer.code == Result.REACHED, answer.text
    assert sent_plans(world)
    assert not departures(world)
    assert diagnosed(world)["path_monitored"] == "True"
    assert int(diagnosed(world)["recalibration_plans"]) >= len(sent_plans(world))


def test_a_robot_that_goes_elsewhere_is_stopped_and_a_new_plan_is_made(world: World) -> None:
    answer = pursue(world, goal_picture(8), turn=1.0, max_plans=6)
    plans, verdict = sent_plans(world), departures(world)[0]
    assert verdict.plan_id == plans[0].id
    assert not verdict.accepted
    assert verdict.value > verdict.threshold > 0
    assert 0 <= verdict.first_offending_step < plans[0].horizon
    assert verdict.level == pytest.approx(0.9)
    assert "from its imagined path" in verdict.text
    assert verdict.header.frame_id == "camera_optical_frame"
    sequence = [plan.id for plan in world.client.heard["planner/plan"]]
    assert sequence[:2] == [plans[0].id, "hold"], "the robot holds before anything else"
    assert len(plans) >= 2, "and goes on with a new plan"
    assert plans[1].id != plans[0].id
    assert answer.code == Result.REACHED, answer.text


def test_a_robot_that_does_not_follow_is_stopped_which_counts_as_a_plan_and_widens_the_bounds(world: World) -> None:
    said: list[Log] = []
    subscription = world.client.create_subscription(Log, "/rosout", said.append, rosout())
    before = diagnosed(world)
    answer = pursue(world, goal_picture(1), turn=0.0, max_plans=1)
    assert answer.code == Result.NOT_REACHED
    assert (answer.plans_accepted, answer.plans_rejected) == (1, 0)
    assert [v.plan_id for v in departures(world)] == [sent_plans(world)[0].id]
    after = diagnosed(world)
    assert float(after["recalibration_factor"]) > float(before["recalibration_factor"])
    assert int(after["recalibration_plans"]) == int(before["recalibration_plans"]) + 1
    factor = f"bounds of the goal distance are now {float(after['recalibration_factor']):.2f} times the calibrated ones"
    plan = f"plan {sent_plans(world)[0].id} ended "
    until(lambda: [m for m in said if m.name == "planner" and m.msg.startswith(plan) and factor in m.msg])
    world.client.destroy_subscription(subscription)


def test_where_no_image_can_be_compared_the_robot_holds_unless_monitoring_is_off(world: World) -> None:
    client = world.client
    # Images keep the simulation's stamps: they tell nothing about when the planner began.
    assert world.planner.set_parameters([RosParameter("use_sim_time", value=False)])[0].successful
    world.set(stale_timeout=0.7)
    try:
        client.result(client.send(goal_picture(3), max_plans=1), 60.0)
        blind = [v for v in client.heard["planner/verdict"] if v.reason == PlanVerdict.STALE_INPUT]
        assert blind[0].plan_id == sent_plans(world)[0].id
        assert "no image could be compared with the imagined path" in blind[0].text
        assert client.heard["planner/plan"][1].id == "hold"
        client.clear()
        world.set(stale_timeout=5.0, monitor_path=False)
        assert diagnosed(world)["path_monitored"] == "False"
        client.result(client.send(goal_picture(8), max_plans=1), 60.0)
        assert sent_plans(world)
        assert all(v.accepted for v in client.heard["planner/verdict"])
    finally:
        world.set(monitor_path=True)
        assert world.planner.set_parameters([RosParameter("use_sim_time", value=True)])[0].successful


def test_a_checkpoint_without_a_bound_of_the_path_says_at_configure_that_nothing_is_monitored(
    world: World, checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    older = tmp_path / "older"
    shutil.copytree(checkpoint, older)
    write_calibration(older, read_config(older)[1]["calibration"] | {"path_error_z": None})
    overrides = [RosParameter("checkpoint", value=str(older)), RosParameter("device", value="cpu")]
    node = PlannerNode(parameter_overrides=overrides, cli_args=["--ros-args", "-r", "__ns:=/other"])
    try:
        assert node.trigger_configure().name == "SUCCESS"
        assert "path_error_z" in capfd.readouterr().err
        assert {v.key: v.value for v in node.diagnostics.status().values}["path_monitored"] == "False"
    finally:
        node.end()
        node.destroy_node()
