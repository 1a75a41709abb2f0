"""Faults by a schedule: files are checked, every kind does what it says, and the same seed does the same again."""

import copy

import numpy as np
import pytest
import yaml

from deepverse_ros.errors import ConfigError
from deepverse_ros.safety.faults import KINDS, Channel, Fault, Schedule, channels

COMMANDS = {"name": "commands", "type": "std_msgs/msg/Float64MultiArray", "input": "a", "output": "b"}


def channel(*faults: dict, seed: int = 0) -> Channel:
    schedule = Schedule.model_validate(
        {"seed": seed, "topics": [COMMANDS], "faults": [{"topic": "commands", **fault} for fault in faults]}
    )
    return channels(schedule, lambda kind, message, *_: f"{kind}({message})")["commands"]


def through(one: Channel, count: int = 10, every: float = 0.1) -> list[tuple[float, object]]:
    """What comes out of messages 0, 1, ... in the order of its coming."""
    out = [item for k in range(count) for item in one.take(k, round(k * every, 6))]
    return sorted(out, key=lambda item: item[0])


def what(items: list[tuple[float, object]]) -> list[object]:
    return [message for _, message in items]


def test_at_least_twenty_five_kinds_are_there_and_described():
    assert len(KINDS) >= 25
    assert all(kind.text for kind in KINDS.values())
    assert {k.group for k in KINDS.values()} == {"transport", "stamp", "content", "image", "clock", "process"}


def test_the_example_is_read():
    schedule = Schedule.load("config/safety/faults.yaml")
    assert len(schedule.faults) >= 7
    assert {f.topic for f in schedule.faults} <= {t.name for t in schedule.topics}


def test_without_a_fault_everything_goes_through_at_once():
    one = channel()
    assert through(one, 3) == [(0.0, 0), (0.1, 1), (0.2, 2)]
    assert one.hit == 0


def test_a_fault_has_a_begin_and_an_end():
    one = channel({"kind": "nan", "start": 0.2, "duration": 0.2})
    assert what(through(one, 6)) == [0, 1, "nan(2)", "nan(3)", 4, 5]
    assert one.hit == 2


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "silence"}, [0, 1, 5]),
        ({"kind": "drop"}, [0, 1, 5]),
        ({"kind": "delay", "amount": 0.25}, [0, 1, 2, 5, 3, 4]),
        ({"kind": "duplicate", "amount": 0.05}, [0, 1, 2, 2, 3, 3, 4, 4, 5]),
        ({"kind": "reorder"}, [0, 1, 3, 2, 4, 5]),
        ({"kind": "burst"}, [0, 1, 2, 3, 4, 5]),
        ({"kind": "freeze"}, [0, 1, 2, 2, 2, 5]),
        ({"kind": "stick"}, [0, 1, "stick(2)", "stick(3)", "stick(4)", 5]),
    ],
)
def test_what_happens_on_the_way(fault, expected):
    assert what(through(channel({**fault, "start": 0.2, "duration": 0.3}), 6)) == expected


def test_a_burst_comes_all_at_its_end():
    items = through(channel({"kind": "burst", "start": 0.0, "duration": 0.5}), 5)
    assert [due for due, _ in items] == [0.5] * 5


def test_faults_come_one_after_the_other():
    one = channel({"kind": "nan"}, {"kind": "delay", "amount": 1.0}, {"kind": "duplicate", "amount": 0.5})
    assert one.take("x", 0.0) == [(1.0, "nan(x)"), (1.5, "nan(x)")]


def test_the_same_seed_does_the_same_again_and_another_one_does_not():
    faults = ({"kind": "drop", "probability": 0.5}, {"kind": "jitter", "amount": 0.5})
    runs = [through(channel(*copy.deepcopy(faults), seed=seed), 50) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert 10 < len(runs[0]) < 40


def test_topics_do_not_share_their_chances():
    first = Channel("a", (Fault(kind="drop", topic="a", probability=0.5),), 0, lambda *_: None)
    second = Channel("b", (Fault(kind="drop", topic="b", probability=0.5),), 0, lambda *_: None)
    assert what(through(first, 50)) != what(through(second, 50))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"faults": [{"kind": "melt", "topic": "commands"}]}, "kind is 'melt'; known: silence, drop"),
        ({"faults": [{"kind": "drop", "topic": "image"}]}, "topic is 'image'; known: commands"),
        ({"faults": [{"kind": "drop"}]}, "'drop' needs 'topic'"),
        ({"faults": [{"kind": "kill", "topic": "commands"}]}, "'kill' needs 'process'"),
        ({"faults": [{"kind": "zero_size", "topic": "commands"}]}, "'zero_size' is for sensor_msgs/msg/Image"),
        ({"faults": [{"kind": "drop", "topic": "commands", "amount": 1.0}]}, "'drop' has no amount, got 1"),
        ({"faults": [{"kind": "delay", "topic": "commands", "amount": -1.0}]}, "must not be below 0, got -1"),
        ({"faults": [{"kind": "drop", "topic": "commands", "probability": 2.0}]}, "faults.0.probability"),
        ({"faults": [{"kind": "drop", "topic": "commands", "duration": 0.0}]}, "faults.0.duration"),
        ({"faults": [{"kind": "drop", "topic": "commands", "start": float("nan")}]}, "faults.0.start"),
        ({"faults": [{"kind": "drop", "topic": "commands", "colour": 1}]}, "faults.0.colour"),
        ({"topics": [{**COMMANDS, "output": "a"}]}, "input and output of 'commands' are both a"),
        ({"topics": [{**COMMANDS, "type": "Image"}]}, "topics.0.type"),
        ({"topics": [COMMANDS, COMMANDS]}, "every name may stand once"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, change, said):
    path = tmp_path / "faults.yaml"
    path.write_text(yaml.safe_dump({"topics": [COMMANDS], **change}))
    with pytest.raises(ConfigError, match=r"faults\.yaml: ") as raised:
        Schedule.load(path)
    assert said in str(raised.value)


def test_a_generator_of_chances_is_handed_to_what_changes_messages():
    seen = []
    one = Channel("c", (Fault(kind="noisy", topic="c", amount=0.5),), 3, lambda *given: seen.append(given))
    one.take("first", 0.0)
    one.take("second", 0.1)
    kind, message, amount, random, first = seen[-1]
    assert (kind, message, amount, first) == ("noisy", "second", 0.5, "first")
    assert isinstance(random, np.random.Generator)
