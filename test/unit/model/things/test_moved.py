"""Things are drawn where the camera will see them."""

import math
from dataclasses import replace

import pytest
import torch

from deepverse_ros import geometry
from deepverse_ros.model.things.moved import Looks, MovedPictures, draw_moved
from deepverse_ros.model.things.slots import Motion, Slots, nothing

NEAR, FAR = 0.4, 4.0
SIDE = 64
CAMERA = geometry.Intrinsics(80.0, 80.0, 31.5, 31.5, SIDE, SIDE)
K = torch.from_numpy(CAMERA.matrix)
# Not along the world's axes, so that a mistake in a frame shows.
POSE = geometry.pose_from_motion(torch.tensor([0.3, -0.2, 0.5, 0.4, -0.7, 1.1]))[None]
WALL, THING = 2.0, 1.0
"""Metres from the camera."""


def world(x: float, y: float, z: float) -> torch.Tensor:
    """A point of the camera's optical frame."""
    return geometry.transform(POSE[0], torch.tensor([x, y, z]))


def code(metres: float) -> float:
    return float(geometry.sqrt_disparity(torch.tensor(metres), NEAR, FAR))


def scene() -> tuple[torch.Tensor, torch.Tensor, Slots]:
    """A flat square thing, 16 pixels wide, before a wall, coloured differently at every pixel: newest, plate, slots."""
    generator = torch.Generator().manual_seed(0)
    plate = torch.rand(1, 5, SIDE, SIDE, generator=generator) * 0.5
    plate[:, 3], plate[:, 4] = code(WALL), 1
    newest = plate.clone()
    newest[:, :3, 24:40, 24:40] = 0.5 + 0.5 * torch.rand(1, 3, 16, 16, generator=generator)
    newest[:, 3, 24:40, 24:40] = code(THING)
    slots = nothing(1, SIDE, SIDE)
    slots.pixels[:, 24:40, 24:40] = 2
    slots.there[:, 1] = slots.seen[:, 1] = True
    slots.position[:, 1] = world(0, 0, THING)
    return newest, plate, slots


def motion(slots: Slots, *steps: torch.Tensor, turn: torch.Tensor | None = None) -> Motion:
    """Of one plan: thing 1 at `steps` (3,) each, all turned by `turn` (3,) rad in the camera's optical frame."""
    position = slots.position[:, None].repeat(1, len(steps), 1, 1)
    rotation = torch.eye(3).repeat(1, len(steps), 8, 1, 1)
    position[0, :, 1] = torch.stack(steps)
    if turn is not None:
        local = geometry.pose_from_motion(torch.cat([torch.zeros(3), turn]))[:3, :3]
        rotation[0, :, 1] = POSE[0, :3, :3] @ local @ POSE[0, :3, :3].T
    unknown = torch.zeros(position.shape[:-1])
    return Motion(position, rotation, unknown, unknown)


UNCOVERED = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)


def draw(newest: torch.Tensor, plate: torch.Tensor, slots: Slots, to: Motion, robot: torch.Tensor = UNCOVERED):  # type: ignore[no-untyped-def]
    return draw_moved(newest, plate, slots, robot, to, K, POSE, NEAR, FAR)


def test_a_thing_appears_where_the_projection_says_and_uncovers_what_was_behind() -> None:
    newest, plate, slots = scene()
    # 0.1 m at 1 m are 8 pixels.
    stays, left = draw(newest, plate, slots, motion(slots, world(0, 0, THING), world(-0.1, 0.05, THING)))
    assert torch.equal(stays[:5], newest[0])
    assert not stays[5:].any()
    expected = plate[0].clone()
    expected[:, 28:44, 16:32] = newest[0, :, 24:40, 24:40]
    torch.testing.assert_close(left[:5], expected, atol=1e-4, rtol=0)
    assert torch.equal(left[:3, 28:44, 16:32], newest[0, :3, 24:40, 24:40])
    here = torch.zeros(SIDE, SIDE)
    here[28:44, 16:32] = 1
    old = torch.zeros(SIDE, SIDE)
    old[23:41, 23:41] = 1
    assert torch.equal(left[5], here)
    assert torch.equal(left[6], old * (1 - here))


def test_every_other_pixel_is_exactly_the_newest_frames() -> None:
    newest, _, slots = scene()
    other = torch.rand(1, 5, SIDE, SIDE)
    other[:, 4] = 1
    other[:, 3] = code(FAR)
    robot = UNCOVERED.clone()
    robot[:, :10, 50:] = robot[:, 36:44, 36:44] = True  # the second lies over the thing's corner
    moved, still = draw(
        newest, other, slots, motion(slots, world(0.1, 0, THING), world(0.0012, 0.001, THING)), robot
    )  # the second by less than 2 mm
    changed = (moved[5:] > 0).any(0)
    assert torch.equal(moved[:5, ~changed], newest[0, :, ~changed])
    seen_behind = moved[6] > 0
    assert torch.equal(moved[:5, seen_behind], other[0, :, seen_behind])
    assert torch.equal(still[6] > 0, robot[0] & (slots.pixels[0] == 0))
    assert torch.equal(still[:5, slots.pixels[0] > 0], newest[0, :, slots.pixels[0] > 0])


