"""Clearances from what a camera sees, against scenes whose distances are known by construction."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.distance_field import VOXEL, DistanceField
from deepverse_ros.planning.objectives.clearance import DistanceFieldClearance
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.kinematics import Body, Capsule, Link
from deepverse_ros.simulation.arm.simulation import ArmSimulation

ARM = Embodiment.load("arm")
HOME = np.asarray(ARM.home, np.float32)
INTRINSICS = np.array([[150.0, 0, 63.5], [0, 150.0, 63.5], [0, 0, 1]])
RADIUS = 0.05


@dataclass(frozen=True)
class Belief:
    """What the camera saw last."""

    depth: torch.Tensor | None
    intrinsics: torch.Tensor | None
    camera_to_world: torch.Tensor | None


def slider() -> Embodiment:
    """A ball on a rail along x: the action is where it is, 0 to 1 m."""
    body = Body(
        base="base_link",
        links=(Link(name="ball", parent="base_link", axis=(1, 0, 0), modality="place", motion="slide"),),
        capsules=(Capsule(frame="ball", start=(0, 0, 0), end=(0, 0, 0), radius=RADIUS),),
    )
    place = ARM.modalities[1].model_copy(update={"name": "place", "lower": (0.0,), "upper": (1.0,), "max_rate": (5.0,)})
    return ARM.model_copy(update={"modalities": (place,), "home": (0.0,), "body": body, "tool_frame": "ball"})


def looking_along_x(depth: np.ndarray | float, back: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Depth, and the pose of a camera `back` metres behind the base that looks along x."""
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    pose[0, 3] = -back
    return np.broadcast_to(np.asarray(depth, np.float32), (128, 128)), pose


def wall(x: float, robot: Embodiment, at: np.ndarray) -> DistanceField:
    """A wall across the rail at x metres."""
    depth, pose = looking_along_x(1.5 + x)
    seen = DistanceField.from_depth(depth, INTRINSICS, pose, at, robot)
    assert seen is not None
    return seen


@settings(max_examples=20, deadline=None)
@given(x=st.floats(0.2, 0.9), gap=st.floats(0.0, 0.14))
def test_the_clearance_to_a_wall_is_the_distance_to_it_within_a_voxel(x, gap):
    robot, at = slider(), np.zeros(1, np.float32)
    there = np.array([[x - RADIUS - gap]], np.float32)
    assert wall(x, robot, at).at(there)[0] == pytest.approx(gap, abs=VOXEL)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_nearer_is_never_told_to_be_clearer(seed):
    robot, rng = slider(), np.random.default_rng(seed)
    seen = wall(float(rng.uniform(0.3, 0.8)), robot, np.zeros(1, np.float32))
    way = np.linspace(0, 0.3, 40, dtype=np.float32)[:, None]
    assert (np.diff(seen.at(way)) <= 1e-5).all()


def test_what_is_passed_between_two_steps_counts_and_belongs_to_the_step():
    robot, at = slider(), np.zeros(1, np.float32)
    depth, pose = looking_along_x(3.0)
    depth = depth.copy()
    depth[44:84, 44:84] = 1.9  # a board across the rail at x = 0.4
    seen = DistanceField.from_depth(depth, INTRINSICS, pose, at, robot)
    over = np.array([[[0.0], [0.8], [0.8]]], np.float32)
    told = seen.clearance(over, at, between=8)
    assert told.shape == (1, 3)
    assert told[0, 0] > 0.1
    assert told[0, 1] <= 0
    assert told[0, 2] > 0.1
    np.testing.assert_array_equal(seen.judged_clearance(over[0], at), told[0])
    # An objective sees the same, and what keeps the margin costs nothing.
    staying = np.zeros((1, 3, 1), np.float32)
    plans = torch.from_numpy(np.concatenate([over, staying]))
    cost = DistanceFieldClearance(seen, at, 0.05)(None, plans)
    assert cost[0] > 0.05
    assert cost[1] == 0


def test_a_camera_sees_fronts_and_a_little_behind_them_is_taken_for_filled():
    robot, at = slider(), np.zeros(1, np.float32)
    seen = wall(0.3, robot, at)
    assert seen.at(np.array([[0.38]], np.float32))[0] <= 0


