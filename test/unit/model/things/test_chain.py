import numpy as np
import torch

from deepverse_ros.model.things.chain import Chain
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
assert ARM.body is not None
CHAIN = Chain(ARM, ARM.body)
STATES = torch.tensor(np.random.default_rng(0).uniform(ARM.lower, ARM.upper, (20, ARM.state_dim)), dtype=torch.float32)


def test_balls_lie_on_the_axes_of_their_capsules_and_reach_the_ends() -> None:
    parts, points = CHAIN.parts(STATES), CHAIN.places(STATES)
    for end in (parts.start, parts.end):
        for k in CHAIN.capsule.unique().tolist():
            gap = (points[:, CHAIN.capsule == k] - end[:, k, None]).norm(dim=-1).amin(1)
            assert float(gap.max()) < 1e-5
    start, along = parts.start[:, CHAIN.capsule], (parts.end - parts.start)[:, CHAIN.capsule]
    off = torch.linalg.cross(points - start, along, dim=-1).norm(dim=-1)
    assert float(off.max()) < 1e-5


def test_what_always_is_beside_the_table_is_left_out() -> None:
    assert ARM.body is not None
    mounted = {k for k, capsule in enumerate(ARM.body.capsules) if capsule.mounted}
    assert mounted.isdisjoint(CHAIN.capsule.tolist())


def test_slopes_are_those_of_the_places() -> None:
    few = STATES[:4]
    slopes = torch.autograd.functional.jacobian(lambda states: CHAIN.places(states).sum(0), few)
    balls = torch.stack([torch.randperm(len(CHAIN.radius)) for _ in few])
    points = CHAIN.places(few).gather(1, balls[..., None].expand(-1, -1, 3))
    found = CHAIN.slopes(CHAIN.frames(few), points, balls)
    assert torch.allclose(found, slopes.permute(2, 0, 1, 3)[torch.arange(len(few))[:, None], balls], atol=1e-5)


def test_the_tool_is_where_the_body_says() -> None:
    assert ARM.body is not None
    pose = ARM.body.forward_kinematics(ARM.measured_values(STATES.double().numpy()))[ARM.tool_frame]
    assert np.allclose(CHAIN.origin(STATES, ARM.tool_frame).numpy(), pose[..., :3, 3], atol=1e-5)
