"""config/security/policy.xml beside what the running nodes say and hear."""

from xml.etree import ElementTree

from arm_launch import ROOT
from rclpy.action import get_action_client_names_and_types_by_node, get_action_server_names_and_types_by_node
from rclpy.node import Node

POLICY = ElementTree.parse(ROOT / "config" / "security" / "policy.xml").getroot()
KINDS = {
    "publishes": ("topics", "publish"),
    "hears": ("topics", "subscribe"),
    "answers": ("services", "reply"),
    "asks": ("services", "request"),
    "executes": ("actions", "execute"),
    "calls": ("actions", "call"),
}


def allowed(name: str) -> dict[str, set[str]]:
    """What the policy allows a node, as full names, by KINDS."""
    profile = POLICY.find(f"enclaves/enclave/profiles/profile[@node='{name}']")
    assert profile is not None, f"the policy knows no {name}"
    out = {}
    for kind, (group, verb) in KINDS.items():
        found = [e.text or "" for part in profile.findall(f"{group}[@{verb}='ALLOW']") for e in part]
        out[kind] = {f"/{name}{text[1:]}" if text.startswith("~/") else f"/{text}" for text in found}
    return out


def used(observer: Node, name: str) -> dict[str, set[str]]:
    """What a running node uses, by KINDS; the parts of an action are the action's."""
    calls = {
        "publishes": observer.get_publisher_names_and_types_by_node,
        "hears": observer.get_subscriber_names_and_types_by_node,
        "answers": observer.get_service_names_and_types_by_node,
        "asks": observer.get_client_names_and_types_by_node,
        "executes": lambda node, space: get_action_server_names_and_types_by_node(observer, node, space),
        "calls": lambda node, space: get_action_client_names_and_types_by_node(observer, node, space),
    }
    found = {kind: {topic for topic, _ in call(name, "/")} for kind, call in calls.items()}
    return {kind: {topic for topic in topics if "/_action/" not in topic} for kind, topics in found.items()}
