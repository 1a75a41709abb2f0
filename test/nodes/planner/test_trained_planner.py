"""The planner with the shipped model beside the simulated arm: strange goals are refused, a goal is kept.

The simulator's ground truth says where the tool is.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from plan_trajectories import trajectory_from_plan
from planner_world import World, until
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from deepverse_ros.action import PlanToGoal
from deepverse_ros.evaluation.ood.scenes import Strangers
from deepverse_ros.msg import PlanVerdict
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.messages.plan import plan_to_msg
from deepverse_ros.nodes.messages.time import duration
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.planning.distance_field import DistanceField
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
Result = PlanToGoal.Result
LIKE_THE_ROBOT = {
    "samples": 64,
    "iterations": 4,
    "max_plans": 6,
    "execute_steps": 8,
    "goal_tolerance": 0.1,
    "max_uncertainty": 0.1,
    "min_goal_agreement": 0.55,
    "reached_tolerance": 0.03,
    "stale_timeout": 5.0,
    "observation_timeout": 10.0,
}


@pytest.fixture(scope="module")
def started() -> Iterator[World]:
    world = World("models/arm", size=128)
    yield world
    world.close()


@pytest.fixture
def tool(started: World) -> Iterator[Callable[[], np.ndarray]]:
    """Where the tool truly is, metres."""
    heard: list[PoseStamped] = []
    subscription = started.client.create_subscription(
        PoseStamped, "sim/ground_truth/tool_pose", heard.append, qos.sensor_input()
    )

    def newest() -> np.ndarray:
        heard.clear()
        until(lambda: heard)
        position = heard[-1].pose.position
        return np.array([position.x, position.y, position.z])

    yield newest
    started.client.destroy_subscription(subscription)


@pytest.fixture
def world(started: World) -> World:
    started.rest()
    started.set(**LIKE_THE_ROBOT)
    until(started.client.reset.call_async(Trigger.Request()).done)
    started.client.settle()
    started.client.clear()
    return started


def newest_picture(world: World) -> Image:
    world.client.heard["camera/image_raw"].clear()
    until(lambda: world.client.heard["camera/image_raw"])
    return world.client.heard["camera/image_raw"][-1]


def move_arm(world: World, joints: np.ndarray) -> None:
    """As somebody else moves it, in 1 s."""
    message = trajectory_from_plan(joints[None], JointLayout(ARM), Header())
    message.points[0].time_from_start = duration(1.0)
    world.client.arm.publish(message)
    until(lambda: np.abs(world.joints - joints).max() < 0.05)


def a_stranger(kind: str, seed: int) -> tuple[Image, Image]:
    """Picture and depth of a scene that the training never shows."""
    with Strangers(ARM, 128, 128) as strangers:
        seen = strangers.sight(kind, seed, 1).seen
    assert seen.depth is not None
    rgb = (seen.rgb[0, 0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return image_from_array(rgb, "rgb8", Header()), image_from_depth(seen.depth[0, 0].numpy(), "32FC1")


@pytest.mark.parametrize("kind", ["other_looks", "other_view"])
def test_a_goal_image_from_another_scene_or_camera_is_out_of_distribution(world: World, kind: str) -> None:
    client = world.client
    ordinary = newest_picture(world)
    said = []
    for seed in range(1_000_003, 1_000_006):
        picture, depth = a_stranger(kind, seed)
        answer = client.result(client.send(picture, goal_depth=depth)).result
        assert answer.code == Result.NO_ACCEPTED_PLAN
        said.append(answer.text)
    assert {p.id for p in client.heard["planner/plan"]} == {"hold"}
    assert not any(v.accepted for v in client.heard["planner/verdict"])
    # Nine in ten of the other views are told apart.
    strange = [text for text in said if text.startswith("OUT_OF_DISTRIBUTION: the goal image ")]
    assert len(strange) >= 2
    assert PlanVerdict.OUT_OF_DISTRIBUTION in {v.reason for v in client.heard["planner/verdict"]}
    assert client.result(client.send(ordinary)).result.code == Result.REACHED


def test_a_tracked_goal_is_gone_back_to_when_somebody_moved_the_arm(world: World, tool: Callable) -> None:
    client = world.client
    goal, there = newest_picture(world), tool()
    client.goal_image.publish(goal)
    until(lambda: client.heard["planner/plan"])
    assert [p.id for p in client.heard["planner/plan"]] == ["hold"]  # it is there
    away = world.joints
    away[0] += 0.5
    move_arm(world, away)
    assert np.linalg.norm(tool() - there) > 0.15
    until(lambda: client.heard["planner/plan"][-1].id == "hold" and np.linalg.norm(tool() - there) < 0.05, 60.0)
    assert client.heard["planner/verdict"][0].accepted
    assert world.state().startswith("pursuing")


def test_the_clearance_of_a_proposed_plan_is_what_the_camera_sees_of_the_way(world: World) -> None:
    client, planner = world.client, world.planner
    world.set(min_clearance=0.0, max_uncertainty=2.0)
    client.result(client.send(newest_picture(world), max_plans=1))  # a goal to judge plans against
    window = planner.input.latest_window()
    around = DistanceField.of(window.observed_by(planner.model), window.state.values, ARM)
    assert around is not None, "the planner is told where the camera is"
    down = np.tile(window.state.values, (8, 1))
    down[:, 1] += np.linspace(0.1, 0.8, 8)  # the shoulder leans the arm onto the table
    clearance = around.judged_clearance(down, window.state.values)
    assert clearance[-1] < 0.0 < clearance[0]
    client.proposal.publish(plan_to_msg(down, ARM, Header(), "down"))
    until(lambda: [v for v in client.heard["planner/verdict"] if v.plan_id == "down"])
    verdict = client.heard["planner/verdict"][-1]
    assert verdict.reason == PlanVerdict.COLLISION_ZONE, verdict.text
    assert planner.calibration is not None
    seen = around.judged_clearance(down, window.state.values)
    bound = seen - np.array(planner.calibration.clearance_error_m[:8])
    assert verdict.first_offending_step == np.flatnonzero(bound < 0.0)[0]
    assert verdict.value == pytest.approx(bound[verdict.first_offending_step], abs=0.01)
