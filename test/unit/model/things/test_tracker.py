"""A thing keeps its slot's identity over frames, also behind the robot; what left or never was is not there."""

import numpy as np
import torch
from tables_made import CAMERA, INTRINSICS, SIZE, picture

from deepverse_ros.model.things.clustering import Found
from deepverse_ros.model.things.plate import dilated
from deepverse_ros.model.things.reader import points_of
from deepverse_ros.model.things.slots import MOST, SURFACE, Slots
from deepverse_ros.model.things.tracker import track

Boxes = list[tuple[float, float, float]]
"""x, y and half side of cubes on the table, metres."""


def tracked(
    frames: list[Boxes], robots: list[np.ndarray] | None = None, missed: tuple[int, int] | None = None
) -> Slots:
    """Tracks of one belief whose frames are read without error, except for box missed[1] of frame missed[0].

    Args: robots: (H, W) bool of each frame: there the robot is, at 0.5 m before the camera.
    """
    return tracked_and_shown(frames, robots, missed)[0]


def tracked_and_shown(
    frames: list[Boxes], robots: list[np.ndarray] | None = None, missed: tuple[int, int] | None = None,
    moved_camera: float = 0.0,
) -> tuple[Slots, torch.Tensor]:  # fmt: skip
    """As `tracked`, with what hidden things looked like. Args: moved_camera: metres before the newest frame."""
    found, depths = [], []
    robots = robots or [np.zeros((SIZE, SIZE), bool)] * len(frames)
    for t, (boxes, robot) in enumerate(zip(frames, robots, strict=True)):
        middles = np.array([(x, y, half) for x, y, half in boxes]).reshape(-1, 3)
        depth, label = picture(middles, np.array([[half] * 3 for _, _, half in boxes]).reshape(-1, 3))
        depth, label = np.where(robot, 0.5, depth), np.where(robot, 0, label)
        there, position = torch.zeros(1, MOST, dtype=torch.bool), torch.zeros(1, MOST, 3)
        for k, middle in enumerate(middles):
            there[0, k] = bool((label == k + 1).sum() >= 12) and missed != (t, k)
            position[0, k] = torch.from_numpy(middle).float() * there[0, k]
        pixels = torch.from_numpy(np.where(np.isin(label, 1 + there[0].nonzero()[:, 0].numpy()), label, 0))
        found.append(Found(there, position, torch.full((1, MOST), 0.004), pixels[None].to(torch.uint8)))
        depths.append(torch.from_numpy(depth).float())
    poses = torch.from_numpy(CAMERA).repeat(len(frames), 1, 1)
    poses[-1, 0, 3] += moved_camera
    k = torch.from_numpy(INTRINSICS)
    points = points_of(torch.stack(depths), k, poses)
    return track(found, points[None], torch.from_numpy(np.stack(robots))[None], k, poses[None])


def covering(box: tuple[float, float, float]) -> np.ndarray:
    """(H, W) bool: the robot over a whole box and around it."""
    _, label = picture(np.array([[box[0], box[1], box[2]]]), np.array([[box[2] + 0.02] * 3]))
    return label > 0


def test_a_pushed_thing_is_linked_and_tells_how_it_moved_last() -> None:
    frames: list[Boxes] = [[(0.5, 0.0, 0.03), (0.5, 0.2, 0.03)], [(0.52, 0.0, 0.03), (0.5, 0.2, 0.03)]]
    slots = tracked([*frames, [(0.57, 0.01, 0.03), (0.5, 0.2, 0.03)]])
    assert slots.there[0].tolist() == slots.seen[0].tolist() == [True] * 2 + [False] * 6
    moved = int(slots.position[0, :2, 0].argmax())
    assert torch.allclose(slots.last[0, moved, :3], torch.tensor([0.05, 0.01, 0.0]), atol=1e-5)
    assert float(slots.last[0, 1 - moved].abs().max()) < 1e-6
    assert slots.surface.shape == (1, MOST, SURFACE, 3)
    assert 0.02 < float(slots.surface[0, moved].norm(dim=-1).mean()) < 0.06
    assert sorted(torch.unique(slots.pixels).tolist()) == [0, 1, 2]


