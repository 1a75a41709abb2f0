"""The drawing of the robot's body against what the simulation renders, and what the decoder makes of it."""

import numpy as np
import pytest
import torch
from reaching import ARM

from deepverse_ros import geometry
from deepverse_ros.model.body_rendering import CHANNELS, draw
from deepverse_ros.model.codec import Codec
from deepverse_ros.model.config import CodecConfig
from deepverse_ros.simulation.arm.simulation import ArmSimulation

HOME = torch.tensor(ARM.home)


@pytest.fixture(scope="module")
def simulation():  # type: ignore[no-untyped-def]
    with ArmSimulation(3, n_objects=0, n_obstacles=0, randomise=False) as arm:
        yield arm


def drawn(states: torch.Tensor, simulation: ArmSimulation) -> torch.Tensor:
    pose = torch.from_numpy(simulation.camera_to_world).float().expand(len(states), 4, 4)
    return draw(ARM, states, torch.from_numpy(simulation.intrinsics).float(), pose, 128, 128)


def test_the_outline_and_the_depth_are_those_of_the_picture(simulation: ArmSimulation) -> None:
    rng = np.random.default_rng(1)
    for _ in range(6):
        joints = np.asarray(ARM.home) + rng.normal(0, 0.3, 8) * [1, 1, 1, 1, 1, 1, 1, 0]
        simulation.set_joints(joints)
        _, depth = simulation.render()
        own = depth < simulation.goal_frame(joints, base_offset=(0.0, 50.0))[1] - 0.01
        picture = drawn(torch.from_numpy(joints).float()[None], simulation)[0]
        big = picture.repeat_interleave(2, -1).repeat_interleave(2, -2).numpy()
        outline = big[0] > 0
        assert (outline & own).sum() / (outline | own).sum() > 0.75  # capsules cover the arm: a little wider
        assert (outline[own]).mean() > 0.93
        metres = geometry.depth_from_sqrt_disparity(torch.from_numpy(big[2]), ARM.camera.near, ARM.camera.far).numpy()
        assert np.median(np.abs(metres - depth)[own & outline]) < 0.02


def test_what_is_drawn_has_the_promised_ranges(simulation: ArmSimulation) -> None:
    picture = drawn(HOME[None], simulation)[0]
    number, inside, code, along = picture
    assert picture.shape == (CHANNELS, 64, 64)
    assert set(number.unique().tolist()) <= set(range(len(ARM.body.capsules) + 1))
    assert ((inside >= 0) == (number > 0)).all()
    assert inside.min() >= -1
    assert inside.max() <= 1
    assert (code[number == 0] == 0).all()
    assert (code[number > 0] > 0).all()
    assert along.min() >= 0
    assert along.max() <= 1


def test_nothing_is_drawn_of_what_is_not_known(simulation: ArmSimulation) -> None:
    states = HOME.repeat(2, 1)
    states[0, 2] = torch.nan
    picture = drawn(states, simulation)
    assert (picture[0] == 0).all()
    assert (picture[1] != 0).any()
    without = ARM.model_copy(update={"body": None})
    pose = torch.from_numpy(simulation.camera_to_world).float()[None]
    nothing = draw(without, HOME[None], torch.from_numpy(simulation.intrinsics).float(), pose, 128, 128)
    assert nothing.shape == (1, CHANNELS, 64, 64)
    assert (nothing == 0).all()


def test_a_body_behind_the_camera_is_not_in_the_picture(simulation: ArmSimulation) -> None:
    pose = torch.from_numpy(simulation.camera_to_world).float()
    turned = pose @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    picture = draw(ARM, HOME[None], torch.from_numpy(simulation.intrinsics).float(), turned[None], 128, 128)
    assert (picture[:, 0] == 0).all()
    assert torch.isfinite(picture).all()


def test_a_drawing_of_nothing_changes_no_picture_and_one_of_the_body_does(simulation: ArmSimulation) -> None:
    torch.manual_seed(0)
    codec = Codec(CodecConfig(channels=(16, 16, 32), latent_dim=8), len(ARM.body.capsules))
    for layer in (codec.decoder.body.to4, codec.decoder.body.to1):
        torch.nn.init.normal_(layer.weight, std=0.3)
    frames = torch.rand(1, 2, 5, 128, 128)
    latents, (older, newest) = codec.observe(frames)
    source = codec.decoder.source(older, newest)
    plain = codec.decoder(latents[:, 1], source).rgb
    unknown = codec.decoder(latents[:, 1], source, torch.zeros(1, CHANNELS, 64, 64)).rgb
    shown = codec.decoder(latents[:, 1], source, drawn(HOME[None], simulation)).rgb
    torch.testing.assert_close(unknown, plain)
    assert (shown - plain).abs().max() > 0.05


def test_what_is_drawn_does_not_depend_on_what_else_is_drawn(simulation: ArmSimulation) -> None:
    rng = np.random.default_rng(3)
    joints = np.asarray(ARM.home) + rng.normal(0, 0.6, (12, 8)) * [1, 1, 1, 1, 1, 1, 1, 0]
    states = torch.from_numpy(joints).float()
    pose = torch.from_numpy(simulation.camera_to_world).float().repeat(12, 1, 1)
    pose[3:6, :3, 3] += 0.4 * torch.randn(3, 3)
    pose[6:8] = pose[6:8] @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))  # looks away
    intrinsics = torch.from_numpy(simulation.intrinsics).float().repeat(12, 1, 1)
    intrinsics[8:, :2, :2] *= 1.5  # parts of the arm are out of the picture
    together = draw(ARM, states, intrinsics, pose, 128, 128)
    alone = [draw(ARM, states[k, None], intrinsics[k, None], pose[k, None], 128, 128) for k in range(12)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=0)
    assert (together[8:, 0] > 0).any()
