"""Joints in closed form bring the tool where they shall."""

import numpy as np
import pytest

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.postures import TIP, Postures


@pytest.fixture(scope="module")
def arm() -> Embodiment:
    return Embodiment.load("arm")


@pytest.mark.parametrize(("elbow", "lean"), [(0.0, (0.0, 0.0)), (0.4, (0.2, -0.1)), (-0.5, (0.0, 0.15))])
def test_the_tool_is_where_the_pose_says_and_closes_along_its_turn(
    arm: Embodiment, elbow: float, lean: tuple[float, float]
) -> None:
    kinematics, postures = ArmKinematics(arm), Postures(arm, elbow, lean)
    rng = np.random.default_rng(0)
    reached = 0
    for _ in range(200):
        pose = rng.uniform((0.35, -0.4, 0.02, -np.pi, 0.0), (0.75, 0.4, 0.35, np.pi, 1.0))
        joints = postures.joints(pose[None])[0]
        if not np.isfinite(joints).all():
            continue
        reached += 1
        position, rotation = kinematics.tool_pose(joints)
        np.testing.assert_allclose(position, pose[:3], atol=1e-9)
        assert rotation[2, 2] < -0.6, "the hand points down"
        closing = rotation[:2, 1] / np.linalg.norm(rotation[:2, 1])
        assert abs(closing @ (np.cos(pose[3]), np.sin(pose[3]))) > 0.95
        assert joints[7] == pose[4]
        assert (joints >= arm.lower - 1e-6).all()
        assert (joints <= arm.upper + 1e-6).all()
    assert reached > 150


def test_out_of_reach_is_no_number(arm: Embodiment) -> None:
    poses = np.array([[1.3, 0, 0.1, 0, 0], [0.5, 0, 0.1, 0, 0]])
    finite = np.isfinite(Postures(arm).joints(poses[:1])).all(), np.isfinite(Postures(arm).joints(poses[1:])).all()
    assert finite == (False, True)


def test_along_a_way_the_wrist_does_not_jump(arm: Embodiment) -> None:
    """A turn means the same after half a turn; which of both is taken follows the poses before."""
    turns = np.linspace(0, 2.5, 40)
    poses = np.stack([np.full(40, 0.5), np.linspace(-0.2, 0.2, 40), np.full(40, 0.1), turns, np.zeros(40)], axis=1)
    joints = Postures(arm).joints(poses, wrist=0.3)
    assert np.abs(np.diff(joints[:, 6])).max() < 0.15
    assert abs(joints[0, 6] - 0.3) <= np.pi / 2


def test_a_tilted_hand_reaches_deeper_below_the_tool(arm: Embodiment) -> None:
    postures = Postures(arm)
    assert postures.depth(np.array([0.55, 0.0, 0.03]), 0.04) == pytest.approx(TIP)
    assert postures.depth(np.array([0.30, 0.0, 0.03]), 0.04) > TIP + 0.005
