"""A robot's drivers publish its joints, each its own, and fall silent: nothing is planned, judged or held by that.

The arm's names have a prefix here, in what is measured and in what is sent.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planner_world import Result, World, picture, until
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectoryPoint

from deepverse_ros.msg import ActionPlan, PlanVerdict
from deepverse_ros.nodes.messages.plan import plan_to_msg
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command

ARM = Embodiment.load("arm")
FASTEST = ARM.max_step / ARM.dt


def seconds(point: JointTrajectoryPoint) -> float:
    return point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec


class Drivers:
    """Hands the arm's joint states on as the drivers of a robot do. which: "all", "gripper" alone, or "none"."""

    def __init__(self, world: World) -> None:
        self.which, self.measured = "all", np.zeros(8)
        node = world.client
        self.out = node.create_publisher(JointState, "measured_joints", 10)
        node.create_subscription(JointState, "joint_states", self.hand_on, qos.sensor_input())

    def hand_on(self, m: JointState) -> None:
        self.measured = np.array(m.position)
        wheels = JointState(header=m.header, name=["wheel_left", "wheel_right"], position=[0.1, 0.2])
        arm = JointState(header=m.header, name=m.name[6::-1], position=m.position[6::-1])
        gripper = JointState(header=m.header, name=[*m.name[7:], "spare"], position=[*m.position[7:], float("nan")])
        for message in {"all": (arm, gripper, wheels), "gripper": (gripper, wheels), "none": (wheels,)}[self.which]:
            self.out.publish(message)


@pytest.fixture(scope="module")
def started(small_checkpoint: Path) -> Iterator[World]:
    world = World(small_checkpoint, joint_prefix="left_", joint_states_topic="measured_joints")
    world.drivers = Drivers(world)
    yield world
    world.close()


@pytest.fixture
def world(started: World) -> Iterator[World]:
    until(lambda: started.planner.input.state.now() is not None)
    started.rest()
    started.set(state_timeout=0.5)
    yield started
    started.drivers.which = "all"


def sent(world: World) -> list[Any]:
    return world.client.heard["joint_trajectory"]


def cease_in_a_plan(world: World, which: str) -> tuple[Any, Any, float]:
    """Returns: the goal, the trajectory that was sent, and time.monotonic() when it came."""
    world.set(execute_steps=8, max_plans=100)
    handle = world.client.send(picture(150))
    until(lambda: any(len(t.points) > 1 for t in sent(world)))
    began = time.monotonic()
    trajectory = next(t for t in sent(world) if len(t.points) > 1)
    time.sleep(0.3)
    world.drivers.which = which
    return handle, trajectory, began


@pytest.mark.parametrize("which", ["none", "gripper"])
def test_a_plan_is_stopped_on_its_way_when_joints_fall_silent(world: World, which: str) -> None:
    handle, plan, began = cease_in_a_plan(world, which)
    until(lambda: len(sent(world)) > 1)
    ended, hold = time.monotonic() - began, sent(world)[1]
    assert 0.3 + 0.4 < ended < 2.0
    assert len(hold.points) == 1
    targets = np.array([p.positions for p in plan.points])
    way = Command(targets, np.array([seconds(p) for p in plan.points]), start=targets[0])
    # Where it should be on its plan, and half of the next step further, so that it can brake.
    moments = np.arange(0.6, ended + 0.05, 0.01)
    here, next_ = (way.at(moments + ahead) for ahead in (0.0, ARM.dt))
    off = 0.5 * (here + next_) - np.array(hold.points[0].positions)
    assert np.abs(off).max(axis=1).min() < 0.02
    verdict = next(v for v in world.client.heard["planner/verdict"] if v.reason == PlanVerdict.STALE_INPUT)
    assert "left_joint_1, left_joint_2, … and" in verdict.text
    assert "silent for 0.5 s (state_timeout is 0.5 s)" in verdict.text
    answer = world.client.result(handle)
    assert answer.result.code == Result.NO_OBSERVATION
    assert "silent for" in answer.result.text
    until(lambda: np.abs(world.drivers.measured - hold.points[0].positions).max() < 0.1)


def proposal() -> ActionPlan:
    return plan_to_msg(np.tile(np.array(ARM.home, np.float32), (2, 1)), ARM, picture().header, "theirs")


@pytest.mark.parametrize("ask", ["goal", "proposal"])
def test_with_old_joints_nothing_is_sent_or_accepted(world: World, ask: str) -> None:
    world.drivers.which = "none"
    until(lambda: world.planner.input.state.now() is None)
    time.sleep(1.5)  # what was sent before is over
    world.client.clear()
    if ask == "goal":
        answer = world.client.result(world.client.send(picture(150))).result
        assert answer.code == Result.NO_OBSERVATION
        assert "left_gripper_joint (8 joints) have been silent for" in answer.text
    else:
        world.planner._goal = world.planner._goal or world.planner.model.encode_goal(np.zeros((64, 64, 3), np.uint8))
        world.client.proposal.publish(proposal())
        until(lambda: world.client.heard["planner/verdict"])
        verdict = world.client.heard["planner/verdict"][0]
        assert verdict.reason == PlanVerdict.STALE_INPUT
        assert "silent for" in verdict.text
        world.planner._goal = None
    assert not sent(world), "a hold would be at a place that may be far away"
    assert "silent for" in world.planner.diagnostics.status().message


def test_when_they_speak_again_the_next_goal_works(world: World) -> None:
    world.drivers.which = "none"
    until(lambda: world.planner.input.state.now() is None)
    world.drivers.which = "all"
    until(lambda: world.planner.input.state.now() is not None)
    answer = world.client.result(world.client.send(picture(150), max_plans=1)).result
    assert answer.plans_accepted == 1
    assert sent(world)[0].joint_names == [f"left_{n}" for n in (*ARM.joint_names, "gripper_joint")]


@pytest.mark.parametrize("which", ["none", "all"])
def test_a_planner_that_is_deactivated_in_a_plan_stops_the_robot(world: World, which: str) -> None:
    cease_in_a_plan(world, which)
    assert world.planner.trigger_deactivate().name == "SUCCESS"
    try:
        until(lambda: len(sent(world)[-1].points) == 1)
    finally:
        assert world.planner.trigger_activate().name == "SUCCESS"


def test_a_robot_that_moves_is_given_time_to_brake(world: World) -> None:
    handle, _, _ = cease_in_a_plan(world, "all")
    handle.cancel_goal_async()
    until(lambda: len(sent(world)) > 1)
    place, hold = world.drivers.measured, sent(world)[1].points[0]
    assert (np.abs(place - hold.positions) <= FASTEST * (seconds(hold) + 0.1) + 0.01).all()
    world.client.result(handle)
    until(lambda: np.abs(world.drivers.measured - sent(world)[-1].points[0].positions).max() < 0.05)
