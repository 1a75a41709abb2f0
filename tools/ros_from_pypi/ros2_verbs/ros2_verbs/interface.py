"""`ros2 interface`: what messages, services and actions there are, and what is in them."""

from pathlib import Path
from typing import Any

from ros2cli.command import CommandExtension


class InterfaceCommand(CommandExtension):
    """Show information about ROS interfaces."""

    def add_arguments(self, parser: Any, cli_name: str, *, argv: Any = None) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help="list all interfaces")
        verbs.add_parser("package", help="list the interfaces of a package").add_argument("package_name")
        verbs.add_parser("show", help="print a definition").add_argument("type", help="such as std_msgs/msg/Header")

    def main(self, *, parser: Any, args: Any) -> Any:
        from rosidl_runtime_py import get_interfaces

        if args.verb == "show":
            print(definition(args.type).read_text().rstrip())
            return 0
        chosen = [args.package_name] if args.verb == "package" else []
        try:
            found = get_interfaces(chosen)
        except LookupError as error:
            return f"unknown package: {error}"
        for package, names in sorted(found.items()):
            for name in sorted(names):
                print(f"{package}/{name}")
        return 0


def definition(name: str) -> Path:
    """The file that defines an interface.

    Raises: RuntimeError when there is none of that name.
    """
    from rosidl_runtime_py import get_interface_path

    try:
        path = Path(get_interface_path(name))
    except (LookupError, ValueError) as error:
        raise RuntimeError(f"unknown interface '{name}': {error}") from error
    kind = name.split("/")[1]
    return path.with_suffix(f".{kind}") if path.with_suffix(f".{kind}").is_file() else path
