"""Errors that name the field, the value and the fix, and texts of others as they may be shown."""

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


class DeepverseError(Exception):
    """Base of every error that this package raises on purpose."""


class ShapeError(DeepverseError, ValueError):
    """A tensor or message has another shape, dtype or value range than what was asked for."""


class EmbodimentError(DeepverseError, ValueError):
    """A robot description is invalid, or data belongs to another robot."""


class CheckpointError(DeepverseError, ValueError):
    """A checkpoint is missing, damaged, of another version or for another robot."""


class EpisodeError(DeepverseError, ValueError):
    """An episode file is truncated, damaged or inconsistent."""


class ResourceError(DeepverseError, FileNotFoundError):
    """A configuration file, model or recording is not where it should be."""


class DeviceError(DeepverseError, RuntimeError):
    """A compute device was asked for that is not there."""


class ConfigError(DeepverseError, ValueError):
    """A configuration file has a field that is wrong."""


class WriteError(DeepverseError, OSError):
    """A file could not be written, such as on a full disk."""


class BusyError(DeepverseError, RuntimeError):
    """Another process works in a folder."""


class WorkerError(DeepverseError, RuntimeError):
    """A process that shared the work was ended by something else."""


class MessageError(DeepverseError, ValueError):
    """A message cannot be used; the text names its field and value, and is printable whatever was in them."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))
