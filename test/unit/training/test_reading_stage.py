"""The stage of the reader learns to find things, with labels and, their pixels alone, without."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tables_made import episodes
from trainings_made import SIZE, episode

from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.model.things.reader import Reader
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.batches.changes import labels_from_change
from deepverse_ros.training.batches.dataset import Episodes
from deepverse_ros.training.config import ReadingStageConfig
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.stages.reading import ReadingStage, _small_counts

CPU = torch.device("cpu")


def stage(train: Episodes, held_out: Episodes, **settings: object) -> ReadingStage:
    torch.manual_seed(0)
    given = {"steps": 60, "batch": 4, "learning_rate": 3e-3, "depth_dropout": 0.0} | settings
    config = ReadingStageConfig.model_validate(given)
    return ReadingStage(Reader((16, 24, 32)), config, train, held_out, CPU, "float32")


def learn(stage: ReadingStage, steps: int) -> None:
    optimizer = torch.optim.AdamW(stage.module.parameters(), lr=3e-3, betas=(0.9, 0.98))
    for step in range(steps):
        optimizer.zero_grad()
        stage.loss(step, Draw.of_step(0, step))["total"].backward()
        torch.nn.utils.clip_grad_norm_(stage.module.parameters(), 1.0)
        optimizer.step()
    stage.module.eval()


@pytest.mark.slow
def test_it_learns_to_find_things_that_it_never_saw() -> None:
    trained = stage(episodes(40), episodes(8, seed=1))
    before = trained.validate()
    learn(trained, 110)
    after = trained.validate()
    assert before["overlap"] < 0.2
    assert after["overlap"] > 0.4
    assert after["found"] > 0.7
    assert after["phantoms"] < 0.5
    assert after["median_cm"] < 1.5
    shown = trained.sample()
    assert shown is not None
    assert shown.dtype == np.uint8


def test_without_labels_it_learns_from_what_changes() -> None:
    unlabelled = replace(episodes(40, frames=5), segmentation=None, poses=None)
    known = episodes(8, seed=1)
    trained = stage(unlabelled, known)
    assert set(trained.loss(0, Draw.of_step(0, 0))) == {"total", "pixels"}
    learn(trained, 60)
    assert trained.validate()["overlap"] > 0.4  # by true labels
    unknown = ReadingStage(trained.module, trained.config, unlabelled, unlabelled[:4], CPU, "float32")
    assert set(unknown.validate()) == {"overlap"}
    assert unknown.sample() is None


def test_parts_of_a_batch_have_the_loss_of_the_whole_one_where_all_frames_hold_as_many_things() -> None:
    some = episodes(4)
    assert some.segmentation is not None
    none = replace(some, segmentation=np.zeros_like(some.segmentation))
    whole = stage(none, none, depth_dropout=0.5)
    parts = [whole.loss(3, Draw.of_step(0, 3, part, 2))["total"] for part in range(2)]
    assert torch.allclose(whole.loss(3, Draw.of_step(0, 3))["total"], torch.stack(parts).mean(), atol=1e-5)


def test_a_frame_without_depth_teaches_pixels_and_no_votes() -> None:
    blind = stage(episodes(4), episodes(4), depth_dropout=1.0)
    losses = blind.loss(0, Draw.of_step(0, 0))
    assert float(losses["votes"]) == 0
    losses["total"].backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in blind.module.parameters())


def changing() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three frames: a thing in rows 4..8 moves from columns 4..8 to 20..24; the first has a robot in rows 20..27."""
    rgb, depth = torch.full((1, 3, 3, 32, 32), 0.5), torch.full((1, 3, 32, 32), 1.0)
    robot = torch.zeros(1, 3, 32, 32, dtype=torch.bool)
    robot[0, 0, 20:28, 4:12] = True
    depth[0, 0, 20:28, 4:12] = 0.6
    depth[0, 0, 4:9, 4:9] = depth[0, 1:, 4:9, 20:25] = 0.95
    return rgb, depth, robot


def test_what_moves_is_a_thing_and_what_it_uncovers_is_none() -> None:
    rgb, depth, robot = changing()
    thing, weight = labels_from_change(rgb, depth, robot)
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[4:9, 4:9] = True
    assert torch.equal(thing[0], expected)
    assert float(weight[0, 4:9, 4:9].min()) == float(weight[0, 4:9, 20:25].min()) == 1
    assert float(weight[0, 22:26, 6:10].min()) == 1  # the robot
    assert 0 < float(weight[0, 15, 15]) < 0.5  # where nothing happened


