"""Bringing lifecycle nodes up in order from a launch file."""

from collections.abc import Sequence

import launch
from launch.actions import EmitEvent, LogInfo, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessStart
from launch.events import Shutdown as ShutdownEvent
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition


def robot_node(executable: str, name: str, **kwargs: object) -> LifecycleNode:
    """A node of this package whose end ends the launch, so that nothing is left behind half alive."""
    return LifecycleNode(
        package="deepverse_ros",
        executable=executable,
        name=name,
        output="screen",
        # A node that is loading a model, or a loaded machine, may need a while to end by itself.
        sigterm_timeout="15",
        on_exit=lambda _event, context: [] if context.is_shutdown else [Shutdown(reason=f"{name} has ended")],
        **{"namespace": "", **kwargs},
    )


def bring_up(nodes: Sequence[LifecycleNode]) -> list[launch.Action]:
    """Actions that start `nodes` together, then configure and activate one after the other.

    The next node is configured when the one before it is active. A node that cannot be configured or activated ends
    the launch; its log says why.
    """
    actions: list[launch.Action] = []
    for position, node in enumerate(nodes):
        configure = _change(node, Transition.TRANSITION_CONFIGURE)
        after = [_change(nodes[position + 1], Transition.TRANSITION_CONFIGURE)] if position + 1 < len(nodes) else []
        actions += [
            # 'start_state' matters: without it, a later deactivation would activate the node again.
            _on(node, "configuring", "inactive", [_change(node, Transition.TRANSITION_ACTIVATE)]),
            _on(node, "activating", "active", [LogInfo(msg=f"{_name(node)} is active"), *after]),
            _on(node, "configuring", "unconfigured", _give_up(node, "configured")),
            _on(node, "activating", "inactive", _give_up(node, "activated")),
        ]
        if position == 0:
            actions.append(RegisterEventHandler(OnProcessStart(target_action=node, on_start=[configure])))
    return [*actions, *nodes]


def _change(node: LifecycleNode, transition: int) -> EmitEvent:
    return EmitEvent(
        event=ChangeState(lifecycle_node_matcher=lambda candidate: candidate is node, transition_id=transition)
    )


def _on(node: LifecycleNode, start: str, goal: str, entities: list[launch.Action]) -> RegisterEventHandler:
    return RegisterEventHandler(
        OnStateTransition(target_lifecycle_node=node, start_state=start, goal_state=goal, entities=entities)
    )


def _give_up(node: LifecycleNode, what: str) -> list[launch.Action]:
    reason = f"{_name(node)} could not be {what}"
    return [LogInfo(msg=f"{reason}; ending"), EmitEvent(event=ShutdownEvent(reason=reason))]


def _name(node: LifecycleNode) -> str:
    return str(node.node_executable).removesuffix("_node")
