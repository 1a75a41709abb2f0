"""The decoder copies from pictures of moved things, and is what it was where there are none."""

import pytest
import torch
from safetensors import safe_open

from deepverse_ros import resources
from deepverse_ros.model.codec import Codec, Decoded, Source
from deepverse_ros.model.config import CodecConfig
from deepverse_ros.model.world_model import WorldModel

CONFIG = CodecConfig(channels=(16, 16, 32), latent_dim=8)


def decoders() -> tuple[Codec, Codec]:
    """Without and with pictures of moved things; what both have is the same."""
    torch.manual_seed(0)
    plain, moved = Codec(CONFIG), Codec(CONFIG, moved=True)
    fresh = moved.load_state_dict(plain.state_dict(), strict=False)
    assert fresh.missing_keys
    assert all(name.startswith("decoder.moved.") for name in fresh.missing_keys)
    assert not fresh.unexpected_keys
    return plain, moved


def decode(codec: Codec, moved: torch.Tensor | None, depth: float = 1.0) -> tuple[Decoded, Source]:
    frames = torch.rand(2, 2, 5, 32, 48, generator=torch.Generator().manual_seed(1))
    frames[:, :, 4] = depth
    with torch.no_grad():
        z, (older, newest) = codec.observe(frames)
        source = codec.decoder.source(older, newest)
        return codec.decoder(z[:, 1], source, None, moved), source


def pictures(seed: int = 2) -> torch.Tensor:
    moved = torch.rand(2, 7, 32, 48, generator=torch.Generator().manual_seed(seed))
    moved[:, 4], moved[:, 5:] = 1, 0
    return moved


def test_without_a_picture_it_decodes_as_one_that_knows_none() -> None:
    plain, moved = decoders()
    expected, _ = decode(plain, None)
    for absent in (None, torch.zeros(2, 7, 32, 48)):
        found, _ = decode(moved, absent)
        for a, b in ((found.rgb, expected.rgb), (found.disparity, expected.disparity)):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    # One of a batch has a picture, the other has none.
    mixed = pictures()
    mixed[1] = 0
    found, _ = decode(moved, mixed)
    torch.testing.assert_close(found.rgb[1], expected.rgb[1], atol=1e-6, rtol=0)


def test_an_untrained_one_copies_moved_things_and_hardly_anything_else() -> None:
    plain, moved = decoders()
    expected, _ = decode(plain, None)
    given = pictures()
    found, _ = decode(moved, given)
    assert (found.rgb - expected.rgb).abs().max() < 0.02
    given[:, 5, 8:16], given[:, 6, 20:24] = 1, 1
    found, _ = decode(moved, given)
    here = (given[:, 5:].any(1, keepdim=True)).expand_as(found.rgb)
    assert (found.rgb - given[:, :3])[here].abs().mean() < 0.6 * (expected.rgb - given[:, :3])[here].abs().mean()
    assert (found.rgb - expected.rgb)[~here].abs().max() < 0.02


def test_it_copies_the_picture_when_the_weights_say_so() -> None:
    _, moved = decoders()
    torch.nn.init.constant_(moved.decoder.moved.copied.bias, 60.0)
    given = pictures()
    given[:, 4, :8] = 0
    given[:, 3, :4] = 0  # not known at all; from row 4 to 8 it was filled in
    found, _ = decode(moved, given)
    torch.testing.assert_close(found.rgb, given[:, :3], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.disparity[:, 4:], given[:, 3, 4:], atol=1e-5, rtol=0)
    assert (found.disparity[:, :4] > 0.05).all()


def test_what_it_shows_changes_the_features_once_they_are_trained() -> None:
    _, moved = decoders()
    given = pictures()
    torch.nn.init.constant_(moved.decoder.moved.copied.bias, -1e4)  # it is looked at, and never copied
    before, _ = decode(moved, given)
    for part in ("to4", "to1"):
        torch.nn.init.normal_(getattr(moved.decoder.moved, part).weight[:2], std=0.3)
        after, _ = decode(moved, given)
        assert (after.rgb - before.rgb).abs().max() > 1e-3
        before = after


def test_the_shipped_model_fits() -> None:
    folder = resources.find("models/arm")
    model = WorldModel.load(folder, "cpu", torch.float32)
    assert model.codec.decoder.moved is not None
    with safe_open(str(folder / "model.safetensors"), "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert shapes == WorldModel.shapes(model.config)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_decodes_in_the_formats_of_inference(dtype: torch.dtype) -> None:
    _, moved = decoders()
    moved.to(dtype).channels_last()
    found, _ = decode(moved, pictures())
    assert found.rgb.shape == (2, 3, 32, 48)
    assert torch.isfinite(found.rgb).all()
