"""Zones: wrong files are named, points are counted as a plain loop counts them, and more points are never safer."""

from time import perf_counter

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepverse_ros import resources
from deepverse_ros.errors import ConfigError, ResourceError, ShapeError
from deepverse_ros.safety.finding import Action, judge
from deepverse_ros.safety.view import View
from deepverse_ros.safety.zones import Zones

EXAMPLE = "config/safety/arm_zones.yaml"
BOX = {"kind": "box", "size": [2.0, 2.0, 2.0]}
TIMES = 0.2 * np.arange(1, 5)
FAR = np.array([9.0, 9.0, 9.0])


def zone(name="zone", **changes):
    return {"name": name, "type": "stop", "frame_id": "base", "shape": BOX} | changes


def zones(*items, **top):
    return Zones.model_validate({"zones": list(items), **top})


def scene(*inside, points=4):
    """(S, N, 3): in step s, `inside[s]` points at the origin and the others far away."""
    return np.array([[np.zeros(3) if n < k else FAR for n in range(points)] for k in inside])


def view(points, **more):
    return View("base", np.asarray(points, float), **more)


def pose(xyz, rpy):
    """(4, 4) by the textbook: yaw, then pitch, then roll."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    out = np.eye(4)
    out[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    out[:3, 3] = xyz
    return out


# --- the file -------------------------------------------------------------------------------------------------------


def example():
    return yaml.safe_load(resources.find(EXAMPLE).read_text())


def by_name(values, name):
    return next(z for z in values["zones"] if z["name"] == name)


def test_the_example_shows_every_type_and_knows_its_frames():
    loaded = Zones.load(EXAMPLE)
    assert {z.type for z in loaded.zones} == {"stop", "slowdown", "limit", "approach", "keep_in", "exclusion"}
    assert loaded.frames == {"base_link": False, "tool0": True}
    assert [z.name for z in loaded.checked] == [z.name for z in loaded.zones if z.type != "exclusion"]
    assert loaded.windows(TIMES).any(1).all()


def test_the_example_lets_an_empty_table_pass_and_stops_for_a_person():
    loaded = Zones.load(EXAMPLE)
    rng = np.random.default_rng(0)
    table = np.concatenate([rng.uniform((-0.5, -1, -0.01), (1.2, 1, 0.01), (4, 600, 3))])
    robot = np.tile([[[0.4, 0.0, 0.5], [0.0, 0.0, 0.3]]], (4, 1, 1))
    tool = np.tile(np.eye(4), (4, 1, 1))
    tool[:, :3, 3] = [-0.4, 0.0, -0.5]  # from the base's frame to the tool's
    empty = View("base_link", table, robot, 0.08, {"tool0": tool})
    assert judge(loaded, empty, TIMES).action == Action.CLEAR
    person = table.copy()
    person[2:, :20] = [0.9, 0.1, 0.3]
    found = judge(loaded, View("base_link", person, robot, 0.08, {"tool0": tool}), TIMES)
    assert (found.action, found.zone, found.step, found.points, found.threshold) == (Action.STOP, "person", 2, 20, 15)
    assert found.scale == 0
    robot = robot.copy()
    robot[3, 0] = [-0.5, -0.5, 0.4]
    found = judge(loaded, View("base_link", table, robot, 0.08, {"tool0": tool}), TIMES)
    assert (found.zone, found.step) == ("cabinet", 3)


WRONG = [
    ("person", lambda z: z.update(colour="red"), "zone 'person': colour: .*not permitted.*got 'red'"),
    ("person", lambda z: z.update(type="halt"), "zone 'person': .*'halt'.*'type'.*'stop', 'slowdown'"),
    ("person", lambda z: z.pop("type"), "zone 'person': .*'type'"),
    ("person", lambda z: z.pop("frame_id"), "zone 'person': frame_id: .*required"),
    ("person", lambda z: z.update(min_points=0), "zone 'person': min_points: .*greater than or equal to 1, got 0"),
    ("person", lambda z: z.update(min_points=1.5), "zone 'person': min_points: .*integer, got 1.5"),
    ("person", lambda z: z.update(attached="maybe"), "zone 'person': attached: .*boolean, got 'maybe'"),
    ("person", lambda z: z.update(of="people"), "zone 'person': of: .*'scene' or 'robot', got 'people'"),
    ("person", lambda z: z.update(position=[0, 0]), "zone 'person': position.2: .*required"),
    ("person", lambda z: z["shape"].update(bottom=float("nan")), "zone 'person': shape.bottom: .*finite.*got nan"),
    ("person", lambda z: z["shape"].update(bottom=2), "zone 'person': shape: bottom .2.0 m. must be below top .0.8 m."),
    ("person", lambda z: z["shape"].update(vertices=[[0, 0], [1, 0]]), "'person': shape.vertices: .*at least 3 items"),
    (
        "person",
        lambda z: z["shape"].update(vertices=[[0, 0], [2, 0], [0.5, 0.5], [0, 2]]),
        "'person': shape: vertices: the polygon must be convex; it turns the other way at corner 2",
    ),
    (
        "person",
        lambda z: z["shape"].update(vertices=[[0, 0], [1, 1], [1, 0], [0, 1]]),
        "'person': shape: vertices: the polygon must not intersect itself",
    ),
    (
        "person",
        lambda z: z["shape"].update(
            vertices=[[np.cos(a).item(), np.sin(a).item()] for a in np.arange(5) * 0.8 * np.pi]
        ),
        "'person': shape: vertices: the polygon must not intersect itself",
    ),
    (
        "person",
        lambda z: z["shape"].update(vertices=[[0, 0], [1, 0], [2, 0]]),
        "'person': shape: vertices: the polygon must",
    ),
    ("person", lambda z: z["shape"].update(vertices=[[0, 0], [0, 0], [2, 1]]), "'person': shape: .*the same point"),
    ("at_the_gripper", lambda z: z["shape"].update(radius=-0.1), "shape.radius: .*greater than 0, got -0.1"),
    ("at_the_gripper", lambda z: z["shape"].update(radius=True), "shape.radius: .*valid number, got True"),
    ("at_the_gripper", lambda z: z["shape"].update(radius="0.1"), "shape.radius: .*valid number, got '0.1'"),
    ("at_the_gripper", lambda z: z["shape"].update(kind="ball"), "'at_the_gripper': shape: .*'ball'.*'kind'.*'sphere'"),
    ("at_the_gripper", lambda z: z["shape"].update(height=1.0), "shape.height: .*not permitted"),
    ("at_the_gripper", lambda z: z.update(scale=1.0), "'at_the_gripper': scale: .*less than 1, got 1.0"),
    (
        "at_the_gripper",
        lambda z: z["window"].update({"from": 2.0}),
        "window: from .2 seconds. must not be after to .0.8",
    ),
    ("at_the_gripper", lambda z: z["window"].update(unit="hours"), "window.unit: .*'seconds' or 'steps', got 'hours'"),
    ("at_the_gripper", lambda z: z["window"].update({"from": -1}), "window.from: .*greater than or equal to 0, got -1"),
    ("at_the_gripper", lambda z: z["window"].update(unit="steps"), "window: from, to: steps are whole numbers, .*0.8"),
    ("low", lambda z: z.update(max_rate={}), "zone 'low': max_rate: .*at least 1 item"),
    ("low", lambda z: z.update(max_rate={"*": 0.0}), "zone 'low': max_rate.*: .*greater than 0, got 0.0"),
    ("coming_person", lambda z: z.update(stop_time=1.0), "'coming_person': stop_time .1 s. must be below time .1 s."),
    ("workspace", lambda z: z.update(of="scene"), "'workspace': of: a keep_in zone .* must be robot, got scene"),
    ("workspace", lambda z: z.update(scale=0.5), "zone 'workspace': scale: .*not permitted"),
    ("table", lambda z: z.update(name="low"), "zone 'low': name: every name may stand once, this one stands 2"),
    ("person", lambda z: z.update(name=""), "zone number 3: name: .*at least 1 character, got ''"),
    ("person", lambda z: z.update(name="  "), "zone number 3: name: .*at least 1 character"),
    ("person", lambda z: z.update(name=5), "zone number 3: name: .*string, got 5"),
]


@pytest.mark.parametrize(("name", "change", "message"), WRONG)
def test_a_wrong_field_is_named(tmp_path, name, change, message):
    values = example()
    change(by_name(values, name))
    path = tmp_path / "zones.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=message) as error:
        Zones.load(path)
    assert str(path) in str(error.value)
    assert "<" not in str(error.value)  # no object's repr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("zones: [", "not valid YAML"),
        ("- 1", "expected a mapping with 'zones', got list"),
        ("", "expected a mapping"),
        ("zones: []", "at least one is needed"),
        ("zones: 7", "zones: .*got 7"),
        ("zones: [7]", "zone number 1: .*got 7"),
        ("zones: []\nlimits: 1", "limits: .*not permitted"),
        ("min_seen: 0\nzones: []", "min_seen: .*got 0"),
        ("{zones: [{name: a, type: exclusion, frame_id: b, shape: {kind: sphere, radius: 1}}]}", "not an exclusion"),
    ],
)
def test_a_file_without_zones_is_named(tmp_path, content, message):
    path = tmp_path / "zones.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        Zones.load(path)


def test_a_file_that_is_missing_is_named():
    with pytest.raises(ResourceError, match=r"nowhere\.yaml"):
        Zones.load("nowhere.yaml")


# --- points ---------------------------------------------------------------------------------------------------------

length = st.floats(0.05, 2).map(lambda x: round(x, 3))
shapes = st.one_of(
    st.builds(lambda s: {"kind": "box", "size": s}, st.tuples(length, length, length)),
    st.builds(lambda r: {"kind": "sphere", "radius": r}, length),
    st.builds(lambda r, h: {"kind": "cylinder", "radius": r, "height": h}, length, length),
    st.builds(
        lambda n, r, turn, way, bottom, h: {
            "kind": "polygon",
            "vertices": [
                (r * np.cos(a).item(), r * np.sin(a).item()) for a in turn + way * 2 * np.pi * np.arange(n) / n
            ],
            "bottom": bottom,
            "top": bottom + h,
        },
        st.integers(3, 7),
        length,
        st.floats(0, 6),
        st.sampled_from([-1, 1]),
        st.floats(-1, 1),
        length,
    ),
)
xyz = st.tuples(*[st.floats(-1, 1).map(lambda x: round(x, 3))] * 3)
rpy = st.tuples(*[st.floats(-3, 3).map(lambda x: round(x, 3))] * 3)
coordinate = st.floats(-2, 2).map(lambda x: round(x, 3))
points = arrays(float, (2, 12, 3), elements=st.one_of(coordinate, st.just(np.nan)))


def inside_one(shape, p):
    """Whether a point (3,) is in a shape, by its definition; None on the surface, where rounding decides."""
    x, y, z = p
    if shape["kind"] == "box":
        margin = min(s / 2 - abs(v) for s, v in zip(shape["size"], p, strict=True))
    elif shape["kind"] == "sphere":
        margin = shape["radius"] - np.sqrt(x * x + y * y + z * z)
    elif shape["kind"] == "cylinder":
        margin = min(shape["radius"] - np.sqrt(x * x + y * y), shape["height"] / 2 - abs(z))
    else:
        corners = shape["vertices"]
        sides = []
        for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
            sides.append(((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / np.hypot(bx - ax, by - ay))
        middle = np.mean(corners, 0)  # the same side as the middle of the polygon
        (ax, ay), (bx, by) = corners[:2]
        way = np.sign((bx - ax) * (middle[1] - ay) - (by - ay) * (middle[0] - ax))
        margin = min(*(way * s for s in sides), z - shape["bottom"], shape["top"] - z)
    return None if abs(margin) < 1e-9 else margin > 0


@given(shapes, xyz, rpy, xyz, rpy, points)
@settings(max_examples=150)
def test_points_are_counted_as_a_plain_loop_counts_them(shape, position, turned, frame_at, frame_turned, cloud):
    loaded = zones(zone(frame_id="frame", shape=shape, position=position, rpy=turned))
    to_frame = np.linalg.inv(pose(frame_at, frame_turned))
    counted = loaded.count(view(cloud, transforms={"frame": to_frame}), TIMES[:2])
    for step in range(2):
        known = [p for p in cloud[step] if not np.isnan(p).any()]
        local = [np.linalg.inv(pose(position, turned)) @ to_frame @ [*p, 1] for p in known]
        found = [inside_one(shape, p[:3]) for p in local]
        assert found.count(True) <= counted[0, step] <= found.count(True) + found.count(None)


@given(shapes, xyz, rpy, xyz, rpy, points)
@settings(max_examples=60)
def test_zone_and_points_moved_together_change_nothing(shape, position, turned, shift, turn, cloud):
    still = zones(zone(shape=shape, position=position, rpy=turned))
    movement = pose(shift, turn)
    moved = cloud @ movement[:3, :3].T + movement[:3, 3]
    attached = zones(zone(frame_id="frame", attached=True, shape=shape, position=position, rpy=turned))
    back = np.tile(np.linalg.inv(movement), (2, 1, 1))
    distance = still.checked[0].clearance(view(cloud))
    again = attached.checked[0].clearance(view(moved, transforms={"frame": back}))
    assert np.allclose(distance, again, atol=1e-9, equal_nan=True)


@given(shapes, xyz, points)
@settings(max_examples=60)
def test_keep_in_counts_what_a_stop_zone_does_not(shape, position, cloud):
    a_zone = {"shape": shape, "position": position, "of": "robot"}
    both = zones(zone("out", **a_zone), zone("in", type="keep_in", **a_zone))
    out, inside = both.count(view(np.zeros((2, 1, 3)), robot=cloud), TIMES[:2])
    assert (out + inside == np.isfinite(cloud).all(-1).sum(1)).all()


@given(shapes, points)
@settings(max_examples=40)
def test_distance_has_the_sign_of_inside_and_never_overstates(shape, cloud):
    body = zones(zone(shape=shape)).checked[0].shape
    distance, inside = body.distance(cloud), body.inside(cloud)
    known = np.isfinite(cloud).all(-1)
    assert (inside[known] == (distance[known] <= 0)).all()
    assert not inside[~known].any()
    # A walk shorter than the distance never crosses the surface.
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for p, d in zip(cloud[known], distance[known], strict=True):
        if abs(d) > 1e-9:  # on the surface, rounding decides
            walked = body.inside(p + directions * abs(d) * 0.999)
            assert walked.all() if d < 0 else not walked.any()


@pytest.mark.parametrize(
    ("shape", "point", "expected"),
    [
        (BOX, (4, 5, 0), 5.0),
        (BOX, (0, 0.5, 0), -0.5),
        ({"kind": "sphere", "radius": 1.0}, (0, 3, 0), 2.0),
        ({"kind": "cylinder", "radius": 1.0, "height": 2.0}, (4, 0, 5), 5.0),
        ({"kind": "polygon", "vertices": [(-1, -1), (1, -1), (1, 1), (-1, 1)], "bottom": 0, "top": 1}, (4, 0, 5), 5.0),
        (
            {"kind": "polygon", "vertices": [(-1, -1), (1, -1), (1, 1), (-1, 1)], "bottom": 0, "top": 1},
            (0, 0, 0.9),
            -0.1,
        ),
    ],
)
def test_distances_by_hand(shape, point, expected):
    assert zones(zone(shape=shape)).checked[0].shape.distance(np.array(point, float)) == pytest.approx(expected)


def test_a_zone_attached_to_a_frame_goes_with_it():
    loaded = zones(zone(frame_id="tool", attached=True, shape={"kind": "sphere", "radius": 0.2}))
    ball = np.tile([[[1.0, 0, 0]]], (4, 1, 1))
    tool = np.tile(np.eye(4), (4, 1, 1))
    tool[:, 0, 3] = -np.linspace(0, 1, 4)  # the tool moves towards the ball
    assert loaded.count(view(ball, transforms={"tool": tool}), TIMES).tolist() == [[0, 0, 0, 1]]
    with pytest.raises(ShapeError, match=r"transforms\['tool'\]: a zone is attached .* \(4, 4, 4\)"):
        loaded.count(view(ball, transforms={"tool": np.eye(4)}), TIMES)


def test_a_ball_counts_when_it_touches_and_leaves_when_it_sticks_out():
    robot = np.array([[[1.3, 0, 0], [0.8, 0, 0], [0.0, 0, 0]]])
    around = {"of": "robot", "shape": BOX}
    both = zones(zone("out", **around), zone("in", type="keep_in", **around))
    seen = view(np.zeros((1, 1, 3)), robot=robot, robot_radius=np.array([0.4, 0.4, 0.4]))
    assert both.count(seen, TIMES[:1]).tolist() == [[3], [2]]
    thin = view(np.zeros((1, 1, 3)), robot=robot, robot_radius=0.1)
    assert both.count(thin, TIMES[:1]).tolist() == [[2], [1]]


def test_excluded_points_count_nowhere_and_only_for_their_own_kind():
    hole = zone("hole", type="exclusion", shape={"kind": "sphere", "radius": 0.5})
    both = zones(hole, zone("scene"), zone("robot", of="robot"))
    seen = view(scene(2, 3), robot=np.zeros((2, 1, 3)))
    assert both.count(seen, TIMES[:2]).tolist() == [[0, 0], [1, 1]]
    late = zones(hole | {"window": {"unit": "steps", "from": 1, "to": 9}}, zone("scene"))
    assert late.count(view(scene(2, 3)), TIMES[:2]).tolist() == [[2, 0]]


@pytest.mark.parametrize(
    ("window", "counted"),
    [
        ({"unit": "steps", "from": 1, "to": 2}, [0, 1, 1, 0]),
        ({"unit": "steps", "from": 3, "to": 30}, [0, 0, 0, 1]),
        ({"unit": "seconds", "from": 0, "to": 0.6}, [1, 1, 1, 0]),
        ({"unit": "seconds", "from": 0.4, "to": 0.4}, [0, 1, 0, 0]),
    ],
)
def test_a_window_is_the_part_of_the_horizon_that_counts(window, counted):
    assert zones(zone(window=window)).count(view(scene(1, 1, 1, 1)), TIMES).tolist() == [counted]


def test_a_window_beyond_the_horizon_is_named_and_not_silently_clear():
    loaded = zones(zone("late", window={"unit": "steps", "from": 4, "to": 9}))
    with pytest.raises(ConfigError, match="zone 'late': window: no step of the horizon is in it"):
        judge(loaded, view(scene(1, 1, 1, 1)), TIMES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: View("base", np.zeros((4, 3))), r"scene: expected floats \(S, N, 3\), got float64 \(4, 3\)"),
        (lambda: View("base", np.zeros((4, 2, 3), int)), "scene: expected floats"),
        (lambda: View("base", np.zeros((4, 2, 3)), np.zeros((3, 2, 3))), "robot: has 3 moments, the scene has 4"),
        (lambda: View("base", np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), -0.1), "robot_radius"),
        (lambda: View("base", np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), np.ones(3)), "robot_radius.*2"),
        (lambda: View("base", np.zeros((1, 2, 3)), transforms={"a": np.eye(3)}), r"transforms\['a'\]: .*\(4, 4\)"),
        (lambda: View("base", np.zeros((1, 2, 3)), transforms={"a": 2 * np.eye(4)}), r"\['a'\]: not a rotation"),
        (lambda: View("base", np.zeros((1, 2, 3)), transforms={"a": np.diag([1, 1, -1, 1.0])}), "not a rotation"),
        (lambda: View("base", np.zeros((1, 2, 3)), transforms={"a": np.full((4, 4), np.nan)}), "not a rotation"),
        (lambda: zones(zone()).count(view(scene(1)), TIMES), r"times: expected \(1,\)"),
        (lambda: zones(zone(of="robot")).count(view(scene(1)), TIMES[:1]), "robot: a zone watches the robot"),
        (lambda: zones(zone(frame_id="tool")).count(view(scene(1)), TIMES[:1]), "no frame 'tool'; given are base"),
        (lambda: judge(zones(zone()), view(scene(1, 1)), np.array([0.2, 0.2])), "times: expected rising"),
        (lambda: judge(zones(zone()), view(scene(1, 1)), np.array([0.0, 0.2])), "times: expected rising"),
    ],
)
def test_arrays_that_do_not_fit_are_named(make, message):
    with pytest.raises(ShapeError, match=message):
        make()


# --- what is found --------------------------------------------------------------------------------------------------


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
