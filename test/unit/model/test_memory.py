"""Frames that are found again by geometry, and what they change in what is imagined."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.memory import by_position, by_view, overlap
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment

CAMERA = geometry.Intrinsics(60.0, 60.0, 31.5, 31.5, 64, 64)


def posed(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> torch.Tensor:
    """A camera at (x, y, z) that is turned about its vertical (y) axis."""
    return geometry.pose_from_motion(torch.tensor([x, y, z, 0.0, yaw, 0.0]))


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(Embodiment.load("arm")))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.prepare(torch.device("cpu"), torch.float32)


def seen(model: WorldModel, seed: int, batch: int = 1) -> Belief:
    g = torch.Generator().manual_seed(seed)
    rgb, depth = torch.rand(batch, 4, 3, 64, 64, generator=g), 1.5 + torch.rand(batch, 4, 64, 64, generator=g)
    joints = 0.3 * torch.randn(batch, 3, 8, generator=g)
    k = torch.from_numpy(CAMERA.matrix)
    return model.observe(Observation(rgb, depth, k, torch.eye(4)), joints)


@settings(max_examples=50, deadline=None)
@given(points=st.lists(st.tuples(*[st.floats(-2, 2)] * 3), min_size=1, max_size=12), count=st.integers(1, 4))
def test_no_position_that_is_left_out_is_nearer(points: list[tuple[float, ...]], count: int) -> None:
    positions = [torch.tensor(p) for p in points]
    chosen = by_position(torch.zeros(3), positions, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(points))
    farthest = max(float(positions[i].norm()) for i in chosen)
    assert all(float(positions[i].norm()) >= farthest - 1e-6 for i in set(range(len(points))) - set(chosen))


def test_of_cameras_that_stand_alike_those_that_look_alike_are_found() -> None:
    query = posed()
    poses = [posed(0.01, yaw=2.5), posed(0.02, yaw=0.1), posed(0.02, yaw=-1.5), posed(9.0), None]
    assert by_view(query, poses, 1, CAMERA) == [1]
    assert 3 not in by_view(query, poses * 2, 2, CAMERA)
    assert by_view(query, [None, None], 2) == []


def test_of_equal_views_the_later_is_found() -> None:
    assert by_view(posed(), [posed(), posed(), posed(5.0)], 1, CAMERA) == [1]
    assert by_position(torch.zeros(3), [torch.ones(3), torch.ones(3)], 1) == [1]


def test_the_shared_view_is_all_of_ones_own_and_none_behind() -> None:
    assert overlap(posed(), posed(), CAMERA) == 1.0
    assert overlap(posed(), posed(yaw=math.pi), CAMERA) == 0.0
    turned = [overlap(posed(), posed(yaw=a), CAMERA) for a in (0.1, 0.3, 0.6)]
    assert turned == sorted(turned, reverse=True)
    assert 0 < turned[1] < 1


def test_frames_of_the_window_are_not_recalled_and_time_that_goes_back_forgets(model: WorldModel) -> None:
    memory = model.new_memory(capacity=5)
    plans = 0.1 * torch.randn(2, 3, 8)
    for step in range(4):
        belief = seen(model, step)
        model.remember(memory, belief, 0.2 * step)
    assert model.recall(belief, memory, plans).recalled == []
    for step in range(4, 9):
        model.remember(memory, seen(model, step), 0.2 * step)
        model.remember(memory, seen(model, step), 0.2 * step + 0.01)  # hardly later
    assert len(memory) == 5
    assert model.recall(belief, memory, plans).recalled[0][0].shape[2] == 1
    model.remember(memory, belief, 0.0)
    assert len(memory) == 1
    with pytest.raises(ShapeError, match="batch 2"):
        model.remember(memory, seen(model, 0, batch=2), 1.0)
    with pytest.raises(ShapeError, match="capacity"):
        model.new_memory(capacity=0)


def test_what_was_seen_before_the_window_changes_what_is_imagined(model: WorldModel) -> None:
    plans = 0.1 * torch.randn(3, 4, 8)
    belief = seen(model, 0)
    futures = []
    for other in (1, 2):
        memory = model.new_memory()
        model.remember(memory, seen(model, other), 0.0)
        model.remember(memory, belief, 10.0)
        futures.append(model.imagine(belief, plans, memory))
    without = model.imagine(belief, plans, model.new_memory())
    torch.testing.assert_close(without.latents, model.imagine(belief, plans).latents)
    for a, b in ((futures[0], futures[1]), (futures[0], without)):
        assert not torch.allclose(a.latents, b.latents, atol=1e-4)
        assert not torch.allclose(a.rgb, b.rgb, atol=1e-4)
