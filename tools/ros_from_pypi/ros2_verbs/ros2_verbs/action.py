"""`ros2 action`: list the actions that are offered, and send a goal."""

from typing import Any

from ros2cli.command import CommandExtension

STATUS = {4: "SUCCEEDED", 5: "CANCELED", 6: "ABORTED"}


class ActionCommand(CommandExtension):
    """Various action related sub-commands."""

    def add_arguments(self, parser: Any, cli_name: str, *, argv: Any = None) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        names = verbs.add_parser("list", help="list the actions")
        names.add_argument("-t", "--show-types", action="store_true")
        send = verbs.add_parser("send_goal", help="send a goal and wait for its result")
        send.add_argument("action_name")
        send.add_argument("action_type", help="such as deepverse_ros/action/PlanToGoal")
        send.add_argument("goal", nargs="?", default="{}", help="the goal's fields as YAML")
        send.add_argument("-f", "--feedback", action="store_true", help="print feedback")

    def main(self, *, parser: Any, args: Any) -> Any:
        from ros2_verbs.graph import command_node

        with command_node("action") as node:
            if args.verb == "list":
                return print_actions(node, args.show_types)
            return send_goal(node, args)


def print_actions(node: Any, show_types: bool) -> int:
    """Print the actions that are offered, with their types where these are asked for."""
    from rclpy.action import get_action_names_and_types

    from ros2_verbs.graph import settled

    for name, types in settled(lambda: get_action_names_and_types(node)):
        print(f"{name} [{', '.join(types)}]" if show_types else name)
    return 0


def send_goal(node: Any, args: Any) -> int | str:
    """Send a goal and wait for its result; Ctrl-C cancels it. Returns: 0 for success, else 1 or what went wrong."""
    import rclpy
    import yaml
    from rclpy.action import ActionClient
    from rosidl_runtime_py import message_to_yaml, set_message_fields
    from rosidl_runtime_py.utilities import get_action

    from ros2_verbs.graph import DISCOVERY_SECONDS

    action_type = get_action(args.action_type)
    goal = action_type.Goal()
    set_message_fields(goal, yaml.safe_load(args.goal) or {})
    client = ActionClient(node, action_type, args.action_name)
    try:
        if not client.wait_for_server(timeout_sec=DISCOVERY_SECONDS):
            return f"action {args.action_name} is not there; is the node running?"

        def print_feedback(message: Any) -> None:
            print(f"Feedback:\n{message_to_yaml(message.feedback)}", flush=True)

        sent = client.send_goal_async(goal, feedback_callback=print_feedback if args.feedback else None)
        rclpy.spin_until_future_complete(node, sent)
        handle = sent.result()
        if not handle.accepted:
            return "Goal was rejected."
        print("Goal accepted", flush=True)
        result = handle.get_result_async()
        try:
            rclpy.spin_until_future_complete(node, result)
        except KeyboardInterrupt:
            rclpy.spin_until_future_complete(node, handle.cancel_goal_async(), timeout_sec=DISCOVERY_SECONDS)
            return "Goal canceled"
        print(f"Result:\n{message_to_yaml(result.result().result)}")
        status = STATUS.get(result.result().status, str(result.result().status))
        print(f"Goal finished with status: {status}")
        return 0 if status == "SUCCEEDED" else 1
    finally:
        client.destroy()
