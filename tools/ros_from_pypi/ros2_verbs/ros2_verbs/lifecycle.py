"""`ros2 lifecycle`: look at and change the states of lifecycle nodes."""

from typing import Any

from ros2cli.command import CommandExtension


class LifecycleCommand(CommandExtension):
    """Various lifecycle related sub-commands."""

    def add_arguments(self, parser: Any, cli_name: str, *, argv: Any = None) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("nodes", help="list the lifecycle nodes")
        for verb, text in (("get", "print a node's state"), ("list", "list the transitions that are possible now")):
            verbs.add_parser(verb, help=text).add_argument("node_name")
        change = verbs.add_parser("set", help="trigger a transition")
        change.add_argument("node_name")
        change.add_argument(
            "transition", help="such as configure, activate, deactivate, cleanup, shutdown, or a number"
        )

    def main(self, *, parser: Any, args: Any) -> Any:
        from ros2_verbs.graph import command_node

        with command_node("lifecycle") as node:
            if args.verb == "nodes":
                return print_nodes(node)
            name = "/" + args.node_name.lstrip("/")
            if args.verb == "get":
                return print_state(node, name)
            if args.verb == "list":
                return print_transitions(node, name)
            return trigger(node, name, args.transition)


def print_nodes(node: Any) -> int:
    """Print the nodes that have a lifecycle."""
    from ros2_verbs.graph import settled

    suffix = "/get_state"
    services = settled(node.get_service_names_and_types)
    for name in sorted(n for n, types in services if n.endswith(suffix) and "lifecycle_msgs/srv/GetState" in types):
        print(name.removesuffix(suffix))
    return 0


def print_state(node: Any, name: str) -> int:
    """Print the state of a lifecycle node."""
    from lifecycle_msgs.srv import GetState

    from ros2_verbs.graph import call

    state = call(node, GetState, f"{name}/get_state", GetState.Request()).current_state
    print(f"{state.label} [{state.id}]")
    return 0


def available_transitions(node: Any, name: str) -> list[Any]:
    """The transitions that a lifecycle node can make from where it is."""
    from lifecycle_msgs.srv import GetAvailableTransitions

    from ros2_verbs.graph import call

    request = GetAvailableTransitions.Request()
    return call(node, GetAvailableTransitions, f"{name}/get_available_transitions", request).available_transitions


def print_transitions(node: Any, name: str) -> int:
    """Print the transitions that a lifecycle node can make from where it is."""
    for entry in available_transitions(node, name):
        print(f"- {entry.transition.label} [{entry.transition.id}]")
        print(f"\tStart: {entry.start_state.label}")
        print(f"\tGoal: {entry.goal_state.label}")
    return 0


def trigger(node: Any, name: str, transition: str) -> int | str:
    """Make a transition, by its label or number. Returns: 0, or what went wrong."""
    from lifecycle_msgs.srv import ChangeState

    from ros2_verbs.graph import call

    found = [entry.transition for entry in available_transitions(node, name)]
    chosen = next((t for t in found if transition in (t.label, str(t.id))), None)
    if chosen is None:
        return f"no transition '{transition}' from here; possible: {', '.join(t.label for t in found)}"
    request = ChangeState.Request()
    request.transition.id = chosen.id
    # Configuring may load a model: give it minutes.
    if not call(node, ChangeState, f"{name}/change_state", request, seconds=300.0).success:
        return "Transitioning failed"
    print("Transitioning successful")
    return 0
