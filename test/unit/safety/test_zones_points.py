"""Points in zones, counted as a plain loop counts them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zones_made import BOX, TIMES, points, pose, scene, view, zone, zones

from deepverse_ros.errors import ConfigError, ShapeError
from deepverse_ros.safety.finding import judge
from deepverse_ros.safety.view import View

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
