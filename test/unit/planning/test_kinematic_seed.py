"""The way that kinematics knows to a place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.planning.search.kinematic_seed import kinematic_seed
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
HOME = np.asarray(ARM.home, np.float32)


def tools(way: np.ndarray) -> np.ndarray:
    """(1 + H, 3) metres."""
    return ARM.body.forward_kinematics(ARM.action_values(way.astype(float)))[ARM.tool_frame][:, :3, 3]


reachable = st.tuples(st.floats(0.4, 0.7), st.floats(-0.45, 0.45), st.floats(0.1, 0.5)).map(np.array)


@settings(max_examples=40, deadline=None)
@given(place=reachable, steps=st.integers(4, 16), turned=st.floats(-1.2, 1.2))
def test_it_leads_the_tool_to_a_place_within_reach_and_within_the_limits(place, steps, turned):
    start = HOME.copy()
    start[0] = turned
    way = kinematic_seed(ARM, start, place, steps)
    assert way.shape == (steps + 1, 8)
    np.testing.assert_array_equal(way[0], start)
    assert np.linalg.norm(tools(way)[-1] - place) < 0.02
    assert (way >= ARM.lower - 1e-6).all()
    assert (way <= ARM.upper + 1e-6).all()
    np.testing.assert_allclose(np.diff(way, 2, axis=0), 0, atol=1e-5, err_msg="the joints go evenly")


def test_a_straight_way_leads_the_tool_along_a_line():
    place = np.array([0.55, 0.25, 0.2])
    way = tools(kinematic_seed(ARM, HOME, place, 10, straight=True))
    line = way[0] + np.linspace(0, 1, 11)[:, None] * (place - way[0])
    assert np.linalg.norm(way - line, axis=1).max() < 0.01


def test_of_a_place_out_of_reach_it_gets_as_near_as_it_can():
    way = tools(kinematic_seed(ARM, HOME, np.array([2.0, 0.0, 0.5]), 8))
    assert np.isfinite(way).all()
    assert way[-1][0] > way[0][0]


def test_from_the_other_side_of_the_table_the_way_is_found_by_the_home_posture():
    """From some postures the arm's own limits end a way that is led from there."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        start = HOME.copy()
        start[:7] += rng.uniform(-0.8, 0.8, 7)
        place = np.array([0.5, -0.4 * np.sign(start[0]), 0.25])
        assert np.linalg.norm(tools(kinematic_seed(ARM, start, place, 16))[-1] - place) < 0.02


@pytest.mark.parametrize("name", ["drone", "vehicle"])
def test_without_a_body_nothing_is_known(name):
    robot = Embodiment.load(name)
    assert kinematic_seed(robot, np.asarray(robot.home, np.float32), np.zeros(3), 8) is None
