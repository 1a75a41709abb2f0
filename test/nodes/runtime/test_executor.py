"""An executor that lives on while subscriptions come and go in another thread."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import rclpy
from rclpy.action import ActionClient, ActionServer
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import Executor
from rclpy.node import Node
from std_msgs.msg import Empty

from deepverse_ros.action import PlanToGoal
from deepverse_ros.nodes.runtime.executor import NodeExecutor, OneThreadExecutor, SpinThread


@pytest.fixture(autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture(params=[partial(NodeExecutor, num_threads=2), OneThreadExecutor])
def executor(request: pytest.FixtureRequest) -> Executor:
    """Spun nowhere yet."""
    return request.param()


@contextmanager
def spun(executor: Executor, node: Node) -> Iterator[SpinThread]:
    """Beside the test; the node is destroyed after that."""
    executor.add_node(node)
    spinning = SpinThread(executor)
    try:
        yield spinning
    finally:
        spinning.end()
        node.destroy_node()


def come_and_go_as_subscriptions(node: Node) -> None:
    events = SubscriptionEventCallbacks(incompatible_qos=lambda _: None)
    subscriptions = [
        node.create_subscription(Empty, f"topic_{i}", lambda _: None, 1, event_callbacks=events) for i in range(3)
    ]
    for subscription in subscriptions:
        node.destroy_subscription(subscription)


def come_and_go_as_actions(node: Node) -> None:
    server = ActionServer(node, PlanToGoal, "plan_to_goal", lambda _: PlanToGoal.Result())
    client = ActionClient(node, PlanToGoal, "plan_to_goal")
    client.destroy()
    server.destroy()


@pytest.mark.parametrize("come_and_go", [come_and_go_as_subscriptions, come_and_go_as_actions])
def test_entities_destroyed_while_they_are_waited_for_do_not_end_the_spinning(
    executor: Executor, come_and_go: Callable[[Node], None]
) -> None:
    node = Node("comes_and_goes")
    interval = sys.getswitchinterval()
    with spun(executor, node) as spinning:
        sys.setswitchinterval(1e-5)  # the two threads meet more often
        try:
            end = time.monotonic() + 3.0
            while time.monotonic() < end and spinning.is_alive():
                come_and_go(node)
            assert spinning.is_alive()
            ticks = []
            node.create_timer(0.01, lambda: ticks.append(1))
            end = time.monotonic() + 5.0
            while not ticks and time.monotonic() < end:
                time.sleep(0.01)
            assert ticks
        finally:
            sys.setswitchinterval(interval)


def test_spinning_ends_while_there_is_something_to_do_and_nothing_is_called_after_it(executor: Executor) -> None:
    node = Node("hears")
    calls: list[int] = []
    node.create_timer(0.001, lambda: calls.append(1))
    executor.add_node(node)
    spinning = SpinThread(executor)
    end = time.monotonic() + 10.0
    while len(calls) < 20 and time.monotonic() < end:
        time.sleep(0.01)
    began = time.monotonic()
    spinning.end()
    assert time.monotonic() - began < 2.0
    time.sleep(0.1)  # what a thread had begun
    called = len(calls)
    assert called >= 20
    time.sleep(0.1)
    assert len(calls) == called
    node.destroy_node()
    assert not spinning.is_alive()


def test_spinning_that_cannot_end_says_so(executor: Executor) -> None:
    node = Node("busy")
    busy, release = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        release.wait(10.0)

    node.create_timer(0.001, work)
    executor.add_node(node)
    spinning = SpinThread(executor)
    assert busy.wait(10.0)
    if isinstance(executor, OneThreadExecutor):  # the other one's callbacks keep nobody
        with pytest.raises(TimeoutError, match=r"still busy after 0\.1 s"):
            spinning.end(timeout=0.1)
    release.set()
    spinning.end()
    node.destroy_node()


def test_a_task_that_waits_for_a_thread_is_handed_over_once() -> None:
    """While both threads are busy, the executor's own loop must not fill the queue and starve everything else."""
    node = Node("busy")
    executor = NodeExecutor(num_threads=2)
    executor.add_node(node)
    ended = threading.Event()
    ran = [0] * 5

    def work(number: int) -> None:
        ran[number] += 1
        ended.wait(1.0)

    timers = [node.create_timer(0.01, partial(work, n), MutuallyExclusiveCallbackGroup()) for n in range(len(ran))]
    waiting = 0
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            executor.spin_once(0.005)
            waiting = max(waiting, executor._executor._work_queue.qsize())
        assert sum(ran) == 2
        assert 3 <= waiting <= 6  # the other timers, and nothing twice
        ended.set()
        end = time.monotonic() + 10.0
        while min(ran) < 3 and time.monotonic() < end:
            executor.spin_once(0.005)
        assert min(ran) >= 3
    finally:
        ended.set()
        for timer in timers:
            timer.cancel()
        executor.shutdown()
        node.destroy_node()


