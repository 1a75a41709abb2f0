"""Bags of ROS 2 in MCAP, written and read without ROS."""

from collections.abc import Iterable
from pathlib import Path

from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

ROOT = Path(__file__).resolve().parent.parent


def typestore() -> Typestore:
    """The messages of ROS 2 Jazzy and of this package."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted((ROOT / "msg").glob("*.msg")):
        store.register(get_types_from_msg(path.read_text(), f"deepverse_ros/msg/{path.stem}"))
    return store


def write_bag(path: Path, messages: Iterable[tuple[float, str, str, bytes]]) -> Path:
    """Args: messages: (seconds, topic, type, CDR bytes)."""
    store = typestore()
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for seconds, topic, kind, data in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], round(seconds * 1e9), data)
    return path


def read_bag(path: Path) -> list[tuple[float, str, str, bytes]]:
    """As `write_bag` takes it, in time's order."""
    with Reader(path) as reader:
        return [(ns * 1e-9, c.topic, c.msgtype, bytes(data)) for c, ns, data in reader.messages()]
