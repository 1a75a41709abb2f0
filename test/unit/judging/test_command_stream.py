"""Streams of set-points: what is one, where its next set-points may be, and that a clear tube is clear everywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.judging.command_rollout import CommandRollout
from deepverse_ros.judging.command_stream import LEAST, SetpointStream, Stream, Told, Tube
from deepverse_ros.judging.tracked_command import TrackedCommand
from deepverse_ros.judging.tube_judging import TubeJudging
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.self_filter import RobotSelfFilter
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.commands import Command, Layout
from deepverse_ros.safety.zones import Zones

ARM = Embodiment.load("arm")
LAYOUT = Layout.of(ARM)
HOME = np.array(ARM.home)
COURSE = CommandRollout(ARM, LAYOUT)


def at(joint_1: float = 0.0, joint_4: float = 0.0) -> np.ndarray:
    out = HOME.copy()
    out[[0, 3]] += joint_1, joint_4
    return out


def single(value: np.ndarray, seconds: float = 0.02) -> Command:
    return Command(value[None], np.array([seconds]), LAYOUT.names)


def led(way, seconds: float = 2.0, rate: float = 50.0, lasts: float = 0.8) -> Stream:
    """The stream after `seconds` of a way, whose set-points came at these times."""
    stream, maker = None, SetpointStream(LAYOUT)
    for k in range(round(seconds * rate)):
        stream = maker.add(single(way(k / rate)), k / rate)
    assert stream is not None
    return replace(stream, lasts=lasts)


def test_single_targets_that_go_on_with_each_other_are_a_stream_and_others_are_not():
    maker = SetpointStream(LAYOUT)
    for k in range(LEAST - 1):
        assert maker.add(single(at(0.005 * k)), 0.02 * k) is None
    found = maker.add(single(at(0.005 * 3), 0.0), 0.06)
    assert found is not None
    assert found.velocity[0] == pytest.approx(0.25)
    assert maker.add(single(at(0.5)), 0.08) is None  # a jump
    for k in range(LEAST):
        found = maker.add(single(at(0.5)), 0.1 + 0.02 * k)
    assert found is not None
    assert maker.add(single(at(0.5)), 2.0) is None  # a pause
    way = Command(np.stack([at(0.5), at(0.6)]), np.array([0.2, 0.4]), LAYOUT.names)
    for k in range(2 * LEAST):
        assert maker.add(way, 2.1 + 0.02 * k) is None
        assert maker.add(single(at(0.5), 3.0), 2.11 + 0.02 * k) is None
    rates = SetpointStream(replace(LAYOUT, position=np.zeros(8, bool)))
    assert all(rates.add(single(at()), 0.02 * k) is None for k in range(20))


@settings(deadline=None, max_examples=50)
@given(st.floats(33, 100), st.floats(0.1, 1.0), st.floats(0, 6.28), st.floats(0.2, 1.0))
def test_the_set_points_to_come_are_in_the_tube(rate, amplitude, phase, lasts):
    """Up to 1 rad/s with turns; what came before the verdict does not matter any more."""

    def way(t: float) -> np.ndarray:
        return at(amplitude * np.sin(t + phase), 0.3 * amplitude * np.sin(t + phase))

    stream = led(way, 3.0, rate, lasts)
    envelope = COURSE.tube_envelope(COURSE.tubes(stream)[0], 0.0, 5.0)
    ahead = np.stack([way(3.0 + t) for t in np.linspace(0, lasts, 20)])
    assert envelope.excess(np.zeros(len(ahead)), ahead, 0.0) <= 1


def test_where_the_robot_is_held_is_in_every_tube_and_it_is_taken_to_go_on_from_there():
    stream = replace(led(lambda t: at(0.3 * t)), places=at(0.1)[None])
    for tube in COURSE.tubes(stream):
        envelope = COURSE.tube_envelope(tube, 0.0, 1.6)
        assert envelope.excess(np.zeros(2), np.stack([at(0.1), stream.value]), 0.0) <= 1
        assert (tube.half_width >= COURSE.half_width - 1e-12).all()
    plan = COURSE.plan(
        TrackedCommand(single(stream.value), stream=stream), stream.at, at(0.1), np.array([0.2, 0.4, 5.0])
    )
    assert (np.diff([0.1, *plan[:2, 0]]) <= 0.2 * LAYOUT.max_rate[0] + 1e-6).all()
    assert plan[2, 0] == pytest.approx(stream.value[0] + 0.3 * stream.lasts, abs=1e-3)


def test_where_the_robot_was_told_to_be():
    told = Told()
    assert told.places(1.0, None) is None
    assert told.places(1.0, at(0.3)).tolist() == [at(0.3).tolist()]
    told.passed(single(at(0.0), 0.0), 1.0)
    told.passed(single(at(0.4), 0.4), 2.0)
    np.testing.assert_allclose(told.places(2.1, at(0.0))[:, 0], [0.1, 0.4])
    told.passed(single(at(0.1), 0.0), 2.1)  # a hold
    np.testing.assert_allclose(told.places(2.2, at(0.0))[:, 0], [0.1, 0.1])
    np.testing.assert_allclose(told.places(9.0, at(-0.5))[:, 0], [0.1, 0.1, -0.5])  # somebody may have moved it


ZONES = Zones.model_validate(
    {
        "zones": [
            {
                "name": "room", "type": "keep_in", "of": "robot", "frame_id": "base_link",
                "shape": {"kind": "box", "size": [2.0, 2.0, 2.6]},
            },
            {
                "name": "box", "type": "stop", "of": "robot", "frame_id": "base_link",
                "shape": {"kind": "box", "size": [0.3, 0.3, 0.6]}, "position": [0.4, 0.5, 0.4],
            },
            {
                "name": "hand", "type": "stop", "frame_id": "tool0", "attached": True,
                "shape": {"kind": "sphere", "radius": 0.1},
            },
        ]
    }
)  # fmt: skip
BODY = RobotSelfFilter(ARM)
STILL = {name: np.zeros((1, size)) for name, size in (("joint_positions", 7), ("gripper_state", 1))}
JUDGING = TubeJudging(
    ZONES, BODY, COURSE, frozenset(link.name for link in BODY.body.links),
    lambda joints: BODY.forward_kinematics(COURSE.modalities(joints.astype(float))),
    lambda poses, camera: {"tool0": np.linalg.inv(poses["tool0"])},
)  # fmt: skip


def judged(tube: Tube, scene: np.ndarray):
    return JUDGING.judge(tube, tube.begin, np.repeat(scene[None], 8, 0), torch.eye(4).expand(8, 4, 4),
                         ARM.dt * np.arange(1, 9))  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_a_clear_tube_is_clear_wherever_in_it_the_robot_is(seed):
    rng = np.random.default_rng(seed)
    begin = at(rng.uniform(-1.5, 1.5), rng.uniform(-0.5, 0.5))
    end = begin + rng.uniform(-0.4, 0.4, 8) * [1, 1, 1, 1, 1, 1, 1, 0]
    tube = Tube(begin, end, rng.uniform(0.001, 0.03, 8))
    thing = BODY.forward_kinematics(COURSE.modalities(at(rng.uniform(-1.5, 1.5))[None]))["tool0"][
        0, :3, 3
    ] + rng.normal(0, 0.1, 3)
    finding = judged(tube, thing[None].astype(np.float32))
    if finding.action != Action.CLEAR:
        return
    there = begin + rng.uniform(0, 1, (40, 1)) * (end - begin) + rng.uniform(-1, 1, (40, 8)) * tube.half_width
    poses = BODY.forward_kinematics(COURSE.modalities(there))
    centres, radii = BODY.collision_spheres(poses, {name: np.repeat(zero, 40, 0) for name, zero in STILL.items()})
    gaps = np.abs(centres - [0.4, 0.5, 0.4]) - [0.15, 0.15, 0.3]
    assert (np.linalg.norm(np.maximum(gaps, 0), axis=-1) > radii).all()
    assert (np.linalg.norm(poses["tool0"][:, :3, 3] - thing, axis=-1) > 0.1).all()


def test_towards_a_zone_the_way_that_is_clear_gets_shorter_and_ends():
    """As long as any is clear, no set-point that it answers for is in the zone."""
    nothing = np.full((1, 3), 5.0, np.float32)
    lengths = []
    for joint_1 in (-0.9, 0.0, 0.15, 0.3, 0.45, 0.6):
        stream = led(lambda t, to=joint_1: at(to + 0.4 * (t - 2.0)))
        finding, tube = JUDGING.widest(
            stream, stream.value, np.repeat(nothing[None], 8, 0), torch.eye(4).expand(8, 4, 4),
            ARM.dt * np.arange(1, 9),
        )  # fmt: skip
        length = float(np.ptp(tube.along(2)[:, 0])) if finding.action == Action.CLEAR else 0.0
        lengths.append(round(length, 6))
        assert finding.zone in ("", "box")
    assert lengths[0] > 0.3
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == 0
    assert len(set(lengths)) >= 3
