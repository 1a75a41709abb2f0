"""What a robot measures of itself, read from odometry."""

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion
from hypothesis import given
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
from scipy.spatial.transform import Rotation

from deepverse_ros.errors import MessageError
from deepverse_ros.nodes.messages.odometry import OdometryLayout
from deepverse_ros.robot.embodiment import Embodiment, Modality

VEHICLE, DRONE = Embodiment.load("vehicle"), Embodiment.load("drone")
NUMBERS = st.floats(-10.0, 10.0, width=32)


def odometry(
    position=(0.0, 0.0, 0.0), turned=(0.0, 0.0, 0.0), linear=(0.0, 0.0, 0.0), angular=(0.0, 0.0, 0.0)
) -> Odometry:
    """turned: a rotation vector."""
    out = Odometry()
    out.header.frame_id, out.child_frame_id = "odom", "base_link"
    x, y, z, w = Rotation.from_rotvec(turned).as_quat().tolist()
    out.pose.pose.orientation = Quaternion(x=x, y=y, z=z, w=w)
    for vector, values in (
        (out.pose.pose.position, position), (out.twist.twist.linear, linear), (out.twist.twist.angular, angular),
    ):  # fmt: skip
        vector.x, vector.y, vector.z = map(float, values)
    return out


def measuring(*modalities: Modality) -> Embodiment:
    return VEHICLE.model_copy(update={"proprioception": modalities})


@given(NUMBERS, NUMBERS)
def test_a_vehicle_measures_its_speed_and_how_it_turns_whatever_frame_it_is_in(speed, rate):
    message = odometry(linear=(speed, 1.0, 2.0), angular=(3.0, 4.0, rate), turned=(0.0, 0.0, 1.0))
    message.header.frame_id = "elsewhere"
    np.testing.assert_array_equal(OdometryLayout(VEHICLE.measured, "odom").vector(message), np.float32([speed, rate]))


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS), st.floats(-3.1, 3.1), st.tuples(NUMBERS, NUMBERS, NUMBERS))
def test_a_drone_measures_place_velocity_and_heading_in_the_base_frame(place, heading, body):
    layout = OdometryLayout(DRONE.measured, "odom")
    assert layout.told.all()
    found = layout.vector(odometry(position=place, turned=(0.0, 0.0, heading), linear=body))
    velocity = Rotation.from_euler("z", heading).apply(body)
    np.testing.assert_allclose(found, [*place, *velocity, heading], rtol=1e-5, atol=1e-5)


def test_what_odometry_does_not_tell_is_unknown():
    battery = Modality(name="battery", units="fraction", lower=(0.0,), upper=(1.0,))
    speed = Modality(name="speed", units="m/s", lower=(-5.0,), upper=(30.0,))
    found = OdometryLayout(measuring(battery, speed).measured, "odom").vector(odometry(linear=(4.0, 0.0, 0.0)))
    np.testing.assert_array_equal(found, [np.nan, 4.0])
    assert OdometryLayout((battery, speed), "odom").told.tolist() == [False, True]


@pytest.mark.parametrize(
    ("robot", "message", "text"),
    [
        (VEHICLE, odometry(linear=(float("nan"), 0, 0)), r"odometry speed is \[nan\]; it must be finite"),
        (DRONE, odometry(position=(0, float("inf"), 0)), r"odometry position is \[0.0, inf, 0.0\]"),
        (
            measuring(Modality(name="position", units="m", lower=(0.0, 0.0), upper=(1.0, 1.0))),
            odometry(),
            "odometry tells 3 values of position; this robot has 2",
        ),
    ],
)
def test_wrong_values_are_named(robot, message, text):
    with pytest.raises(MessageError, match=text):
        OdometryLayout(robot.measured, "odom").vector(message)


def test_a_place_in_another_frame_is_refused():
    message = odometry()
    message.header.frame_id = "map"
    with pytest.raises(MessageError, match="frame_id is 'map'; position is in 'odom'"):
        OdometryLayout(DRONE.measured, "odom").vector(message)
    message.header.frame_id = "/odom"
    OdometryLayout(DRONE.measured, "odom").vector(message)
