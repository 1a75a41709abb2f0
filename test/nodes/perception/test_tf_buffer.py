"""The tree of transforms: where frames are, and where they were."""

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, TransformStamped
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from deepverse_ros.nodes.messages.pose import transform_from_matrix
from deepverse_ros.nodes.messages.quaternion import rotation_of
from deepverse_ros.nodes.messages.time import stamp_from_seconds
from deepverse_ros.nodes.perception.tf_buffer import SPAN, TransformTree

SEEDS = st.integers(0, 2**31)


def rigid(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    out = np.eye(4)
    out[:3, :3] = Rotation.random(random_state=generator).as_matrix()
    out[:3, 3] = generator.normal(size=3)
    return out


def message(parent: str, child: str, pose: np.ndarray, seconds: float = 0.0) -> TFMessage:
    header = Header(frame_id=parent, stamp=stamp_from_seconds(seconds))
    return TFMessage(transforms=[transform_from_matrix(pose, header, child)])


def test_the_tree_finds_frames_above_below_and_beside_each_other():
    tree = TransformTree()
    base_to_mast, mast_to_camera, base_to_tool = rigid(1), rigid(2), rigid(3)
    tree.add(message("base", "mast", base_to_mast))
    tree.add_static(message("mast", "camera", mast_to_camera))
    tree.add(message("base", "/tool", base_to_tool, 7.0))
    camera = base_to_mast @ mast_to_camera
    np.testing.assert_allclose(tree.lookup("base", "camera"), camera, atol=1e-6)
    np.testing.assert_allclose(tree.lookup("camera", "base"), np.linalg.inv(camera), atol=1e-6)
    np.testing.assert_allclose(tree.lookup("tool", "camera"), np.linalg.inv(base_to_tool) @ camera, atol=1e-6)
    np.testing.assert_allclose(tree.lookup("base", "base"), np.eye(4))
    assert tree.lookup("base", "elsewhere") is None


def test_a_loop_of_transforms_ends():
    tree = TransformTree()
    for parent, child in (("a", "b"), ("b", "a")):
        tree.add(message(parent, child, np.eye(4)))
    assert tree.lookup("elsewhere", "a") is None


@given(SEEDS, st.floats(0.0, 1.0))
def test_between_two_transforms_a_frame_moves_straight_and_turns_evenly(seed, share):
    tree, first, second = TransformTree(), rigid(seed), rigid(seed + 1)
    tree.add(message("odom", "base", first, 100.0))
    tree.add(message("odom", "base", second, 100.5))
    found = tree.lookup("odom", "base", 100.0 + 0.5 * share)
    assert found is not None
    between = Slerp([0.0, 1.0], Rotation.from_matrix([first[:3, :3], second[:3, :3]]))(share)
    np.testing.assert_allclose(found[:3, :3], between.as_matrix(), atol=1e-5)
    np.testing.assert_allclose(found[:3, 3], (1 - share) * first[:3, 3] + share * second[:3, 3], atol=1e-6)


@given(SEEDS)
def test_a_quaternion_is_the_rotation_that_scipy_makes_of_it(seed):
    x, y, z, w = (3.0 * Rotation.random(random_state=seed).as_quat()).tolist()
    rotation = rotation_of(Quaternion(x=x, y=y, z=z, w=w))
    np.testing.assert_allclose(rotation, Rotation.from_quat([x, y, z, w]).as_matrix(), atol=1e-12)


def test_what_was_long_before_or_is_long_after_the_transforms_is_not_known():
    tree = TransformTree()
    tree.add_static(message("base", "camera", rigid(3)))
    for seconds in (100.0, 100.1):
        tree.add(message("odom", "base", rigid(int(10 * seconds)), seconds))
    newest = tree.lookup("odom", "camera")
    np.testing.assert_allclose(newest, rigid(1001) @ rigid(3), atol=1e-6)
    np.testing.assert_array_equal(tree.lookup("odom", "camera", 100.4), newest)
    np.testing.assert_allclose(tree.lookup("odom", "camera", 99.8), rigid(1000) @ rigid(3), atol=1e-6)
    assert tree.lookup("odom", "camera", 100.7) is None
    assert tree.lookup("odom", "camera", 99.4) is None
    assert tree.lookup("base", "camera", 3.0) is not None  # a static one is known at any time


def test_over_a_gap_it_is_known_only_near_its_ends():
    tree = TransformTree()
    for seconds in (100.0, 103.0):
        tree.add(message("odom", "base", rigid(int(seconds)), seconds))
    assert tree.lookup("odom", "base", 100.4) is not None
    assert tree.lookup("odom", "base", 101.5) is None
    assert tree.lookup("odom", "base", 102.6) is not None


def test_the_past_is_kept_for_a_while_and_forgotten_when_the_clock_jumps_back():
    tree = TransformTree()
    for step in range(200):
        tree.add(message("odom", "base", rigid(step), 100.0 + 0.1 * step))
    assert tree.lookup("odom", "base", 119.9 - SPAN + 0.2) is not None
    assert tree.lookup("odom", "base", 105.0) is None
    tree.add(message("odom", "base", rigid(7), 20.0))
    np.testing.assert_allclose(tree.lookup("odom", "base"), rigid(7), atol=1e-6)
    assert tree.lookup("odom", "base", 119.0) is None


def test_a_frame_with_a_new_parent_has_no_past():
    tree = TransformTree()
    tree.add(message("table", "cup", rigid(1), 100.0))
    tree.add(message("hand", "cup", rigid(2), 101.0))
    assert tree.lookup("table", "cup", 100.0) is None
    np.testing.assert_allclose(tree.lookup("hand", "cup"), rigid(2), atol=1e-6)


@pytest.mark.parametrize(("part", "axis"), [("translation", "y"), ("rotation", "w")])
def test_a_transform_that_is_not_finite_is_left_out(part, axis):
    tree = TransformTree()
    tree.add(message("odom", "base", rigid(1), 100.0))
    wrong: TransformStamped = transform_from_matrix(rigid(2), Header(frame_id="odom"), "base")
    setattr(getattr(wrong.transform, part), axis, float("nan"))
    tree.add(TFMessage(transforms=[wrong]))
    np.testing.assert_allclose(tree.lookup("odom", "base"), rigid(1), atol=1e-6)
