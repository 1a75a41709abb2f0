"""Errors in the pixels beside the robot that change, and the prediction that needs no world model."""

import numpy as np
import pytest
import torch
from pushed_square import ARM, ROBOT, SIZE, pushed

from deepverse_ros.data.collect import EpisodeGenerator
from deepverse_ros.evaluation.prediction.evaluate import evaluate, windows_of
from deepverse_ros.evaluation.prediction.kinematic_copy import KinematicCopy, copied
from deepverse_ros.evaluation.prediction.registry import Predicted
from deepverse_ros.evaluation.prediction.world import WorldErrors, world_pixels
from deepverse_ros.model.config import ThingsConfig, WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return WorldModel(WorldModelConfig.small_test(ARM, SIZE)).requires_grad_(False).eval()


@pytest.fixture
def windows(model):
    return windows_of(model, pushed(), stride=4)


def truth(windows):
    return Predicted(windows.rgb, windows.depth)


def stays(windows):
    """The thing is left where it was."""
    rgb, depth = windows.last_rgb[:, None], windows.last_depth[:, None]
    return Predicted(rgb.expand_as(windows.rgb), depth.expand_as(windows.depth))


def figures(windows, **predicted):
    errors = WorldErrors(windows.rgb.shape[1])
    errors.add(windows, predicted)
    return errors.figures()


def column(left):
    """A drawing of the robot as in `pushed`, 4 pixels wide."""
    rgb, depth, mask = np.zeros((SIZE, SIZE, 3), np.uint8), np.full((SIZE, SIZE), 9, np.float32), np.zeros((SIZE,) * 2)
    rgb[:, left : left + 4], depth[:, left : left + 4], mask[:, left : left + 4] = ROBOT, 1.5, 1
    return rgb, depth, mask > 0


def test_only_what_changes_beside_the_robot_counts(windows):
    where = world_pixels(windows)
    expected = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    expected[20:28, 5:7] = expected[20:28, 13:15] = True  # two columns uncovered, two covered, no pixel of the robot
    assert torch.equal(where[0, 0], expected)
    assert windows.moving[0, 0].sum() > where[0, 0].sum()


def test_the_truth_closes_the_gap_and_a_thing_that_stays_does_not(windows):
    still = stays(windows)
    right = figures(windows, model=truth(windows), persistence=still, codec=truth(windows), copy=still)
    assert right["gap_closed"] == [1.0] * 8
    assert right["mse"]["model"] == right["depth_m"]["model"] == right["against_copy"] == [0.0] * 8
    assert right["pixels"][0] == pytest.approx(32 / SIZE**2)
    wrong = figures(windows, model=still, persistence=still, codec=truth(windows), copy=still)
    assert wrong["gap_closed"] == [0.0] * 8
    assert wrong["against_copy"] == [1.0] * 8
    assert wrong["depth_m"]["model"] == pytest.approx([1.0] * 8)  # 2 m instead of 3 m, and the other way round
    faded = Predicted(1 - windows.rgb, windows.depth)
    worse = figures(windows, model=faded, persistence=still, codec=truth(windows), copy=still)
    assert max(worse["gap_closed"]) < 0


def test_errors_are_of_all_pixels_together(model):
    # A window with many such pixels is worth more than one with few.
    quick, slow = (windows_of(model, pushed(steps=s), stride=4) for s in (4, 1))
    errors = WorldErrors(8)
    for windows, guess in ((quick, truth(quick)), (slow, stays(slow))):
        predicted = dict.fromkeys(("persistence", "codec", "copy"), stays(windows))
        errors.add(windows, {"model": guess, **predicted})
    alone = figures(slow, **dict.fromkeys(("model", "persistence", "codec", "copy"), stays(slow)))
    ours, theirs = errors.figures()["mse"]["model"][0], alone["mse"]["model"][0]
    assert ours == pytest.approx(theirs * 16 / (16 + 64))


