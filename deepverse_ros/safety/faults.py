"""Faults by a schedule: which message is hit by what, and when it goes on. The same seed does the same again."""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError, model_validator

from deepverse_ros import files, resources
from deepverse_ros.errors import ConfigError
from deepverse_ros.robot.kinematics import NAME
from deepverse_ros.safety.shapes import Frozen, Positive

Time = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1e9)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=NAME)]


@dataclass(frozen=True)
class Kind:
    """What a fault does, and to which messages.

    text: what happens.
    group: transport, stamp, content, image, clock or process.
    amount: what the number means and its default; empty: there is none.
    types: message types that it is for; (): all.
    """

    text: str
    group: str
    amount: str = ""
    default: float = 0.0
    types: tuple[str, ...] = ()


IMAGE, CLOCK = ("sensor_msgs/msg/Image",), ("rosgraph_msgs/msg/Clock",)
JOINTS = (
    "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory", "deepverse_ros/msg/CommandVerdict",
)  # fmt: skip
KINDS: dict[str, Kind] = {
    "silence": Kind("nothing comes any more", "transport"),
    "drop": Kind("messages are lost", "transport"),
    "delay": Kind("messages come late", "transport", "s", 0.5),
    "jitter": Kind("messages come late by anything up to the amount", "transport", "s", 0.3),
    "duplicate": Kind("messages come again", "transport", "s later", 0.1),
    "reorder": Kind("every other message comes after the next one", "transport"),
    "burst": Kind("messages are held back, and all come at the end", "transport"),
    "freeze": Kind("the first message comes again and again, as it was", "transport"),
    "stick": Kind("the first message comes again and again, with new stamps", "transport"),
    "stamp_past": Kind("stamps are in the past", "stamp", "s", 1.0),
    "stamp_future": Kind("stamps are in the future", "stamp", "s", 1.0),
    "stamp_zero": Kind("stamps are 0", "stamp"),
    "wrong_frame": Kind("another frame_id", "content"),
    "wrong_name": Kind("one name is another", "content", types=JOINTS),
    "missing_name": Kind("one name is missing", "content", types=JOINTS),
    "repeated_name": Kind("one name stands twice", "content", types=JOINTS),
    "swapped_names": Kind("names are turned against their values", "content", types=JOINTS),
    "nan": Kind("one number is NaN", "content"),
    "inf": Kind("one number is infinite", "content"),
    "huge": Kind("numbers are much larger", "content", "times", 1e6),
    "zeroed": Kind("numbers are 0", "content"),
    "negated": Kind("numbers have the other sign", "content"),
    "biased": Kind("numbers are off", "content", "in their unit", 0.3),
    "noisy": Kind("numbers tremble", "content", "standard deviation in their unit", 0.2),
    "shortened": Kind("arrays miss their last value", "content"),
    "lengthened": Kind("arrays have one value too many", "content"),
    "wrong_encoding": Kind("the encoding is another", "image", types=IMAGE),
    "zero_size": Kind("the image has no pixels", "image", types=IMAGE),
    "bit_noise": Kind("bits are flipped", "image", "share of the bytes", 0.05, IMAGE),
    "saturated": Kind("all pixels are white, or as far as they go", "image", types=IMAGE),
    "black": Kind("all pixels are 0", "image", types=IMAGE),
    "cut_data": Kind("the data end half way", "image", types=IMAGE),
    "clock_freeze": Kind("the clock stands", "clock", types=CLOCK),
    "clock_back": Kind("the clock jumps back", "clock", "s", 5.0, CLOCK),
    "clock_ahead": Kind("the clock jumps ahead", "clock", "s", 5.0, CLOCK),
    "kill": Kind("a process is killed (SIGKILL)", "process"),
    "suspend": Kind("a process is stopped (SIGSTOP), and goes on at the end (SIGCONT)", "process"),
}


class Topic(Frozen):
    """One topic that is handed on. type: such as sensor_msgs/msg/Image. input, output: topic names."""

    name: Name
    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*/msg/[A-Z]\w*$")]
    input: Name
    output: Name
    reliable: bool = Field(default=True, strict=True)

    @model_validator(mode="after")
    def _apart(self) -> "Topic":
        if self.input == self.output:
            raise ValueError(f"input and output of '{self.name}' are both {self.input}")
        return self


