"""What zones find: the worst is named, more points are never safer, and a way out is seen."""

from time import perf_counter
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zones_made import FAR, TIMES, coordinate, points, scene, view, zone, zones

from deepverse_ros.safety.answer import Action, Answer
from deepverse_ros.safety.finding import judge
from deepverse_ros.safety.shapes import Positive
from deepverse_ros.safety.view import View
from deepverse_ros.safety.zones import Zone, Zones


def test_the_worst_zone_is_named_and_the_speed_is_the_least_of_all():
    loaded = zones(
        zone("a", type="slowdown", scale=0.5),
        zone("b", type="slowdown", scale=0.3, min_points=2),
        zone("c", type="limit", max_rate={"x": 1.0, "*": 2.0}),
        zone("d", type="limit", max_rate={"x": 0.5}),
        zone("e", min_points=4),
    )
    cases = {
        (0, 0, 0, 0): (Action.CLEAR, "", -1, 1.0),
        (0, 1, 0, 0): (Action.SLOW, "a", 1, 0.5),
        (0, 1, 2, 0): (Action.SLOW, "b", 2, 0.3),
        (0, 1, 3, 4): (Action.STOP, "e", 3, 0.0),
    }
    for inside, expected in cases.items():
        found = judge(loaded, view(scene(*inside, points=5)), TIMES)
        assert (found.action, found.zone, found.step, found.scale) == expected
    assert found.max_rate == {"x": 0.5, "*": 2.0}
    assert (found.points, found.threshold) == (4, 4)
    only = zones(zone("c", type="limit", max_rate={"x": 1.0}))
    assert judge(only, view(scene(0, 1)), TIMES[:2]).action == Action.LIMIT


@pytest.mark.parametrize(
    ("first", "action", "scale"),
    [(0, Action.STOP, 0.0), (1, Action.STOP, 0.0), (2, Action.SLOW, 0.4 / 0.5), (3, Action.CLEAR, 1.0)],
)
def test_an_approach_slows_by_the_time_that_is_left(first, action, scale):
    loaded = zones(zone(type="approach", time=0.5, stop_time=0.2, min_points=2))
    inside = [3 if s >= first else 1 for s in range(4)]  # one point alone is not enough
    found = judge(loaded, view(scene(*inside)), TIMES)
    assert (found.action, found.step) == (action, first)
    assert found.scale == pytest.approx(scale)
    assert found.time_to_enter == pytest.approx(TIMES[first - 1] if first else 0.0)


class HesitateZone(Zone):
    """The command waits outside: half its speed until it is about to enter. As docs/guides/add_zone.md has it."""

    type: Literal["hesitate"]
    before: Positive

    def answer(self, enters: float) -> Answer:
        return Answer(Action.SLOW, 0.5, note="it hesitates") if enters >= self.before else Answer()


@pytest.mark.parametrize(("first", "action"), [(1, Action.STOP), (3, Action.SLOW)])
def test_an_own_type_of_zone_is_a_class_that_answers(first, action):
    own = HesitateZone.model_validate(zone("door", type="hesitate", before=0.3))
    loaded = Zones.model_construct(min_seen=1, zones=(own,))
    found = judge(loaded, view(scene(*[3 if s >= first else 0 for s in range(4)])), TIMES)
    assert (found.action, found.zone) == (action, "door")
    assert found.text.endswith("it hesitates") == (action == Action.SLOW)


@given(
    st.lists(st.sampled_from(["stop", "slowdown", "limit", "approach", "robot", "keep_in"]), min_size=1, max_size=4),
    points,
    arrays(float, (2, 5, 3), elements=coordinate),
    st.integers(1, 4),
)
@settings(max_examples=80)
def test_more_points_never_make_it_safer(types, cloud, added, min_points):
    special = {"slowdown": {"scale": 0.5}, "limit": {"max_rate": {"*": 1.0}}, "approach": {"time": 0.3}}
    special |= {"robot": {"type": "stop", "of": "robot"}, "keep_in": {"of": "robot"}}
    loaded = zones(
        *[zone(f"{k}", **{"type": t, "min_points": min_points} | special.get(t, {})) for k, t in enumerate(types)]
    )
    cloud = np.nan_to_num(cloud)
    fewer = judge(loaded, view(cloud, robot=cloud), TIMES[:2])
    more = np.concatenate([cloud, added], 1)
    worse = judge(loaded, view(more, robot=more), TIMES[:2])
    assert worse.action >= fewer.action
    assert worse.scale <= fewer.scale
    assert worse.time_to_enter <= fewer.time_to_enter or worse.zone != fewer.zone
    counts = loaded.count(view(cloud, robot=cloud), TIMES[:2])
    assert (loaded.count(view(more, robot=more), TIMES[:2]) >= counts).all()


