"""Geometry against its own inverses and against hand-made cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepverse_ros.errors import ShapeError
from deepverse_ros.geometry import (
    Intrinsics,
    depth_from_sqrt_disparity,
    inverse,
    project,
    quaternion_from_matrix,
    raymap,
    rotation_from_quaternion,
    sqrt_disparity,
    transform,
    unproject,
)

CAMERA = Intrinsics(fx=60.0, fy=55.0, cx=15.2, cy=11.7, width=32, height=24)

unit = st.floats(-1, 1).map(lambda x: round(x, 3))
quaternions = st.tuples(unit, unit, unit, unit).filter(lambda q: sum(x * x for x in q) > 0.05)


def rotation(q):
    """Rotation matrix of an x, y, z, w quaternion, by the textbook formula."""
    x, y, z, w = np.asarray(q, np.float64) / np.linalg.norm(q)
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def pose(q, t):
    out = torch.eye(4, dtype=torch.float64)
    out[:3, :3] = rotation(q)
    out[:3, 3] = torch.tensor(t, dtype=torch.float64)
    return out


poses = st.builds(pose, quaternions, st.tuples(*[st.floats(-3, 3)] * 3))


@given(poses)
def test_inverse_undoes_a_pose(a):
    assert torch.allclose(inverse(a) @ a, torch.eye(4, dtype=torch.float64), atol=1e-9)
    points = torch.randn(5, 7, 3, dtype=torch.float64)
    assert torch.allclose(transform(inverse(a), transform(a, points)), points, atol=1e-9)


@given(poses, st.integers(0, 2**31))
def test_project_undoes_unproject(a, seed):
    depth = 0.3 + 4 * torch.rand(24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    pixels, back = project(unproject(depth, CAMERA, a), CAMERA, a)
    v, u = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    assert torch.allclose(pixels, torch.stack([u, v], -1).double(), atol=1e-3)
    assert torch.allclose(back, depth, atol=1e-6)


def test_unproject_places_the_principal_point_on_the_optical_axis():
    camera = Intrinsics(10.0, 10.0, 2.0, 1.0, 5, 3)
    look_down = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.0], [0, 0, 0, 1]])  # 2 m above, looking down
    points = unproject(torch.full((3, 5), 1.5), camera, look_down)
    assert torch.allclose(points[1, 2], torch.tensor([0.0, 0.0, 0.5]))
    assert points[1, 3, 0] > 0
    assert points[0, 2, 1] > 0


def test_unproject_keeps_unknown_depth_unknown_and_shares_one_camera():
    depth = torch.ones(2, 3, 24, 32)
    depth[1, 2, 5, 6] = math.nan
    points = unproject(depth, CAMERA, torch.eye(4))
    assert points.shape == (2, 3, 24, 32, 3)
    assert points.isnan().sum() == 3
    assert points[1, 2, 5, 6].isnan().all()


def test_unproject_names_both_sizes():
    with pytest.raises(ShapeError, match=r"\(24, 30\).*\(24, 32\)"):
        unproject(torch.ones(24, 30), CAMERA, torch.eye(4))


def test_a_point_behind_the_camera_has_no_pixel():
    pixels, depth = project(torch.tensor([[0.0, 0, -1], [0, 0, 1]]), CAMERA, torch.eye(4))
    assert pixels[0].isnan().all()
    assert depth[0] == -1
    assert torch.allclose(pixels[1], torch.tensor([15.2, 11.7]))


@pytest.mark.parametrize("size", [(64, 48), (16, 12), (320, 120)])
def test_resized_intrinsics_see_the_same_corners(size):
    other = CAMERA.resized(*size)
    # The outer corner of the picture, half a pixel outside the corner pixel's centre, is the same ray.
    for camera_corner, other_corner in [((-0.5, -0.5), (-0.5, -0.5)), ((31.5, 23.5), (size[0] - 0.5, size[1] - 0.5))]:
        for corner, axis in ((0, "x"), (1, "y")):
            a = (camera_corner[corner] - getattr(CAMERA, f"c{axis}")) / getattr(CAMERA, f"f{axis}")
            b = (other_corner[corner] - getattr(other, f"c{axis}")) / getattr(other, f"f{axis}")
            assert a == pytest.approx(b)


def test_intrinsics_matrix_round_trip_and_refusals():
    assert Intrinsics.from_matrix(CAMERA.matrix, 32, 24).cx == pytest.approx(CAMERA.cx)
    with pytest.raises(ShapeError, match=r"\(3, 3\)"):
        Intrinsics.from_matrix(np.zeros((3, 4)), 32, 24)
    with pytest.raises(ShapeError, match="focal"):
        Intrinsics(0.0, 1.0, 0.0, 0.0, 4, 4)
    with pytest.raises(ShapeError, match="finite"):
        Intrinsics(1.0, 1.0, math.nan, 0.0, 4, 4)
    with pytest.raises(ShapeError, match="empty"):
        Intrinsics(1.0, 1.0, 0.0, 0.0, 0, 4)


@given(poses, poses, poses)
def test_raymap_does_not_depend_on_the_world_frame(a, b, world):
    window = torch.stack([a, b]).float()
    moved = (world @ torch.stack([a, b])).float()
    assert torch.allclose(raymap(window, CAMERA), raymap(moved, CAMERA), atol=5e-3)


def test_raymap_holds_unit_directions_and_signed_sqrt_origins():
    window = torch.eye(4).repeat(2, 1, 1)
    window[1, :3, 3] = torch.tensor([0.25, -0.09, 0.0])
    rays = raymap(window, CAMERA)
    assert rays.shape == (2, 6, 24, 32)
    assert torch.allclose(rays[:, :3].norm(dim=1), torch.ones(2, 24, 32), atol=1e-5)
    assert torch.allclose(rays[0, 3:], torch.zeros(3, 24, 32))
    assert torch.allclose(rays[1, 3:, 4, 5], torch.tensor([0.5, -0.3, 0.0]), atol=1e-6)
    assert rays[0, 0, 0, 31] > 0
    assert rays[0, 1, 23, 0] > 0


def test_rotations_of_quaternions():
    q = np.random.default_rng(0).normal(size=(20, 4))
    q /= np.linalg.norm(q, axis=-1, keepdims=True)
    torch.testing.assert_close(rotation_from_quaternion(torch.from_numpy(q)), torch.stack([rotation(row) for row in q]))


@given(quaternions)
def test_quaternion_of_a_rotation(q):
    out = quaternion_from_matrix(rotation(q))
    expected = torch.tensor(q, dtype=torch.float64) / np.linalg.norm(q)
    assert out[3] >= 0
    assert torch.allclose(out.norm(), torch.tensor(1.0, dtype=torch.float64))
    assert abs(float(out @ expected)) == pytest.approx(1, abs=1e-6)
    assert torch.allclose(rotation(out.numpy()), rotation(q), atol=1e-6)


def test_quaternions_of_half_turns_and_batches():
    half_turns = torch.stack([torch.eye(3), *(torch.diag(torch.tensor(d)) for d in ([1.0, -1, -1], [-1.0, 1, -1]))])
    out = quaternion_from_matrix(half_turns)
    assert torch.allclose(out.abs(), torch.tensor([[0.0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]))


@given(st.floats(1.0, 5.0))
def test_sqrt_disparity_round_trip(metres):
    code = sqrt_disparity(torch.tensor(metres), 1.0, 5.0)
    assert 0 <= code <= 1
    assert float(depth_from_sqrt_disparity(code, 1.0, 5.0)) == pytest.approx(metres, rel=1e-4)


def test_sqrt_disparity_clamps_falls_and_keeps_unknown():
    code = sqrt_disparity(torch.tensor([0.2, 1.0, 2.0, 5.0, 90.0, math.nan]), 1.0, 5.0)
    assert torch.allclose(code[[0, 1, 3, 4]], torch.tensor([1.0, 1.0, 0.0, 0.0]), atol=1e-6)
    assert code[2] == pytest.approx((2**-0.5 - 5**-0.5) / (1 - 5**-0.5))
    assert code[5].isnan()
    assert depth_from_sqrt_disparity(torch.tensor([-1.0, 2.0]), 1.0, 5.0).tolist() == pytest.approx([5.0, 1.0])
