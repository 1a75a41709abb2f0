"""Capsules: where they are, and balls that cover them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepverse_ros.errors import ShapeError
from deepverse_ros.robot.capsules import Capsules
from deepverse_ros.safety.view import View
from deepverse_ros.safety.zones import Zones

ARM = Capsules(
    ("link", "link", "tool"),
    np.array([[0.0, 0, 0], [0.5, 0, 0], [0.0, 0, 0]]),
    np.array([[0.0, 0, 1], [0.5, 0, 0], [0.0, 0.3, 0]]),
    np.array([0.1, 0.2, 0.05]),
)


def shifted(*xs):
    out = np.tile(np.eye(4), (len(xs), 1, 1))
    out[:, 0, 3] = xs
    return out


def test_each_capsule_goes_with_its_frame():
    placed = ARM.placed({"link": np.eye(4), "tool": shifted(2.0, 3.0)})
    assert np.array_equal(placed.start, [[[0, 0, 0], [0.5, 0, 0], [x, 0, 0]] for x in (2, 3)])
    assert np.array_equal(placed.end, [[[0, 0, 1], [0.5, 0, 0], [x, 0.3, 0]] for x in (2, 3)])


coordinate = st.floats(-1.5, 1.5).map(lambda x: round(x, 3))
vectors = arrays(float, 3, elements=coordinate)


@given(vectors, vectors, st.floats(0.01, 0.3), st.floats(0.01, 0.5), st.integers(0, 2**31))
@settings(max_examples=60)
def test_balls_cover_the_capsule_and_little_more(start, end, radius, spacing, seed):
    placed = Capsules(("a",), start[None], end[None], np.array([radius])).placed({"a": np.eye(4)})
    centres, radii = placed.collision_spheres(spacing)
    rng = np.random.default_rng(seed)
    on = start + rng.uniform(0, 1, (50, 1)) * (end - start)
    outward = rng.normal(size=(50, 3))
    surface = on + radius * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    gaps = np.linalg.norm(surface[:, None] - centres[0], axis=-1) - radii
    assert (gaps.min(1) <= 1e-9).all()
    assert (radii <= np.hypot(radius, spacing / 2) + 1e-9).all()


@given(arrays(float, (4,), elements=st.floats(-1, 1)))
@settings(max_examples=60)
def test_a_zone_that_the_balls_keep_clear_of_is_clear_of_the_capsule(values):
    x, y, z, turn = values
    placed = Capsules(
        ("a",), np.array([[x, y, z]]), np.array([[x + np.cos(turn), y + np.sin(turn), z]]), np.array([0.1])
    ).placed({"a": np.eye(4)})
    centres, radii = placed.collision_spheres(0.3)
    box = {"kind": "box", "size": [0.4, 0.6, 0.8]}
    loaded = Zones.model_validate(
        {"zones": [{"name": "a", "type": "stop", "frame_id": "base", "of": "robot", "shape": box}]}
    )
    touches = loaded.count(View("base", np.zeros((1, 1, 3)), centres, radii), np.array([0.2]))[0, 0]
    along = placed.start[0, 0] + np.linspace(0, 1, 500)[:, None] * (placed.end[0, 0] - placed.start[0, 0])
    if not touches:
        assert (loaded.checked[0].shape.distance(along) > 0.1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Capsules((), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0)), "at least one"),
        (lambda: Capsules(("a",), np.zeros((1, 2)), np.zeros((1, 3)), np.ones(1)), r"start: .*\(1, 3\).*\(1, 2\)"),
        (lambda: Capsules(("a",), np.zeros((1, 3)), np.full((1, 3), np.nan), np.ones(1)), "end: expected finite"),
        (lambda: Capsules(("a",), np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1)), "radius: .*capsule 0 in 'a' has 0"),
        (lambda: ARM.placed({"link": np.eye(4)}), "no frame 'tool'"),
        (lambda: ARM.placed({"link": shifted(0, 1), "tool": shifted(0, 1, 2)}), r"\(3, 4, 4\), got \(2, 4, 4\)"),
        (lambda: ARM.placed({"link": np.eye(4), "tool": np.zeros((4, 4))}), r"\['tool'\]: not a rotation"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ShapeError, match=message):
        make()
