"""Plans of other planners, beside a simulated arm: each gets a verdict, and only what was judged is ever executed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from plan_trajectories import trajectory_from_plan
from planner_world import World, picture, until
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.action import PlanToGoal
from deepverse_ros.msg import ActionPlan, PlanVerdict
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.plan import plan_to_msg
from deepverse_ros.nodes.messages.time import duration
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
LAYOUT = JointLayout(ARM)


@pytest.fixture
def judge(world: World) -> Callable[..., PlanVerdict]:
    """A planner that has had a goal and rests; proposes a plan and returns its verdict."""
    client = world.client
    world.set(execute_proposals=False)
    client.result(client.send(picture(), max_plans=1))
    until(client.proposal.get_subscription_count)
    until(client.trajectory.get_subscription_count)

    def propose(message: ActionPlan | JointTrajectory, plan_id: str = "") -> PlanVerdict:
        client.clear()
        plan_id = plan_id or message.id
        (client.proposal if isinstance(message, ActionPlan) else client.trajectory).publish(message)
        until(lambda: any(v.plan_id == plan_id for v in client.heard["planner/verdict"]))
        client.settle()
        return client.heard["planner/verdict"][-1]

    return propose


def staying(world: World, steps: int = 8) -> np.ndarray:
    return np.tile(world.joints, (steps, 1))


def turning(world: World, steps: int = 8, angle: float = 0.6) -> np.ndarray:
    """Turns the first joint towards its middle, evenly."""
    plan = staying(world, steps)
    plan[:, 0] -= np.sign(plan[0, 0]) * angle * np.arange(1, steps + 1) / steps
    return plan


def executed(world: World) -> list[ActionPlan]:
    return world.client.heard["planner/plan"]


def trajectory(plan: np.ndarray, dt: float = ARM.dt, stamp: Time | None = None) -> JointTrajectory:
    """As MoveIt sends it: without the gripper."""
    message = trajectory_from_plan(plan, LAYOUT, Header(stamp=stamp or Time(), frame_id="base_link"))
    message.joint_names = message.joint_names[:7]
    for step, waypoint in enumerate(message.points):
        waypoint.positions = waypoint.positions[:7]
        waypoint.time_from_start = duration((step + 1) * dt)
    return message


def test_a_proposed_plan_gets_a_verdict_and_is_only_executed_on_request(world: World, judge: Any) -> None:
    stay = staying(world)
    assert judge(plan_to_msg(stay, ARM, Header(), "stay")).accepted
    assert not executed(world)
    world.set(execute_proposals=True)
    assert judge(plan_to_msg(stay, ARM, Header(), "do stay")).accepted
    until(lambda: [p.id for p in executed(world)] == ["do stay"])
    world.set(execute_proposals=False, goal_tolerance=0.001)
    assert judge(plan_to_msg(stay, ARM, Header(), "far")).reason == PlanVerdict.MISSES_GOAL
    jump = stay.copy()
    jump[3:, 0] += 1.0
    answer = judge(plan_to_msg(jump, ARM, Header(), "jump"))
    assert answer.reason == PlanVerdict.INVALID_PLAN
    assert answer.first_offending_step == 3
    assert not executed(world)


@pytest.mark.parametrize("dt", [0.05, 0.1, 0.5])
def test_a_plan_of_another_dt_is_resampled_judged_and_executed_as_it_was_judged(
    world: World, judge: Any, dt: float
) -> None:
    world.set(execute_proposals=True)
    start = world.joints
    way = turning(world, steps=round(1.0 / dt))
    message = plan_to_msg(way, ARM, Header(), f"at {dt}")
    message.dt = dt
    assert judge(message).accepted
    until(lambda: [p.id for p in executed(world)] == [f"at {dt}"])
    plan = executed(world)[0]
    assert (plan.dt, plan.horizon) == (ARM.dt, 5)
    expected = start + np.outer(np.arange(1, 6) / 5, way[-1] - start)
    np.testing.assert_allclose(np.array(plan.values).reshape(5, 8), expected, atol=0.01)
    until(lambda: np.abs(world.joints - way[-1]).max() < 0.08)


def test_a_plan_of_another_dt_that_is_too_fast_is_refused_after_resampling(world: World, judge: Any) -> None:
    message = plan_to_msg(turning(world, steps=8, angle=1.2), ARM, Header(), "fast")
    assert judge(message).accepted
    message.dt = 0.05  # 3 rad/s
    answer = judge(message)
    assert answer.reason == PlanVerdict.INVALID_PLAN
    assert "joint_positions[0] moves 0.600 in step 0, at most 0.297 is possible in 0.2 s" in answer.text


def test_a_trajectory_is_judged_and_executed_and_known_by_its_stamp(world: World, judge: Any) -> None:
    world.set(execute_proposals=True)
    way = turning(world, steps=10)
    message = trajectory(way, dt=0.1, stamp=Time(sec=12, nanosec=34))
    start = JointTrajectoryPoint(positions=[float(v) for v in world.joints[:7]])
    message.points = [start, *message.points]
    assert judge(message, "trajectory-12.000000034").accepted
    until(lambda: [p.id for p in executed(world)] == ["trajectory-12.000000034"])
    plan = np.array(executed(world)[0].values).reshape(-1, 8)
    np.testing.assert_allclose(plan, way[1::2], atol=0.01)
    until(lambda: np.abs(world.joints - way[-1]).max() < 0.08)


def test_trajectories_without_a_stamp_are_counted(world: World, judge: Any) -> None:
    message = trajectory(staying(world))
    world.client.trajectory.publish(message)
    until(lambda: any(v.plan_id.startswith("trajectory-") for v in world.client.heard["planner/verdict"]))
    count = int(world.client.heard["planner/verdict"][-1].plan_id.removeprefix("trajectory-"))
    assert judge(message, f"trajectory-{count + 1}").accepted


def with_values(plan: np.ndarray, step: int, value: float) -> np.ndarray:
    out = plan.copy()
    out[step, 1] = value
    return out


BAD_PLANS = {
    "beyond limits": (lambda stay: with_values(stay, 5, 2.5), 0.2, "plan step 5: joint_positions[1] is 2.5 rad"),
    "NaN": (lambda stay: with_values(stay, 2, np.nan), 0.2, "plan step 2: joint_positions[1] is nan rad"),
    "of length 0": (lambda stay: stay[:0], 0.2, "horizon is 0"),
    "of length 1000": (lambda stay: np.repeat(stay[:1], 1000, 0), 0.2, "horizon is 1000; allowed: 1 to 32"),
    "NaN at another dt": (lambda stay: with_values(stay, 2, np.nan), 0.1, "plan step 2: joint_positions[1] is nan rad"),
    "of length 0 at another dt": (lambda stay: stay[:0], 0.1, "horizon is 0"),
    "of length 1000 at another dt": (lambda stay: np.repeat(stay[:1], 1000, 0), 0.01, "the plan lasts 10 s"),
    "of no dt": (lambda stay: stay, 0.0, "dt is 0.0 s"),
    "of NaN dt": (lambda stay: stay, float("nan"), "dt is nan s"),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_a_bad_plan_is_refused_with_field_and_value_and_the_next_one_is_judged(
    world: World, judge: Any, name: str
) -> None:
    world.set(execute_proposals=True)
    change, dt, said = BAD_PLANS[name]
    message = plan_to_msg(change(staying(world)), ARM, Header(), name)
    message.dt = dt
    answer = judge(message)
    assert answer.reason == PlanVerdict.INVALID_PLAN
    assert said in answer.text
    assert not executed(world)
    assert judge(plan_to_msg(staying(world), ARM, Header(), "next")).accepted
    until(lambda: [p.id for p in executed(world)] == ["next"])


@pytest.mark.parametrize("kind", [ActionPlan, JointTrajectory])
def test_a_plan_that_is_too_long_to_be_read_has_a_verdict_too(world: World, judge: Any, kind: type) -> None:
    long = np.repeat(staying(world, 1), 10_000, 0)
    message = plan_to_msg(long, ARM, Header(), "long") if kind is ActionPlan else trajectory(long, dt=0.01)
    client = world.client
    client.clear()
    (client.proposal if kind is ActionPlan else client.trajectory).publish(message)
    until(lambda: any("was not read" in v.text for v in client.heard["planner/verdict"]))
    (answer,) = client.heard["planner/verdict"]
    assert (answer.accepted, answer.reason) == (False, PlanVerdict.INVALID_PLAN)
    assert "allowed" in answer.text
    assert judge(plan_to_msg(staying(world), ARM, Header(), "next")).accepted


BAD_TRAJECTORIES = {
    "beyond limits": (lambda stay: trajectory(with_values(stay, 5, 2.5)), "plan step 5: joint_positions[1] is 2.5 rad"),
    "NaN": (lambda stay: trajectory(with_values(stay, 2, np.nan)), "plan step 2: joint_positions[1] is nan rad"),
    "of length 0": (lambda stay: trajectory(stay[:0]), "points is empty"),
    "of length 1000": (
        lambda stay: trajectory(np.repeat(stay[:1], 1000, 0), dt=0.01),
        "the plan lasts 10 s; at most 32 steps of 0.2 s (6.4 s) can be imagined",
    ),
    "of another robot": (
        lambda stay: JointTrajectory(joint_names=["wheel"], points=trajectory(stay).points),
        "'wheel'",
    ),
}


@pytest.mark.parametrize("name", BAD_TRAJECTORIES)
def test_a_bad_trajectory_is_refused_with_field_and_value_and_the_next_one_is_judged(
    world: World, judge: Any, name: str
) -> None:
    world.set(execute_proposals=True)
    change, said = BAD_TRAJECTORIES[name]
    message = change(staying(world))
    message.header.stamp = Time(sec=1)
    answer = judge(message, "trajectory-1.000000000")
    assert answer.reason == PlanVerdict.INVALID_PLAN
    assert said in answer.text
    assert not executed(world)
    assert judge(trajectory(staying(world), stamp=Time(sec=2)), "trajectory-2.000000000").accepted
    until(lambda: [p.id for p in executed(world)] == ["trajectory-2.000000000"])


def test_a_plan_longer_than_what_the_calibration_covers_is_refused_and_says_so(world: World, judge: Any) -> None:
    answer = judge(plan_to_msg(staying(world, steps=9), ARM, Header(), "long"))
    assert answer.reason == PlanVerdict.MISSES_GOAL
    assert "has 9 steps, of which the calibration covers 8" in answer.text


def test_a_model_that_fails_gives_a_verdict_and_does_not_end_what_is_pursued(
    world: World, judge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    message = plan_to_msg(staying(world), ARM, Header(), "unlucky")
    with monkeypatch.context() as patch:
        patch.setattr(world.planner.model, "imagine", broken)
        answer = judge(message)
        assert (answer.accepted, answer.reason) == (False, PlanVerdict.TOO_UNCERTAIN)
        assert "device-side assert" in answer.text
    assert judge(message).accepted
    # A proposal that fails between two plans of a goal is no failure of the goal.
    world.set(execute_steps=8, max_plans=2)
    handle = world.client.send(picture())
    until(lambda: any(p.id != "hold" for p in executed(world)))
    with monkeypatch.context() as patch:
        patch.setattr(world.planner.model, "imagine", broken)
        assert judge(message).reason == PlanVerdict.TOO_UNCERTAIN
    assert world.client.result(handle).result.code == PlanToGoal.Result.NOT_REACHED


def test_without_a_goal_or_an_image_there_is_no_verdict_to_trust(world: World, judge: Any) -> None:
    world.set(stale_timeout=0.3, execute_proposals=True)
    stay = staying(world)
    assert world.sim.trigger_deactivate().name == "SUCCESS"
    try:
        until(lambda: world.planner.input.age() > 0.3)
        assert judge(plan_to_msg(stay, ARM, Header(), "blind")).reason == PlanVerdict.STALE_INPUT
        assert not executed(world)
    finally:
        assert world.sim.trigger_activate().name == "SUCCESS"
    world.planner.trigger_deactivate()
    world.planner.trigger_activate()
    until(lambda: world.planner.input.age() < 0.3)
    answer = judge(plan_to_msg(stay, ARM, Header(), "aimless"))
    assert "there is no goal to judge" in answer.text
