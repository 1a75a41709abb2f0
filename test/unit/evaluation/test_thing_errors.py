"""Where things are imagined to end, and which are touched, against hand-made truths."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pushed_square import ARM, SIZE, pushed

from deepverse_ros.evaluation.prediction.blocked import BlockedErrors
from deepverse_ros.evaluation.prediction.drawing import drawn_windows
from deepverse_ros.evaluation.prediction.evaluate import windows_of
from deepverse_ros.evaluation.prediction.moving_world import imagined_things
from deepverse_ros.evaluation.prediction.things import Imagined, ThingErrors, assigned
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.things.slots import MOST, Things, nothing
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return WorldModel(WorldModelConfig.small_test(ARM, SIZE)).requires_grad_(False).eval()


@pytest.fixture
def windows(model):
    return windows_of(model, pushed(), stride=4)


def slots(places, order=(0, 1)):
    """(B, 8, 3) with the things at places (B, 2, 3) in the slots of `order`, NaN elsewhere."""
    out = np.full((len(places), MOST, 3), np.nan)
    out[:, list(order)] = places
    return out


def things(places, order=(0, 1), touched=()):
    at = torch.from_numpy(slots(places, order)).float()
    there = at.isfinite().all(-1).float()
    touch = torch.zeros_like(there)
    touch[:, list(touched)] = 1
    return Things(there=there, position=at.nan_to_num(), std=there, moved=there, touched=touch)


def errors_of(windows, imagined):
    errors = ThingErrors()
    errors.add(windows, imagined)
    return errors


def test_windows_tell_what_a_simulator_knows(model, windows):
    assert windows.things.shape == (1, 9, 2, 3)
    assert windows.things[0, :, 0, 0] == pytest.approx(-0.23 + 0.02 * np.arange(9))
    assert windows.touched[0].tolist() == [[True, False], *[[False, False]] * 7]
    assert windows.base.tolist() == [[0, 0, 0]]
    assert windows.segmentation_seen.shape == (1, 4, SIZE, SIZE)
    assert windows.in_sight.tolist() == windows.in_picture.tolist() == [[True, True]]
    assert windows.only(0).things.shape == (1, 9, 2, 3)
    large = windows_of(model, pushed(size=96), stride=4)
    assert large.segmentation.shape == large.depth.shape
    assert set(large.segmentation.unique().tolist()) == {0, 1, 2, 3}  # nearest: no label between two
    old = windows_of(model, pushed(labelled=False), stride=4)
    assert old.things is old.touched is old.segmentation is old.segmentation_seen is old.in_sight is old.base is None


def test_the_true_places_have_no_error_and_things_that_stay_have_that_of_persistence(windows):
    first, last = windows.things[:, 0], windows.things[:, -1]
    right = Imagined(slots(first), things(last), things(last), things(last, (3, 5)), things(last, (5, 3)))
    figures = errors_of(windows, right).figures()
    assert figures["n"] == 1  # of two things one moved
    assert figures["hidden"] == 0
    assert figures["error_m"]["persistence"] == {name: pytest.approx(0.16) for name in ("median", "mean")}
    for name in ("model", "coarse", "pictures", "reader"):
        assert figures["error_m"][name]["mean"] == pytest.approx(0, abs=1e-6)
        assert figures["missed"][name] == 0
    left = Imagined(slots(first), things(first), None, things(first), None)
    figures = errors_of(windows, left).figures()
    assert figures["error_m"]["model"]["median"] == figures["error_m"]["pictures"]["median"] == pytest.approx(0.16)
    assert figures["error_m"]["coarse"] is figures["error_m"]["reader"] is None


def test_a_slot_is_the_thing_that_it_stood_for_in_the_last_seen_frame(windows):
    first, last = windows.things[:, 0], windows.things[:, -1]
    swapped = Imagined(slots(first, (4, 2)), things(last, (4, 2)))
    assert errors_of(windows, swapped).figures()["error_m"]["model"]["mean"] == pytest.approx(0, abs=1e-6)
    # The right set of places with the identities exchanged is not right.
    exchanged = Imagined(slots(first), things(last, (1, 0)))
    assert errors_of(windows, exchanged).figures()["error_m"]["model"]["mean"] > 0.3
    far = Imagined(slots(first + 0.2), things(last))
    figures = errors_of(windows, far).figures()
    assert figures["missed"]["model"] == 1
    assert figures["error_m"]["model"]["mean"] == pytest.approx(0.16)


def test_a_thing_that_no_seen_frame_shows_is_counted_apart(windows):
    nowhere = torch.where(windows.segmentation_seen == 2, 0, windows.segmentation_seen)
    figures = errors_of(replace(windows, segmentation_seen=nowhere), None).figures()
    assert (figures["n"], figures["hidden"]) == (0, 1)
    assert figures["error_m"]["persistence"] is None


def test_a_thing_that_ends_beside_the_picture_is_counted_apart(windows):
    for shift in ((-0.3, 0, 0), (0, 0.5, 0), (0, 0, -3)):  # to the left, below, behind the camera
        things = windows.things.copy()
        things[0, -1, 0] += shift
        figures = errors_of(replace(windows, things=things), None).figures()
        assert (figures["n"], figures["gone"], figures["hidden"]) == (0, 1, 0)


def test_little_moves_count_apart(model):
    figures = errors_of(windows_of(model, pushed(steps=1, begins=8), stride=4), None).figures()
    assert (figures["n"], figures["moved_3cm"]["n"]) == (0, 1)  # 4 cm


def test_a_model_without_things_has_none_and_unknown_places_have_no_figures(model, windows):
    figures = errors_of(windows, None).figures()
    assert figures["error_m"]["model"] is None
    assert figures["error_m"]["persistence"]["mean"] == pytest.approx(0.16)
    assert errors_of(windows, None).contact() is None
    assert errors_of(windows_of(model, pushed(labelled=False), stride=4), None).figures() is None
    belief = model.observe(windows.seen, windows.past)
    assert imagined_things(model, windows, belief, model.imagine(belief, windows.plans)) is None


def test_what_a_model_says_of_things_is_asked_of_its_future_and_its_reader(windows):
    first, last = windows.things[:, 0], windows.things[:, -1]
    known = nothing(1, SIZE, SIZE)
    known.there[0, :2], known.position[0, :2] = True, torch.from_numpy(first[0])
    steps = Things(*(part[:, None].expand(-1, 8, *part.shape[1:]) for part in vars(things(last)).values()))
    asked = []

    def read(rgb, depth, states, intrinsics, camera_to_world):
        assert (len(states), tuple(intrinsics.shape), tuple(camera_to_world.shape)) == (len(rgb), (3, 3), (1, 4, 4))
        asked.append((rgb, depth, states))
        return things(first if rgb is asked[0][0] else last)

    future = SimpleNamespace(
        things=steps, rgb=1 - windows.rgb, depth=windows.depth, states=torch.from_numpy(windows.states)
    )
    coarse = SimpleNamespace(things=steps)
    fake = SimpleNamespace(read_things=read, imagine_coarse=lambda belief, plans: coarse)
    belief = SimpleNamespace(things=SimpleNamespace(slots=known))
    imagined = imagined_things(fake, windows, belief, future)
    figures = errors_of(windows, imagined).figures()["error_m"]
    assert [figures[n]["mean"] for n in ("model", "coarse", "reader")] == pytest.approx([0, 0, 0], abs=1e-6)
    assert figures["pictures"]["mean"] == pytest.approx(0.16)  # the imagined picture shows it where it was
    assert torch.equal(asked[0][0], 1 - windows.rgb[:, -1])
    assert torch.equal(asked[1][1], windows.depth[:, -1])


def test_places_are_assigned_one_to_one_nearest_first():
    true = np.array([[0.0, 0, 0], [0.1, 0, 0], [1.0, 0, 0]])
    found = np.array([[0.06, 0, 0], [0.09, 0, 0], [np.nan] * 3])
    assert assigned(true, found, np.full(3, 0.08)).tolist() == [0, 1, -1]
    assert assigned(true, found, np.full(3, 0.02)).tolist() == [-1, 1, -1]
    assert assigned(true[:0], found, np.zeros(0)).tolist() == []


def test_touches_have_precision_and_recall(windows):
    first, last = windows.things[:, 0], windows.things[:, -1]
    for touched, precision, recall in (((0,), 1.0, 1.0), ((0, 1), 0.5, 1.0), ((1,), 0.0, 0.0), ((), None, 0.0)):
        contact = errors_of(windows, Imagined(slots(first), things(last, touched=touched))).contact()
        assert contact == {"precision": precision, "recall": recall, "touched": 1, "said": len(touched)}
    assert errors_of(windows, Imagined(slots(first), things(last, touched=(7,)))).contact()["said"] == 0


def test_the_tool_of_a_blocked_arm(model, windows):
    tool = windows.tool.copy()
    brought = ARM.body.forward_kinematics(ARM.action_values(windows.plans))[ARM.tool_frame][..., :3, 3]
    tool[:, 1:] = brought + np.array((0.3, 0, 0))
    held = windows.states.copy()
    held[:, 5:, 1] -= 0.2  # from the sixth step on a joint stays behind
    base = np.full((1, 3), (0.3, 0, 0))
    errors = BlockedErrors(ARM)
    imagined = tool[:, 1:] + (0, 0, 0.01)
    imagined[:, 5:] += (0, 0, 0.03)
    errors.add(replace(windows, tool=tool, states=held, base=base), imagined)
    figures = errors.figures()
    assert (figures["n"], figures["free"]["n"]) == (3, 5)
    assert figures["error_m"]["model"] == pytest.approx(0.04)
    assert figures["free"]["error_m"] == {"model": pytest.approx(0.01), "kinematics": pytest.approx(0, abs=1e-6)}
    assert BlockedErrors(Embodiment.load("drone")).figures() is None


def test_half_of_the_windows_have_a_thing_that_moves():
    films = [pushed(seed, frames=28, begins=22) for seed in range(4)]  # of 5 windows each 2 have one
    drawn = drawn_windows(films, 4, 8, 4, seed=0)
    assert drawn.moving == 0.5
    assert sum(map(len, drawn.first)) == 20  # as many as at every fourth frame
    for film, first, plans in zip(films, drawn.first, drawn.plans, strict=True):
        assert np.array_equal(plans, film.actions[first[:, None] + 3 + np.arange(8)])
    again, other = (drawn_windows(films, 4, 8, 4, seed=seed) for seed in (0, 1))
    assert np.array_equal(np.concatenate(again.first), np.concatenate(drawn.first))
    assert not np.array_equal(np.concatenate(other.first), np.concatenate(drawn.first))
    # Where nothing moves, or nobody knows, there is nothing to choose.
    still = drawn_windows([pushed(s, frames=20, steps=0) for s in range(2)], 4, 8, 4, seed=0)
    assert ([f.tolist() for f in still.first], still.moving) == ([[0, 4, 8]] * 2, 0.0)
    old = drawn_windows([pushed(s, labelled=False) for s in range(2)], 4, 8, 4, seed=0)
    assert ([f.tolist() for f in old.first], old.moving) == ([[0], [0]], None)
