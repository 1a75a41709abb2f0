"""The planner beside a simulated arm, over real ROS: goals, cancelling, preempting, proposals, bad input, holding.

The weights are untrained, so that its imagination is wrong but its answers are quick: tolerances decide what is
accepted. What a trained model plans is tested by the launch tests and the demo.
"""

import time
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from planner_world import QUICK, World, picture, place, until
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from untrained import IN_REACH
from visualization_msgs.msg import Marker

from deepverse_ros.action import PlanToGoal
from deepverse_ros.msg import PlanVerdict
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
Result = PlanToGoal.Result


def test_a_goal_leads_to_judged_plans_that_are_executed(world: World) -> None:
    client = world.client
    until(lambda: world.planner.count_subscribers("planner/verdict"))
    handle = client.send(picture(), max_plans=2)
    answer = client.result(handle)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.code == Result.NOT_REACHED
    assert (answer.result.plans_accepted, answer.result.plans_rejected) == (2, 0)
    assert np.isfinite(answer.result.final_distance)
    accepted = [v for v in client.heard["planner/verdict"] if v.accepted]
    plans = [p for p in client.heard["planner/plan"] if p.id != "hold"]
    assert [p.id for p in plans] == [v.plan_id for v in accepted]
    assert [v.reason for v in accepted] == [PlanVerdict.ACCEPTED] * 2
    assert accepted[0].header.frame_id == "camera_optical_frame"
    assert accepted[0].level == pytest.approx(0.9)
    assert plans[0].horizon == 2
    assert list(plans[0].modality_dims) == [7, 1]
    trajectory = next(t for t in client.heard["joint_trajectory"] if len(t.points) == 2)
    assert trajectory.joint_names[:7] == list(ARM.joint_names)
    np.testing.assert_allclose(trajectory.points[1].positions[:7], plans[0].values[8:15], atol=1e-5)
    assert [f.iteration for f in client.feedback] == [1, 2]
    assert client.feedback[0].verdict.plan_id == accepted[0].plan_id


def test_what_was_imagined_is_shown(world: World) -> None:
    client = world.client
    client.result(client.send(picture(), max_plans=1))
    until(lambda: client.heard["planner/candidates"] and client.heard["planner/imagined_outcome"])
    outcome = client.heard["planner/imagined_outcome"][0]
    assert outcome.plan_id == client.heard["planner/verdict"][0].plan_id
    assert len(outcome.rgb) == len(outcome.depth) == len(outcome.uncertainty) == 8
    markers = client.heard["planner/candidates"][0].markers
    assert [m.type for m in markers] == [
        Marker.LINE_LIST,
        Marker.LINE_STRIP,
        Marker.SPHERE,
        Marker.TEXT_VIEW_FACING,
    ]
    assert len(markers[0].points) == len(markers[0].colors) == 4 * 7 * 2
    assert all(m.header.frame_id == "base_link" for m in markers)
    assert markers[3].text.startswith("ACCEPTED")


def test_the_arm_follows_an_accepted_plan(world: World) -> None:
    client = world.client
    # The plans of an untrained model may have led it into the table.
    until(client.reset.call_async(Trigger.Request()).done)
    client.settle()
    client.result(client.send(picture(), max_plans=1))
    plan = next(p for p in client.heard["planner/plan"] if p.id != "hold")
    target = np.array(plan.values).reshape(-1, 8)[-1]
    assert np.abs(world.joints - target)[:7].max() < 0.08


def test_a_rejected_plan_is_never_sent_and_the_robot_holds(world: World) -> None:
    client = world.client
    world.set(goal_tolerance=0.001)
    answer = client.result(client.send(picture(), max_plans=5))
    assert answer.result.code == Result.NO_ACCEPTED_PLAN
    assert "MISSES_GOAL" in answer.result.text
    assert (answer.result.plans_accepted, answer.result.plans_rejected) == (0, 2)
    until(lambda: len(client.heard["planner/verdict"]) == 2)
    assert not any(v.accepted for v in client.heard["planner/verdict"])
    assert {v.reason for v in client.heard["planner/verdict"]} == {PlanVerdict.MISSES_GOAL}
    until(lambda: client.heard["planner/plan"])
    assert {p.id for p in client.heard["planner/plan"]} == {"hold"}
    assert all(len(t.points) == 1 for t in client.heard["joint_trajectory"])