def test_the_robot_is_nothing_to_keep_clear_of_and_what_it_hides_goes_on_behind_it():
    robot, at = slider(), np.full(1, 0.2, np.float32)
    depth, pose = looking_along_x(1.5 + 0.5)
    depth = depth.copy()
    ahead = np.hypot(*(np.mgrid[:128, :128] - 63.5)) < 150 * RADIUS / 1.7
    depth[ahead] = 1.7 - RADIUS  # the ball itself, about its front
    seen = DistanceField.from_depth(depth, INTRINSICS, pose, at, robot)
    assert seen.at(at[None])[0] > 0.1
    whole = wall(0.5, robot, at)
    for x in (0.3, 0.4, 0.5):
        there = np.array([[x]], np.float32)
        assert seen.at(there)[0] == pytest.approx(whole.at(there)[0], abs=0.01)


def test_unknown_pixels_are_filled_and_too_many_tell_nothing():
    robot, at = slider(), np.zeros(1, np.float32)
    depth, pose = looking_along_x(1.9)
    rng = np.random.default_rng(0)
    holes = np.where(rng.random(depth.shape) < 0.4, np.nan, depth)
    there = np.array([[0.3]], np.float32)
    seen = DistanceField.from_depth(holes, INTRINSICS, pose, at, robot)
    assert seen.at(there)[0] == pytest.approx(wall(0.4, robot, at).at(there)[0], abs=1e-4)
    for nothing in (np.nan, 0.0, np.inf):
        blind = np.where(rng.random(depth.shape) < 0.6, nothing, depth)
        assert DistanceField.from_depth(blind, INTRINSICS, pose, at, robot) is None


def test_without_depth_pose_or_body_geometry_tells_nothing():
    depth, pose = looking_along_x(2.0)
    given_all = depth, INTRINSICS, pose, HOME, ARM
    assert DistanceField.from_depth(*given_all) is not None
    for missing in range(3):
        assert DistanceField.from_depth(*(None if k == missing else v for k, v in enumerate(given_all))) is None
    bodiless = ARM.model_copy(update={"body": None})
    assert DistanceField.from_depth(depth, INTRINSICS, pose, HOME, bodiless) is None
    # Actions that are not what moves the links do not tell where these go.
    moved = slider().modalities[0]
    twisted = ARM.model_copy(update={"modalities": (moved,), "proprioception": ARM.modalities, "home": (0.0,)})
    assert DistanceField.from_depth(depth, INTRINSICS, pose, np.zeros(1, np.float32), twisted) is None
    whole = Belief(torch.tensor(depth.copy())[None], torch.tensor(INTRINSICS), torch.tensor(pose)[None])
    assert DistanceField.of(whole, HOME, ARM) is not None
    for name in ("depth", "intrinsics", "camera_to_world"):
        assert DistanceField.of(replace(whole, **{name: None}), HOME, ARM) is None


@pytest.mark.parametrize("wrong", [{"depth": np.ones(128)}, {"joints": np.zeros(7)}])
def test_a_wrong_shape_is_named(wrong):
    depth, pose = looking_along_x(2.0)
    values = {"depth": depth, "joints": HOME} | wrong
    with pytest.raises(ShapeError, match="surroundings"):
        DistanceField.from_depth(values["depth"], INTRINSICS, pose, values["joints"], ARM)


def test_the_simulated_arm_is_as_clear_as_the_simulator_says():
    errors = []
    with ArmSimulation(width=128, height=128) as simulation:
        for seed in range(4):
            simulation.reset(seed, base_offset=(0.0, 0.0))
            _, depth = simulation.render()
            pose, joints = simulation.camera_to_world, simulation.joints.astype(np.float32)
            seen = DistanceField.from_depth(depth, simulation.intrinsics, pose, joints, ARM)
            rng = np.random.default_rng(seed)
            postures = np.clip(joints + rng.normal(0, 0.35, (80, 8)), ARM.lower, ARM.upper).astype(np.float32)
            true = np.array([simulation.clearance_at(q) for q in postures])
            near = (true > -0.02) & (true < 0.08)
            errors.append((seen.at(postures) - true)[near])
    error = np.concatenate(errors)
    assert len(error) > 20
    assert np.median(np.abs(error)) < 0.03
    assert np.mean(error > 0.03) < 0.05, "too clear is what must not be"
