"""The field over space and time: interpolation against a loop and against scipy, fusion against geometry."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from deepverse_ros.errors import ShapeError
from deepverse_ros.geometry import Intrinsics
from deepverse_ros.model.volume import Grid, SpacetimeVolume

CENTRE = np.array([0.0, 0.5, 0.5, 0.5])  # of a voxel, along t, z, y, x
shapes = st.tuples(*[st.integers(1, 4)] * 4)


def random_volume(shape: tuple[int, ...], filled: float, seed: int) -> tuple[SpacetimeVolume, np.ndarray, np.ndarray]:
    """A volume, and the same as dense arrays: features (T, Z, Y, X, 2) with 0 where empty, and occupancy."""
    rng = np.random.default_rng(seed)
    occupied = rng.random(shape) < filled
    values = rng.normal(size=(*shape, 2)).astype(np.float32) * occupied[..., None]
    grid = Grid((1.0, -0.5, 0.25, 2.0), (0.2, 0.1, 0.05, 0.3), shape)
    keys = np.flatnonzero(occupied)
    features = torch.from_numpy(values.reshape(-1, 2)[keys])
    return SpacetimeVolume(grid, torch.from_numpy(keys), features), values, occupied.astype(float)


def places(volume: SpacetimeVolume, count: int, seed: int, margin: float = 0.0) -> np.ndarray:
    """Random (t, z, y, x) between the first and last voxel centres, widened by `margin` voxels."""
    grid, rng = volume.grid, np.random.default_rng(seed + 1)
    index = rng.uniform(-margin, np.array(grid.shape) - 1 + margin, (count, 4))
    return np.array(grid.lower) + (index + CENTRE) * np.array(grid.size)


def ask(volume: SpacetimeVolume, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    t, z, y, x = (torch.from_numpy(v) for v in where.T)
    features, occupancy = volume.query(x, y, z, t)
    return features.numpy(), occupancy.numpy()


@settings(max_examples=40, deadline=None)
@given(shape=shapes, filled=st.floats(0.0, 1.0), seed=st.integers(0, 10_000))
def test_a_query_is_what_a_loop_over_sixteen_voxels_gives(shape, filled, seed):
    volume, values, occupied = random_volume(shape, filled, seed)
    where = places(volume, 12, seed, margin=1.5)
    features, occupancy = ask(volume, where)
    for place, got, share in zip(where, features, occupancy, strict=True):
        index = (place - volume.grid.lower) / volume.grid.size - CENTRE
        below = np.floor(index).astype(int)
        total, weight = np.zeros(2), 0.0
        for corner in itertools.product((0, 1), repeat=4):
            voxel = below + corner
            if ((voxel < 0) | (voxel >= shape)).any() or not occupied[tuple(voxel)]:
                continue
            nearness = np.prod(np.where(corner, index - below, 1 - (index - below)))
            total, weight = total + nearness * values[tuple(voxel)], weight + nearness
        assert share == pytest.approx(weight, abs=1e-5)
        if weight > 1e-4:
            np.testing.assert_allclose(got, total / weight, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(shape=shapes, filled=st.floats(0.0, 1.0), seed=st.integers(0, 10_000))
def test_a_query_is_what_scipy_gives_on_the_dense_grid(shape, filled, seed):
    """Also outside, where scipy sees the empty voxels that are put around the grid, and further out nothing at all."""
    volume, values, occupied = random_volume(shape, filled, seed)
    where = places(volume, 40, seed, margin=2.5)
    grid = volume.grid
    axes = [low + (np.arange(-1, n + 1) + half) * size
            for low, size, n, half in zip(grid.lower, grid.size, shape, CENTRE, strict=True)]  # fmt: skip

    def dense(field: np.ndarray) -> np.ndarray:
        surrounded = np.pad(field.astype(float), [(1, 1)] * 4 + [(0, 0)] * (field.ndim - 4))
        return RegularGridInterpolator(axes, surrounded, bounds_error=False, fill_value=0.0)(where)

    share, total = dense(occupied), dense(values)
    features, occupancy = ask(volume, where)
    np.testing.assert_allclose(occupancy, share, atol=1e-4)
    seen = share > 1e-3
    np.testing.assert_allclose(features[seen], total[seen] / share[seen, None], atol=2e-3)
    assert np.isnan(features[occupancy == 0]).all()


@settings(max_examples=20, deadline=None)
@given(shape=shapes, filled=st.floats(0.1, 1.0), seed=st.integers(0, 10_000))
def test_many_places_at_once_are_what_each_gives_alone(shape, filled, seed):
    """Whatever shapes the arguments broadcast to."""
    volume, _, _ = random_volume(shape, filled, seed)
    t, z, y, x = (torch.from_numpy(v) for v in places(volume, 3, seed, margin=1.0).T)
    features, occupancy = volume.query(x[:, None, None], y[:, None], z, t[1])
    assert features.shape == (3, 3, 3, 2)
    for i, j, k in itertools.product(range(3), repeat=3):
        alone, share = volume.query(x[i], y[j], z[k], t[1])
        torch.testing.assert_close(features[i, j, k], alone, equal_nan=True)
        torch.testing.assert_close(occupancy[i, j, k], share)


def test_a_query_passes_gradients_to_places_and_features_also_beside_empty_space():
    volume, _, _ = random_volume((2, 3, 3, 3), 0.6, 4)
    features = volume.features.double().requires_grad_()
    where = torch.from_numpy(places(volume, 6, 0, margin=-0.1)).requires_grad_()

    def seen(features: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        t, z, y, x = where.unbind(-1)
        return SpacetimeVolume(volume.grid, volume.keys, features).query(x, y, z, t)[0]

    occupied = torch.isfinite(seen(features, where)).all(-1)
    assert occupied.sum() >= 3
    # Weights are single precision, so differences are taken over a hundredth of a voxel and compared to one percent.
    found = torch.autograd.grad(seen(features, where)[occupied].sum(), (features, where))
    step = torch.tensor(volume.grid.size) / 100
    for axis in range(4):
        shift = torch.zeros(4).double()
        shift[axis] = step[axis]
        with torch.no_grad():
            rise = (seen(features, where + shift) - seen(features, where - shift)).sum(-1) / (2 * step[axis])
        torch.testing.assert_close(found[1][occupied, axis], rise[occupied].double(), rtol=0.02, atol=0.05)
    assert found[0].abs().sum() > 0

    far = torch.tensor([[1.0, 90.0, 0.0, 2.0]]).double()
    everywhere = torch.cat([where.detach(), far])
    values, _ = SpacetimeVolume(volume.grid, volume.keys, features).query(*everywhere.flip(-1).unbind(-1))
    assert torch.isnan(values[-1]).all()
    (gradient,) = torch.autograd.grad(torch.nan_to_num(values).sum(), features)
    assert torch.isfinite(gradient).all()


def camera(size: int = 32) -> Intrinsics:
    return Intrinsics(40.0, 40.0, (size - 1) / 2, (size - 1) / 2, size, size)


def wall(distances: list[float], size: int = 32) -> SpacetimeVolume:
    """A wall before the camera, one frame per distance, coloured by the frame's number."""
    depth = torch.tensor(distances)[:, None, None].expand(-1, size, size).clone()
    colours = torch.arange(len(distances)).float()[:, None, None, None].expand(-1, 3, size, size)
    return SpacetimeVolume.fuse(
        colours, depth, camera(size), torch.eye(4), lower=(-1.0, -1.0, 0.0), upper=(1.0, 1.0, 4.0), voxel=0.1, dt=0.5
    )


