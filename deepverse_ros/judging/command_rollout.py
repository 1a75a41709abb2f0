"""Where a command leads: what the robot is told over time, and which other commands are judged with it."""

from collections.abc import Mapping

import numpy as np

from deepverse_ros.errors import ConfigError
from deepverse_ros.judging.command_stream import Stream, Tube
from deepverse_ros.judging.tracked_command import TrackedCommand
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Layout
from deepverse_ros.safety.verdict import Envelope

DEFAULT_SHARE = 0.001
"""Half-width of a value for which none was given, as a share of its range: 0.3 degrees of a joint that turns by half a
turn each way."""
STREAM_SHARE = 0.004
"""The same around the way of a stream of set-points: 1.4 degrees of such a joint."""
TUBES = ((1.0, 2.0), (1.0, 1.0), (1.0, 0.4), (0.5, 0.4), (0.2, 0.2), (0.0, 0.0))
"""Shares of the time, and times the margins, for which a stream is judged: where there is room the next set-points may
turn as they like, and near things they go on in short steps."""


class CommandRollout:
    """Turns commands into what the world model imagines, and into the envelope that the verdict is for.

    Args:
        rates: a command's values are changes per second of the embodiment's values (velocities of joints); else they
            are the embodiment's own values, be they places or, as the layout says, rates such as a throttle.
        half_width: by modality, in the command's unit: how far another command may be off and still share the verdict;
            where none is given, DEFAULT_SHARE of the value's range.
        stream_margin: the same around the way of a stream, by modality, where it is not near to anything; STREAM_SHARE
            of the range.
        time_slack: seconds by which a command may run early or late.
    Raises: ConfigError for an unknown modality or a half-width below 0.
    """

    def __init__(
        self, embodiment: Embodiment, layout: Layout, rates: bool = False,
        half_width: Mapping[str, float] | None = None, time_slack: float = 0.05,
        stream_margin: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        self.embodiment = embodiment
        self.layout = layout
        self.rates = rates
        self.time_slack = time_slack
        self.half_width = self._by_modality("half_width", half_width, DEFAULT_SHARE)
        self.stream_margin = self._by_modality("stream_margin", stream_margin, STREAM_SHARE)

    def _by_modality(self, what: str, given: Mapping[str, float] | None, share: float) -> np.ndarray:
        """(A,), where nothing is given a share of the range."""
        robot = self.embodiment
        out = share * (self.layout.upper - self.layout.lower)
        for name, value in (given or {}).items():
            if name not in robot.slices:
                known = ", ".join(robot.slices)
                raise ConfigError(f"{what}: '{name}' is no modality of '{robot.name}'; it has {known}")
            if not 0 <= value < np.inf:
                raise ConfigError(f"{what}: {name} is {value}; it must be 0 or more")
            out[robot.slices[name]] = value
        return out

    def plan(self, watched: TrackedCommand, now: float, here: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        """(T, A) values of the embodiment, float32, `ahead` (T,) seconds after `now` (ROS seconds).

        Args: here (A,): the measured state at `now`.
        """
        command = watched.command
        robot = self.embodiment
        values = command.values[-1]
        if watched.stream is not None:
            # Set-points lead on as they have moved; the robot follows no faster than its rates allow, (T, A).
            way = watched.stream.leads_to(now + ahead - watched.stream.at) - here
            needed = np.maximum((np.abs(way) / self.layout.max_rate).max(1), 1e-9)
            out = here + np.minimum(ahead / needed, 1.0)[:, None] * way  # it may have been held back
        elif self.rates:
            # A rate goes on until another one comes.
            out = here + ahead[:, None] * values
        elif command.duration > 0:
            # A trajectory goes on from as much of it as is done.
            out = command.at(watched.elapsed(now) + ahead)
        else:
            # A set-point: its places are gone to on a straight way as fast as they may; the rest holds at once.
            way = np.where(self.layout.position, values - here, 0.0)
            needed = float((np.abs(way) / self.layout.max_rate).max())
            share = np.clip(ahead / needed, 0.0, 1.0) if needed > 0 else np.ones(len(ahead))
            out = np.where(self.layout.position, here + share[:, None] * way, values)
        return np.clip(out, robot.lower, robot.upper).astype(np.float32)

    def deviation(self, ahead: np.ndarray) -> np.ndarray:
        """(T, A) by how much the embodiment's values of a command at the envelope's border differ at most.

        One that is early or late goes the same way, so that adds nothing to where the robot gets.
        """
        width = self.half_width
        return ahead[:, None] * width if self.rates else np.repeat(width[None], len(ahead), 0)

    def tubes(self, stream: Stream) -> list[Tube]:
        """Where the next set-points may be, the widest and longest first."""
        margins = self.stream_margin, self.half_width
        return [stream.tube(share, wide, *margins, self.layout) for share, wide in TUBES]

    def way_ahead(self, stream: Stream) -> Tube:
        """Where the set-points are as long as they move as they do now."""
        return stream.way_ahead(self.half_width, self.layout)

    def tube_envelope(self, tube: Tube, now: float, duration: float) -> Envelope:
        """Set-points that are in the tube, from `now` (ROS seconds) for `duration` seconds."""
        return Envelope(now, np.array([0.0, duration]), tube.along(2), tube.half_width, tube=True)

    def envelope(self, watched: TrackedCommand, now: float, duration: float) -> Envelope:
        """Commands that are within the half-widths of this one from `now` (ROS seconds) for `duration` seconds."""
        if watched.stream is not None:
            return self.tube_envelope(self.tubes(watched.stream)[0], now, duration)
        command = watched.command
        elapsed = watched.elapsed(now)
        # The centre (K, A) of the envelope needs the ends of the duration and the way points between, and no more.
        knots = command.times - elapsed
        times = np.unique(np.concatenate([[0.0], knots[(knots > 0) & (knots < duration)], [duration]]))
        return Envelope(now, times, command.at(elapsed + times), self.half_width, self.time_slack)

    def modalities(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """(T, A) as modalities, (T, D) each."""
        return {name: values[:, part] for name, part in self.embodiment.slices.items()}