def test_callbacks_that_come_together_share_a_wait() -> None:
    """Each wait lists everything anew, at the cost of whatever computes in the same process."""
    looks = []

    class Counted(NodeExecutor):
        def get_nodes(self) -> list[Node]:  # of which the list is made
            looks.append(1)
            return super().get_nodes()

    node = Node("hears")
    heard: list[Empty] = []
    for number in range(5):
        node.create_subscription(
            Empty, f"topic_{number}", heard.append, 10, callback_group=MutuallyExclusiveCallbackGroup()
        )
    publishers = [node.create_publisher(Empty, f"topic_{number}", 10) for number in range(5)]
    with spun(Counted(num_threads=2), node):
        for _ in range(100):
            for publisher in publishers:
                publisher.publish(Empty())
                time.sleep(0.0003)
            time.sleep(0.01)
        end = time.monotonic() + 5.0
        while len(heard) < 500 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(heard) == 500
        assert len(looks) < 250


def test_what_a_callback_asks_for_is_done_at_once(executor: Executor) -> None:
    """Whoever spins need not be woken by itself, and must not miss what it did meanwhile."""
    node = Node("asks")
    done: list[float] = []
    asked: list[float] = []

    def on_message(_: Empty) -> None:
        asked.append(time.monotonic())
        executor.create_task(lambda: done.append(time.monotonic()))

    node.create_subscription(Empty, "topic", on_message, 10)
    publisher = node.create_publisher(Empty, "topic", 10)
    with spun(executor, node):
        for number in range(1, 21):
            publisher.publish(Empty())
            end = time.monotonic() + 5.0
            while len(done) < number and time.monotonic() < end:
                time.sleep(0.002)
        assert len(asked) == len(done) == 20
        assert np.median(np.subtract(done, asked)) < 0.1


def test_a_long_timer_keeps_nobody_from_hearing_and_what_is_heard_needs_no_thread() -> None:
    node = Node("hears")
    release = threading.Event()
    heard: list[int] = []
    groups = [MutuallyExclusiveCallbackGroup() for _ in range(3)]
    timers = [node.create_timer(0.01, lambda: release.wait(10.0), group) for group in groups[:2]]  # all threads
    node.create_subscription(
        Empty, "topic", lambda _: heard.append(threading.get_ident()), 10, callback_group=groups[2]
    )
    publisher = node.create_publisher(Empty, "topic", 10)
    with spun(NodeExecutor(num_threads=2), node) as spinning:
        try:
            end = time.monotonic() + 5.0
            while len(heard) < 10 and time.monotonic() < end:
                publisher.publish(Empty())
                time.sleep(0.02)
            assert len(heard) >= 10
            assert set(heard) == {spinning.ident}
        finally:
            release.set()
            for timer in timers:
                timer.cancel()


def test_a_callback_that_fails_is_reported_by_the_spinning(executor: Executor) -> None:
    node = Node("fails")

    def fail(_: Empty) -> None:
        raise ValueError("a bad message")

    node.create_subscription(Empty, "topic", fail, 10)
    publisher = node.create_publisher(Empty, "topic", 10)
    executor.add_node(node)

    def spin() -> None:
        end = time.monotonic() + 10.0
        while time.monotonic() < end:
            publisher.publish(Empty())
            executor.spin_once(0.05)

    try:
        with pytest.raises(ValueError, match="a bad message"):
            spin()
    finally:
        executor.shutdown()
        node.destroy_node()
