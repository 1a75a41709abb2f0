"""Action goals that end otherwise than by being reached: a clear result, the robot holds, the next goal works."""

import time
from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from planner_world import World, picture, until

from deepverse_ros.action import PlanToGoal

Result = PlanToGoal.Result


def moving(world: World) -> bool:
    return any(p.id != "hold" for p in world.client.heard["planner/plan"])


def the_robot_holds(world: World) -> None:
    until(lambda: world.client.heard["planner/plan"] and world.client.heard["planner/plan"][-1].id == "hold")


def the_next_goal_works(world: World) -> None:
    world.rest()
    answer = world.client.result(world.client.send(picture(150), max_plans=1))
    assert answer.result.code == Result.NOT_REACHED
    assert answer.result.plans_accepted == 1
    assert moving(world)


def begin(world: World, phase: str) -> Any:
    """The handle of a goal that is in this phase now."""
    client = world.client
    world.set(max_plans=100)
    if phase == "looking":
        # Pictures cease, and with them the joints, which alone say where the robot can hold.
        world.set(stale_timeout=0.2, observation_timeout=30.0, state_timeout=60.0)
        assert world.sim.trigger_deactivate().name == "SUCCESS"
        until(lambda: world.planner.input.age() > 0.2)
        handle = client.send(picture())
        until(lambda: client.heard["planner/verdict"])  # STALE_INPUT
        return handle
    if phase == "planning":
        world.set(search_level="fine", samples=1024, iterations=50, max_replans=50, planning_timeout=600.0)
        handle = client.send(picture())
        until(lambda: world.state().startswith("pursuing"))
        time.sleep(0.5)
        assert not client.heard["planner/verdict"]
        return handle
    world.set(execute_steps=8 if phase == "executing" else 1, settle_time=0.0 if phase == "executing" else 10.0)
    handle = client.send(picture())
    until(lambda: moving(world))
    time.sleep(0.1 if phase == "executing" else 1.0)
    return handle


@pytest.mark.parametrize("phase", ["looking", "planning", "executing", "settling"])
def test_a_goal_can_be_canceled_in_every_phase(world: World, phase: str) -> None:
    client = world.client
    try:
        handle = begin(world, phase)
        handle.cancel_goal_async()
        answer = client.result(handle, 10.0)
    finally:
        if phase == "looking":
            assert world.sim.trigger_activate().name == "SUCCESS"
        world.set(search_level="coarse", planning_timeout=15.0)
    assert (answer.status, answer.result.code) == (GoalStatus.STATUS_CANCELED, Result.CANCELED)
    assert answer.result.text == "canceled or withdrawn; the robot holds"
    the_robot_holds(world)
    the_next_goal_works(world)


def test_a_goal_that_is_canceled_at_once_ends_so(world: World) -> None:
    client = world.client
    world.set(max_plans=100)
    first = client.send(picture(50))
    second = client.send(picture(60))
    canceling = second.cancel_goal_async()
    assert client.result(first).result.code == Result.PREEMPTED
    assert client.result(second).result.code == Result.CANCELED
    assert canceling.done()
    the_robot_holds(world)
    the_next_goal_works(world)


def test_a_goal_during_the_execution_of_another_stops_that_one_first(world: World) -> None:
    client = world.client
    world.set(max_plans=100, execute_steps=8)
    first = client.send(picture(50))
    until(lambda: moving(world))
    second = client.send(picture(200), max_plans=1)
    assert client.result(first).result.code == Result.PREEMPTED
    assert client.result(second).result.code == Result.NOT_REACHED
    names = [p.id.split(".")[0] for p in client.heard["planner/plan"]]
    old, new = (n for n in dict.fromkeys(names) if n != "hold")
    between = names[names.index(old) + 1 : names.index(new)]
    assert between
    assert set(between) == {"hold"}
    the_next_goal_works(world)


@pytest.mark.parametrize("together", [2, 5])
def test_of_goals_that_come_at_once_one_is_pursued_and_the_others_are_preempted(world: World, together: int) -> None:
    client = world.client
    assert client.planner.wait_for_server(timeout_sec=10.0)
    sent = [
        client.planner.send_goal_async(PlanToGoal.Goal(goal_image=picture(40 + 30 * i), max_plans=1000))
        for i in range(together)
    ]
    until(lambda: all(s.done() for s in sent))
    results = [s.result().get_result_async() for s in sent]
    until(lambda: sum(r.done() for r in results) == together - 1)
    assert {r.result().result.code for r in results if r.done()} == {Result.PREEMPTED}
    assert world.state().startswith("pursuing")
    for s in sent:
        s.result().cancel_goal_async()
    until(lambda: all(r.done() for r in results))
    assert min(r.result().result.code for r in results) == Result.CANCELED
    the_next_goal_works(world)


@pytest.mark.parametrize("part", ["observe", "encode_goal", "imagine_coarse", "imagine"])
def test_a_model_that_fails_in_the_middle_of_planning_ends_the_goal_with_what_it_said(
    world: World, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    client, model = world.client, world.planner.model
    works, calls = getattr(model, part), []

    def dies(*arguments: Any, **options: Any) -> Any:
        calls.append(part)
        # The second plan of the goal finds a dead model; a goal is read only once.
        if len(calls) > (part != "encode_goal"):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return works(*arguments, **options)

    world.set(max_plans=100)
    with monkeypatch.context() as patch:
        patch.setattr(model, part, dies)
        answer = client.result(client.send(picture()))
        assert (answer.status, answer.result.code) == (GoalStatus.STATUS_ABORTED, Result.FAILED)
        assert "RuntimeError: CUDA error: an illegal memory access" in answer.result.text
        the_robot_holds(world)
        assert "illegal memory access" in world.planner.diagnostics.status().message
        # As long as it is dead, every goal ends so, and the node lives on.
        assert client.result(client.send(picture())).result.code == Result.FAILED
    the_next_goal_works(world)
