"""What the verbs share: a short-lived node, and calls that end with a clear message."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import rclpy
from rclpy.node import Node

DISCOVERY_SECONDS = 5.0
T = TypeVar("T")


@contextmanager
def command_node(verb: str) -> Iterator[Node]:
    """A node for the time of one command."""
    rclpy.init()
    node = Node(f"_ros2cli_{verb}_{os.getpid()}", use_global_arguments=False, start_parameter_services=False)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def poll(look: Callable[[], T], seconds: float = DISCOVERY_SECONDS) -> T:
    """Call `look` until its result is truthy or the time is over; discovery is never instant."""
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def settled(look: Callable[[], T], seconds: float = 1.0) -> T:
    """The result of `look` once discovery had time to see everything that runs."""
    time.sleep(seconds)
    return look()


def call(node: Node, service_type: Any, name: str, request: Any, seconds: float = 30.0) -> Any:
    """Call a service.

    Raises: RuntimeError when the service does not appear or does not answer in time.
    """
    client = node.create_client(service_type, name)
    if not client.wait_for_service(timeout_sec=DISCOVERY_SECONDS):
        raise RuntimeError(f"service {name} is not there; is the node running?")
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=seconds)
    if not future.done():
        raise RuntimeError(f"service {name} did not answer within {seconds:.0f} s")
    return future.result()