def test_neither_the_robot_nor_its_rim_nor_a_flicker_is_a_thing() -> None:
    rgb, depth, robot = changing()
    depth[0, 0, 18:20, 4:12] = 0.6  # the robot is drawn a little too small
    depth[0, 0, :, 30] = 0.9  # one column flickers
    thing, weight = labels_from_change(rgb, depth, robot)
    assert not bool(thing[0, 10:].any())
    assert not bool(thing[0, :, 30].any())
    assert float(weight[0, 18:20, 4:12].max()) == 0
    # Without the robot's drawing it would be one.
    assert bool(labels_from_change(rgb, depth, torch.zeros_like(robot)).thing[0, 22, 8])


def test_a_pixel_without_depth_that_changes_its_colour_is_not_known() -> None:
    rgb, depth, robot = changing()
    depth[0, :, 12:14, 12:14] = torch.nan
    rgb[0, 0, :, 12:14, 12:14] = 0.9
    thing, weight = labels_from_change(rgb, depth, robot)
    assert not bool(thing[0, 12:14, 12:14].any())
    assert float(weight[0, 12:14, 12:14].max()) == 0


def stored(path: Path, things: list[int | None]) -> Episodes:
    """Episodes of so many things each; None: one that knows nothing of them."""
    store = EpisodeStore(path)
    for i, count in enumerate(things):
        made = episode(i)
        if count is not None:
            state = {
                **made.state,
                "object_poses": np.arange(len(made) * 7 * count, dtype=np.float32).reshape(len(made), -1),
                "object_touched": np.ones((len(made), count), np.float32),
            }
            segmentation = np.full(made.depth.shape, 2 + i, np.uint8)
            made = replace(made, state=state, segmentation=segmentation)
        store.write(i, made)
    return Episodes.load(store, Embodiment.load("arm"), (SIZE, SIZE), 10)


def test_episodes_know_their_things_and_keep_them_apart(tmp_path: Path) -> None:
    loaded = stored(tmp_path, [2, 0, 3])
    assert loaded.poses is not None
    assert loaded.touched is not None
    assert loaded.segmentation is not None
    assert loaded.poses.shape == (3, 10, 8, 7)
    assert torch.isfinite(loaded.poses).all(-1).sum(-1)[:, 4].tolist() == [2, 0, 3]
    assert loaded.poses[0, 1, 1].tolist() == list(range(21, 28))
    assert loaded.touched.sum(-1)[:, 0].tolist() == [2, 0, 3]
    last = loaded[2:]
    assert last.segmentation is not None
    assert last.poses is not None
    assert last.segmentation.shape == loaded.depth[2:].shape
    assert int(last.segmentation.min()) == 4
    assert torch.equal(last.poses[0, :, :3], loaded.poses[2, :, :3])


@pytest.mark.parametrize("things", [[None, None], [2, None]])
def test_where_one_episode_does_not_know_its_things_none_does(tmp_path: Path, things: list[int | None]) -> None:
    loaded = stored(tmp_path, things)
    assert loaded.poses is loaded.touched is loaded.segmentation is None
    assert loaded[1:].poses is None


def test_pixels_of_what_shows_few_count_for_more_but_not_without_bound() -> None:
    label = torch.zeros(2, 20, 20, dtype=torch.uint8)
    label[0, :10, :10] = 2  # large
    label[0, 12, :20] = 3  # a third of what counts once
    label[0, 15, :2] = 4
    label[1, :, 0] = 2  # the same thing is small in another frame
    label[1, 5, 5:10] = 1  # the robot
    counts = _small_counts(label)
    for frame, which, each in ((0, 2, 1.0), (0, 3, 3.0), (0, 4, 6.0), (1, 2, 3.0), (1, 1, 1.0), (0, 0, 1.0)):
        assert (counts[frame][label[frame] == which] == each).all(), (frame, which)


def test_frames_in_which_a_thing_moves_or_is_raised_are_seen_more_often_than_they_are() -> None:
    still = episodes(40, frames=8)
    assert still.poses is not None
    poses = still.poses[:, :1].expand(-1, 8, -1, -1).clone()
    poses[3, 5:, 0, 0] += 0.1  # moves from frame 4 to 5
    poses[7, 2, 0, 2] += 0.05  # is raised, which is a motion, too, from 1 to 3
    train = replace(still, poses=poses)
    chosen = [stage(train, train, batch=400)._chosen(Draw.of_step(0, step)) for step in range(4)]
    index, times = (np.concatenate(part) for part in zip(*chosen, strict=True))
    raised = (index == 7) & (times == 2)
    moving = ((index == 3) & np.isin(times, [4, 5])) | ((index == 7) & np.isin(times, [1, 2, 3]))
    assert 0.25 < raised.mean() < 0.36  # a quarter, and a fifth of those that move
    assert 0.45 < (raised | moving).mean() < 0.55
    assert len(set(index)) == 40
