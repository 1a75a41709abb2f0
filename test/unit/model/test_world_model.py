"""The world model's promises, on an untrained network: what holds for any weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.errors import DeviceError, ShapeError
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.dynamics import Steps, to_cells, to_tokens
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment


@pytest.fixture(scope="module")
def arm() -> Embodiment:
    return Embodiment.load("arm")


@pytest.fixture(scope="module")
def model(arm: Embodiment) -> WorldModel:
    return shaken(arm)


@pytest.fixture(scope="module")
def bodiless(arm: Embodiment) -> WorldModel:
    return shaken(arm.model_copy(update={"body": None}))


def shaken(arm: Embodiment) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(arm))
    # Heads start at zero; move them so that a wrong cache or a dropped action shows.
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.prepare(torch.device("cpu"), torch.float32)


def observed(model: WorldModel, batch: int = 1, frames: int = 4, seed: int = 0) -> tuple[Observation, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    size = (model.config.height, model.config.width)
    rgb = torch.rand(batch, frames, 3, *size, generator=g)
    depth = 1.5 + 2 * torch.rand(batch, frames, *size, generator=g)
    return Observation(rgb, depth), plans(model, batch, frames - 1, seed)


def plans(model: WorldModel, count: int, horizon: int, seed: int = 1) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    lower, upper = torch.from_numpy(model.embodiment.lower), torch.from_numpy(model.embodiment.upper)
    return lower + (upper - lower) * torch.rand(count, horizon, model.embodiment.action_dim, generator=g)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_cached_rollout_equals_the_whole_window_computed_at_once(bodiless: WorldModel, frames: int) -> None:
    model = bodiless  # so that the future's states are those that are carried from step to step
    observation, past = observed(model, frames=frames)
    plan = plans(model, 1, 5)
    future = model.imagine(model.observe(observation, past), plan)
    cells, _ = model.codec.observe(model.frames(observation))
    latents = torch.cat([to_tokens(cells, model.config.dynamics.token_patch), future.latents[:, :-1]], 1)
    unknown = torch.full((1, 1, 8), torch.nan)
    # The oldest frame's joints are unknown; the others' are told by the past actions, the later ones predicted.
    own = future.states[:, :-1] if frames > 1 else unknown.expand(1, 4, 8)
    states = torch.cat([unknown, past, own], 1)
    rays = torch.full((*latents.shape[:3], 6), torch.nan)
    whole = model.dynamics(Steps(latents, torch.cat([past, plan], 1), states, rays))
    torch.testing.assert_close(whole.latents[:, frames - 1 :], future.latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(whole.states[:, frames - 1 :], future.states, atol=1e-4, rtol=1e-4)


def test_a_shared_belief_gives_each_plan_what_it_would_get_alone(model: WorldModel) -> None:
    belief = model.observe(*observed(model))
    together = plans(model, 5, 6)
    futures = model.imagine(belief, together)
    alone = model.imagine(belief, together[3:4])
    torch.testing.assert_close(futures.latents[3:4], alone.latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(futures.select([3]).rgb, alone.rgb, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(futures.latents[0], futures.latents[1], atol=1e-3)


def test_a_batch_of_beliefs_is_paired_with_its_plans(model: WorldModel) -> None:
    observation, past = observed(model, batch=3)
    plan = plans(model, 3, 4)
    paired = model.imagine(model.observe(observation, past), plan)
    single = model.observe(Observation(observation.rgb[1:2], observation.depth[1:2]), past[1:2])
    alone = model.imagine(single, plan[1:2])
    torch.testing.assert_close(paired.rgb[1:2], alone.rgb, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(paired.depth[1:2], alone.depth, atol=1e-3, rtol=1e-3)


def test_the_past_does_not_depend_on_the_future(model: WorldModel) -> None:
    belief = model.observe(*observed(model))
    plan = plans(model, 1, 6)
    changed = plan.clone()
    changed[:, 4:] = plans(model, 1, 2, seed=9)
    a, b = model.imagine(belief, plan), model.imagine(belief, changed)
    torch.testing.assert_close(a.latents[:, :4], b.latents[:, :4])
    assert not torch.allclose(a.latents[:, 4:], b.latents[:, 4:], atol=1e-3)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_every_size_of_the_config_works_and_depth_stays_in_the_cameras_range(arm: Embodiment, size: int) -> None:
    model = WorldModel(WorldModelConfig.small_test(arm, size)).prepare(torch.device("cpu"))
    future = model.imagine(model.observe(*observed(model, frames=2)), plans(model, 2, 3))
    assert future.rgb.shape == (2, 3, 3, size, size)
    assert future.depth.shape == future.depth_scale.shape == (2, 3, size, size)
    assert arm.camera.near <= future.depth.min() <= future.depth.max() <= arm.camera.far
    assert future.uncertainty.shape == (2, 3)


def test_pictures_of_another_size_or_without_depth_are_taken(model: WorldModel) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (2, 120, 160, 3), np.uint8)
    k = np.array([[100, 0, 79.5], [0, 100, 59.5], [0, 0, 1]], np.float32)
    belief = model.observe(Observation.from_numpy(rgb, intrinsics=k), plans(model, 1, 1))
    # 160x120 is cropped to 120x120 and scaled to 64x64: the centre stays the centre.
    np.testing.assert_allclose(belief.intrinsics[0, 2], 31.5, atol=1e-3)
    np.testing.assert_allclose(belief.intrinsics[0, 0], 100 * 64 / 120, rtol=1e-4)
    assert torch.isfinite(model.imagine(belief, plans(model, 1, 2)).rgb).all()


def test_unknown_depth_in_every_spelling_is_the_same(model: WorldModel) -> None:
    observation, past = observed(model)
    beliefs = []
    for unknown in (float("nan"), 0.0, float("inf"), -1.0):
        depth = observation.depth.clone()
        depth[:, :, :20] = unknown
        beliefs.append(model.observe(Observation(observation.rgb, depth), past).newest)
    for other in beliefs[1:]:
        torch.testing.assert_close(beliefs[0].latents, other.latents)
    assert torch.isfinite(beliefs[0].latents).all()


def test_the_action_and_the_latent_both_tell_where_the_tool_ends(model: WorldModel) -> None:
    future = model.imagine(model.observe(*observed(model)), plans(model, 3, 4))
    told = plans(model, 3, 4)
    read, *_ = model.outcome_readout(future.latents, told)
    other_action, *_ = model.outcome_readout(future.latents, told.flip(0))
    other_latent, *_ = model.outcome_readout(future.latents.flip(0), told)
    for other in (other_action, other_latent):
        assert (read[0] - other[0]).abs().max() > 1e-4
    # A joint that is turned a full circle stands where it stood.
    turned = told.clone()
    turned[..., 0] += 2 * torch.pi
    model.outcome_readout.action.weight.data[:, 0] = 0  # all but the linear term
    torch.testing.assert_close(*(model.outcome_readout(future.latents, x)[0] for x in (told, turned)))


def test_a_future_becomes_a_field_over_space_and_time(model: WorldModel) -> None:
    observation, past = observed(model)
    size = model.config.width
    k = torch.tensor([[60.0, 0, size / 2], [0, 60.0, size / 2], [0, 0, 1]])
    placed = Observation(observation.rgb, observation.depth, k, torch.eye(4))
    future = model.predict_future(placed, plans(model, 2, 3), past)
    volume = future.volume(1, lower=(-3.0, -3.0, 0.0), upper=(3.0, 3.0, 6.0), voxel=0.05)
    assert volume.grid.shape == (3, 120, 120, 120)
    assert 0 < volume.bytes < 0.2 * volume.dense_bytes
    # What was imagined at a pixel is found where and when that pixel is.
    v, u, step = 30, 25, 2
    depth = future.depth[1, step, v, u]
    x, y = (u - size / 2) / 60 * depth, (v - size / 2) / 60 * depth
    _, occupancy = volume.query(x, y, depth, torch.tensor((step + 1) * model.embodiment.dt))
    assert occupancy > 0
    with pytest.raises(ShapeError, match="intrinsics and camera_to_world"):
        model.predict_future(observation, plans(model, 1, 3), past).volume(lower=(0, 0, 0), upper=(1, 1, 1), voxel=0.1)


def test_depth_changes_what_is_read_from_a_goal_picture(model: WorldModel) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    near, far = (model.encode_goal(rgb, np.full((64, 64), metres, np.float32)) for metres in (1.5, 4.0))
    assert np.abs(near.tool_position - far.tool_position).max() > 1e-4
    unknown = model.encode_goal(rgb, np.full((64, 64), np.nan, np.float32))
    np.testing.assert_allclose(unknown.tool_position, model.encode_goal(rgb).tool_position, atol=1e-6)


def test_wrong_input_is_refused_by_name(model: WorldModel) -> None:
    observation, past = observed(model)
    belief = model.observe(observation, past)
    with pytest.raises(ShapeError, match="actions"):
        model.observe(observation, past[:, :2])
    with pytest.raises(ShapeError, match="1 to 4 frames"):
        model.observe(observed(model, frames=5)[0], plans(model, 1, 4))
    with pytest.raises(ShapeError, match=r"plans.*8"):
        model.imagine(belief, torch.zeros(1, 3, 7))
    with pytest.raises(ShapeError, match="plans"):
        model.imagine(belief, torch.zeros(1, 0, 8))
    with pytest.raises(ShapeError, match="plans"):
        model.imagine(belief, torch.zeros(1, 33, 8))
    broken = plans(model, 2, 3)
    broken[1, 2, 5] = float("nan")
    with pytest.raises(ShapeError, match=r"\[1, 2, 5\]"):
        model.imagine(belief, broken)
    with pytest.raises(ShapeError, match="goal image"):
        model.encode_goal(np.zeros((64, 64), np.uint8))
    with pytest.raises(ShapeError, match="empty"):
        Observation.from_numpy(np.zeros((1, 0, 64, 3), np.uint8))


def test_an_unfitted_novelty_detector_trusts_nothing(model: WorldModel) -> None:
    assert model.observe(*observed(model)).out_of_distribution


def test_a_missing_gpu_is_reported_with_the_fix() -> None:
    if torch.cuda.is_available():
        assert WorldModel is not None
        return
    from deepverse_ros.model.device import resolve_device

    with pytest.raises(DeviceError, match=r"torch .*device:=cpu"):
        resolve_device("cuda")
    with pytest.raises(DeviceError, match="unknown"):
        resolve_device("gpu")


@settings(max_examples=30, deadline=None)
@given(patch=st.sampled_from([1, 2, 4]), rows=st.integers(1, 4), columns=st.integers(1, 4), depth=st.integers(1, 5))
def test_tokens_and_cells_are_the_same_numbers(patch: int, rows: int, columns: int, depth: int) -> None:
    cells = torch.randn(2, 3, depth, rows * patch, columns * patch)
    tokens = to_tokens(cells, patch)
    assert tokens.shape == (2, 3, rows * columns, depth * patch**2)
    torch.testing.assert_close(to_cells(tokens, patch, rows * patch), cells)
    # One token holds one patch.
    torch.testing.assert_close(tokens[..., 0, :], cells[..., :patch, :patch].flatten(-3))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("rgb", torch.zeros(1, 2, 3, 64, 64, dtype=torch.uint8), "rgb: expected floats"),
        ("rgb", torch.zeros(2, 3, 64, 64), "rgb: expected floats"),
        ("rgb", torch.zeros(0, 2, 3, 64, 64), "rgb: empty"),
        ("rgb", torch.full((1, 2, 3, 64, 64), 255.0), r"rgb: expected numbers in \[0, 1\]"),
        ("rgb", torch.full((1, 2, 3, 64, 64), torch.nan), r"rgb: expected numbers in \[0, 1\]"),
        ("depth", torch.ones(1, 1, 64, 64), r"depth: expected \(1, 2, 64, 64\)"),
        ("intrinsics", torch.eye(4), r"intrinsics: expected \(3, 3\)"),
        ("camera_to_world", torch.eye(3), r"camera_to_world: expected \(4, 4\) or \(2, 4, 4\) or \(1, 2, 4, 4\)"),
        ("camera_to_world", torch.full((4, 4), torch.nan), "camera_to_world: not finite"),
    ],
)
def test_an_observation_that_is_none_is_named(model: WorldModel, field: str, value: torch.Tensor, said: str) -> None:
    good = Observation(torch.zeros(1, 2, 3, 64, 64), torch.ones(1, 2, 64, 64), torch.eye(3), torch.eye(4))
    past = torch.zeros(1, 1, model.embodiment.action_dim)
    model.observe(good, past)
    model.observe(replace(good, camera_to_world=torch.eye(4).expand(2, 4, 4)), past)
    with pytest.raises(ShapeError, match=said):
        model.observe(replace(good, **{field: value}), past)


def test_no_plans_are_none_to_imagine(model: WorldModel) -> None:
    with pytest.raises(ShapeError, match="plans"):
        model.imagine(model.observe(*observed(model)), plans(model, 2, 3)[:0])