class Fault(Frozen):
    """One fault of the schedule.

    kind: one of KINDS.
    topic: name of the topic that is hit, or
    process: name of the process.
    start, duration: seconds from the begin.
    probability: share of the messages that are hit.
    amount: as the kind says.
    """

    kind: str
    topic: str = ""
    process: str = ""
    start: Time = 0.0
    duration: Positive = math.inf
    probability: Share = 1.0
    amount: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e12, le=1e12)] | None = None

    @property
    def end(self) -> float:
        return self.start + self.duration

    @property
    def size(self) -> float:
        """The amount, or the kind's own."""
        return KINDS[self.kind].default if self.amount is None else self.amount

    def active(self, now: float) -> bool:
        return self.start <= now < self.end

    @model_validator(mode="after")
    def _fits(self) -> "Fault":
        kind = KINDS.get(self.kind)
        if kind is None:
            raise ValueError(f"kind is '{self.kind}'; known: {', '.join(KINDS)}")
        if (kind.group == "process") != bool(self.process) or bool(self.process) == bool(self.topic):
            wanted = "process" if kind.group == "process" else "topic"
            raise ValueError(f"'{self.kind}' needs '{wanted}' and nothing else that it is for")
        if self.amount is not None and not kind.amount:
            raise ValueError(f"'{self.kind}' has no amount, got {self.amount:g}")
        if kind.group == "transport" and self.size < 0:
            raise ValueError(f"amount of '{self.kind}' must not be below 0, got {self.size:g}")
        return self


class Schedule(Frozen):
    """What is handed on, and what happens to it when."""

    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    topics: tuple[Topic, ...] = Field(default=(), max_length=1000)
    faults: tuple[Fault, ...] = Field(default=(), max_length=10_000)

    @model_validator(mode="after")
    def _known(self) -> "Schedule":
        types = {topic.name: topic.type for topic in self.topics}
        if len(types) < len(self.topics):
            raise ValueError("topics: every name may stand once")
        for number, fault in enumerate(self.faults):
            if not fault.topic:
                continue
            if fault.topic not in types:
                raise ValueError(f"faults.{number}: topic is '{fault.topic}'; known: {', '.join(types) or 'none'}")
            allowed = KINDS[fault.kind].types
            if allowed and types[fault.topic] not in allowed:
                raise ValueError(
                    f"faults.{number}: '{fault.kind}' is for {', '.join(allowed)}, "
                    f"and '{fault.topic}' is {types[fault.topic]}"
                )
        return self

    @classmethod
    def load(cls, path: str | Path) -> "Schedule":
        """Read a YAML file. Raises: ConfigError naming file, field and value; ResourceError where there is none."""
        file = resources.find(path)
        try:
            return cls.model_validate(files.read_yaml(file))
        except ValidationError as error:
            raise ConfigError(f"{file}: {files.fields(error)}") from error


Corrupt = Callable[[str, Any, float, np.random.Generator, Any], Any]
"""(kind, message, amount, generator, the fault's first message) -> another message; the given one is left as it is."""


@dataclass
class Channel:
    """One topic's way through its faults. Times are seconds from the schedule's begin.

    corrupt: what changes a message; this module knows nothing of what is in one.
    """

    topic: str
    faults: tuple[Fault, ...]
    seed: int
    corrupt: Corrupt
    hit: int = 0
    """Messages that any fault has changed, delayed or dropped."""
    _held: list[Any] = field(default_factory=list)
    _first: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng([self.seed, zlib.crc32(self.topic.encode())])

    def take(self, message: Any, now: float) -> list[tuple[float, Any]]:
        """What becomes of a message that comes `now`: (when it goes on, message), in the order of going on."""
        items = [(now, message)]
        before = [*items]
        for number, fault in enumerate(self.faults):
            if not fault.active(now):
                self._first.pop(number, None)
                continue
            hit = self._random.random() < fault.probability
            if hit:
                self._first.setdefault(number, message)
                items = [out for due, one in items for out in self._apply(fault, self._first[number], one, due)]
        if self._held and not any(f.kind == "reorder" and f.active(now) for f in self.faults):
            items = [(now, self._held.pop()), *items]
        self.hit += items != before
        return sorted(items, key=lambda item: item[0])

    def _apply(self, fault: Fault, first: Any, message: Any, due: float) -> list[tuple[float, Any]]:
        kind = fault.kind
        size = fault.size
        if KINDS[kind].group != "transport" or kind == "stick":
            return [(due, self.corrupt(kind, message, size, self._random, first))]
        if kind == "reorder":
            return self._swapped(message, due)
        if kind == "jitter":
            size *= self._random.random()
        ways: dict[str, list[tuple[float, Any]]] = {
            "delay": [(due + size, message)],
            "jitter": [(due + size, message)],
            "duplicate": [(due, message), (due + size, message)],
            "burst": [(max(due, fault.end), message)] if math.isfinite(fault.end) else [],
            "freeze": [(due, first)],
        }
        return ways.get(kind, [])

    def _swapped(self, message: Any, due: float) -> list[tuple[float, Any]]:
        if self._held:
            return [(due, message), (due + 1e-3, self._held.pop())]
        self._held.append(message)
        return []


def channels(schedule: Schedule, corrupt: Corrupt) -> dict[str, Channel]:
    """One for each topic, by its name."""
    return {
        t.name: Channel(t.name, tuple(f for f in schedule.faults if f.topic == t.name), schedule.seed, corrupt)
        for t in schedule.topics
    }
