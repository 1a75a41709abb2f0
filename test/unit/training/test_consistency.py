"""Losses without true frames: nothing for a world that holds together, more for one that does not."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepverse_ros.data.collect import EpisodeGenerator
from deepverse_ros.errors import ShapeError
from deepverse_ros.geometry import Intrinsics, transform
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.losses.consistency import moving_pixels, spacetime_consistency_loss

SIZE, FRAMES = 32, 5
CAMERA = Intrinsics(40.0, 40.0, (SIZE - 1) / 2, (SIZE - 1) / 2, SIZE, SIZE)


def world(poses: Tensor, board_x: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What cameras (B, T, 4, 4) see of a floor, a wall and a square board: depth (B, T, H, W), rgb (B, T, 3, H, W).

    World frame: x right, y down, z forward. The floor is at y = 1, the wall at z = 4, the board at z = 2.5, its centre
    at x = board_x (B, T). Every surface has one colour.
    """
    rays = transform(poses, CAMERA.rays().expand(*poses.shape[:2], SIZE, SIZE, 3)) - poses[..., None, None, :3, 3]
    eye = poses[..., None, None, :3, 3]
    floor = (1 - eye[..., 1]) / rays[..., 1]
    wall, board = ((z - eye[..., 2]) / rays[..., 2] for z in (4.0, 2.5))
    middle = torch.zeros(poses.shape[:2]) if board_x is None else board_x
    at = eye + board[..., None] * rays
    on_board = ((at[..., 0] - middle[..., None, None]).abs() < 0.3) & (at[..., 1].abs() < 0.3)
    distances = torch.stack([floor.where(floor > 0, 1e6), wall, board.where(on_board, 1e6)])
    depth, which = distances.min(0)
    colours = torch.tensor([[0.2, 0.5, 0.3], [0.8, 0.3, 0.6], [0.9, 0.9, 0.1]])
    return depth, colours[which].movedim(-1, 2)


