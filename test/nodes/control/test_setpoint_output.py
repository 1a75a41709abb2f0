"""Which share of a set-point passed, and what rest is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepverse_ros.nodes.control.setpoint_output import resting, share_of
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Layout

DRONE = Layout.of(
    Embodiment.load("drone"), {"velocity": 0.0}
)  # a place and a heading that stay, a velocity that goes on
CAR = Layout.of(Embodiment.load("vehicle"), {"steering": None, "throttle": 0.0, "brake": 1.0}, ("steering", "brake"))
numbers = st.floats(-1, 1)


@given(arrays(float, 7, elements=numbers), st.floats(0.01, 1.0))
def test_what_passes_slower_passes_by_that_share(wanted, share):
    speed = wanted[3:6]
    passed = wanted.copy()
    passed[3:6] *= share
    if np.linalg.norm(speed) > 0.2:
        assert share_of(passed, wanted, DRONE) == pytest.approx(share)
    elif np.linalg.norm(speed) == 0:
        assert share_of(passed, wanted, DRONE) == 1.0


@given(arrays(float, 7, elements=numbers), arrays(float, 7, elements=numbers))
def test_anything_else_is_another_command(passed, wanted):
    share = share_of(passed, wanted, DRONE)
    assert 0 <= share <= 1
    if share > 0:
        places = DRONE.position
        np.testing.assert_allclose(passed[places], wanted[places], atol=1.1e-3)
        if np.linalg.norm(wanted[~places]) > 1e-2:
            np.testing.assert_allclose(passed[~places], share * wanted[~places], atol=1.1e-3)


def test_a_halt_is_no_part_of_a_plan():
    wanted = np.array([0.2, 0.5, 0.0])
    assert share_of(wanted, wanted, CAR) == 1.0
    assert share_of(np.array([0.2, 0.25, 0.0]), wanted, CAR) == 0.5
    assert share_of(np.array([0.2, 0.0, 1.0]), wanted, CAR) == 0.0  # the prefilter brakes
    assert share_of(np.array([0.3, 0.5, 0.0]), wanted, CAR) == 0.0  # another way
    assert share_of(np.array([0.2, -0.5, 0.0]), wanted, CAR) == 0.0  # backwards


def test_rest_keeps_the_wheel_where_it_was_told_to_be():
    assert resting(CAR, np.array([0.3, 0.8, 0.0])).tolist() == [0.3, 0.0, 1.0]
    assert resting(CAR, None).tolist() == [0.0, 0.0, 1.0]
