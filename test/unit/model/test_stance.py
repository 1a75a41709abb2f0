import numpy as np
import pytest
import torch
from torch import Tensor

from deepverse_ros.model.stance import displacement, reconcile
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
FRAMES, MANY = 4, 4000


def read(std: Tensor, shift: tuple[float, float, float] = (0.0, 0.0, 0.0), seed: int = 0) -> tuple[Tensor, Tensor]:
    """States (B, T, K) near home and what a readout of spread `std` (B, T) sees of the tool."""
    rng = np.random.default_rng(seed)
    states = np.asarray(ARM.home) + rng.normal(0, 0.3, (*std.shape, ARM.state_dim)) * np.append(np.ones(7), 0)
    assert ARM.body is not None
    tool = ARM.body.forward_kinematics(ARM.measured_values(states))[ARM.tool_frame][..., :3, 3]
    noise = rng.normal(size=tool.shape) * std.numpy()[..., None]
    return torch.from_numpy(states).float(), torch.from_numpy(tool + shift + noise).float()


@pytest.mark.parametrize("frames", [2, FRAMES])
@pytest.mark.parametrize("std", [0.003, 0.01, 0.03, 0.2])
def test_readings_that_are_as_noisy_as_they_say_displace_no_robot(std: float, frames: int) -> None:
    spread = torch.full((MANY, frames), std)
    found = displacement(ARM, *read(spread), spread)
    assert float((found != 0).any(-1).float().mean()) < 0.01


@pytest.mark.parametrize("shift", [(0.08, 0.0, 0.0), (-0.1, 0.35, 0.0), (0.0, -0.15, 0.02)])
def test_a_displaced_robot_is_found_to_the_centimetre(shift: tuple[float, float, float]) -> None:
    spread = torch.full((MANY, FRAMES), 0.008)
    off = (displacement(ARM, *read(spread, shift), spread) - torch.tensor(shift)).norm(dim=-1)
    assert float((off < 0.01).float().mean()) > 0.8
    assert float(off.median()) < 0.008


def test_a_vague_frame_counts_for_less() -> None:
    spread = torch.full((MANY, FRAMES), 0.005)
    spread[:, 1] = 0.06
    found = displacement(ARM, *read(spread, (0.3, 0.1, 0.0)), spread)
    assert float((found - torch.tensor([0.3, 0.1, 0.0])).norm(dim=-1).median()) < 0.01


def test_one_misread_frame_of_four_displaces_no_robot() -> None:
    spread = torch.full((100, FRAMES), 0.005)
    states, tool = read(spread)
    tool[:, 2] += torch.tensor([0.4, 0.0, 0.0])
    assert float(displacement(ARM, states, tool, spread).abs().max()) == 0


def test_one_frame_where_the_tool_should_be_is_enough_to_stay() -> None:
    spread = torch.full((100, FRAMES), 0.005)
    states, tool = read(spread, (0.3, 0.0, 0.0))
    tool[:, 0] -= torch.tensor([0.3, 0.0, 0.0])
    assert float(displacement(ARM, states, tool, spread).abs().max()) == 0


def test_frames_off_in_different_directions_displace_no_robot() -> None:
    spread = torch.full((100, FRAMES), 0.005)
    states, tool = read(spread)
    tool += torch.tensor([[0.3, 0, 0], [-0.3, 0, 0], [0, 0.3, 0], [0.3, 0, 0]])
    assert float(displacement(ARM, states, tool, spread).abs().max()) == 0


def test_frames_of_unknown_states_have_no_say() -> None:
    spread = torch.full((3, FRAMES), 0.005)
    states, tool = read(spread, (0.3, 0.0, 0.0))
    states[0] = torch.nan  # nothing is known
    states[1, :1] = torch.nan  # as before the first action
    states[2, 1:] = torch.nan  # a single frame is left
    found = displacement(ARM, states, tool, spread)
    assert float(found[[0, 2]].abs().max()) == 0
    assert torch.allclose(found[1], torch.tensor([0.3, 0.0, 0.0]), atol=0.01)


def test_a_robot_without_a_described_body_stands_nowhere_else() -> None:
    drone = Embodiment.load("drone")
    states, tool = torch.zeros(2, FRAMES, drone.state_dim), torch.ones(2, FRAMES, 3)
    assert float(displacement(drone, states, tool, torch.full((2, FRAMES), 0.01)).abs().max()) == 0
    assert reconcile(drone, states, tool, torch.full((2, FRAMES), 0.01)) is None
