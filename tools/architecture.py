"""Write the figures of docs/architecture.md: layers from the imports, nodes and topics from the running graph.

    python tools/architecture.py            both; starts arm_mpc.launch.py and ends it again
    python tools/architecture.py --layers   what needs no running graph

The figures are Mermaid, which code hosts draw. What stands around them is written by hand.
"""

import argparse
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grimp

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "architecture.md"
PACKAGE = "deepverse_ros"
NODES = ("sim", "world_model", "planner", "prefilter")
STARTING = 120.0
"""Seconds until all nodes must be active."""
QUIET = re.compile(r"/rosout|/parameter_events|/clock|.*/transition_event|.*/_.*")
"""Topics that every node has, or that no data flows on."""
Uses = Mapping[str, set[str]]
"""Of a node: the full names of what it `publishes`, `hears`, `answers`, `asks`, `executes` and `calls`."""


def layers(inside: str = "") -> str:
    """The rooms of the package, or of one of them, and which imports which, without arrows that follow from others."""
    graph = grimp.build_graph(PACKAGE)
    top = f"{PACKAGE}.{inside}" if inside else PACKAGE
    interfaces = {f"{PACKAGE}.{kind}" for kind in ("action", "msg", "srv")}  # generated, where the package is built
    rooms = sorted(r for r in graph.find_children(top) - interfaces if graph.find_children(r))
    imports = {
        room: {
            other
            for other in rooms
            if other != room and graph.direct_import_exists(importer=room, imported=other, as_packages=True)
        }
        for room in rooms
    }
    lines = ["```mermaid", "flowchart TD"]
    lines += [f"  {room.rsplit('.')[-1]}" for room in rooms]
    for room, direct in imports.items():
        beyond = set().union(*(_reach(other, imports) for other in direct)) if direct else set()
        lines += [f"  {room.rsplit('.')[-1]} --> {other.rsplit('.')[-1]}" for other in sorted(direct - beyond)]
    return "\n".join([*lines, "```"])


def _reach(room: str, imports: Mapping[str, set[str]]) -> set[str]:
    """What a room imports, directly or not."""
    found: set[str] = set()
    waiting = [room]
    while waiting:
        for other in imports[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found


def topics(uses: Mapping[str, Uses]) -> str:
    """Nodes and what flows between them. Args: uses: of each node by its name."""
    heard: dict[tuple[str, str], set[str]] = {}
    people = "people"

    def flows(source: str, sink: str, names: set[str]) -> None:
        heard.setdefault((source, sink), set()).update(n for n in names if not QUIET.fullmatch(n))

    said = set().union(*(use["publishes"] for use in uses.values()))
    listened = set().union(*(use["hears"] for use in uses.values()))
    for node, use in uses.items():
        for other, theirs in uses.items():
            if other != node:
                flows(node, other, use["publishes"] & theirs["hears"])
        flows(node, people, use["publishes"] - listened)
        own = {name for name in use["answers"] if not _of_every_node(name)}
        flows(people, node, (use["hears"] - said) | own | use["executes"])
    lines = ["```mermaid", "flowchart LR", '  people["RViz, your programs"]']
    for (source, sink), names in heard.items():
        if names:
            lines.append(f'  {source} -- "{"<br/>".join(sorted(names))}" --> {sink}')
    return "\n".join([*lines, "```"])


def _of_every_node(service: str) -> bool:
    return service.rsplit("/", 1)[-1] in {
        "change_state", "describe_parameters", "get_available_states", "get_available_transitions",
        "get_parameter_types", "get_parameters", "get_state", "get_transition_graph", "get_type_description",
        "list_parameters", "set_parameters", "set_parameters_atomically",
    }  # fmt: skip


def used(observer: Any, name: str) -> dict[str, set[str]]:
    """What a running node uses, as full names; the parts of an action are the action's. Args: observer: any node."""
    from rclpy.action import get_action_client_names_and_types_by_node, get_action_server_names_and_types_by_node

    calls = {
        "publishes": observer.get_publisher_names_and_types_by_node,
        "hears": observer.get_subscriber_names_and_types_by_node,
        "answers": observer.get_service_names_and_types_by_node,
        "asks": observer.get_client_names_and_types_by_node,
        "executes": lambda node, space: get_action_server_names_and_types_by_node(observer, node, space),
        "calls": lambda node, space: get_action_client_names_and_types_by_node(observer, node, space),
    }
    found = {kind: {topic for topic, _ in call(name, "/")} for kind, call in calls.items()}
    return {kind: {topic for topic in names if "/_action/" not in topic} for kind, names in found.items()}


def figure(page: str, name: str) -> str:
    """What stands between the comments that name a figure."""
    return page.split(_begin(name) + "\n")[1].split("\n" + _end(name), maxsplit=1)[0]


def replaced(page: str, name: str, figure: str) -> str:
    """The page with a figure between the comments that name it."""
    before, rest = page.split(_begin(name))
    return f"{before}{_begin(name)}\n{figure}\n{_end(name)}{rest.split(_end(name))[1]}"


def _begin(name: str) -> str:
    return f"<!-- {name}: made by tools/architecture.py -->"


def _end(name: str) -> str:
    return f"<!-- end of {name} -->"


def _running() -> dict[str, Uses]:
    """Start the launch file in a domain of its own, and look at its nodes once they are active."""
    import rclpy
    from lifecycle_msgs.srv import GetState

    os.environ["ROS_DOMAIN_ID"] = os.environ.get("ROS_DOMAIN_ID", "97")
    command = ["ros2", "launch", PACKAGE, "arm_mpc.launch.py", "rviz:=false"]
    launch = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    rclpy.init()
    observer = rclpy.create_node("architecture")
    try:
        end = time.monotonic() + STARTING
        for name in NODES:
            client = observer.create_client(GetState, f"/{name}/get_state")
            while True:
                if time.monotonic() > end:
                    raise TimeoutError(f"{name} was not active after {STARTING:g} s")
                if client.wait_for_service(1.0):
                    answer = client.call_async(GetState.Request())
                    rclpy.spin_until_future_complete(observer, answer, timeout_sec=2.0)
                    if answer.done() and answer.result().current_state.label == "active":
                        break
                time.sleep(0.2)
        time.sleep(2.0)  # discovery
        return {name: used(observer, name) for name in NODES}
    finally:
        observer.destroy_node()
        rclpy.shutdown()
        os.killpg(launch.pid, signal.SIGINT)
        launch.wait(30)


def main() -> None:
    """Write the figures into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", action="store_true", help="only the figures of the imports")
    given = parser.parse_args()
    page = TARGET.read_text()
    page = replaced(page, "layers", layers())
    page = replaced(page, "rooms of nodes", layers("nodes"))
    if not given.layers:
        page = replaced(page, "topics", topics(_running()))
    TARGET.write_text(page)


if __name__ == "__main__":
    main()