def test_things_that_cross_keep_their_identities() -> None:
    # Like frames: in the last step each ends nearer to where the other was; how they moved before tells them apart.
    y = [-0.06, -0.02, 0.02]
    frames: list[Boxes] = [[(0.48, at, 0.02), (0.51, -at, 0.02)] for at in y]
    slots = tracked(frames)
    for k in range(2):
        expected = 0.04 if slots.position[0, k, 1] > 0 else -0.04
        assert abs(float(slots.last[0, k, 1]) - expected) < 1e-5
        assert abs(float(slots.last[0, k, 0])) < 1e-5


def test_of_two_neighbours_the_one_of_like_size_is_the_same() -> None:
    # The large one went where the small one had been beside, the small one nearly where the large one was.
    slots = tracked([[(0.45, 0.0, 0.035), (0.52, 0.0, 0.012)], [(0.48, 0.0, 0.035), (0.45, 0.045, 0.012)]])
    large = int(slots.surface[0, :2].norm(dim=-1).mean(-1).argmax())
    assert abs(float(slots.last[0, large, 0]) - 0.03) < 1e-5


def test_what_was_seen_long_ago_is_no_likelier_to_be_a_thing_than_what_was_there_just_before() -> None:
    """A part that was taken for a thing once lies where the thing goes; it takes the thing's track from it."""
    frames: list[Boxes] = [[(0.5, 0.0, 0.03), (0.55, 0.0, 0.015)], [(0.5, 0.0, 0.03)], [(0.5, 0.0, 0.03)]]
    slots = tracked([*frames, [(0.53, 0.0, 0.03)]])
    assert slots.there[0].tolist() == [True] + [False] * 7
    assert torch.allclose(slots.last[0, 0, :3], torch.tensor([0.03, 0.0, 0.0]), atol=1e-5)


def test_what_the_robot_hides_and_was_hardly_found_before_was_a_part_of_it() -> None:
    nobody = np.zeros((SIZE, SIZE), bool)
    small, large = (0.5, 0.0, 0.02), (0.5, 0.0, 0.04)
    for box, once in ((small, False), (large, True)):
        robot = covering(box)
        assert bool(tracked([[box]] * 2, [nobody, robot]).there.any()) == once
        assert bool(tracked([[box]] * 3, [nobody, nobody, robot]).there.any())
        # Amid the robot's pixels it takes more than a few to be believed, found twice or not.
        label = picture(np.array([box]), np.full((1, 3), box[2]))[1] > 0
        hand = dilated(torch.from_numpy(label)[None], 3)[0].numpy() & ~label
        assert bool(tracked([[box]] * 3, [hand, hand, robot]).there.any()) == once


def test_what_went_off_faster_than_it_is_followed_is_not_left_behind() -> None:
    """The hand takes a thing 15 cm along in a step, and hides where it was: it is one thing, and not two."""
    here, there = (0.5, 0.0, 0.04), (0.5, 0.15, 0.04)
    nobody, robot = np.zeros((SIZE, SIZE), bool), covering(here)
    slots = tracked([[here], [here], [there]], [nobody, nobody, robot])
    assert slots.there[0].tolist() == slots.seen[0].tolist() == [True] + [False] * 7
    other = (0.5, 0.15, 0.018)  # another thing than the one that is hidden
    assert int(tracked([[here], [here], [other]], [nobody, nobody, robot]).there.sum()) == 2


def test_what_the_robot_hides_is_kept_and_not_seen() -> None:
    box = (0.5, 0.0, 0.03)
    nobody, robot = np.zeros((SIZE, SIZE), bool), covering(box)
    slots = tracked([[box]] * 3, [nobody, nobody, robot])
    assert slots.there[0].tolist() == [True] + [False] * 7
    assert not bool(slots.seen.any())
    assert torch.allclose(slots.position[0, 0], torch.tensor([0.5, 0.0, 0.03]))
    assert float(slots.surface[0, 0].abs().max()) > 0.02
    assert int(slots.pixels.max()) == 0
    assert float(slots.last.abs().max()) == 0


