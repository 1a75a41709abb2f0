"""Bags of ROS 2, written and read without ROS."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from deepverse_ros.evaluation.prefilter.bag import typestore


def write_bag(path: Path, messages: Iterable[tuple[float, str, str, bytes]], sqlite: bool = False) -> Path:
    """MCAP, or as ROS 2 Humble writes SQLite, which holds no definitions.

    Args: messages: (seconds, topic, type, CDR bytes).
    """
    store = typestore()
    plugin, version = (StoragePlugin.SQLITE3, 8) if sqlite else (StoragePlugin.MCAP, 9)
    with Writer(path, version=version, storage_plugin=plugin) as writer:
        connections = {}
        for seconds, topic, kind, data in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], round(seconds * 1e9), data)
    for database in path.glob("*.db3"):
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("DROP TABLE message_definitions")
            connection.execute("UPDATE schema SET schema_version = 3")
    return path


def read_bag(path: Path) -> list[tuple[float, str, str, bytes]]:
    """As `write_bag` takes it, in time's order."""
    with Reader(path) as reader:
        return [(ns * 1e-9, c.topic, c.msgtype, bytes(data)) for c, ns, data in reader.messages()]
