"""Why nothing comes on a topic, as far as the graph of nodes tells."""

import difflib

from rclpy.node import Node


def type_name(kind: type) -> str:
    """As the graph has it: sensor_msgs/msg/Image."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def wrong_type(node: Node, topic: str, kind: type) -> str:
    """Says so where `topic` is published, but as no `kind`; empty otherwise."""
    types = {p.topic_type for p in node.get_publishers_info_by_topic(node.resolve_topic_name(topic))}
    wanted = type_name(kind)
    if not types or wanted in types:
        return ""
    return f"it is published as {', '.join(sorted(types))}, and is read as {wanted}"


def unheard(node: Node, topic: str, kind: type, alike: tuple[type, ...]) -> str:
    """A sentence's end that says why nothing of `kind` comes on `topic`.

    Args: alike: other types whose topics may have been meant.
    """
    name = node.resolve_topic_name(topic)
    publishers = [p for p in node.get_publishers_info_by_topic(name) if p.topic_type == type_name(kind)]
    if publishers:
        who = sorted({f"{p.node_namespace.rstrip('/')}/{p.node_name}" for p in publishers})
        return f"{', '.join(who)} publishes '{name}', but nothing has come from it"
    if problem := wrong_type(node, topic, kind):
        return f"'{name}': {problem}"
    wanted = {type_name(one) for one in (kind, *alike)}
    others = [n for n, types in node.get_topic_names_and_types() if wanted & set(types) and node.count_publishers(n)]
    near = sorted(others, key=lambda other: -difflib.SequenceMatcher(None, name, other).ratio())[:3]
    found = f"published are: {', '.join(near)}" if near else "nor any other topic of its type"
    return f"nobody publishes '{name}'; {found}" if near else f"nobody publishes '{name}', {found}"
