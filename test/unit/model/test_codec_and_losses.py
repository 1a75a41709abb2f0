"""What the codec copies, what its loss rewards, and what the novelty detector notices."""

import pytest
import torch
import torch.nn.functional as F

from deepverse_ros.model.codec import Codec, Decoded, Merge, _composite
from deepverse_ros.model.config import CodecConfig
from deepverse_ros.model.ood import OodDetector, content, texture
from deepverse_ros.model.readout import gaussian_nll
from deepverse_ros.training.losses.pictures import codec_loss, ssim


def test_a_source_pixel_is_copied_exactly_where_its_weight_is_all() -> None:
    frames = torch.rand(2, 10, 4, 4)
    frames[:, [4, 9]] = 1.0
    out = torch.zeros(2, 11, 4, 4)
    out[:, 6] = out[:, 9] = 50.0  # all weight on the newest frame, for rgb and depth
    decoded = _composite(out, frames)
    torch.testing.assert_close(decoded.rgb, frames[:, 5:8])
    torch.testing.assert_close(decoded.disparity, frames[:, 8])


def test_depth_is_never_copied_from_where_it_is_unknown() -> None:
    frames = torch.rand(1, 10, 4, 4)
    frames[:, [4, 9]] = 0.0
    frames[:, [3, 8]] = 0.0
    out = torch.zeros(1, 11, 4, 4)
    out[:, 9] = 50.0
    torch.testing.assert_close(_composite(out, frames).disparity, torch.full((1, 4, 4), 0.5))


def test_latents_have_unit_variance_per_cell() -> None:
    codec = Codec(CodecConfig(channels=(8, 8, 16), latent_dim=8))
    codec.encoder.head.weight.data *= 100  # an untrained encoder hardly tells pictures apart
    z, _, _ = codec.encode(torch.rand(2, 5, 32, 48))
    assert z.shape == (2, 8, 4, 6)
    torch.testing.assert_close(z.var(1, unbiased=False), torch.ones(2, 4, 6), atol=1e-2, rtol=1e-2)


def perfect(rgb: torch.Tensor, disparity: torch.Tensor) -> Decoded:
    return Decoded(rgb.clone(), disparity.clone(), torch.full_like(disparity, -3.0))


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise() -> None:
    a = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(ssim(a, a), torch.ones(3))
    assert (ssim(a, (a + 0.3 * torch.randn_like(a)).clamp(0, 1)) < 0.9).all()


def test_an_error_on_a_moving_pixel_costs_more_than_on_a_still_one() -> None:
    previous = torch.full((1, 3, 32, 32), 0.5)
    rgb, disparity = previous.clone(), torch.full((1, 32, 32), 0.5)
    rgb[:, :, 4:8, 4:8] = 1.0
    costs = []
    for where in ((5, 5), (20, 20)):
        decoded = perfect(rgb, disparity)
        decoded.rgb[0, :, where[0], where[1]] -= 0.2
        costs.append(float(codec_loss(decoded, rgb, disparity, previous, 4.0)["rgb"]))
    assert costs[0] == pytest.approx(5 * costs[1], rel=1e-3)


def test_unknown_depth_teaches_nothing_and_breaks_nothing() -> None:
    rgb, disparity = torch.rand(2, 3, 32, 32), torch.rand(2, 32, 32)
    decoded = Decoded(rgb, disparity.clone().requires_grad_(), torch.zeros(2, 32, 32, requires_grad=True))
    unknown = torch.full_like(disparity, torch.nan)
    loss = codec_loss(decoded, rgb, unknown, rgb, 4.0)["total"]
    loss.backward()
    assert torch.isfinite(loss)
    assert float(decoded.disparity.grad.abs().sum()) == 0


def scenes(count: int, mix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and frames: a smooth picture each."""
    tokens = torch.randn(count, 6, 12) @ mix
    frames = torch.zeros(count, 5, 32, 32)
    frames[:, :3] = F.interpolate(torch.rand(count, 3, 4, 4), (32, 32), mode="bilinear")
    return tokens, frames


def fitted() -> tuple[OodDetector, torch.Tensor]:
    torch.manual_seed(0)
    mix = torch.randn(12, 12)
    detector = OodDetector(12)
    training, held_out = ((content(t), texture(f)) for t, f in (scenes(3000, mix), scenes(600, mix)))
    assert torch.isinf(detector(*scenes(5, mix))).all()
    detector.fit(training, held_out)
    return detector, mix


def test_novelty_separates_other_contents() -> None:
    detector, mix = fitted()
    tokens, frames = scenes(600, mix)
    assert (detector(tokens, frames) > 1).float().mean() < 0.01
    assert (detector(tokens + 8 * torch.randn(12), frames) > 1).float().mean() > 0.95


def test_novelty_sees_noise_and_other_colours_that_the_latents_do_not_show() -> None:
    detector, mix = fitted()
    tokens, frames = scenes(600, mix)
    noisy, dark = frames.clone(), frames.clone()
    noisy[:, :3] += 0.1 * torch.randn_like(noisy[:, :3])
    dark[:, :3] *= 0.1
    for spoiled in (noisy, dark):
        assert (detector(tokens, spoiled) > 1).float().mean() > 0.95


def test_the_likelihood_is_best_at_the_true_spread() -> None:
    torch.manual_seed(0)
    truth = torch.zeros(5000, 3)
    position = 0.05 * torch.randn(5000, 3)
    nll = {s: float(gaussian_nll(position - truth, torch.full((5000,), s)).mean()) for s in (0.02, 0.05, 0.12)}
    assert min(nll, key=nll.__getitem__) == 0.05


def test_a_sources_part_of_a_convolution_can_be_computed_apart() -> None:
    torch.manual_seed(0)
    merge, x, source = Merge(3, 5, 4), torch.randn(2, 3, 8, 8), torch.randn(2, 5, 8, 8)
    together = F.conv2d(torch.cat([x, source], 1), merge.weight, merge.bias, padding=1)
    torch.testing.assert_close(merge(x, merge.of_source(source)), together)


def test_pictures_of_one_belief_are_the_same_together_and_one_by_one() -> None:
    torch.manual_seed(0)
    codec = Codec(CodecConfig(channels=(8, 8, 16), latent_dim=8))
    latents, (older, newest) = codec.observe(torch.rand(1, 2, 5, 32, 48))
    source = codec.decoder.source(older, newest)
    imagined = latents[:, 1] + 0.1 * torch.randn(5, 8, 4, 6)
    together = codec.decoder(imagined, source.repeat(5))
    for k in range(5):
        alone = codec.decoder(imagined[k, None], source)
        torch.testing.assert_close(together.rgb[k, None], alone.rgb)
        torch.testing.assert_close(together.disparity[k, None], alone.disparity)
