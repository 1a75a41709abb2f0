"""The prefilter's status as a ROS message."""

import numpy as np
from std_msgs.msg import Header

from deepverse_ros.errors import printable
from deepverse_ros.msg import PrefilterCheck, PrefilterStatus
from deepverse_ros.safety.check import Check
from deepverse_ros.safety.status import Status

_LARGEST = float(np.finfo(np.float32).max)


def status_to_msg(status: Status, header: Header) -> PrefilterStatus:
    """Args: header: when the status was true, and the robot's base frame."""
    return PrefilterStatus(
        header=header,
        state=int(status.state),
        mode=int(status.mode),
        text=printable(status.reason),
        speed_scale=_number(status.scale),
        checks=[_check(check) for check in status.checks],
        first_offending_step=int(status.step),
        zone=printable(status.zone),
        command_age=_number(status.command_age),
        verdict_age=_number(status.verdict_age),
        image_age=_number(status.image_age),
        heartbeat_age=_number(status.heartbeat_age),
    )


def _check(check: Check) -> PrefilterCheck:
    return PrefilterCheck(
        name=check.name,
        ok=bool(check.ok),
        value=_number(check.value),
        threshold=_number(check.threshold),
        text=printable(check.text),
    )


def _number(value: float) -> float:
    """What a float32 field takes: rclpy refuses finite numbers beyond it."""
    return float(np.clip(value, -_LARGEST, _LARGEST)) if np.isfinite(value) else float(value)
