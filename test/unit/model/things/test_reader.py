"""What the reader is given and gives; that it learns is asked in training/test_reading_stage.py."""

import numpy as np
import pytest
import torch
from tables_made import CAMERA, INTRINSICS, SIZE, picture

from deepverse_ros import geometry
from deepverse_ros.model.things.reader import Reader, points_of


def given(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    frames, drawn = torch.rand(batch, 5, 32, 48), torch.rand(batch, 4, 16, 24)
    return frames, torch.randn(batch, 32, 48, 3) * 0.2, drawn


def test_every_pixel_votes_and_every_weight_learns_from_it() -> None:
    reader = Reader()
    frames, points, drawn = given()
    votes = reader(frames, points, drawn)
    assert votes.logit.shape == votes.std.shape == (2, 32, 48)
    assert votes.middle.shape == (2, 32, 48, 3)
    assert float(votes.std.detach().min()) > 0
    (votes.logit.square().mean() + votes.middle.square().mean() + votes.std.log().square().mean()).backward()
    # The second convolution of a block begins at 0 and hides what is before it, for one step.
    late = {id(b) for name, b in reader.named_parameters() if ".norm." in name or ".conv1." in name}
    assert all(p.grad is not None and (id(p) in late or float(p.grad.abs().max()) > 0) for p in reader.parameters())


def test_without_depth_a_pixel_may_show_a_thing_and_votes_for_no_place() -> None:
    frames, points, drawn = given(1)
    points[0, 3, 5] = torch.nan
    votes = Reader()(frames, points, drawn)
    assert bool(torch.isfinite(votes.logit).all())
    unknown = ~torch.isfinite(votes.middle).all(-1)
    assert unknown.nonzero().tolist() == [[0, 3, 5]]


@pytest.mark.parametrize("changed", ["frames", "points", "drawn"])
def test_everything_that_it_is_given_counts(changed: str) -> None:
    reader = Reader().eval()
    frames, points, drawn = given(1)
    before = reader(frames, points, drawn).logit
    if changed == "frames":
        frames[:, :3] = 1 - frames[:, :3]
    elif changed == "points":
        points[..., 2] += 0.01
    else:
        drawn[:, 0] = 0
    assert float((reader(frames, points, drawn).logit - before).detach().abs().max()) > 1e-4


def test_a_robot_that_nobody_knows_is_as_one_that_is_not_there() -> None:
    reader = Reader().eval()
    frames, points, drawn = given(1)
    assert torch.equal(reader(frames, points).logit, reader(frames, points, torch.zeros_like(drawn)).logit)


def test_points_are_where_geometry_says_for_every_camera() -> None:
    depth = (
        torch.from_numpy(picture(np.array([[0.5, 0.0, 0.03]]), np.full((1, 3), 0.03))[0]).float()[None].repeat(2, 1, 1)
    )
    depth[1, 4, 7] = torch.nan
    k, pose = torch.from_numpy(INTRINSICS).repeat(2, 1, 1), torch.from_numpy(CAMERA).repeat(2, 1, 1)
    k[1, 0, 0], pose[1, 0, 3] = 50, 2.0
    points = points_of(depth, k, pose)
    for n in range(2):
        camera = geometry.Intrinsics.from_matrix(k[n], SIZE, SIZE)
        assert torch.allclose(points[n], geometry.unproject(depth[n], camera, pose[n]), atol=1e-5, equal_nan=True)
    assert float(points[0, ..., 2].min()) > -1e-4  # nothing lies below the table
