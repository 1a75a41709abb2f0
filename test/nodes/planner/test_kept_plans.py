"""Accepted plans that a prefilter keeps from going on: the result says who kept them and why, and it ends in time."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planner_world import QUICK, World, picture, until

from deepverse_ros.action import PlanToGoal
from deepverse_ros.msg import PrefilterCheck, PrefilterStatus
from deepverse_ros.nodes.runtime import qos

Result = PlanToGoal.Result
ZONE = "zone 'person': 40 points at step 0, 15 count"


class Prefilter:
    """Says of itself what it is told to, and lets nothing pass."""

    def __init__(self, world: World) -> None:
        self.status: list[PrefilterStatus] = []
        self._publisher = world.client.create_publisher(PrefilterStatus, "prefilter/status", qos.debug_output())
        self._lock = threading.Lock()
        world.client.create_timer(0.05, self._speak)

    def says(self, state: int, reason: str = "", zone: str = "", failed: str = "", mode: int = 1) -> None:
        with self._lock:
            self.status = [
                PrefilterStatus(
                    state=state, mode=mode, text=reason, zone=zone,
                    checks=[
                        PrefilterCheck(name="clock", ok=True),
                        PrefilterCheck(name=failed or "image_age", ok=not failed),
                    ],
                )
            ]  # fmt: skip

    def quiet(self) -> None:
        with self._lock:
            self.status = []

    def _speak(self) -> None:
        with self._lock:
            for message in self.status:
                self._publisher.publish(message)


@pytest.fixture(scope="module")
def started(small_checkpoint: Path) -> Iterator[tuple[World, Prefilter]]:
    parameters = {"passed_command_topic": "passed", "prefilter_status_topic": "prefilter/status"}
    world = World(small_checkpoint, heard_by_arm="passed", **parameters)
    yield world, Prefilter(world)
    world.close()


@pytest.fixture
def kept(started: tuple[World, Prefilter]) -> tuple[World, Prefilter]:
    world, prefilter = started
    prefilter.quiet()
    world.set(**QUICK, pass_timeout=0.5)
    until(lambda: world.client.heard["camera/image_raw"])
    return world, prefilter


def result(world: World, max_plans: int) -> Any:
    answer = world.client.result(world.client.send(picture(), max_plans=max_plans)).result
    assert answer.code == Result.NOT_REACHED
    return answer


def test_a_stop_is_named_with_its_reason_and_ends_the_goal_before_all_plans_are_used(kept) -> None:
    world, prefilter = kept
    prefilter.says(PrefilterStatus.STOP, ZONE, "person", "zone:person")
    answer = result(world, max_plans=8)
    assert answer.plans_accepted == 2
    assert f"the last 2 were accepted but kept from going on for pass_timeout: the prefilter is in STOP: {ZONE}" in (
        answer.text
    )
    warned = world.planner.diagnostics.status()
    assert f"is given up: the prefilter is in STOP: {ZONE}" in next(
        v.value for v in warned.values if v.key == "last_warning"
    )


def test_the_cause_counts_and_not_what_the_prefilter_says_while_a_stop_lasts_on(kept) -> None:
    world, prefilter = kept
    prefilter.says(PrefilterStatus.STOP, ZONE, "person", "zone:person")
    world.client.clear()
    handle = world.client.send(picture(), max_plans=1)
    until(lambda: world.client.heard["joint_trajectory"])  # the plan was sent
    until(lambda: ZONE in world.planner.robot.interface.keeper.why().text)
    prefilter.says(PrefilterStatus.STOP, "better again, 0 of 1 verdicts over 0.3 s")
    text = world.client.result(handle).result.text
    assert f"the prefilter is in STOP: {ZONE}" in text


def test_one_plan_is_enough_to_say_why(kept) -> None:
    world, prefilter = kept
    prefilter.says(PrefilterStatus.FALLBACK, "the newest image is 2.0 s old", failed="image_age")
    answer = result(world, max_plans=1)
    assert answer.text.startswith("1 plan was used; ")
    assert "the prefilter is in FALLBACK: the newest image is 2.0 s old" in answer.text


def test_causes_that_change_are_worth_another_plan(kept) -> None:
    world, prefilter = kept
    causes = [("person", ZONE), ("cabinet", "zone 'cabinet': 3 points at step 2, 1 count"), ("person", ZONE)]
    seen = world.client.heard["planner/verdict"]
    seen.clear()
    prefilter.says(PrefilterStatus.STOP, causes[0][1], causes[0][0], f"zone:{causes[0][0]}")
    handle = world.client.send(picture(), max_plans=3)
    for number, (zone, reason) in enumerate(causes[1:], 2):
        until(lambda number=number: len([v for v in seen if v.accepted]) == number)
        prefilter.says(PrefilterStatus.STOP, reason, zone, f"zone:{zone}")
    answer = world.client.result(handle).result
    assert answer.plans_accepted == 3
    assert "the last one was accepted but kept" in answer.text


def test_an_open_prefilter_that_hands_nothing_on(kept) -> None:
    world, prefilter = kept
    prefilter.says(PrefilterStatus.PASS)
    assert "the prefilter is open, but nothing of it came out on 'passed'" in result(world, max_plans=1).text


def test_a_prefilter_that_is_silent(kept) -> None:
    world, prefilter = kept
    prefilter.quiet()
    world.set(pass_timeout=2.5)
    text = result(world, max_plans=1).text
    assert "the prefilter says nothing" in text
    assert "on 'prefilter/status': does it run, and is it active?" in text
