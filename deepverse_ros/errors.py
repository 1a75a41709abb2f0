"""Errors that name the field, the value and the fix."""


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