def test_a_missing_copy_is_null_and_unknown_pictures_have_no_figures(model, windows):
    part = figures(windows, model=truth(windows), persistence=stays(windows), codec=truth(windows))
    assert part["mse"]["copy"] is part["depth_m"]["copy"] is part["against_copy"] is None
    assert part["gap_closed"] == [1.0] * 8
    assert figures(windows_of(model, pushed(labelled=False), stride=4), model=None) is None


def test_the_copy_takes_the_robot_out_and_draws_it_where_it_is_told(windows):
    # The wall behind the robot stands in older frames, but for one column, which the robot covers in all of them.
    wall = (90 + torch.arange(SIZE)) / 255
    shown = copied(windows, lambda joints: column(20))
    behind = shown.rgb[0, 0, 0, 40]
    for x in (36, 39, 45, 50):
        assert behind[x] == pytest.approx(float(wall[x]), abs=2.1 / 255)
    assert (behind - wall)[30:60].abs().max() < 4.5 / 255  # what nobody saw is as what is nearest to it
    assert torch.equal(shown.rgb[0, 0, :, 40, 21], torch.tensor(ROBOT) / 255)
    assert shown.depth[0, 0, 40, 21] == 1.5
    assert shown.depth[0, 0, 40, 44] == 3.0
    # The thing is where it was last: that it will be pushed is what the copy does not know.
    assert torch.equal(shown.rgb[0, 7, :, 20:28, 5:13], windows.last_rgb[0, :, 20:28, 5:13])
    scored = figures(windows, model=shown, persistence=stays(windows), codec=truth(windows), copy=shown)
    assert scored["gap_closed"][0] == 0.0


def test_what_stands_before_the_robot_hides_it(windows):
    def far(joints):
        rgb, depth, mask = column(5)
        return rgb, depth + 1, mask  # 2.5 m: behind the square, before the wall

    shown = copied(windows, far)
    assert torch.equal(shown.rgb[0, 0, :, 22, 6], windows.last_rgb[0, :, 22, 6])
    assert torch.equal(shown.rgb[0, 0, :, 40, 6], torch.tensor(ROBOT) / 255)


def test_the_copy_needs_the_scene_of_the_episode(model, windows):
    copy = KinematicCopy(model)
    assert copy.of_episode(windows, pushed()) is None  # no simulated camera stands there
    assert copy.of_episode(windows_of(model, pushed(labelled=False), stride=4), pushed(labelled=False)) is None
    copy.close()


def test_the_simulated_robot_is_drawn_where_it_goes():
    arm = Embodiment.load("arm")
    world = WorldModel(WorldModelConfig.small_test(arm, SIZE)).requires_grad_(False).eval()
    generator = EpisodeGenerator(arm, (SIZE, SIZE))
    film = generator.record(3, 0, 12)
    generator.close()
    seen = windows_of(world, film, stride=4)
    copy = KinematicCopy(world)
    shown = copy.of_episode(seen, film)
    copy.close()
    both = seen.segmentation[0] == 1
    true, drawn = (p[0].permute(0, 2, 3, 1)[both] for p in (seen.rgb, shown.rgb))
    last = seen.last_rgb.expand_as(seen.rgb[0]).permute(0, 2, 3, 1)[both]
    assert (drawn - true).square().mean() < 0.5 * (last - true).square().mean()


def test_the_codec_is_shown_its_things_where_they_truly_went():
    # A fresh decoder mostly copies them. One that is not told finds them where they were, and its gap is none.
    torch.manual_seed(0)
    config = WorldModelConfig.small_test(ARM, SIZE).model_copy(update={"things": ThingsConfig(), "posed": True})
    model = WorldModel(config).requires_grad_(False).eval()
    mse = evaluate(model, [pushed(1), pushed(2)])["world"]["mse"]
    assert mse["codec"][-1] < 0.5 * mse["persistence"][-1]
