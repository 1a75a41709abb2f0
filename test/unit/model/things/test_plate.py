"""What stands behind robot and things, out of frames that show parts of it."""

import torch

from deepverse_ros.model.things.plate import clean_plate, dilated


def window(seed: int = 0) -> torch.Tensor:
    """(1, 4, 5, 32, 40) frames of noise whose depth is known."""
    frames = torch.rand(1, 4, 5, 32, 40, generator=torch.Generator().manual_seed(seed))
    frames[:, :, 4] = 1
    return frames


def test_each_pixel_is_of_the_newest_frame_that_shows_it() -> None:
    frames = window()
    covered = torch.zeros(1, 4, 32, 40, dtype=torch.bool)
    covered[:, 3, 4:20, 4:20] = True  # the newest frame hides all of this,
    covered[:, 2, 4:20, 4:12] = True  # the one before its left part,
    covered[:, 1, 4:12, 4:12] = True  # and the one before that a quarter
    plate = clean_plate(frames, covered)
    expected = frames[:, 3].clone()
    expected[:, :, 4:20, 12:20] = frames[:, 2, :, 4:20, 12:20]
    expected[:, :, 12:20, 4:12] = frames[:, 1, :, 12:20, 4:12]
    expected[:, :, 4:12, 4:12] = frames[:, 0, :, 4:12, 4:12]
    assert torch.equal(plate, expected)


def test_what_no_frame_shows_is_like_what_is_around_it() -> None:
    # The left half is dark and near, the right half bright and far.
    frames = torch.zeros(2, 3, 5, 33, 40)
    frames[:, :, :3, :, 20:], frames[:, :, 3, :, :20], frames[:, :, 3, :, 20:], frames[:, :, 4] = 0.9, 0.8, 0.3, 1
    covered = torch.zeros(2, 3, 33, 40, dtype=torch.bool)
    covered[0, :, 10:16, 4:10] = covered[0, :, 10:16, 30:36] = True
    plate = clean_plate(torch.where(covered[:, :, None], 0.5, frames), covered)
    assert (plate[0, :3, 10:16, 4:10] < 0.1).all()
    assert (plate[0, :3, 10:16, 30:36] > 0.8).all()
    torch.testing.assert_close(plate[0, 3, 12:14, 6:8], torch.full((2, 2), 0.8), atol=0.05, rtol=0)
    torch.testing.assert_close(plate[0, 3, 12:14, 32:34], torch.full((2, 2), 0.3), atol=0.05, rtol=0)
    assert (plate[:, 4] == ~covered[:, -1]).all()  # a guess does not count as known
    assert torch.equal(plate[1], frames[1, -1])


def test_depth_is_filled_from_where_it_is_known_alone() -> None:
    frames = window()
    frames[:, :, 3] = 0.6
    frames[:, :, 3:, 8:16, 8:14] = 0  # beside what is hidden, the camera knows no depth
    covered = torch.zeros(1, 4, 32, 40, dtype=torch.bool)
    covered[:, :, 8:16, 14:22] = True
    plate = clean_plate(frames, covered)
    torch.testing.assert_close(plate[:, 3, 8:16, 14:22], torch.full((1, 8, 8), 0.6))
    assert torch.equal(plate[:, :, 8:16, 8:14], frames[:, -1, :, 8:16, 8:14])


def test_where_nothing_is_ever_seen_or_known_there_is_nothing() -> None:
    frames = window()
    frames[:, :, 3:] = 0
    half = torch.zeros(1, 4, 32, 40, dtype=torch.bool)
    half[..., :20] = True
    assert (clean_plate(frames, half)[:, 3:] == 0).all()
    assert (clean_plate(frames, torch.ones_like(half)) == 0).all()


def test_a_mask_grows_to_all_sides() -> None:
    mask = torch.zeros(2, 3, 9, 9, dtype=torch.bool)
    mask[1, 2, 4, 0] = True
    grown = dilated(mask, 2)
    assert grown[1, 2, 2:7, :3].all()
    assert grown.sum() == 15
