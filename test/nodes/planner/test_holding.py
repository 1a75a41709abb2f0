"""Where a robot that shall stop comes to rest: within its limits and rates, ahead of where it is, on its plan."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepverse_ros.nodes.perception.robot_state import RobotState
from deepverse_ros.nodes.planner.holding import SentPlan, resting_place, steps_to
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
HOME = np.array(ARM.home, np.float32)
FASTEST = ARM.max_step / ARM.dt
shares = arrays(np.float64, ARM.action_dim, elements=st.floats(0, 1))


def moving(values, speed) -> RobotState:
    return RobotState(np.asarray(values, np.float32), np.zeros(ARM.action_dim), np.asarray(speed, float))


@given(shares, arrays(np.float64, ARM.action_dim, elements=st.floats(-3, 3)))
def test_it_rests_within_its_limits_where_it_gets_to_by_braking_evenly(share, speed):
    values = ARM.lower + share * (ARM.upper - ARM.lower)
    place = resting_place(moving(values, speed), ARM)
    assert (place >= ARM.lower).all()
    assert (place <= ARM.upper).all()
    ahead = (place - values) * np.sign(speed)
    assert (ahead >= -1e-5).all()
    assert (ahead <= 0.5 * ARM.dt * np.minimum(np.abs(speed), FASTEST) + 1e-5).all()
    assert steps_to(place, [values], ARM) == 1


@given(shares, shares)
def test_it_gets_there_within_its_rates(here, there):
    here, there = (ARM.lower + share * (ARM.upper - ARM.lower) for share in (here, there))
    steps = steps_to(there, [here, HOME], ARM)
    for start in (here, HOME):
        assert (np.abs(there - start) <= steps * ARM.max_step * 1.01).all()


def test_where_a_robot_should_be_on_its_plan():
    plan = HOME + np.linspace(0, 0.8, 9)[1:, None].astype(np.float32)
    sent = SentPlan(plan, moving(HOME, np.zeros(8)), ARM.dt, 0.0)
    assert sent.state(0.0).values == pytest.approx(HOME)
    assert sent.state(0.5).values == pytest.approx(HOME + 0.25, abs=1e-5)
    assert sent.state(0.5).speed == pytest.approx(0.5, abs=1e-5)
    assert sent.state(1.6).values == pytest.approx(HOME + 0.8)
    assert sent.state(9.0).speed == pytest.approx(0.0)
