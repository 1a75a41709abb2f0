"""Metrics on cases whose value is known by hand, and against scikit-image."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from deepverse_ros.errors import ShapeError
from deepverse_ros.evaluation.prediction.metrics import changed_pixels, depth_abs_rel, derangement, ssim
from deepverse_ros.model.fidelity import mse, psnr


def test_psnr_and_mse_of_a_known_error():
    true = torch.full((2, 3, 3, 16, 16), 0.5)
    predicted = true.clone()
    predicted[1, 2] += 0.1
    assert mse(predicted, true)[1, 2] == pytest.approx(0.01, rel=1e-4)
    values = psnr(predicted, true)
    assert values.shape == (2, 3)
    assert values[1, 2] == pytest.approx(20.0, abs=1e-3)
    assert (values.flatten()[:-1] == 60).all()  # equal frames are capped, not infinite


def test_psnr_counts_every_pixel_and_colour():
    true = torch.zeros(3, 10, 10)
    predicted = true.clone()
    predicted[0, :, 0] = 1  # one of three colours, one of ten columns
    assert psnr(predicted, true) == pytest.approx(-10 * math.log10(1 / 30), abs=1e-4)


def test_ssim_is_the_published_one():
    generator = torch.Generator().manual_seed(0)
    true = torch.nn.functional.avg_pool2d(torch.rand(2, 3, 70, 70, generator=generator), 7, 1)
    predicted = (true + 0.05 * torch.randn(true.shape, generator=generator)).clamp(0, 1)
    values = ssim(predicted[:, None], true[:, None])
    assert values.shape == (2, 1)
    for i in range(2):
        expected = structural_similarity(
            predicted[i].numpy(), true[i].numpy(), data_range=1.0, channel_axis=0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        assert float(values[i, 0]) == pytest.approx(expected, abs=5e-3)
    assert ssim(true, true).tolist() == pytest.approx([1.0, 1.0])


def test_frames_of_another_size_are_refused():
    with pytest.raises(ShapeError, match=r"\(3, 8, 8\).*\(3, 8, 9\)"):
        psnr(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9))


def test_depth_error_leaves_out_what_is_unknown():
    true = torch.tensor([[[2.0, 4.0], [math.nan, 1.0]], [[math.nan] * 2] * 2])
    predicted = torch.tensor([[[2.2, 4.0], [1.0, math.nan]], [[1.0] * 2] * 2])
    values = depth_abs_rel(predicted, true)
    assert values[0] == pytest.approx(0.05)
    assert values[1].isnan()
    only_left = torch.tensor([[True, False], [True, False]]).expand(2, 2, 2)
    assert depth_abs_rel(predicted, true, only_left)[0] == pytest.approx(0.1)


def test_moving_pixels_see_colour_and_depth():
    last_rgb, last_depth = torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 2.0)
    rgb, depth = last_rgb[:, None].repeat(1, 2, 1, 1, 1), last_depth[:, None].repeat(1, 2, 1, 1)
    rgb[0, 0, 1, 2, 3] = 0.2
    rgb[0, 0, 1, 0, 0] = 0.05
    depth[0, 1, 1, 1] = 1.9
    depth[0, 1, 0, 0] = math.nan
    moving = changed_pixels(rgb, depth, last_rgb, last_depth)
    assert moving.nonzero().tolist() == [[0, 0, 2, 3], [0, 1, 1, 1]]


@given(st.lists(st.integers(1, 6), min_size=2, max_size=8), st.integers(0, 2**32 - 1))
def test_derangement_always_takes_from_another_group(sizes, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(seed).shuffle(groups)
    if 2 * max(sizes) > sum(sizes):
        with pytest.raises(ShapeError, match="several episodes"):
            derangement(groups, seed)
        return
    out = derangement(groups, seed)
    assert sorted(out) == list(range(len(groups)))
    assert (groups[out] != groups).all()
    assert (derangement(groups, seed) == out).all()


def test_derangement_depends_on_the_seed():
    groups = np.repeat(np.arange(5), 4)
    assert any((derangement(groups, 0) != derangement(groups, seed)).any() for seed in range(1, 4))
