"""A bag of commands, verdicts and status: what it says about stops, and the command that a user asks with."""

import json
import sys
from dataclasses import astuple

import numpy as np
import pytest
from bag_files import read_bag, write_bag
from bag_messages import BEGIN, STORE, TYPES, array, header, status, trajectory, twist, vehicle, verdict

from deepverse_ros.cli import main
from deepverse_ros.errors import EpisodeError, ResourceError
from deepverse_ros.evaluation.prefilter.bag import COMMANDS, STATUS, VERDICTS, commanded, read, report
from deepverse_ros.safety.answer import Action


@pytest.fixture
def bag(tmp_path):
    """Ten seconds of commands; a verdict says stop from 2 to 5 s, the status stops at 2.1 s and goes on at 5.5 s."""
    messages = [(0.02 * k, COMMANDS, array(0.5, 0.0)) for k in range(501)]
    messages += [(0.1 * k, VERDICTS, verdict(Action.STOP if 20 <= k < 50 else Action.CLEAR)) for k in range(101)]
    messages += [(0.1 * k, STATUS, status(0.0, "zone 'person'") if 21 <= k < 55 else status(1.0)) for k in range(101)]
    rows = [
        (BEGIN + seconds, topic, message.__msgtype__, STORE.serialize_cdr(message, message.__msgtype__))
        for seconds, topic, message in sorted(messages, key=lambda row: row[0])
    ]
    return write_bag(tmp_path / "bag", [(t, n, k, bytes(d)) for t, n, k, d in rows])


def test_what_a_bag_says(bag):
    found = report(bag)
    assert (found.metrics.dangers, found.metrics.hold_share, found.metrics.false_stops) == (1, 1.0, 0)
    np.testing.assert_allclose([found.metrics.time_to_stop, found.metrics.resume_time], [0.1, 0.5], atol=1e-6)
    assert [stop.reason for stop in found.stops] == ["zone 'person'"]
    np.testing.assert_allclose([found.stops[0].begin, found.stops[0].end], [2.1, 5.5], atol=1e-6)


def test_a_bag_in_sqlite_without_definitions_says_the_same(bag, tmp_path):
    path = write_bag(tmp_path / "old", read_bag(bag), sqlite=True)
    assert not list(path.glob("*.mcap"))
    found, same = report(path), report(bag)
    assert astuple(found.metrics) == pytest.approx(astuple(same.metrics), abs=1e-6)
    assert [stop.reason for stop in found.stops] == [stop.reason for stop in same.stops]


@pytest.mark.parametrize(
    ("messages", "when"),
    [
        ([(0.0, "array"), (0.1, "array")], [(0.0, 0.35)]),  # a stream that ceases
        ([(0.0, "twist"), (0.1, "rest")], [(0.0, 0.1)]),
        ([(0.0, "stamped"), (0.1, "rest")], [(0.0, 0.1)]),
        ([(1.0, "trajectory")], [(1.0, 3.5)]),
        ([(0.0, "vehicle"), (0.1, "brake")], [(0.0, 0.1)]),
    ],
)
def test_when_a_command_moves_the_robot(messages, when):
    stamped = TYPES["geometry_msgs/msg/TwistStamped"](header=header(), twist=twist(0.2))
    made = {
        "array": array(0.1), "twist": twist(0.2), "stamped": stamped, "rest": twist(0.0), "trajectory": trajectory(2),
        "vehicle": vehicle(0.3, 0.0), "brake": vehicle(0.0, 1.0),
    }  # fmt: skip
    signal = commanded([(seconds, made[name]) for seconds, name in messages])
    np.testing.assert_allclose(signal.spans(True, 0.0, 10.0), when)


def test_the_command(bag, tmp_path, monkeypatch, capsys):
    figures = tmp_path / "figures.json"
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["deepverse", "prefilter-metrics", str(bag), "--json", str(figures)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "zone 'person'" in said
    assert "0.100" in said
    written = json.loads(figures.read_text())
    assert (written["false_stops"], len(written["stops"])) == (0, 1)


def test_bags_that_are_wrong(bag, tmp_path):
    with pytest.raises(ResourceError, match="no such bag"):
        read(tmp_path / "none", (STATUS,))
    with pytest.raises(EpisodeError, match=r"commands are deepverse_ros/msg/PrefilterStatus; expected JointTraj"):
        report(bag, command_topic=STATUS)
    with pytest.raises(EpisodeError, match=r"no topic '/status'; it has /prefilter/command_in, "):
        report(bag, status_topic="/status")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EpisodeError, match="not a bag that can be read"):
        read(tmp_path / "empty", (STATUS,))
    for path in bag.glob("*.mcap"):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EpisodeError, match="not a bag that can be read"):
        report(bag)