def test_blindness_is_not_clear():
    loaded = zones(zone(), min_seen=3)
    blind = np.full((4, 5, 3), np.nan)
    blind[:2] = FAR
    found = judge(loaded, view(blind), TIMES)
    assert (found.action, found.zone, found.step, found.points, found.threshold) == (Action.STOP, "", 2, 0, 3)
    assert "only 0 points are seen at step 2" in found.text
    infinite = np.full((4, 5, 3), np.inf)
    assert judge(loaded, view(infinite), TIMES).action == Action.STOP


def test_a_robot_that_is_not_known_is_not_clear():
    loaded = zones(zone(of="robot"))
    robot = np.tile(FAR, (4, 2, 1))
    assert judge(loaded, view(scene(0, 0, 0, 0), robot=robot), TIMES).action == Action.CLEAR
    robot[1, 1, 2] = np.nan
    found = judge(loaded, view(scene(0, 0, 0, 0), robot=robot), TIMES)
    assert (found.action, found.step) == (Action.STOP, 1)
    assert "robot itself" in found.text


def on_x(*xs):
    """(S, 3, 3): three points that move together along x."""
    return np.array([[[x, y, 0.0] for y in (-0.1, 0.0, 0.1)] for x in xs])


@pytest.mark.parametrize(
    ("present", "future", "leads_out"),
    [
        (0.5, (0.6, 0.8, 0.9, 0.95), True),  # inside a box that ends at 1, on the way out
        (0.5, (0.6, 0.9, 1.1, 1.3), True),
        (0.5, (0.6, 0.8, 0.7, 0.495), False),  # and back again
        (0.5, (0.49, 0.45, 0.7, 0.9), False),  # first deeper
        (0.5, (0.495, 0.5, 0.7, 0.9), True),  # trembling is not deeper
        (0.5, (0.5, 0.5, 0.5, 0.5), False),
        (1.2, (1.1, 0.9, 0.95, 1.3), False),  # outside now: entering is no way out
        (0.5, (-0.2, -0.7, -1.2, -1.5), False),  # out on the other side, through the middle
    ],
)
def test_a_way_out_is_a_command_that_clears_what_is_violated(present, future, leads_out):
    loaded = zones(zone(min_points=2))
    found = judge(loaded, view(on_x(*future)), TIMES, view(on_x(present)))
    assert found.action == Action.STOP
    assert found.leads_out is leads_out
    assert not judge(loaded, view(on_x(*future)), TIMES).leads_out  # where nobody knows the present
    if leads_out:
        assert found.gain == pytest.approx(future[-1] - present)


@pytest.mark.parametrize(
    ("present", "future", "leads_out"),
    [
        (1.005, (1.01, 1.1, 1.2, 1.3), True),  # near the box, and away from it
        (1.005, (0.995, 1.1, 1.2, 1.3), False),  # through its border first
        (1.005, (1.005, 1.005, 1.005, 1.005), False),
        (1.2, (1.1, 1.1, 1.2, 1.3), False),  # nearer first
        (0.5, (0.6, 0.9, 1.1, 1.3), True),
    ],
)
def test_what_stops_a_command_for_something_else_has_to_be_left_too(present, future, leads_out):
    loaded = zones(zone(min_points=2))
    found = judge(loaded, view(on_x(*future)), TIMES, view(on_x(present)), leave=["zone"])
    assert found.leads_out is leads_out
    assert found.stops == (("zone",) if min(future) < 1 else ())


def test_a_way_out_of_one_zone_into_another_is_none():
    loaded = zones(zone("left"), zone("right", position=[2.5, 0, 0]))
    found = judge(loaded, view(on_x(0.9, 1.2, 1.4, 1.6)), TIMES, view(on_x(0.5)))
    assert not found.leads_out


def test_a_stray_point_does_not_hide_the_way_out():
    loaded = zones(zone(min_points=2))
    future = np.concatenate([on_x(0.6, 0.8, 0.9, 0.95), np.zeros((4, 1, 3))], 1)
    assert judge(loaded, view(future), TIMES, view(on_x(0.5))).leads_out


def test_counting_a_camera_of_points_is_fast_enough_for_every_command():
    loaded = zones(*[zone(f"{k}", position=[0.1 * k, 0, 0]) for k in range(8)])
    cloud = np.random.default_rng(0).uniform(-2, 2, (8, 4096, 3)).astype(np.float32)
    seen = View("base", cloud)
    took = []
    for _ in range(5):
        begin = perf_counter()
        loaded.count(seen, 0.2 * np.arange(1, 9))
        took.append(perf_counter() - begin)
    assert min(took) < 0.1