def test_of_what_the_robot_hides_the_newest_frame_that_shows_it_tells_its_looks() -> None:
    box, other = (0.5, 0.0, 0.03), (0.5, 0.25, 0.03)
    nobody, robot = np.zeros((SIZE, SIZE), bool), covering(box)
    slots, shown = tracked_and_shown([[other, box]] * 3, [nobody, nobody, robot])
    hidden = int((slots.there & ~slots.seen)[0].nonzero()[0])
    assert not shown[0, [0, 2]].any()
    assert sorted(torch.unique(shown[0, 1]).tolist()) == [0, hidden + 1]
    assert int((shown[0, 1] > 0).sum()) >= 12
    assert bool((torch.from_numpy(robot) | (shown[0, 1] == 0)).all())
    # Seen from elsewhere than now, its pixels would be in the wrong places.
    assert not tracked_and_shown([[other, box]] * 3, [nobody, nobody, robot], moved_camera=0.01)[1].any()


def test_what_comes_out_from_behind_the_robot_is_the_same_thing_again() -> None:
    box = (0.5, 0.0, 0.03)
    nobody, robot = np.zeros((SIZE, SIZE), bool), covering(box)
    slots = tracked([[box]] * 3, [nobody, robot, nobody])
    assert int(slots.there.sum()) == int(slots.seen.sum()) == 1
    assert float(slots.last.abs().max()) == 0  # nobody knows how it moved since the frame before


def test_what_left_is_gone_and_what_was_once_seen_where_only_table_is_too() -> None:
    box = (0.5, 0.0, 0.03)
    assert not bool(tracked([[box], [box], []]).there.any())


def test_what_is_merely_missed_stays_if_it_was_found_before() -> None:
    box = (0.5, 0.0, 0.03)
    slots = tracked([[box]] * 3, missed=(2, 0))
    assert int(slots.there.sum()) == 1
    assert not bool(slots.seen.any())
    assert not bool(tracked([[box]] * 2, missed=(1, 0)).there.any())


def test_pixels_of_what_is_behind_are_no_part_of_a_things_surface() -> None:
    """A mask that is a pixel too wide all around shows the table far behind the thing beside it."""
    half = 0.05
    k, pose = torch.from_numpy(INTRINSICS), torch.from_numpy(CAMERA)[None]
    depth, label = picture(np.array([[0.5, 0.0, half]]), np.full((1, 3), half))
    points = points_of(torch.from_numpy(depth).float()[None], k, pose)[None]
    wide = dilated(torch.from_numpy(label > 0)[None], 1).to(torch.uint8)
    there, position = torch.zeros(1, MOST, dtype=torch.bool), torch.zeros(1, MOST, 3)
    there[0, 0], position[0, 0] = True, torch.tensor([0.5, 0.0, half])
    found = Found(there, position, 0.004 * there, wide)
    reach = (points[0, 0] - position[0, 0]).norm(dim=-1)[wide[0] > 0]
    assert float(reach.max()) > 1.3 * 3**0.5 * half
    slots, _ = track([found], points, torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool), k, pose[None])
    assert float(slots.surface[0, 0].norm(dim=-1).max()) < 1.2 * 3**0.5 * half
    assert bool(slots.seen[0, 0])


def test_beliefs_of_a_batch_do_not_mix() -> None:
    k, pose = torch.from_numpy(INTRINSICS), torch.from_numpy(CAMERA).expand(2, 1, 4, 4)
    there, position = torch.zeros(2, MOST, dtype=torch.bool), torch.zeros(2, MOST, 3)
    depth, label = picture(np.array([[0.5, 0.0, 0.03]]), np.full((1, 3), 0.03))
    there[1, 0], position[1, 0] = True, torch.tensor([0.5, 0.0, 0.03])
    pixels = torch.stack([torch.zeros(SIZE, SIZE), torch.from_numpy(label)]).to(torch.uint8)
    points = points_of(torch.from_numpy(depth).float()[None], k, pose[:1, 0])[None].expand(2, -1, -1, -1, -1)
    robot = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.bool)
    slots, _ = track([Found(there, position, position[..., 0], pixels)], points, robot, k, pose)
    assert slots.there.sum(1).tolist() == [0, 1]
    assert torch.equal(slots.pixels, pixels)