def test_what_is_nearer_hides_a_thing_and_a_thing_hides_what_is_behind() -> None:
    newest, plate, slots = scene()
    obstacle = torch.tensor([0.9, 0.1, 0.1])
    for picture in (newest, plate):
        picture[:, :3, :, 10:16] = obstacle[:, None, None]
        picture[:, 3, :, 10:16] = code(0.7)
    # At 1 m it passes behind the obstacle, at 0.6 m before it.
    hidden, shown = draw(newest, plate, slots, motion(slots, world(-0.2, 0, THING), world(-0.2 * 0.6, 0, 0.6)))
    assert torch.equal(hidden[:5, :, 10:16], newest[0, :, :, 10:16])
    assert (hidden[5, 24:40, [9, 16]] == 1).all()
    assert (shown[5, 26:38, 10:16] == 1).all()


def test_a_guess_hides_nothing() -> None:
    newest, plate, slots = scene()
    robot = UNCOVERED.clone()
    robot[:, 20:44, 8:20] = True
    plate[:, 3, 20:44, 8:20], plate[:, 4, 20:44, 8:20] = code(0.5), 0
    (drawn,) = draw(newest, plate, slots, motion(slots, world(-0.15, 0, THING)), robot)
    assert (drawn[5, 24:40, 12:28] == 1).all()


@pytest.mark.parametrize("depth", [0.55, 0.7, 0.9, 1.3])
def test_a_thing_that_comes_nearer_or_goes_away_has_its_size_and_no_holes(depth: float) -> None:
    newest, plate, slots = scene()
    (drawn,) = draw(newest, plate, slots, motion(slots, world(0, 0, depth)))
    rows, columns = (drawn[5] > 0).any(1).nonzero(), (drawn[5] > 0).any(0).nonzero()
    for along in (rows, columns):
        assert abs(len(along) - 16 / depth) <= 2
    assert drawn[5].sum() == len(rows) * len(columns)
    assert (drawn[:3, drawn[5] > 0] >= 0.5).all()  # of the thing's own colours
    torch.testing.assert_close(drawn[3, drawn[5] > 0], torch.full((int(drawn[5].sum()),), code(depth)))


def test_a_thing_turns_about_its_middle() -> None:
    newest, plate, slots = scene()
    quarter = torch.tensor([0, 0, math.pi / 2])
    (drawn,) = draw(newest, plate, slots, motion(slots, world(0, 0, THING), turn=quarter))
    # From x right to y down: clockwise in the picture.
    expected = torch.rot90(newest[0, :3, 24:40, 24:40], -1, (1, 2))
    torch.testing.assert_close(drawn[:3, 24:40, 24:40], expected)


def test_what_a_thing_hid_is_like_what_it_showed_once_it_has_turned() -> None:
    newest, plate, slots = scene()
    # Only one half of the thing is seen, the left; it is 8 pixels wide, and its middle is at its right edge.
    slots.pixels[:, :, 32:] = 0
    newest[:, :, :, 32:] = plate[:, :, :, 32:]
    half = torch.tensor([0, 0, math.pi])
    stays, turned = (
        draw(newest, plate, slots, motion(slots, world(0.1, 0, THING), turn=turn))[0] for turn in (None, half)
    )
    assert stays[5].sum() == 16 * 8
    assert turned[5].sum() == 16 * 16
    seen = newest[0, :3, 24:40, 24:32]
    torch.testing.assert_close(turned[:3, 24:40, 40:48], seen.flip(1, 2))
    torch.testing.assert_close(turned[:3, 24:40, 32:40], seen)


def test_pixels_without_depth_move_as_the_middle_does_and_stay_unknown() -> None:
    newest, plate, slots = scene()
    newest[:, 3:, 24:40, 24:40] = 0
    (drawn,) = draw(newest, plate, slots, motion(slots, world(0.1, 0, THING)))
    torch.testing.assert_close(drawn[:3, 24:40, 32:48], newest[0, :3, 24:40, 24:40])
    assert (drawn[3:5, 24:40, 32:48] == 0).all()


def test_what_leaves_the_picture_is_gone() -> None:
    newest, plate, slots = scene()
    for away in (world(5, 0, THING), world(0, 0, -1.0), torch.full((3,), torch.nan)):
        (drawn,) = draw(newest, plate, slots, motion(slots, away))
        gone = torch.isfinite(away).all()  # nobody knows where the last one is: it stays
        assert torch.equal(drawn[:5], plate[0] if gone else newest[0])
        assert not drawn[5].any()


