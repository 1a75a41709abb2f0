import numpy as np
import torch

from deepverse_ros.model.things.chain import Chain
from deepverse_ros.robot.embodiment import Embodiment


def test_parts_are_where_the_capsules_are() -> None:
    arm = Embodiment.load("arm")
    states = torch.tensor(np.random.default_rng(0).uniform(arm.lower, arm.upper, (2, 3, arm.state_dim)))
    assert arm.body is not None
    parts = Chain(arm, arm.body).parts(states.float())
    start, end = arm.body.capsule_ends(arm.measured_values(states.numpy()))
    assert np.allclose(parts.start.numpy(), start, atol=1e-5)
    assert np.allclose(parts.end.numpy(), end, atol=1e-5)
    moved = parts.shifted(torch.tensor([0.1, 0.0, 0.0]))[:, 1]
    assert torch.allclose(moved.origin - parts.origin[:, 1], torch.tensor([0.1, 0.0, 0.0]).expand_as(moved.origin))