def test_a_goal_that_is_where_the_robot_is_needs_no_plan(world: World) -> None:
    world.set(reached_tolerance=1.0)
    answer = world.client.result(world.client.send(picture()))
    assert answer.status == GoalStatus.STATUS_SUCCEEDED
    assert answer.result.reached
    assert (answer.result.plans_accepted, answer.result.plans_rejected) == (0, 0)


def test_a_goal_is_not_judged_from_the_first_frame_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    model, frames = world.planner.model, []
    observe = model.observe
    monkeypatch.setattr(model, "observe", lambda seen, *more: frames.append(seen.rgb.shape[1]) or observe(seen, *more))
    world.set(observation_timeout=10.0)
    world.planner.input.clear()  # as if it had only now begun to look
    answer = world.client.result(world.client.send(picture(), max_plans=1))
    assert answer.result.plans_accepted == 1
    assert frames[0] > 1  # all of them, unless a busy machine lost one


def test_a_goal_can_be_cancelled_while_it_is_executed(world: World) -> None:
    client = world.client
    world.set(max_plans=100, execute_steps=8)
    handle = client.send(picture())
    until(lambda: any(p.id != "hold" for p in client.heard["planner/plan"]))
    canceling = handle.cancel_goal_async()
    began = time.monotonic()
    answer = client.result(handle)
    assert time.monotonic() - began < 1.0
    assert canceling.done()
    assert answer.status == GoalStatus.STATUS_CANCELED
    assert answer.result.code == Result.CANCELED
    until(lambda: client.heard["planner/plan"][-1].id == "hold")


def test_a_newer_goal_preempts_the_older_one(world: World) -> None:
    client = world.client
    world.set(max_plans=100)
    first = client.send(picture(50))
    until(lambda: client.heard["planner/verdict"])
    second = client.send(picture(200), max_plans=1)
    assert client.result(first).result.code == Result.PREEMPTED
    assert client.result(second).result.code == Result.NOT_REACHED


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (Image(encoding="rgb8"), "0x0"),
        (Image(encoding="rgb8", width=4, height=4, step=12), "data has 0 bytes"),
        (image_from_array(np.full((8, 8), 9.0, np.float32), "32FC1", Header()), "must lie between 0 and 1"),
    ],
)
def test_a_goal_image_that_cannot_be_used_is_named(world: World, image: Image, named: str) -> None:
    client = world.client
    answer = client.result(client.send(image))
    assert answer.result.code == Result.INVALID_GOAL
    assert named in answer.result.text
    assert not client.heard["planner/verdict"]


def test_a_place_is_a_goal_without_a_picture(world: World) -> None:
    client = world.client
    answer = client.result(client.send(goal_position=place(*IN_REACH), max_plans=1))
    assert answer.result.code == Result.NOT_REACHED  # within a millimetre: see reached_tolerance
    plans = [p for p in client.heard["planner/plan"] if p.id != "hold"]
    assert [v.plan_id for v in client.heard["planner/verdict"] if v.accepted] == [plans[0].id]
    goals = [m for markers in client.heard["planner/candidates"] for m in markers.markers if m.type == Marker.SPHERE]
    target = goals[-1].pose.position
    np.testing.assert_allclose([target.x, target.y, target.z], IN_REACH, atol=1e-6)
    world.set(goal_tolerance=0.1, max_replans=0)
    answer = client.result(client.send(goal_position=place(5.0, 0.0, 0.4)))
    assert answer.result.code == Result.NO_ACCEPTED_PLAN
    assert answer.result.text.startswith("MISSES_GOAL")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"goal_position": place(0.5, 0.0, 0.4, "camera")}, "goal position: frame_id is 'camera'; this robot's base"),
        ({"goal_position": place(0.5, np.nan, 0.4)}, "goal position: point is [0.5, nan, "),
        ({"goal_position": place(0.5, 0.0, 1e300)}, "goal position: point is [0.5, 0.0, inf]"),
        ({"goal_position": place(0.5, 0.0, 0.4), "image": picture()}, "goal position: goal_image has 64x64 pixels"),
        ({"goal_position": place(0.5, 0.0, 0.4, "")}, "goal image: image encoding"),
    ],
)
def test_a_place_that_cannot_be_used_is_named_and_the_next_one_is_pursued(
    world: World, fields: dict[str, Any], named: str
) -> None:
    client = world.client
    answer = client.result(client.send(**fields))
    assert answer.result.code == Result.INVALID_GOAL
    assert named in answer.result.text
    assert not client.heard["planner/verdict"]
    assert client.result(client.send(goal_position=place(*IN_REACH), max_plans=1)).result.plans_accepted == 1


