"""The body's chain of links against the simulation's kinematics, and its capsules against the simulation's shapes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from reaching import ARM, FORWARD

from deepverse_ros.robot.kinematics import Body, Capsule, Link, square_distance, square_distances
from deepverse_ros.simulation.arm import simulation as arm_simulation
from deepverse_ros.simulation.arm.sampling import sample_scene
from deepverse_ros.simulation.arm.simulation import ArmSimulation

BODY = ARM.body
assert BODY is not None


def poses(joints: np.ndarray) -> dict[str, np.ndarray]:
    return BODY.forward_kinematics(ARM.measured_values(joints))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_the_tool_is_where_the_simulation_has_it(seed: int) -> None:
    joints = np.random.default_rng(seed).uniform(ARM.lower, ARM.upper, (3, 8))
    tool = poses(joints)[ARM.tool_frame]
    for pose, q in zip(tool, joints, strict=True):
        position, rotation = FORWARD.tool_pose(q)
        np.testing.assert_allclose(pose[:3, 3], position, atol=1e-6)
        np.testing.assert_allclose(pose[:3, :3], rotation, atol=1e-6)


def test_capsules_cover_every_seen_pixel_of_the_arm_and_little_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points of the depth image: those of the arm are within a capsule, those of an empty scene are not."""
    rng = np.random.default_rng(0)
    scene = replace(sample_scene(rng, 0, 0, randomise=False), camera_fovy=60.0)  # the whole arm is in the picture
    monkeypatch.setattr(arm_simulation, "sample_scene", lambda *_: scene)
    with ArmSimulation(3, n_objects=0, n_obstacles=0, randomise=False) as simulation:
        for _ in range(10):
            joints = np.asarray(ARM.home) + rng.normal(0, 0.3, 8) * [1, 1, 1, 1, 1, 1, 1, 0]
            simulation.set_joints(joints)
            _, with_arm = simulation.render()
            far_away = simulation.goal_frame(joints, base_offset=(0.0, 50.0))[1]
            own = with_arm < far_away - 0.01
            points = _lifted(with_arm, simulation)
            gap = _distance(points, joints)
            assert (gap[own] < 0.012).all()
            assert (gap[own] < -0.03).mean() < 0.05  # they are no wider than that
            assert (gap[~own] < 0).mean() < 0.01


def _lifted(depth: np.ndarray, simulation: ArmSimulation) -> np.ndarray:
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]]
    k, pose = simulation.intrinsics, simulation.camera_to_world
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(depth)], -1)
    return rays * depth[..., None] @ pose[:3, :3].T + pose[:3, 3]


def _distance(points: np.ndarray, joints: np.ndarray) -> np.ndarray:
    starts, ends = BODY.capsule_ends(ARM.measured_values(joints))
    gaps = np.sqrt([square_distance(points, a, b) for a, b in zip(starts, ends, strict=True)])
    return (gaps - BODY.radii[:, None, None]).min(0)


coordinate = st.floats(-1.5, 1.5).map(lambda x: round(x, 3))
vectors = arrays(float, 3, elements=coordinate)


@given(vectors, vectors, arrays(float, (6, 3), elements=coordinate))
@settings(max_examples=60, deadline=None)
def test_distance_is_that_to_the_nearest_of_many_points(start, end, points) -> None:
    along = start + np.linspace(0, 1, 2001)[:, None] * (end - start)
    expected = np.linalg.norm(points[:, None] - along, axis=-1).min(1)
    # Between two of 2000 samples the segment is nearer by no more than half their distance.
    half = np.linalg.norm(end - start) / 4000 + 1e-9
    np.testing.assert_allclose(np.sqrt(square_distance(points, start, end)), expected, atol=half)


segments = arrays(float, (3, 2, 3), elements=coordinate)


@given(segments, arrays(float, (6, 3), elements=coordinate))
@settings(max_examples=60, deadline=None)
def test_distances_of_all_pairs_are_those_of_each(ends, points) -> None:
    start, end = ends.swapaxes(0, 1)
    expected = np.sqrt(square_distance(points[:, None], start, end))
    found = np.sqrt(np.maximum(square_distances(points, start, end), 0))
    # Squares are exact to single precision: near to a segment the root of that is half a millimetre and more.
    near = expected < 0.02
    np.testing.assert_allclose(found[~near], expected[~near], atol=5e-5)
    np.testing.assert_allclose(found[near], expected[near], atol=2e-3)


def test_distance_by_hand_at_several_moments() -> None:
    start = np.array([[0.0, 0, 0], [2, 0, 0], [0, 0, 0]])
    end = np.array([[0.0, 0, 1], [2, 0, 0], [0, 0, 1]])
    points = np.array([[0.0, 0.4, 0.5], [2, 0.1, 0], [0, 0, 1.5]])
    assert np.sqrt(square_distance(points, start, end)) == pytest.approx([0.4, 0.1, 0.5])
    assert np.sqrt(square_distance(points[:, None], start, end))[0] == pytest.approx([0.4, np.sqrt(4.41), 0.4])
    points[1, 2] = np.nan
    assert np.isnan(square_distance(points, start, end)).tolist() == [False, True, False]
    assert square_distance(points.astype(np.float32), start.astype(np.float32), end.astype(np.float32)).dtype == "f4"


def test_an_unknown_joint_leaves_what_hangs_on_it_unknown() -> None:
    joints = np.asarray(ARM.home, float)
    joints[3] = np.nan
    found = poses(joints)
    assert np.isfinite(found["link_3"]).all()
    assert np.isnan(found["link_4"]).any()
    assert np.isnan(found[ARM.tool_frame]).any()


def test_a_slide_moves_along_its_axis() -> None:
    body = Body(
        base="base",
        links=(Link(name="cart", parent="base", axis=(1, 0, 0), modality="x", motion="slide", per_unit=2.0),),
        capsules=(Capsule(frame="cart", start=(0, 0, 0), end=(0, 0, 1), radius=0.1),),
    )
    start, end = body.capsule_ends({"x": np.array([[0.0], [1.5]])})
    np.testing.assert_allclose(start, [[[0, 0, 0]], [[3, 0, 0]]])
    np.testing.assert_allclose(end, [[[0, 0, 1]], [[3, 0, 1]]])


@pytest.mark.parametrize(
    ("links", "capsule", "said"),
    [
        (({"name": "a", "parent": "nowhere"},), "a", "nowhere"),
        (({"name": "a", "parent": "base"}, {"name": "a", "parent": "base"}), "a", "stands twice"),
        (({"name": "a", "parent": "base"},), "b", "no link 'b'"),
        (({"name": "a", "parent": "base", "axis": (0, 0, 2)},), "a", "length 1"),
    ],
)
def test_a_wrong_chain_is_refused_by_name(links: tuple, capsule: str, said: str) -> None:
    shape = {"frame": capsule, "start": (0, 0, 0), "end": (0, 0, 0), "radius": 0.1}
    with pytest.raises(ValidationError, match=said):
        Body.model_validate({"base": "base", "links": links, "capsules": [shape]})


def test_a_link_that_moves_with_what_is_not_measured_is_refused() -> None:
    values = ARM.model_dump()
    values["body"]["links"][0]["modality"] = "wheels"
    with pytest.raises(ValidationError, match="wheels"):
        type(ARM).model_validate(values)
