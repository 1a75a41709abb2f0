import numpy as np
import torch

from deepverse_ros.model.things.chain import Chain
from deepverse_ros.model.things.sweep import Sweeps, rotation_of, rotation_vector
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
assert ARM.body is not None
CHAIN = Chain(ARM, ARM.body)


def moving(plans: int, steps: int, seed: int = 0) -> torch.Tensor:
    """Joints (plans, 1 + steps, 8) that go as fast as they may."""
    rng = np.random.default_rng(seed)
    start = np.asarray(ARM.home) + rng.normal(0, 0.2, (plans, 1, 8))
    way = np.cumsum(rng.uniform(-1, 1, (plans, steps, 8)) * ARM.max_step, 1)
    return torch.from_numpy(np.clip(np.concatenate([start, start + way], 1), ARM.lower, ARM.upper)).float()


def test_rotation_vectors_come_back() -> None:
    vectors = torch.randn(3, 200, dtype=torch.float64)
    vectors = vectors / vectors.norm(dim=0) * torch.rand(200, dtype=torch.float64) * 3
    vectors[:, 0] = 0
    rotations = rotation_of(vectors)
    assert torch.allclose(torch.einsum("ijr,kjr->ikr", rotations, rotations)[..., 5], torch.eye(3).double(), atol=1e-6)
    assert torch.allclose(rotation_vector(rotations), vectors, atol=1e-5)


def test_no_part_comes_nearer_in_a_step_than_the_least_gap_says() -> None:
    states = moving(4, 2)
    parts = CHAIN.parts(states)
    sweeps = Sweeps.of(parts, [1, 2])
    points = torch.randn(3, 5, 4) * 0.3 + torch.tensor([0.5, 0.0, 0.2])[:, None, None]
    plan = torch.arange(4).repeat(5)
    every = torch.arange(len(parts.radius))[:, None].expand(-1, 20)
    tight = 0
    for step in range(2):
        least = sweeps.least_gaps(step, points).flatten(1)
        _, gap = sweeps.near(step, every, plan).offsets(points.flatten(1)[:, None])
        assert bool((gap[:, :, 0] >= least - 1e-4).all())
        tight += int((gap[:, :, 0].amin(0) < least + 0.03).sum())
    assert tight > 20


def test_a_step_of_two_frames_goes_through_the_frame_between() -> None:
    states = moving(4, 4)
    states[:, 1], states[:, 3] = states[:, 0] + 0.2, states[:, 4] - 0.2
    parts = CHAIN.parts(states)
    every = torch.arange(len(parts.radius))[:, None].expand(-1, 4)
    there = Sweeps.of(parts, [2, 4])
    for step, frame in ((0, 1), (1, 3)):
        point = parts.tool[:, frame].T
        offset, gap = there.near(step, every, torch.arange(4)).offsets(point[:, None])
        assert float(gap[1, :, 0].amin(0).max()) < 0.04, "the tool passes through that point"
        assert bool((gap[1, :, 0] >= there.least_gaps(step, point[:, None])[:, 0] - 1e-4).all())
    assert offset.shape == (3, 3, len(parts.radius), 1, 4)


def test_what_sticks_to_a_link_goes_with_it() -> None:
    parts = CHAIN.parts(moving(3, 1))
    sweeps = Sweeps.of(parts, [1])
    local = torch.tensor([0.02, -0.01, 0.05])
    for part in range(len(parts.radius)):
        before, after = ((parts.rotation[:, t, part] @ local + parts.origin[:, t, part]).T for t in (0, 1))
        near = sweeps.near(0, torch.full((1, 3), part), torch.arange(3))
        found, way = near.carried(before[:, None])
        assert torch.allclose(found[:, 0], local[:, None].expand(3, 3), atol=1e-5)
        assert torch.allclose(before + way[:, 0], after, atol=1e-5)
