"""What is told apart from ordinary windows: the figure itself, the corruptions, the simulated strangers, a folder."""

import json

import numpy as np
import pytest
import torch
from droid_recording import write_recording
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from deepverse_ros.data.collect import EpisodeGenerator
from deepverse_ros.data.importers.droid import data_directory
from deepverse_ros.errors import EmbodimentError, EpisodeError
from deepverse_ros.evaluation.ood import evaluate
from deepverse_ros.evaluation.ood.scenes import Strangers, kinds_of
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.dynamics import to_tokens
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.ood import content, texture
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.arm.ood_scenes import KINDS as OOD_KINDS

REAL = data_directory() / "droid"
FIGURES = ("auroc", "flagged", "median")
ARM = Embodiment.load("arm")
SIZE = 64


@pytest.fixture(scope="module")
def episodes():
    generator = EpisodeGenerator(ARM, (SIZE, SIZE))
    yield [generator.record(20_000_000, index, 12) for index in range(6)]
    generator.close()


@pytest.fixture(scope="module")
def model(episodes):
    """An untrained codec, with a detector that was fitted to 24 other episodes."""
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(ARM, SIZE)).requires_grad_(False).eval()
    generator = EpisodeGenerator(ARM, (SIZE, SIZE))
    seen = [generator.record(20_000_001, index, 4) for index in range(24)]
    generator.close()
    pictures = Observation.from_numpy(
        np.concatenate([e.rgb for e in seen])[:, None], np.concatenate([e.depth for e in seen])[:, None] / 1000
    )
    frames = model.frames(pictures)[:, 0]
    cells, _, _ = model.codec.encode(frames)
    features = content(to_tokens(cells, model.config.dynamics.token_patch)), texture(frames)
    model.novelty.fit((features[0][::2], features[1][::2]), (features[0][1::2], features[1][1::2]))
    return model


scores = st.lists(st.integers(0, 6), min_size=1, max_size=30)


@given(scores, scores)
def test_auroc_is_the_mann_whitney_statistic(ordinary, strangers):
    expected = stats.mannwhitneyu(strangers, ordinary).statistic / (len(ordinary) * len(strangers))
    assert evaluate.auroc(np.array(ordinary, float), np.array(strangers, float)) == pytest.approx(expected)


def test_a_group_counts_what_is_above_the_limit():
    group = evaluate.separation(np.array([0.2, 0.4, 0.6]), np.array([0.5, 1.0, 1.5, 2.0]))
    assert group == {"auroc": pytest.approx(11 / 12), "n": 4, "flagged": 0.5, "median": 1.25}
    endless = evaluate.separation(np.full(3, np.inf), np.full(2, np.inf))
    assert endless == {"auroc": 0.5, "n": 2, "flagged": 1.0, "median": None}