def test_plans_of_one_belief_are_drawn_as_if_each_were_alone() -> None:
    newest, plate, slots = scene()
    generator = torch.Generator().manual_seed(1)
    one = motion(slots, *[world(0, 0, THING)] * 3)
    plans = Motion(
        one.position + 0.1 * torch.randn(4, 3, 8, 3, generator=generator),
        geometry.pose_from_motion(torch.randn(4, 3, 8, 6, generator=generator))[..., :3, :3],
        one.std.expand(4, 3, 8), one.touched.expand(4, 3, 8),
    )  # fmt: skip
    pictures = MovedPictures(newest, plate, slots, UNCOVERED, plans, K, POSE, NEAR, FAR)
    together = pictures.draw().unflatten(0, (4, 3))
    some = pictures.select(torch.tensor([2, 0])).draw().unflatten(0, (2, 3))
    assert torch.equal(some, together[[2, 0]])
    # As many beliefs as plans.
    each = MovedPictures(
        *(t.repeat(4, 1, 1, 1) for t in (newest, plate)), slots.expand(4), UNCOVERED.repeat(4, 1, 1), plans, K,
        POSE.repeat(4, 1, 1), NEAR, FAR,
    )  # fmt: skip
    torch.testing.assert_close(each.draw().unflatten(0, (4, 3)), together)
    assert torch.equal(
        each.select(torch.tensor([2, 0])).draw().unflatten(0, (2, 3)), each.draw().unflatten(0, (4, 3))[[2, 0]]
    )


def test_the_nearer_of_two_moved_things_is_seen() -> None:
    newest, plate, slots = scene()
    # A second thing, to the left and farther away, moves behind the first, which moves too.
    newest[:, :3, 28:36, 4:12], newest[:, 3, 28:36, 4:12] = 0.0, code(1.5)
    slots.pixels[:, 28:36, 4:12] = 1
    slots = replace(slots, there=slots.there.clone(), seen=slots.seen.clone(), position=slots.position.clone())
    slots.there[:, 0] = slots.seen[:, 0] = True
    slots.position[:, 0] = world(-24 / 80 * 1.5, 0, 1.5)
    to = motion(slots, world(0.1, 0, THING))
    to.position[0, 0, 0] = world(0.1 * 1.5, 0, 1.5)
    (drawn,) = draw(newest, plate, slots, to)
    torch.testing.assert_close(drawn[:3, 24:40, 32:48], newest[0, :3, 24:40, 24:40])
    assert drawn[5].sum() == 16 * 16


def test_what_the_robot_hides_is_drawn_as_it_was_seen_last_where_it_lies_and_where_it_goes() -> None:
    shows, plate, slots = scene()
    looks = Looks(shows, slots.pixels.clone())
    robot = UNCOVERED.clone()
    robot[:, 20:44, 20:44] = True
    newest = torch.where(robot[:, None], torch.tensor([0.1, 0.1, 0.1, code(0.6), 1])[None, :, None, None], plate)
    slots.pixels[:] = 0
    slots.seen[:] = False
    ways = motion(slots, world(0, 0, THING), world(0.2, 0, THING))
    lies, went = draw_moved(newest, plate, slots, robot, ways, K, POSE, NEAR, FAR, looks)
    torch.testing.assert_close(lies[:5, 24:40, 24:40], shows[0, :, 24:40, 24:40], atol=1e-4, rtol=0)
    torch.testing.assert_close(went[:5, 24:40, 40:56], shows[0, :, 24:40, 24:40], atol=1e-4, rtol=0)
    for drawn, first in ((lies, 24), (went, 40)):
        here = torch.zeros(SIDE, SIDE)
        here[24:40, first : first + 16] = 1
        assert torch.equal(drawn[5], here)
        assert torch.equal(drawn[6], robot[0] * (1 - here))
    for drawn in draw_moved(newest, plate, slots, robot, ways, K, POSE, NEAR, FAR):
        assert not drawn[5].any()


def test_older_frames_tell_the_looks_of_hidden_things_the_newer_one_first() -> None:
    frames = torch.rand(1, 3, 5, 4, 4)
    shown = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    assert Looks.remembered(frames, shown) is None
    shown[0, 0, :2], shown[0, 1, 1:3] = 1, 2
    looks = Looks.remembered(frames, shown)
    assert looks is not None
    assert looks.pixels[0, :, 0].tolist() == [1, 2, 2, 0]
    assert torch.equal(looks.picture[0, :, 0], frames[0, 0, :, 0])
    assert torch.equal(looks.picture[0, :, 1:3], frames[0, 1, :, 1:3])
