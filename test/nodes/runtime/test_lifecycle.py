"""What every node does: here, how it goes."""

import gc
from functools import partial

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from deepverse_ros.errors import ShapeError
from deepverse_ros.nodes.runtime.executor import OneThreadExecutor
from deepverse_ros.nodes.runtime.lifecycle import RobotNode, _spin_once


def test_a_destroyed_node_has_left_the_network_without_the_garbage_collector(robot):
    """Else its participant goes on beside the next one of the process, and Fast DDS may block for ever as it ends."""
    other = robot.start(partial(RobotNode, "passer_by", []))
    robot.until(lambda: "passer_by" in robot.peer.get_node_names())
    gc.disable()
    try:
        other.end()
        other.destroy_node()
        robot.nodes.remove(other)
        robot.until(lambda: "passer_by" not in robot.peer.get_node_names(), timeout=10.0)
    finally:
        gc.enable()


def test_a_node_of_ros_goes_as_well(robot):
    """So that the test above says something of the node, not of the graph."""
    other = Node("passer_by")
    robot.until(lambda: "passer_by" in robot.peer.get_node_names())
    other.destroy_node()
    robot.until(lambda: "passer_by" not in robot.peer.get_node_names(), timeout=10.0)


def test_what_no_one_foresaw_is_traced_once_for_each_kind_and_place_and_then_warned_of(robot, capfd):
    node = RobotNode("hasty", [])
    robot.nodes.append(node)
    executor = OneThreadExecutor()
    executor.add_node(node)
    heard = []

    def divide(_message):
        heard.append(1)
        if len(heard) < 4:
            return 1 / 0
        raise ValueError("a\nline of its own")

    node.subscribe(Empty, "hasty", divide, 10)
    publisher = robot.peer.create_publisher(Empty, "hasty", 10)
    robot.until(publisher.get_subscription_count)
    for count in range(1, 6):
        publisher.publish(Empty())
        robot.until(lambda count=count: _spin_once(executor, node) or len(heard) == count, 10.0)
    text = capfd.readouterr().err
    assert text.count("return 1 / 0") == 1
    assert text.count("a callback failed: ZeroDivisionError: division by zero") == 2  # traced, and then a warning
    assert text.count('raise ValueError("a') == 1
    assert "ValueError: a\\nline of its own" in text
    assert "a callback failed: ValueError" in node.diagnostics.status().message
    executor.remove_node(node)
    executor.shutdown(timeout_sec=0)


def test_what_this_package_says_itself_needs_no_trace(robot, capfd):
    node = robot.start(partial(RobotNode, "careful", []), active=False)
    node.warn_unexpected("worker", "imagining failed", ShapeError("rgb is 3x3; expected 4x4"))
    text = capfd.readouterr().err
    assert "imagining failed: rgb is 3x3; expected 4x4" in text
    assert "File " not in text


class Owner(RobotNode):
    """Owns one of each kind; says what was ended, in order."""

    def __init__(self, **kwargs):
        super().__init__("owner", [], **kwargs)
        self.ended, self.fails = [], False

    def configure(self):
        group = MutuallyExclusiveCallbackGroup()
        self.own(self.advertise(Empty, "said", 10))
        self.own(self.subscribe(Empty, "heard", lambda message: None, 10))
        self.own(self.create_service(Trigger, "asked", lambda request, answer: answer, callback_group=group))
        self.own(self.create_timer(10.0, lambda: None, group))
        self.own(self)
        self.own(lambda: self.ended.append("last"))
        if self.fails:
            raise ShapeError("half way")

    def destroy(self):
        self.ended.append("part")

    def cleanup(self):
        self.ended.append("cleanup")

    def entities(self):
        return [len(list(of)) for of in (self.publishers, self.subscriptions, self.services, self.timers)]


def test_a_node_destroys_what_it_owns_the_newest_first_and_before_its_cleanup(robot):
    node = Owner()
    robot.nodes.append(node)
    bare = node.entities()
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert all(now > before for now, before in zip(node.entities(), bare, strict=True))
    node.trigger_cleanup()
    assert node.entities() == bare
    assert node.ended == ["last", "part", "cleanup"]
    node.fails = True
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node.entities() == bare
    assert node.ended[3:] == ["last", "part", "cleanup"]


def test_each_check_has_a_status_and_the_first_one_sums_up(robot):
    node = RobotNode("patient", [])
    robot.nodes.append(node)
    node.diagnostics.add_check("eyes", lambda: (DiagnosticStatus.OK, "", {"colour": "blue"}))
    node.diagnostics.add_check("ears", lambda: (DiagnosticStatus.ERROR, "one is\nmissing", {"count": 1}))
    node.warn("cough", "it coughs")
    node.diagnostics.qos_mismatch("two ends differ")
    whole, *parts = node.diagnostics.statuses()
    assert {part.name: (part.level, part.message) for part in parts} == {
        "patient: eyes": (DiagnosticStatus.OK, "OK"),
        "patient: ears": (DiagnosticStatus.ERROR, "one is\\nmissing"),
        "patient: warnings": (DiagnosticStatus.WARN, "two ends differ; it coughs"),
    }
    assert (whole.name, whole.level) == ("patient", DiagnosticStatus.ERROR)
    assert whole.message == "one is\\nmissing; two ends differ; it coughs"
    assert {"colour", "count", "qos_mismatches", "last_warning"} == {value.key for value in whole.values}
