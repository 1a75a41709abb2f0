"""Codec and decoder are trained with pictures of things that truly moved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from trainings_made import FRAMES, QUIET, SIZE, config, episode

from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.model.codec import Codec, Decoded
from deepverse_ros.model.config import CodecConfig
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.batches.moved import beside_robot, moved_pictures, true_motion, true_slots
from deepverse_ros.training.config import CodecStageConfig
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.losses.pictures import codec_loss
from deepverse_ros.training.stages.codec import CodecStage
from deepverse_ros.training.trainer import train

CPU = torch.device("cpu")
STEP = 2 / 15
"""Metres that a thing at 2 m moves a frame: 2 pixels."""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Episodes:
    """A square before a wall is a thing that moves 2 pixels a frame to the right, below a robot that stays."""
    store = EpisodeStore(tmp_path_factory.mktemp("episodes"))
    for seed in range(6):
        e = episode(seed)
        e.rgb[:], e.depth[:] = 60, 3000
        segmentation = np.zeros((FRAMES, SIZE, SIZE), np.uint8)
        poses = np.zeros((FRAMES, 7), np.float32)
        poses[:, 2], poses[:, 6] = 2, 1
        for t in range(FRAMES):
            left = 1 + 2 * t
            e.rgb[t, 12:16, left : left + 4], e.depth[t, 12:16, left : left + 4] = (250, 200, 40), 2000
            segmentation[t, 12:16, left : left + 4] = 2
            poses[t, 0] = (left + 1.5 - 15.5) / 30 * 2
        poses[:, 1] = (13.5 - 15.5) / 30 * 2
        e.rgb[:, :6, :6] = (10, 10, 200)
        segmentation[:, :6, :6] = 1
        e.state["object_poses"] = poses
        store.write(seed, replace(e, segmentation=segmentation))
    return Episodes.load(store, Embodiment.load("arm"), (SIZE, SIZE), FRAMES)


WINDOW = np.array([0, 3]), np.array([4, 5]), np.array([[0, 3], [1, 5]])


def test_true_motion_draws_the_true_later_frames(known: Episodes) -> None:
    index, newest, ahead = WINDOW
    moved = moved_pictures(known, index, newest, ahead, 4, None, CPU).unflatten(0, (2, 2))
    truth = known.frames(index[:, None].repeat(2, 1), newest[:, None] + ahead, CPU)
    robot = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    robot[:7, :7] = True
    torch.testing.assert_close(moved[:, :, :5, ~robot], truth[..., ~robot], atol=2e-3, rtol=0)
    assert (moved[:, :, 5].flatten(2).sum(-1) == torch.tensor([[0, 16], [16, 16]])).all()
    assert (moved[:, :, :3, :6, :6] < 0.3).all()  # the wall behind the robot


def test_noise_moves_what_moves_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.full((1, 8, 7), torch.nan)
    before[:, :2] = torch.tensor([0.1, 0.2, 0.3, 0, 0, 0, 1])
    after = before[:, None].repeat(1, 400, 1, 1)
    after[:, :, 1, 0] += 0.1
    shake = torch.randn(1, 400, 8, 6, generator=generator)
    exact, noisy = true_motion(before, after), true_motion(before, after, shake)
    torch.testing.assert_close(noisy.position[:, :, 0], exact.position[:, :, 0])
    torch.testing.assert_close(noisy.rotation[:, :, 0], exact.rotation[:, :, 0])
    off = noisy.position[:, :, 1] - exact.position[:, :, 1]
    assert 0.0035 < off.std() < 0.0045
    assert 0.5 < torch.rad2deg((noisy.rotation[:, :, 1, 0, 1]).std()) < 2.5
    torch.testing.assert_close(exact.position[:, :, 1], after[:, :, 1, :3])


def test_true_slots_are_the_things_of_the_labels() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    labels[0, 0] = torch.tensor([0, 1, 2, 9])
    poses = torch.full((1, 8, 7), torch.nan)
    poses[0, [0, 3, 7]] = torch.tensor([0.1, 0.2, 0.3, 0, 0, 0, 1])
    slots = true_slots(labels, poses)
    assert slots.pixels[0, 0].tolist() == [0, 0, 1, 8]
    assert slots.there[0].nonzero().flatten().tolist() == [0, 3, 7]
    assert slots.seen[0].nonzero().flatten().tolist() == [0, 7]
    assert torch.isfinite(slots.position).all()


def test_what_changed_beside_the_robot_weighs_more() -> None:
    previous = torch.full((1, 3, 32, 32), 0.5)
    rgb, disparity = previous.clone(), torch.full((1, 32, 32), 0.5)
    rgb[:, :, 4:8, 4:8] = rgb[:, :, 20:24, 20:24] = 1.0
    beside = torch.ones(1, 32, 32, dtype=torch.bool)
    beside[:, 18:26, 18:26] = False
    costs = []
    for where in ((5, 5), (21, 21), (5, 20)):
        decoded = Decoded(rgb.clone(), disparity.clone(), torch.full_like(disparity, -3.0))
        decoded.rgb[0, :, where[0], where[1]] -= 0.2
        costs.append(float(codec_loss(decoded, rgb, disparity, previous, 4.0, beside, 8.0)["rgb"]))
    thing, robot, still = costs
    assert thing == pytest.approx(13 * still, rel=1e-3)
    assert robot == pytest.approx(5 * still, rel=1e-3)


def stage(known: Episodes, moved: bool, **changes: object) -> CodecStage:
    torch.manual_seed(0)
    settings = {"steps": 1, "batch": 2, "targets": 2, "learning_rate": 1e-3, **changes}
    codec = Codec(CodecConfig(channels=(8, 8, 16), latent_dim=8), 0, moved)
    return CodecStage(codec, CodecStageConfig.model_validate(settings), known, known, 4, 4, CPU, "float32")


def test_the_stage_trains_what_copies_moved_things(known: Episodes) -> None:
    with_things = stage(known, True, moved_dropout=0.0, depth_dropout=0.0)
    with_things.loss(0, Draw.of_step(0, 0))["total"].backward()
    part = with_things.codec.decoder.moved
    assert all(float(p.grad.abs().sum()) > 0 for p in part.parameters())
    # Where nothing is shown, nothing is learned of it.
    for changes in ({"moved_dropout": 1.0}, {"depth_dropout": 1.0}):
        without = stage(known, True, **changes)
        without.loss(0, Draw.of_step(0, 0))["total"].backward()
        assert all(float(p.grad.abs().sum()) == 0 for p in without.codec.decoder.moved.to1.parameters())


def test_parts_of_a_batch_draw_what_the_whole_draws(known: Episodes) -> None:
    whole = stage(known, True, batch=4)
    together = whole.loss(0, Draw.of_step(0, 0))["rgb"]
    parts = [whole.loss(0, Draw.of_step(0, 0, part, 2))["rgb"] for part in range(2)]
    torch.testing.assert_close(sum(parts) / 2, together)


def test_scores_tell_what_changed_beside_the_robot(known: Episodes) -> None:
    scores = stage(known, True).validate()
    assert scores["world_moved"] > 40 > scores["world_persistence"]
    assert scores["world_moved"] > scores["world"] > scores["world_persistence"]  # it begins by copying it
    assert "world_moved" not in stage(known, False).validate()
    unlabelled = replace(known, segmentation=None)
    assert set(stage(unlabelled, True).validate()) == {"psnr", "persistence"}


@pytest.mark.parametrize("missing", ["segmentation", "poses"])
def test_episodes_that_do_not_know_their_things_train_too(known: Episodes, missing: str) -> None:
    unknown = replace(known, **{missing: None})
    assert moved_pictures(unknown, *WINDOW, 4, None, CPU) is None
    assert (beside_robot(unknown, *WINDOW) is None) == (missing == "segmentation")
    assert torch.isfinite(stage(unknown, True).loss(0, Draw.of_step(0, 0))["total"])
    assert stage(unknown, True).sample().dtype == np.uint8


def test_a_whole_training_on_episodes_with_things(known: Episodes, tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "episodes")
    for seed in range(5):
        e = episode(seed)
        labels = np.zeros((FRAMES, SIZE, SIZE), np.uint8)
        labels[:, 10:20, 10:20] = 1
        store.write(seed, replace(e, segmentation=labels))
    checkpoint = train(config(store.directory, steps=2), tmp_path / "run", device="cpu", console=QUIET)
    assert (checkpoint / "model.safetensors").exists()
    assert "world_persistence" in (tmp_path / "run" / "decoder.csv").read_text()
