"""What the tests of nodes share."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from planner_world import World
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile
from untrained import untrained_checkpoint

from deepverse_ros.nodes.runtime.executor import NodeExecutor, OneThreadExecutor, SpinThread
from deepverse_ros.robot.embodiment import Embodiment


@pytest.fixture(scope="session")
def arm() -> Embodiment:
    return Embodiment.load("arm")


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_checkpoint(tmp_path_factory.mktemp("small"))


def participants() -> set[str]:
    """Participants of Fast DDS whose memory this process has; none with other middleware, or without shared memory."""
    maps = Path("/proc/self/maps")
    return set(re.findall(r"/fastrtps_[0-9a-f]{16}$", maps.read_text(), re.M)) if maps.exists() else set()


@pytest.fixture(scope="module", autouse=True)
def nothing_of_ros_is_left() -> Iterator[None]:
    """One participant at a time: where one ends beside another in its process, Fast DDS may block for ever."""
    before = participants()  # of processes that an earlier test killed, which stay mapped for a while
    yield
    assert not participants() - before, (
        "a node's participant is still there; what holds its handle must be destroyed too"
    )


class Robot:
    """Nodes under test and a peer that talks to them over real DDS, spun in the background of the test."""

    def __init__(self) -> None:
        rclpy.init()
        self.executor = NodeExecutor(num_threads=4)
        self.peer = Node("peer")
        self.executor.add_node(self.peer)
        self.nodes: list[LifecycleNode] = []
        self._alone: list[SpinThread] = []
        self.heard: dict[str, list[Any]] = {}

    def start(
        self, kind: Callable[..., LifecycleNode], active: bool = True, alone: bool = False, **parameters: Any
    ) -> Any:
        """Make a node with these parameters, and by default configure and activate it.

        Args: alone: spun by one thread of its own, as `run(kind, threads=1)` does, whatever the test is busy with.
        """
        overrides = [RosParameter(name, value=value) for name, value in parameters.items()]
        node = kind(parameter_overrides=overrides)
        self.nodes.append(node)
        if alone:
            executor = OneThreadExecutor()
            executor.add_node(node)
            self._alone.append(SpinThread(executor))
        else:
            self.executor.add_node(node)
        if active:
            assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
            assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        return node

    def hear(self, kind: type, topic: str, profile: QoSProfile | int = 10) -> list[Any]:
        """Subscribe; the list that is returned grows with every message."""
        messages = self.heard.setdefault(topic, [])
        self.peer.create_subscription(kind, topic, messages.append, profile)
        return messages

    def spin(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            # Always the same timeout: with another one rclpy begins its list anew, and only what stands first runs.
            self.executor.spin_once(timeout_sec=0.005)

    def until(self, condition: Callable[[], Any], timeout: float = 60.0) -> Any:
        """Spin until `condition` is true, and return its value; fails after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, "timed out"
            self.executor.spin_once(timeout_sec=0.005)
        return value

    def call(self, kind: type, name: str, request: Any, timeout: float = 60.0) -> Any:
        client = self.peer.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done, timeout)
        self.peer.destroy_client(client)
        return future.result()

    def stop(self) -> None:
        for node in self.nodes:
            node.end()
        for spinning in self._alone:
            spinning.end()
        self.executor.shutdown(timeout_sec=0)
        for node in [*self.nodes, self.peer]:
            node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def robot() -> Iterator[Robot]:
    robot = Robot()
    yield robot
    robot.stop()


@pytest.fixture(scope="module")
def started(small_checkpoint: Path) -> Iterator[World]:
    world = World(small_checkpoint)
    yield world
    world.close()


@pytest.fixture
def world(started: World) -> World:
    """A planner beside a simulated arm, at rest."""
    started.rest()
    return started
