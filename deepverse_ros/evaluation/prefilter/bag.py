"""When the prefilter stopped a robot, or would have while monitoring, from a bag of ROS 2 (MCAP or SQLite).

It goes by the prefilter's own status, which says the same in both modes and of every kind of command.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepverse_ros import files, resources
from deepverse_ros.errors import EpisodeError, ResourceError
from deepverse_ros.evaluation.prefilter.stop_metrics import Signal, StopMetrics, stop_metrics
from deepverse_ros.safety.answer import Action

COMMANDS, STATUS, VERDICTS = "/prefilter/command_in", "/prefilter/status", "/world_model/command_verdict"
_PARTS = (".yaml", ".mcap", ".db3")
_MOST_METADATA, _MOST_BAG = files.MOST_TEXT, 1 << 40
PAUSE = 0.25
"""Seconds after which a command of a stream wants nothing any more, as the prefilter's command_timeout."""


@dataclass(frozen=True)
class Stop:
    """The robot was commanded to move and had to rest. begin, end: seconds from the bag's first message."""

    begin: float
    end: float
    reason: str


@dataclass(frozen=True)
class BagReport:
    """How a recorded prefilter stopped the robot.

    metrics: danger is there while the newest verdict says STOP.
    stops: all, also those of a fault and at the start.

    Figures without a danger are NaN, those of a robot that never stopped or went on infinite.
    """

    metrics: StopMetrics
    stops: tuple[Stop, ...]


def typestore() -> Any:
    """Messages of ROS 2 and of this package, for bags that hold no definitions, as SQLite ones of ROS 2 Humble."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    for name in (
        "CommandEnvelope", "CommandFinding", "CommandVerdict", "PrefilterCheck", "PrefilterStatus", "VehicleControl"
    ):  # fmt: skip
        text = resources.find(f"msg/{name}.msg").read_text()
        store.register(get_types_from_msg(text, f"deepverse_ros/msg/{name}"))
    return store


def read(path: Path, topics: tuple[str, ...]) -> dict[str, list[tuple[float, Any]]]:
    """Messages of a bag by topic, as (seconds since its first message, message), in time's order.

    Raises: ResourceError where there is no bag; EpisodeError for one that is damaged or has not all of the topics.
    """
    from rosbags.highlevel import AnyReader

    _require_files(path)
    out: dict[str, list[tuple[float, Any]]] = {topic: [] for topic in topics}
    try:
        with AnyReader([path], default_typestore=typestore()) as reader:
            known = {connection.topic for connection in reader.connections}
            missing = [topic for topic in topics if topic not in known]
            if missing:
                raise EpisodeError(f"{path}: no topic '{missing[0]}'; it has {', '.join(sorted(known)) or 'none'}")
            wanted = [c for c in reader.connections if c.topic in topics]
            for connection, nanoseconds, data in reader.messages(wanted):
                seconds = (nanoseconds - reader.start_time) * 1e-9
                out[connection.topic].append((seconds, reader.deserialize(data, connection.msgtype)))
    except EpisodeError:
        raise
    except Exception as error:  # of a damaged bag its library raises what it likes, AssertionError among it
        raise EpisodeError(f"{path}: not a bag that can be read: {type(error).__name__}: {error}") from error
    return out


def _require_files(path: Path) -> None:
    """Raises: ResourceError where there is no bag; EpisodeError for what would hold a reader up."""
    if not path.exists():
        raise ResourceError(f"{path}: no such bag")
    if not path.is_dir():
        files.require_regular(path, _MOST_BAG, EpisodeError)
        return
    for part in path.iterdir():
        if part.suffix in _PARTS:
            files.require_regular(part, _MOST_METADATA if part.suffix == ".yaml" else _MOST_BAG, EpisodeError)
    metadata = path / "metadata.yaml"
    if metadata.exists():
        told = files.read_yaml(metadata, EpisodeError).get("rosbag2_bagfile_information")
        names = told.get("relative_file_paths") if isinstance(told, dict) else None
        if not isinstance(names, list) or any(not isinstance(n, str) or Path(n).name != n for n in names):
            raise EpisodeError(
                f"{metadata}: relative_file_paths: expected names of files beside it, got {files.shown(names)}"
            )


def wanted(message: Any) -> tuple[bool, float]:
    """Whether a command moves the robot, and for how many seconds: a trajectory, a throttle, or what is not all 0.

    Raises: EpisodeError for a message that is none of the prefilter's commands.
    """
    if hasattr(message, "points"):
        last = message.points[-1].time_from_start if message.points else None
        return last is not None, last.sec + last.nanosec * 1e-9 if last else 0.0
    if hasattr(message, "data"):
        values = list(message.data)
    elif hasattr(message, "throttle"):
        values = [message.throttle]
    else:
        twist = getattr(message, "twist", message)
        if not hasattr(twist, "linear"):
            expected = "JointTrajectory, Float64MultiArray, Twist, TwistStamped or VehicleControl"
            raise EpisodeError(f"commands are {message.__msgtype__}; expected {expected}")
        values = [getattr(vector, axis) for vector in (twist.linear, twist.angular) for axis in "xyz"]
    return bool(np.any(np.asarray(values, float) != 0)), PAUSE


def commanded(messages: list[tuple[float, Any]]) -> Signal:
    """When somebody wanted the robot to move."""
    samples: list[tuple[float, bool]] = []
    until = float("inf")
    for seconds, message in messages:
        if until < seconds:
            samples.append((until, False))
        moves, lasts = wanted(message)
        samples.append((seconds, moves))
        until = seconds + lasts
    return Signal.of([*samples, (until, False)]) if samples else Signal([], [])


def report(
    path: Path, command_topic: str = COMMANDS, status_topic: str = STATUS, verdict_topic: str = VERDICTS
) -> BagReport:
    """Read a bag and measure it. Raises: as `read`."""
    bag = read(path, (command_topic, status_topic, verdict_topic))
    moves = commanded(bag[command_topic])
    status = bag[status_topic]
    passes = Signal.of((seconds, message.speed_scale > 0) for seconds, message in status)
    danger = Signal.of((seconds, _says_stop(message)) for seconds, message in bag[verdict_topic])
    stops = []
    if len(moves.times) and status:
        for begin, end in passes.spans(False, status[0][0], max(moves.times[-1], status[-1][0])):
            asked = moves.spans(True, begin, end)
            if asked:
                reason = next((text for seconds, m in status if begin <= seconds < end and (text := _text(m))), "")
                stops.append(Stop(asked[0][0], asked[-1][1], reason))
    return BagReport(stop_metrics(moves, passes, danger), tuple(stops))


# Bags of before 0.2 hold the definitions of before: the finding stood in the verdict, and text was reason_text.
def _says_stop(verdict: Any) -> bool:
    return bool(getattr(verdict, "finding", verdict).action == Action.STOP)


def _text(status: Any) -> str:
    return str(status.text if hasattr(status, "text") else status.reason_text)