def test_fused_pixels_stand_where_and_when_the_camera_saw_them():
    volume = wall([2.05, 3.05])
    zero = torch.tensor(0.0)
    for t, z, colour in ((0.0, 2.05, 0.0), (0.5, 3.05, 1.0)):
        features, occupancy = volume.query(zero + 0.05, zero + 0.05, torch.tensor(z), torch.tensor(t))
        assert occupancy > 0.99
        torch.testing.assert_close(features, torch.full((3,), colour))
        assert volume.query(zero, zero, torch.tensor(z), torch.tensor(0.5 - t))[1] == 0
    # Half way in time each wall has half the weight.
    assert volume.query(zero + 0.05, zero + 0.05, torch.tensor(2.05), torch.tensor(0.25))[1] == pytest.approx(0.5)


def test_memory_follows_what_is_occupied_not_the_size_of_the_world():
    volume = wall([2.05, 2.05])
    assert volume.grid.shape == (2, 40, 20, 20)
    assert len(volume) < 0.05 * volume.grid.voxels
    assert volume.dense_bytes == 2 * 40 * 20 * 20 * 3 * 4  # three float32 colours a voxel
    assert volume.bytes == len(volume) * (8 + 3 * 4)  # and the voxel's number
    assert volume.bytes < 0.1 * volume.dense_bytes
    longer = SpacetimeVolume.fuse(
        torch.ones(2, 3, 32, 32), torch.full((2, 32, 32), 2.05), camera(), torch.eye(4),
        lower=(-1.0, -1.0, 0.0), upper=(1.0, 1.0, 400.0), voxel=0.1, dt=0.5,
    )  # fmt: skip
    assert longer.bytes == volume.bytes
    assert longer.dense_bytes == 100 * volume.dense_bytes


def test_unknown_depth_and_places_outside_hold_nothing():
    depth = torch.full((1, 8, 8), torch.nan)
    empty = SpacetimeVolume.fuse(
        torch.ones(1, 3, 8, 8), depth, camera(8), torch.eye(4), lower=(0, 0, 0), upper=(1, 1, 1), voxel=0.5, dt=1.0
    )
    far = torch.tensor([0.5, 100.0, torch.nan])
    features, occupancy = empty.query(far, far, far, far)
    assert len(empty) == 0
    assert torch.isnan(features).all()
    assert (occupancy == 0).all()
    features, occupancy = wall([2.05]).query(far, far, far, torch.zeros(3))
    assert (occupancy[1:] == 0).all()


def test_wrong_input_is_refused_by_name():
    rgb, depth, pose = torch.ones(2, 3, 8, 8), torch.ones(2, 8, 8), torch.eye(4)
    box = {"lower": (0.0, 0.0, 0.0), "upper": (1.0, 1.0, 1.0), "voxel": 0.5, "dt": 1.0}
    for wrong, named in (
        ({"features": rgb[:1]}, "features"),
        ({"depth": depth[0]}, "depth"),
        ({"camera_to_world": torch.eye(3)}, "camera_to_world"),
        ({"voxel": 0.0}, "voxel"),
        ({"upper": (1.0, -1.0, 1.0)}, "upper"),
        ({"dt": 0.0}, "voxel size"),
    ):
        given_ = {"features": rgb, "depth": depth, "intrinsics": camera(8), "camera_to_world": pose, **box, **wrong}
        with pytest.raises(ShapeError, match=named):
            SpacetimeVolume.fuse(**given_)
