"""Quality of service of every topic, and what is said when two ends do not match."""

from collections.abc import Callable
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks


def sensor_input() -> QoSProfile:
    """Subscriptions to images: best effort matches reliable publishers too; depth 1: newest only."""
    return QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)


def joints_input() -> QoSProfile:
    """Subscriptions to joint states: as many as come together, as the newest need not name the joints of the others."""
    return QoSProfile(depth=50, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)


def sensor_output() -> QoSProfile:
    """Publishers of camera images and joint states: reliable, so that every subscription matches; depth 1."""
    return QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


def debug_output() -> QoSProfile:
    """Publishers of pictures, clouds, paths and verdicts: reliable, depth 1."""
    return QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


def command() -> QoSProfile:
    """Commands and goals, both ends: reliable, depth 1; an older command never arrives after a newer one."""
    return QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


def latched() -> QoSProfile:
    """Published once, seen by late joiners (/tf_static)."""
    return QoSProfile(
        depth=1,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def subscription_events(topic: str, report: Callable[[str], None]) -> SubscriptionEventCallbacks:
    """Event callbacks that hand `report` one sentence when a publisher of `topic` cannot reach us."""

    def incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        report(f"topic '{topic}': a publisher offers an incompatible {policy} policy; nothing arrives from it")

    return SubscriptionEventCallbacks(incompatible_qos=incompatible)


def publisher_events(topic: str, report: Callable[[str], None]) -> PublisherEventCallbacks:
    """Event callbacks that hand `report` one sentence when a subscriber of `topic` cannot hear us."""

    def incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        report(f"topic '{topic}': a subscriber asks for an incompatible {policy} policy; nothing reaches it")

    return PublisherEventCallbacks(incompatible_qos=incompatible)
