"""Messages as a bag of a robot with a prefilter has them."""

import numpy as np

from deepverse_ros.evaluation.prefilter.bag import typestore

STORE = typestore()
TYPES = STORE.types
BEGIN = 1_700_000_000.0


def time(seconds):
    return TYPES["builtin_interfaces/msg/Time"](sec=int(seconds), nanosec=0)


def header():
    return TYPES["std_msgs/msg/Header"](stamp=time(BEGIN), frame_id="base_link")


def array(*values):
    layout = TYPES["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    return TYPES["std_msgs/msg/Float64MultiArray"](layout=layout, data=np.array(values, float))


def vector(x=0.0):
    return TYPES["geometry_msgs/msg/Vector3"](x=x, y=0.0, z=0.0)


def twist(x):
    return TYPES["geometry_msgs/msg/Twist"](linear=vector(x), angular=vector())


def vehicle(throttle, brake):
    return TYPES["deepverse_ros/msg/VehicleControl"](header=header(), steering=0.2, throttle=throttle, brake=brake)


def trajectory(seconds):
    duration = TYPES["builtin_interfaces/msg/Duration"](sec=seconds, nanosec=500_000_000)
    none = np.zeros(0)
    point = TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](
        positions=np.zeros(1), velocities=none, accelerations=none, effort=none, time_from_start=duration
    )
    return TYPES["trajectory_msgs/msg/JointTrajectory"](header=header(), joint_names=["a"], points=[point])


def status(scale, reason=""):
    ages = dict.fromkeys(("command_age", "verdict_age", "image_age", "heartbeat_age"), 0.0)
    return TYPES["deepverse_ros/msg/PrefilterStatus"](
        header=header(), state=0, mode=1, text=reason, speed_scale=scale, checks=[], first_offending_step=-1, zone="",
        **ages,
    )  # fmt: skip


def verdict(action):
    none = np.zeros(0)
    envelope = TYPES["deepverse_ros/msg/CommandEnvelope"](
        start=time(BEGIN), names=[], times=none, center=none, half_width=none, time_slack=0.0, tube=False,
    )  # fmt: skip
    finding = TYPES["deepverse_ros/msg/CommandFinding"](
        action=int(action), zone="", first_offending_step=-1, points=0, threshold=0, scale=1.0, max_rate_names=[],
        max_rates=none, time_to_enter=0.0, leads_out=False, gain=0.0, text="",
    )  # fmt: skip
    return TYPES["deepverse_ros/msg/CommandVerdict"](
        header=header(), image_stamp=time(BEGIN), valid_for=1.0, embodiment="", command_id="", latency_ms=0.0,
        envelope=envelope, finding=finding,
    )  # fmt: skip