def moved(step: tuple[float, float, float], turn: float, frames: int = FRAMES) -> Tensor:
    """Poses (1, T, 4, 4) of a camera that moves by `step` metres and turns by `turn` rad about y every frame."""
    poses = torch.eye(4).repeat(1, frames, 1, 1)
    for t in range(frames):
        a = turn * t
        poses[0, t, :3, :3] = torch.tensor([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
        poses[0, t, :3, 3] = torch.tensor(step) * t
    return poses


STILL = moved((0, 0, 0), 0.0)
NOTHING_MOVES = torch.zeros(1, FRAMES, SIZE, SIZE, dtype=torch.bool)


def cost(depth: Tensor, rgb: Tensor, pose: Tensor | None = None, **options) -> dict[str, float]:
    pose = torch.eye(4) if pose is None else pose
    return {k: float(v) for k, v in spacetime_consistency_loss(depth, rgb, CAMERA, pose, **options).items()}


def test_a_world_that_stands_still_costs_nothing():
    """Seen by a fixed camera: not a rounding error in space and time, and planes are smooth."""
    parts = cost(*world(STILL))
    assert parts["spatial"] == parts["temporal"] == 0
    assert parts["smoothness"] < 2e-3
    single = cost(torch.full((1, 3, SIZE, SIZE), 2.0), torch.rand(1, 1, 3, SIZE, SIZE).expand(-1, 3, -1, -1, -1))
    assert max(single.values()) < 1e-6


@settings(max_examples=15, deadline=None)
@given(step=st.tuples(*[st.floats(-0.06, 0.06)] * 3), turn=st.floats(-0.03, 0.03))
def test_a_still_world_costs_next_to_nothing_however_the_camera_moves(step, turn):
    """Depths agree; what remains is the mixing of two colours between two pixels."""
    poses = moved(step, turn)
    depth, rgb = world(poses)
    for colours, most in ((torch.full_like(rgb, 0.5), 5e-4), (rgb, 8e-3)):
        parts = cost(depth, colours, poses, moving=NOTHING_MOVES)
        assert parts["spatial"] < most
        assert parts["temporal"] < most
    guessed = cost(depth, rgb, poses)
    assert guessed["spatial"] < 3e-3
    assert guessed["temporal"] < 3e-3


@pytest.mark.parametrize(
    ("step", "turn"), [((0.2, 0, 0), 0.0), ((0, 0, 0.06), 0.0), ((0, 0.05, 0), 0.0), ((0, 0, 0), 0.03)]
)
def test_a_camera_that_moves_without_saying_so_sees_another_world(step, turn):
    poses = moved(step, turn)
    depth, rgb = world(poses)
    told, untold = (cost(depth, rgb, p, moving=NOTHING_MOVES)["spatial"] for p in (poses, STILL))
    assert untold > 3 * told + 1e-3


def test_a_fixed_camera_is_a_moving_one_that_stays():
    depth, rgb = world(STILL)
    generator = torch.Generator().manual_seed(0)
    depth = depth * (1 + 0.01 * torch.rand(depth.shape, generator=generator))
    fixed, given_often = cost(depth, rgb), cost(depth, rgb, STILL)
    # One cannot interpolate across edges, so it leaves these out.
    assert fixed["spatial"] == pytest.approx(given_often["spatial"], rel=0.15)
    assert fixed["temporal"] == pytest.approx(given_often["temporal"], rel=0.15)
    assert fixed["smoothness"] == given_often["smoothness"]


@settings(max_examples=15, deadline=None)
@given(amount=st.floats(0.002, 0.02), seed=st.integers(0, 1000))
def test_each_term_finds_its_own_fault(amount, seed):
    generator = torch.Generator().manual_seed(seed)
    depth, rgb = world(STILL)
    clean = cost(depth, rgb)
    times = torch.arange(FRAMES)[None, :, None, None]

    drift = cost(depth * torch.exp(amount * times), rgb)  # everything slowly goes away
    assert drift["spatial"] > 0.5 * amount
    assert drift["temporal"] < 1e-5
    assert drift["smoothness"] == pytest.approx(clean["smoothness"], rel=1e-3, abs=1e-6)

    flicker = cost(depth, rgb + amount * (times % 2)[:, :, None])
    assert flicker["spatial"] > 0.5 * amount
    assert flicker["temporal"] > amount

    speckles = torch.rand(1, 1, SIZE, SIZE, generator=generator) < 0.03
    assert speckles[..., 1:-1, 1:-1].any()
    floating = cost(depth * (1 - 5 * amount * speckles), rgb)
    assert floating["smoothness"] > clean["smoothness"] + 0.02 * amount
    assert floating["spatial"] == floating["temporal"] == 0

    more = cost(depth * torch.exp(0.5 * amount * times), rgb)
    assert clean["spatial"] < more["spatial"] < drift["spatial"]


def test_depth_may_jump_where_the_colour_does():
    depth, rgb = world(STILL)
    plain = cost(depth, torch.full_like(rgb, 0.5))
    assert plain["smoothness"] > 10 * cost(depth, rgb)["smoothness"]


def test_a_floating_point_is_found_also_where_every_pixel_has_a_colour_edge():
    chequered = ((torch.arange(SIZE)[:, None] + torch.arange(SIZE)) % 2).float().expand(1, 3, 3, SIZE, SIZE)
    depth = torch.full((1, 3, SIZE, SIZE), 2.0)
    assert cost(depth, chequered)["smoothness"] < 1e-6
    step, point = depth.clone(), depth.clone()
    step[..., 16:] *= 0.9
    point[..., 10, 10] *= 0.9
    assert cost(step, chequered)["smoothness"] < 1e-4
    assert cost(point, chequered)["smoothness"] == pytest.approx((1 / 0.9 - 1) * 0.9 / 30**2, rel=0.2)


def test_what_moves_before_a_moving_camera_is_not_punished():
    poses = moved((0.15, 0.0, 0.0), 0.02)
    depth, rgb = world(poses, torch.linspace(-0.5, 1.0, FRAMES)[None])
    moving = moving_pixels(depth, rgb, CAMERA, poses)
    assert moving.any()
    told, unaware = (cost(depth, rgb, poses, moving=m) for m in (moving, NOTHING_MOVES))
    assert told["spatial"] < 1e-4
    assert told["temporal"] < 1e-4
    assert unaware["spatial"] > 1e-2


def test_what_moves_is_not_punished():
    """Neither when motion is guessed from the frames nor when it is told by the true ones."""
    board_x = torch.linspace(-0.4, 0.4, FRAMES)[None]
    depth, rgb = world(STILL, board_x)
    guessed = cost(depth, rgb)
    told = cost(depth, rgb, moving=moving_pixels(depth, rgb, CAMERA, torch.eye(4)))
    unaware = cost(depth, rgb, moving=NOTHING_MOVES)
    assert told["spatial"] == told["temporal"] == 0
    assert guessed["spatial"] < 0.01 * unaware["spatial"]
    assert guessed["temporal"] < 0.01 * unaware["temporal"]


def test_told_motion_lets_large_faults_of_what_stands_still_be_found():
    """A ghost beside the moving board passes for motion until the true frames say that nothing is there."""
    depth, rgb = world(STILL, torch.linspace(-0.4, 0.4, FRAMES)[None])
    moving = moving_pixels(depth, rgb, CAMERA, torch.eye(4))
    ghost = rgb.clone()
    ghost[:, 2, :, 2:8, 2:8] = 0.0
    assert cost(depth, ghost)["spatial"] < 1e-4
    assert cost(depth, ghost, moving=moving)["spatial"] > 5e-3


@pytest.mark.parametrize("pose", [torch.eye(4), moved((0.02, 0, 0.03), 0.01)])
def test_moving_pixels_are_those_of_what_moves(pose):
    poses = pose if pose.ndim == 4 else STILL
    board_x = torch.tensor([[0.0, 0.0, 0.0, 0.2, 0.2]])
    moving = moving_pixels(*world(poses, board_x), CAMERA, pose)
    assert moving.shape == (1, FRAMES, SIZE, SIZE)
    assert not moving[:, 0].any()
    assert not moving[:, 4].any()
    assert 10 < moving[:, 2].sum() < 300
    assert 10 < moving[:, 3].sum() < 300


def test_gradients_are_those_of_differences():
    """Of depth and of rgb, for fixed and moving cameras (smoothness is scaled by a depth that gets no gradient)."""
    small = replace(CAMERA, cx=2.5, cy=2.5, width=6, height=6)
    generator = torch.Generator().manual_seed(3)
    depth = (2 + 0.05 * torch.rand(1, 3, 6, 6, generator=generator)).double().requires_grad_()
    rgb = torch.rand(1, 3, 3, 6, 6, generator=generator).double().requires_grad_()
    moving = torch.zeros(1, 3, 6, 6, dtype=torch.bool)
    for pose in (torch.eye(4), moved((0.011, 0.007, 0.02), 0.003, 3)):

        def total(depth: Tensor, rgb: Tensor, pose: Tensor = pose) -> Tensor:
            return spacetime_consistency_loss(depth, rgb, small, pose, moving=moving, smoothness=0.0)["total"]

        assert torch.autograd.gradcheck(total, (depth, rgb), eps=1e-7, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("poses", [STILL, moved((0.02, 0.0, 0.03), 0.01)])
def test_following_the_gradient_brings_the_true_world_nearer(poses):
    generator = torch.Generator().manual_seed(1)
    truth_depth, truth_rgb = world(poses)
    noise = torch.randn(truth_depth.shape, generator=generator)
    depth = (truth_depth * (1 + 0.01 * noise)).requires_grad_()
    rgb = (truth_rgb + 0.03 * torch.randn(truth_rgb.shape, generator=generator)).requires_grad_()
    optimiser = torch.optim.Adam([depth, rgb], lr=3e-3)
    before = [float((a - b).detach().abs().mean()) for a, b in ((depth, truth_depth), (rgb, truth_rgb))]
    costs = []
    for _ in range(40):
        loss = spacetime_consistency_loss(depth, rgb, CAMERA, poses)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        costs.append(float(loss.detach()))
    after = [float((a - b).detach().abs().mean()) for a, b in ((depth, truth_depth), (rgb, truth_rgb))]
    assert costs[-1] < 0.6 * costs[0]
    assert after[0] < 0.8 * before[0]
    assert after[1] < 0.8 * before[1]


@pytest.mark.parametrize("poses", [torch.eye(4), moved((0.0, 0.0, 1.2), 0.0), moved((0.0, 0.0, 0.0), 1.0)])
def test_unknown_depth_and_points_that_leave_the_view_leave_no_trace_in_the_gradient(poses):
    """Also points that get behind the camera."""
    depth, rgb = world(poses if poses.ndim == 4 else STILL)
    depth, rgb = depth.nan_to_num(2.0).clamp(0.1, 50.0), rgb.clone()
    depth[..., 3:9, 4:20] = torch.nan
    depth[:, 1] = torch.nan
    depth.requires_grad_()
    rgb.requires_grad_()
    loss = spacetime_consistency_loss(depth, rgb, CAMERA, poses)
    loss["total"].backward()
    assert all(torch.isfinite(v) for v in loss.values())
    assert torch.isfinite(depth.grad).all()
    assert torch.isfinite(rgb.grad).all()
    assert (depth.grad[:, 1] == 0).all()
    assert cost(torch.full_like(depth, torch.nan), rgb.detach(), poses)["total"] == 0


def test_weights_make_the_total():
    depth, rgb = world(STILL)
    depth = depth * (1 + 0.01 * torch.rand(depth.shape, generator=torch.Generator().manual_seed(2)))
    parts = cost(depth, rgb, spatial=2.0, temporal=0.5, smoothness=0.0)
    assert parts["total"] == pytest.approx(2 * parts["spatial"] + 0.5 * parts["temporal"])
    assert parts["smoothness"] > 0


def test_real_pictures_cost_less_than_spoiled_ones():
    """Of the simulated arm, moving: noise, flicker and speckles are told from what truly happens."""
    generator = EpisodeGenerator(Embodiment.load("arm"), (64, 64))
    try:
        episode = generator.record(5, 1, 8)
    finally:
        generator.close()
    depth = torch.from_numpy(episode.depth.astype(np.float32))[None] / 1000
    rgb = torch.from_numpy(episode.rgb).movedim(-1, 1)[None].float() / 255
    camera = Intrinsics.from_matrix(episode.intrinsics, 64, 64)
    pose = torch.from_numpy(episode.camera_to_world[:1])
    moving = moving_pixels(depth, rgb, camera, pose)
    assert 0.001 < moving.float().mean() < 0.3
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(depth.shape, generator=random)
    for mask in (None, moving):

        def judge(depth: Tensor, rgb: Tensor, mask: Tensor | None = mask) -> dict[str, float]:
            parts = spacetime_consistency_loss(depth, rgb, camera, pose, moving=mask)
            return {name: float(value) for name, value in parts.items()}

        true = judge(depth, rgb)
        noisy = judge(depth * (1 + 0.005 * noise), rgb)
        flickering = judge(depth, (rgb + 0.02 * noise[:, :, None]).clamp(0, 1))
        for name in ("spatial", "temporal"):
            assert noisy[name] > 3 * true[name]
            assert flickering[name] > 3 * true[name]
        assert noisy["smoothness"] > 1.5 * true["smoothness"]


def test_wrong_pictures_are_refused_by_name():
    depth, rgb = world(STILL)
    for wrong, named in (
        ({"depth": depth[:, :2], "rgb": rgb[:, :2]}, "depth.*T >= 3"),
        ({"depth": depth[0]}, "depth"),
        ({"rgb": rgb[:, :, :1]}, "rgb"),
        ({"rgb": rgb[:, :3]}, "rgb"),
        ({"camera_to_world": torch.eye(3)}, "camera_to_world"),
        ({"camera_to_world": STILL[:, :2]}, "camera_to_world"),
        ({"moving": NOTHING_MOVES[:, :2]}, "moving"),
        ({"intrinsics": replace(CAMERA, width=16), "camera_to_world": STILL}, "intrinsics"),
    ):
        given_ = {"depth": depth, "rgb": rgb, "intrinsics": CAMERA, "camera_to_world": torch.eye(4), **wrong}
        with pytest.raises(ShapeError, match=named):
            spacetime_consistency_loss(**given_)