def test_corruptions_do_what_they_are_called():
    rgb = torch.rand(2, 4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    depth = 1 + torch.rand(2, 4, SIZE, SIZE)
    seen = Observation(rgb, depth)
    out = {name: evaluate.corrupt(seen, name, torch.Generator().manual_seed(0)) for name in evaluate.CORRUPTIONS}
    for name, corrupted in out.items():
        assert corrupted.rgb.shape == rgb.shape
        assert 0 <= corrupted.rgb.min() <= corrupted.rgb.max() <= 1
        assert (corrupted.rgb - rgb).abs().mean() > 0.02, name
        assert torch.equal(corrupted.depth, depth.flip(-2) if name == "upside_down" else depth)
    assert torch.equal(out["inverted"].rgb, 1 - rgb)
    assert torch.equal(out["channels_swapped"].rgb[:, :, 0], rgb[:, :, 2])
    assert torch.equal(out["upside_down"].rgb[..., 0, :], rgb[..., -1, :])
    assert torch.allclose(out["darkened"].rgb, 0.15 * rgb)
    changed = (out["patch"].rgb != rgb).any(dim=2)
    assert (changed.sum(dim=(-2, -1)) == SIZE * SIZE // 4).all()
    assert out["blur"].rgb.std() < rgb.std()
    assert torch.allclose(out["blur"].rgb.mean(), rgb.mean(), atol=0.01)
    middle = (rgb > 0.4) & (rgb < 0.6)  # where nothing is clipped often, the pattern can be read off
    frozen, fresh = ((out[name].rgb - rgb) for name in ("frozen_noise", "noise"))
    both = middle[:, 0] & middle[:, 1]
    assert torch.allclose(frozen[:, 0][both], frozen[:, 1][both], atol=1e-6)
    assert not torch.allclose(fresh[:, 0][both], fresh[:, 1][both], atol=0.05)


def test_strangers_differ_from_the_ordinary_in_what_they_are_called():
    with Strangers(ARM, SIZE, SIZE) as strangers:
        seen = {kind: strangers.sight(kind, 3, 4) for kind in OOD_KINDS}
        again = strangers.sight("scara", 3, 4)
        other = strangers.sight("scara", 4, 4)
    assert torch.equal(again.seen.rgb, seen["scara"].seen.rgb)
    assert not torch.equal(other.seen.rgb, again.seen.rgb)
    ordinary = seen["ordinary"].seen
    for kind, sight in seen.items():
        assert sight.seen.rgb.shape == (1, 4, 3, SIZE, SIZE)
        assert sight.past.shape == (1, 3, 8)
        assert ((sight.seen.depth > 0.5) & (sight.seen.depth < 12)).all()
        assert not torch.equal(sight.seen.rgb[0, 0], sight.seen.rgb[0, 3]), f"{kind} stands still"
        same_view = torch.equal(sight.seen.camera_to_world, ordinary.camera_to_world)
        assert same_view == (kind != "other_view")
    # Other looks have the same shape; another robot leaves the table and what lies on it as they are.
    assert torch.allclose(seen["other_looks"].seen.depth, ordinary.depth, atol=0.02)
    assert (seen["other_looks"].seen.rgb - ordinary.rgb).abs().mean() > 0.2
    for kind in ("scara", "rover"):
        unchanged = (seen[kind].seen.rgb - ordinary.rgb).abs().amax(dim=2) < 0.02
        assert 0.8 < unchanged.float().mean() < 0.99
        assert (seen[kind].past == np.asarray(ARM.home, np.float32)).all()
    assert len(np.unique(seen["ordinary"].past, axis=1)[0]) == 3


def test_only_the_arm_has_strangers():
    drone = ARM.model_copy(update={"name": "drone"})
    with pytest.raises(EmbodimentError, match="'drone'"):
        Strangers(drone, SIZE, SIZE)
    assert kinds_of(drone) == ()
    assert kinds_of(ARM) == tuple(OOD_KINDS)


def test_a_fitted_detector_tells_strangers_apart_and_not_the_ordinary(model, episodes, tmp_path):
    for k in range(3):
        noise = np.random.default_rng(k).integers(0, 255, (40, 70, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{k}.png")
    calls = []
    figures = evaluate.evaluate(model, episodes, 5, tmp_path, lambda *done: calls.append(done))
    assert calls == [(k + 1, 12) for k in range(12)]
    assert set(figures["corrupted"]) == set(evaluate.CORRUPTIONS)
    assert set(figures["simulated"]) == set(OOD_KINDS)
    assert figures["ordinary"]["n"] == 6
    assert figures["corrupted"]["noise"]["auroc"] == 1
    assert figures["simulated"]["other_looks"]["auroc"] > 0.9
    assert 0.1 < figures["simulated"]["ordinary"]["auroc"] < 0.9
    assert figures["folder"] == {"path": str(tmp_path), "n": 3, **{k: figures["folder"][k] for k in FIGURES}}
    assert figures["folder"]["auroc"] == 1
    assert figures["folder"]["flagged"] == 1
    json.dumps(figures, allow_nan=False)


@pytest.mark.parametrize("source", ["made", *(["real"] if REAL.is_dir() else [])])
def test_recordings_are_shown_with_their_joints(model, tmp_path, source):
    if source == "made":
        frames = np.stack([np.full((48, 64, 3), 40 * index, np.uint8) for index in range(6)])
        write_recording(tmp_path, "1", frames, [[0.1 * s] * 7 for s in range(17)], [0.25] * 17)
    sight = next(evaluate.ood_windows(model, REAL if source == "real" else tmp_path))
    assert sight.seen.rgb.shape == (1, 4, 3, SIZE, SIZE)
    assert sight.seen.depth is None
    assert sight.past.shape == (1, 3, 8)
    assert not np.allclose(sight.past[0, 0], ARM.home)
    if source == "made":  # three states a frame; in the file 0 is open
        np.testing.assert_allclose(sight.past[0, :, 0], [0.3, 0.6, 0.9], atol=1e-6)
        np.testing.assert_allclose(sight.past[0, :, 7], 0.75)


def test_episodes_and_folders_that_show_nothing_are_named(model, episodes, tmp_path):
    with pytest.raises(EpisodeError, match="12 frames"):
        evaluate.evaluate(model, [])
    with pytest.raises(EpisodeError, match="absent: no such folder"):
        next(evaluate.ood_windows(model, tmp_path / "absent"))
    with pytest.raises(EpisodeError, match="neither pictures"):
        next(evaluate.ood_windows(model, tmp_path))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(EpisodeError, match=r"broken\.png: not a readable picture"):
        next(evaluate.ood_windows(model, tmp_path))


def test_strangers_are_seen_as_scenes_of_the_training_are():
    arm = Embodiment.load("arm")
    simulation, scenes = robots.of(arm).simulate(width=32, height=32), robots.of(arm).ood_scenes(32, 32)
    for kind in robots.of(arm).ood_kinds:
        shown = scenes.frames(kind, 0, 2)
        assert shown.rgb.shape == (2, 32, 32, 3)
        # As far as the cameras of drawn scenes differ.
        assert shown.intrinsics[0, 0] == pytest.approx(simulation.intrinsics[0, 0], rel=0.35), kind
    for each in (simulation, scenes):
        each.close()
