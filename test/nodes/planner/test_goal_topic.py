"""~/goal_image beside a simulated arm: the newest picture is tracked until it is withdrawn, whatever comes between.

The weights are untrained: tolerances decide what is reached and accepted. Uniform greys are pictures of other places.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from plan_trajectories import trajectory_from_plan
from planner_world import World, picture, until
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from deepverse_ros.action import PlanToGoal
from deepverse_ros.msg import ActionPlan, PlanVerdict
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.image import image_from_array
from deepverse_ros.nodes.messages.plan import plan_to_msg
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
Result = PlanToGoal.Result


def show(world: World, image: Image) -> None:
    until(world.client.goal_image.get_subscription_count)
    world.client.goal_image.publish(image)


def film(world: World, pictures: Callable[[int], Image], seconds: float, rate: float = 10.0) -> None:
    """Publish pictures(0), pictures(1), … at a rate."""
    begin = time.monotonic()
    for number in range(round(seconds * rate)):
        world.client.goal_image.publish(pictures(number))
        time.sleep(max(0.0, begin + (number + 1) / rate - time.monotonic()))


def moves(world: World) -> list[ActionPlan]:
    return [p for p in world.client.heard["planner/plan"] if p.id != "hold"]


def holds(world: World) -> list[ActionPlan]:
    return [p for p in world.client.heard["planner/plan"] if p.id == "hold"]


def verdicts(world: World) -> list[PlanVerdict]:
    return world.client.heard["planner/verdict"]


def goal_of(plan: Any) -> str:
    """goal-N of the plan or the verdict of a plan goal-N.tried.search."""
    return plan.id.split(".")[0]


def test_a_picture_is_pursued_beyond_max_plans_until_it_is_withdrawn(world: World) -> None:
    world.set(max_plans=1)
    show(world, picture(size=200))
    until(lambda: len(moves(world)) == 3, 30.0)
    assert len({goal_of(p) for p in moves(world)}) == 1
    assert len({p.id for p in moves(world)}) == 3
    assert world.state() == f"pursuing {goal_of(moves(world)[0])}"
    assert not holds(world)
    show(world, Image())
    until(lambda: world.state() == "idle", 1.0)
    until(lambda: holds(world))
    world.client.settle()
    count = len(moves(world))
    time.sleep(1.0)
    assert len(moves(world)) == count
    show(world, picture(50))
    until(lambda: len(moves(world)) > count)


def test_a_picture_of_where_the_robot_is_is_watched_and_pursued_when_it_is_left(world: World) -> None:
    world.set(reached_tolerance=1.0)
    show(world, picture())
    until(lambda: holds(world))
    time.sleep(1.0)
    assert world.state().startswith("pursuing")
    assert len(holds(world)) == 1  # to stay there is said once
    assert not verdicts(world)
    world.set(reached_tolerance=0.001)  # as if the arm had been moved
    until(lambda: moves(world))


def test_without_an_accepted_plan_the_robot_holds_and_tries_again_with_other_plans(world: World) -> None:
    world.set(goal_tolerance=0.001, max_plans=1, max_replans=0)
    show(world, picture())
    until(lambda: len(verdicts(world)) == 4)
    stamps = [v.header.stamp.sec + 1e-9 * v.header.stamp.nanosec for v in verdicts(world)]
    assert np.diff(stamps).min() > 0.2  # retry_period is 0.3 s, and the images are newer
    assert len({v.plan_id for v in verdicts(world)}) == len(verdicts(world))
    assert len({round(v.score, 6) for v in verdicts(world)}) > 1
    assert not moves(world)
    # Moved a little, as by its own weight, it is held where it was held before: it must not creep away.
    world.set(retry_period=2.0)
    count = len(holds(world))
    until(lambda: len(holds(world)) >= count + 2)
    nudged = np.array(holds(world)[0].values)
    nudged[0] += 0.05
    world.client.arm.publish(trajectory_from_plan(nudged[None], JointLayout(ARM), Header()))
    until(lambda: abs(world.joints[0] - nudged[0]) < 0.04)
    count = len(holds(world))
    until(lambda: len(holds(world)) > count)
    assert len({tuple(h.values) for h in holds(world)}) == 1
    world.set(goal_tolerance=2.0)
    until(lambda: moves(world))


def test_a_film_of_one_goal_does_not_disturb_the_plans_to_it(world: World) -> None:
    world.set(execute_steps=8)
    rng = np.random.default_rng(0)

    def noisy(_: int) -> Image:
        pixels = 100 + rng.integers(-2, 3, (64, 64, 3))
        return image_from_array(pixels.astype(np.uint8), "rgb8", Header())

    film(world, noisy, 4.0)
    assert not holds(world)
    assert len(moves(world)) <= 3  # each takes 1.6 s
    assert len({goal_of(p) for p in moves(world)}) == 1


def test_a_picture_of_another_goal_ends_the_running_plan_and_is_pursued(world: World) -> None:
    world.set(execute_steps=8)
    show(world, picture(100))
    until(lambda: moves(world))
    show(world, picture(200))
    until(lambda: holds(world))  # a plan that is not ended is followed by the next one, without a hold
    until(lambda: moves(world)[-1] is world.client.heard["planner/plan"][-1])


def test_a_film_of_a_goal_that_moves_lets_every_plan_run_for_a_while(world: World) -> None:
    world.set(execute_steps=8, goal_dwell=0.6, goal_change=0.001)
    before = world.joints
    film(world, lambda n: picture(40 + 2 * n), 8.0)
    assert len(moves(world)) >= 3
    sent = [(p.id, p.header.stamp.sec + 1e-9 * p.header.stamp.nanosec) for p in world.client.heard["planner/plan"]]
    ran = [after - at for (name, at), (_, after) in pairwise(sent) if name != "hold"]
    assert 0.6 <= min(ran) < 1.5
    assert not [v for v in verdicts(world) if v.reason == PlanVerdict.INVALID_PLAN]
    assert np.abs(world.joints - before).max() > 0.1


def test_a_picture_that_cannot_be_used_is_named_and_the_goal_stays(world: World) -> None:
    show(world, picture())
    until(lambda: moves(world))
    show(world, image_from_array(np.full((8, 8), 9.0, np.float32), "32FC1", Header()))
    until(lambda: "must lie between 0 and 1" in world.planner.diagnostics.status().message)
    count = len(moves(world))
    until(lambda: len(moves(world)) > count)
    assert len({goal_of(p) for p in moves(world)}) == 1


def test_an_action_goal_preempts_the_topic_and_pictures_do_not_disturb_it(world: World) -> None:
    client = world.client
    world.set(max_plans=100)
    show(world, picture(50))
    until(lambda: moves(world))
    topic = goal_of(moves(world)[0])
    handle = client.send(picture(200), max_plans=2)
    film(world, lambda n: picture(50), 0.5)
    answer = client.result(handle)
    assert answer.result.code == Result.NOT_REACHED
    assert answer.result.plans_accepted == 2
    names = [goal_of(p) for p in moves(world)]
    assert set(names[names.index(topic) :]) == {topic, names[-1]}
    assert world.state() == "idle"  # what was preempted does not come back by itself
    show(world, picture(50))
    until(lambda: len({goal_of(p) for p in moves(world)}) == 3)


def test_no_plan_rests_on_a_robot_that_the_goal_before_still_moves(world: World) -> None:
    world.set(execute_steps=8, max_plans=100)
    client = world.client
    for value in (50, 200, 50, 200):
        count = len(moves(world))
        handle = client.send(picture(value), max_plans=100)
        until(lambda count=count: len(moves(world)) > count)
        time.sleep(0.4)  # in the middle of its plan, which takes 1.6 s
    handle.cancel_goal_async()
    until(lambda: world.state() == "idle")
    assert not [v for v in verdicts(world) if v.reason == PlanVerdict.INVALID_PLAN]


def test_deactivating_ends_what_the_topic_asked_for(world: World) -> None:
    show(world, picture())
    until(lambda: moves(world))
    assert world.planner.trigger_deactivate().name == "SUCCESS"
    until(lambda: world.client.heard["planner/plan"][-1].id == "hold")
    assert world.planner.trigger_activate().name == "SUCCESS"
    world.client.settle()
    count = len(moves(world))
    time.sleep(0.5)
    assert world.state() == "idle"
    assert len(moves(world)) == count


def test_a_model_that_fails_is_said_and_the_goal_is_tracked_on_when_it_works_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    show(world, picture())
    until(lambda: moves(world))
    with monkeypatch.context() as patch:
        patch.setattr(world.planner.model, "imagine", broken)
        until(lambda: "illegal memory access" in world.planner.diagnostics.status().message)
        until(lambda: holds(world))
        count = len(moves(world))
        time.sleep(0.5)
        assert len(moves(world)) == count
    until(lambda: len(moves(world)) > count)
    assert len({goal_of(p) for p in moves(world)}) == 1


def test_no_image_means_a_hold_until_there_is_one(world: World) -> None:
    world.set(stale_timeout=0.3)
    show(world, picture())
    until(lambda: moves(world))
    assert world.sim.trigger_deactivate().name == "SUCCESS"
    try:
        until(lambda: [v.reason for v in verdicts(world)].count(PlanVerdict.STALE_INPUT) >= 2)
        count = len(moves(world))
        assert world.client.heard["planner/plan"][-1].id == "hold"
    finally:
        assert world.sim.trigger_activate().name == "SUCCESS"
    until(lambda: len(moves(world)) > count)


def test_proposals_are_judged_against_a_tracked_goal_but_not_executed_beside_it(world: World) -> None:
    world.set(reached_tolerance=1.0, execute_proposals=True)
    show(world, picture())
    until(lambda: holds(world))
    until(world.client.proposal.get_subscription_count)
    stay = np.tile(world.joints, (8, 1))
    for number in range(20):
        world.client.proposal.publish(plan_to_msg(stay, ARM, Header(), f"mine-{number}"))
        time.sleep(0.05)
    until(lambda: any(v.plan_id == "mine-19" and v.accepted for v in verdicts(world)))
    world.set(execute_proposals=False)
    assert not moves(world)
    assert world.state().startswith("pursuing")
    show(world, Image())
    until(lambda: world.state() == "idle")
    world.client.proposal.publish(plan_to_msg(stay, ARM, Header(), "late"))
    until(lambda: verdicts(world)[-1].plan_id == "late")
    assert "there is no goal to judge" in verdicts(world)[-1].text