def test_a_goal_may_have_depth_and_a_depth_image_that_does_not_fit_is_named(world: World) -> None:
    client = world.client
    depth = image_from_depth(np.full((64, 64), 2.0, np.float32), "32FC1")
    assert client.result(client.send(picture(), goal_depth=depth, max_plans=1)).result.code == Result.NOT_REACHED
    answer = client.result(client.send(picture(size=32), goal_depth=depth))
    assert answer.result.code == Result.INVALID_GOAL
    assert "goal depth has 64x64 pixels; the goal image has 32x32" in answer.result.text


def test_no_image_means_stale_input_a_hold_and_no_observation(world: World) -> None:
    client = world.client
    world.set(stale_timeout=0.3)
    assert world.sim.trigger_deactivate().name == "SUCCESS"
    try:
        time.sleep(0.5)
        answer = client.result(client.send(picture()))
        assert answer.result.code == Result.NO_OBSERVATION
        until(lambda: client.heard["planner/verdict"])
        assert {v.reason for v in client.heard["planner/verdict"]} == {PlanVerdict.STALE_INPUT}
        assert client.heard["planner/verdict"][0].threshold == pytest.approx(0.3)
        said = (
            "s old; stale_timeout is 0.3 s: /client, /sim publishes '/camera/image_raw', but nothing has come from it"
        )
        assert said in answer.result.text
        assert said in client.heard["planner/verdict"][0].text
        refused = picture()
        refused.encoding = "h264"
        client.camera.publish(refused)
        answer = client.result(client.send(picture()))
        assert "stale_timeout is 0.3 s: image encoding is 'h264', which is no picture" in answer.result.text
        assert {p.id for p in client.heard["planner/plan"]} <= {"hold"}
    finally:
        assert world.sim.trigger_activate().name == "SUCCESS"


def test_images_that_stop_during_a_plan_stop_the_robot(world: World) -> None:
    client = world.client
    world.set(stale_timeout=0.3, execute_steps=8, max_plans=50)
    handle = client.send(picture())
    until(lambda: any(p.id != "hold" for p in client.heard["planner/plan"]))
    assert world.sim.trigger_deactivate().name == "SUCCESS"
    try:
        until(lambda: client.heard["planner/plan"][-1].id == "hold")
        assert client.result(handle).result.code == Result.NO_OBSERVATION
        assert client.heard["planner/verdict"][-1].reason == PlanVerdict.STALE_INPUT
    finally:
        assert world.sim.trigger_activate().name == "SUCCESS"


def test_parameters_are_described_and_checked(world: World) -> None:
    described = world.planner.describe_parameters(list(QUICK))
    assert all(d.description and (d.integer_range or d.floating_point_range) for d in described)
    answer = world.planner.set_parameters([RosParameter("samples", value=1)])[0]
    assert not answer.successful
    assert "samples" in answer.reason or "range" in answer.reason


def test_diagnostics_say_what_the_planner_does(world: World) -> None:
    client = world.client
    client.result(client.send(picture(), max_plans=1))
    status = world.planner.diagnostics.status()
    values = {v.key: v.value for v in status.values}
    assert values["state"] == "idle"
    assert int(values["plans_accepted"]) >= 1
    assert float(values["plan_p50_ms"]) > 0
    assert values["last_verdict"].startswith("ACCEPTED")


def test_deactivating_ends_a_goal_and_holds_and_activating_works_again(world: World) -> None:
    client = world.client
    world.set(max_plans=100)
    handle = client.send(picture())
    until(lambda: any(p.id != "hold" for p in client.heard["planner/plan"]))
    assert world.planner.trigger_deactivate().name == "SUCCESS"
    answer = client.result(handle)
    assert answer.result.code == Result.NODE_STOPPED
    until(lambda: client.heard["planner/plan"][-1].id == "hold")
    assert not client.send(picture()).accepted
    assert world.planner.trigger_activate().name == "SUCCESS"
    answer = client.result(client.send(picture(), max_plans=1))
    assert answer.result.code == Result.NOT_REACHED
