"""What every reading of a message needs: its error, its texts as they may be shown, and its times in seconds."""

from builtin_interfaces.msg import Duration, Time

from deepverse_ros.errors import DeepverseError

MOST_TEXT = 1000
"""Characters of a text that is shown to people."""


def printable(text: str, most: int = MOST_TEXT) -> str:
    """A text that holds what somebody sent, for logs, reasons and statuses: one line, and not without end.

    A name with a line break in it would forge a line of a log. What is longer than `most` characters is cut in its
    middle: its end often says what was expected.
    """
    text = _cut(text, most)
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return _cut("".join(escaped), most)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 3]}...{text[len(text) - end :]}"


class MessageError(DeepverseError, ValueError):
    """A message cannot be used; the text names its field and value, and is printable whatever was in them."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


def stamp_seconds(stamp: Time) -> float:
    """builtin_interfaces/Time to seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


def stamp_from_seconds(seconds: float) -> Time:
    """Seconds of the ROS clock as builtin_interfaces/Time."""
    nanoseconds = round(seconds * 1e9)
    return Time(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)


def duration(seconds: float) -> Duration:
    """Seconds as builtin_interfaces/Duration."""
    nanoseconds = round(seconds * 1e9)
    return Duration(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)
