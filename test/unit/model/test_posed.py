"""Models that are told where their camera stands."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.readout import Camera
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment

K = torch.tensor([[80.0, 0, 31.5], [0, 80.0, 31.5], [0, 0, 1]])


def pose(*place: float) -> torch.Tensor:
    return geometry.pose_from_motion(torch.tensor([*place, 0.3, -0.2, 0.5]))


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    config = WorldModelConfig.small_test(Embodiment.load("arm")).model_copy(update={"posed": True})
    model = WorldModel(config)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.prepare(torch.device("cpu"), torch.float32)


def seen(at: torch.Tensor | None, frames: int = 4) -> Observation:
    g = torch.Generator().manual_seed(0)
    rgb, depth = torch.rand(1, frames, 3, 64, 64, generator=g), 1 + torch.rand(1, frames, 64, 64, generator=g)
    return Observation(rgb, depth, K, at)


def test_a_pixel_and_its_depth_are_a_place() -> None:
    at = pose(0.3, -0.2, 0.9)[None]
    point = geometry.transform(at, torch.tensor([[[0.1, -0.2, 1.2]]]))
    pixel, depth = geometry.project(point, K, at)
    told = (pixel[:, 0] + 0.5) / 64 * 2 - 1
    torch.testing.assert_close(Camera(K, at, (64, 64)).place(told, depth[:, 0]), point[:, 0])


def test_a_camera_that_stands_elsewhere_sees_the_same_picture_elsewhere(model: WorldModel) -> None:
    there, here = pose(0.0, 0.0, 0.0), pose(0.4, 0.1, -0.2)
    one, other = (model.observe(seen(at, frames=1)).tool_position for at in (there, here))
    moved = geometry.transform(here @ geometry.inverse(there), one[:, None])[:, 0]
    torch.testing.assert_close(other, moved)
    goals = [model.encode_goal(np.zeros((64, 64, 3), np.uint8), None, K.numpy(), at.numpy()) for at in (there, here)]
    assert np.linalg.norm(goals[0].tool_position - goals[1].tool_position) > 0.1


def test_what_is_imagined_depends_on_where_the_camera_stands(model: WorldModel) -> None:
    past, plan = torch.zeros(1, 3, 8), torch.zeros(2, 4, 8)
    futures = [model.imagine(model.observe(seen(pose(*at)), past), plan) for at in ((0.0, 0.0, 0.0), (0.5, 0.0, 0.0))]
    assert float((futures[0].latents - futures[1].latents).abs().max()) > 1e-4
    assert float((futures[0].readout["tool_position"] - futures[1].readout["tool_position"]).abs().max()) > 1e-4
    coarse = [model.imagine_coarse(model.observe(seen(pose(*at)), past), plan) for at in ((0.0, 0, 0), (0.5, 0, 0))]
    assert float((coarse[0].embedding - coarse[1].embedding).abs().max()) > 1e-4


@pytest.mark.parametrize("missing", ["intrinsics", "camera_to_world"])
def test_a_camera_that_stands_anywhere_must_be_known(model: WorldModel, missing: str) -> None:
    with pytest.raises(ShapeError, match="told where its camera stands, in the base frame 'base_link'"):
        model.observe(replace(seen(pose(0.0, 0.0, 0.0)), **{missing: None}), torch.zeros(1, 3, 8))
    with pytest.raises(ShapeError, match="told where its camera stands"):
        model.encode_goal(np.zeros((64, 64, 3), np.uint8))


def test_it_warms_up(model: WorldModel) -> None:
    assert model.warm_up() > 0
