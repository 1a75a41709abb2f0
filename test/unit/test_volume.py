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
@given(shape=st.tuples(*[st.integers(2, 4)] * 4), filled=st.floats(0.2, 1.0), seed=st.integers(0, 10_000))
def test_a_query_is_what_scipy_gives_on_the_dense_grid(shape, filled, seed):
    volume, values, occupied = random_volume(shape, filled, seed)
    where = places(volume, 30, seed)
    grid = volume.grid
    axes = [low + (np.arange(n) + half) * size
            for low, size, n, half in zip(grid.lower, grid.size, shape, CENTRE, strict=True)]  # fmt: skip
    inside = np.clip(where, [a[0] for a in axes], [a[-1] for a in axes])
    share = RegularGridInterpolator(axes, occupied)(inside)
    mean = RegularGridInterpolator(axes, values.astype(float))(inside)
    features, occupancy = ask(volume, where)
    np.testing.assert_allclose(occupancy, share, atol=1e-4)
    seen = share > 1e-3
    np.testing.assert_allclose(features[seen], mean[seen] / share[seen, None], atol=2e-3)


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
    assert volume.bytes < 0.1 * volume.dense_bytes


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
