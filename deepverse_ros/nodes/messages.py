"""What every reading of a message needs: its error, and its times in seconds."""

from builtin_interfaces.msg import Time

from deepverse_ros.errors import DeepverseError


class MessageError(DeepverseError, ValueError):
    """A message cannot be used; the text names its field and value."""


def stamp_seconds(stamp: Time) -> float:
    """builtin_interfaces/Time to seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


def stamp_from_seconds(seconds: float) -> Time:
    """Seconds of the ROS clock as builtin_interfaces/Time."""
    nanoseconds = round(seconds * 1e9)
    return Time(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)
