"""Steps of a computation cover frames of a plan."""

import pytest
import torch

from deepverse_ros.model.things.detail import COARSE, FINE, Detail


@pytest.mark.parametrize(
    ("frames", "horizon", "ends", "counts"),
    [
        (1, 3, [1, 2, 3], [1, 1, 1]),
        (2, 8, [2, 4, 6, 8], [2, 2, 2, 2]),
        (2, 5, [2, 4, 5], [2, 2, 1]),
        (2, 1, [1], [1]),
        (3, 4, [3, 4], [3, 1]),
    ],
)
def test_steps_cover_a_plan(frames: int, horizon: int, ends: list[int], counts: list[int]) -> None:
    steps = Detail(points=8, frames=frames, parts=1, rounds=1).steps(horizon)
    assert steps.ends == ends
    assert steps.counts == counts


@pytest.mark.parametrize("horizon", [1, 4, 5])
@pytest.mark.parametrize("detail", [COARSE, FINE])
def test_what_goes_evenly_is_known_in_between(detail: Detail, horizon: int) -> None:
    frames = torch.arange(1.0, horizon + 1)[None, :, None].expand(2, -1, 3)
    steps = detail.steps(horizon)
    after = frames[:, [end - 1 for end in steps.ends]]
    assert torch.allclose(steps.between(torch.zeros(2, 3), after), frames)
    held = steps.of_frames(after)
    assert held.shape == frames.shape
    assert bool((held >= frames).all())
    assert torch.equal(held[:, -1], frames[:, -1])
