"""Settings with a description, a default and a range in one place, from which a node can make its parameters."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from deepverse_ros.errors import ConfigError


def setting(
    default: Any, description: str, lower: float | None = None, upper: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:  # fmt: skip
    """A field of `Settings`. Args: lower, upper: inclusive range of a number. choices: allowed values of a string."""
    metadata = {"description": description, "lower": lower, "upper": upper, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Base of settings. Raises: ConfigError naming field, value and what is allowed."""

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            meta = spec.metadata
            if meta["choices"]:
                if value not in meta["choices"]:
                    raise ConfigError(f"{spec.name} is '{value}'; allowed: {', '.join(meta['choices'])}")
            elif isinstance(spec.default, bool):
                if not isinstance(value, bool):
                    raise ConfigError(f"{spec.name} is {value!r}; allowed: true, false")
            elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ConfigError(f"{spec.name} is {value!r}; expected a finite number")
            elif isinstance(spec.default, int) and not isinstance(value, int):
                raise ConfigError(f"{spec.name} is {value!r}; expected a whole number")
            elif not meta["lower"] <= value <= meta["upper"]:
                raise ConfigError(f"{spec.name} is {value}; allowed: {meta['lower']} to {meta['upper']}")


@dataclass(frozen=True)
class GateSettings(Settings):
    """What the gate goes by; all times in seconds."""

    fallback: str = setting(
        "hold",
        "What is sent while something that the gate needs is late, wrong or dead. hold: stay at the last target. stop: "
        "rates to rest, positions to where the robot is. scale: the last safe command, slowed down to a halt. "
        "last_safe: the last safe command for last_safe_time, then hold.",
        choices=("hold", "stop", "scale", "last_safe"),
    )
    stop_action: str = setting("stop", "What is sent while the imagined future is not clear.", choices=("hold", "stop"))
    verdict_timeout: float = setting(0.5, "Oldest verdict that a command may pass on (s).", 0.01, 10.0)
    image_timeout: float = setting(0.5, "Oldest image that such a verdict may rest on (s).", 0.01, 10.0)
    heartbeat_timeout: float = setting(0.2, "Longest silence of the world model (s).", 0.01, 10.0)
    command_timeout: float = setting(
        0.25,
        "Longest pause of the command stream (s). 0: commands may cease, for commands that end at rest only.",
        0.0,
        10.0,
    )
    wait_timeout: float = setting(0.3, "Commands that wait for a verdict so long are a fault (s).", 0.01, 10.0)
    pending_timeout: float = setting(1.0, "A command that could not pass for so long is dropped (s).", 0.01, 60.0)
    require_heartbeat_stamp: bool = setting(False, "A heartbeat without a stamp is no sign of life.")
    begin_delay: float = setting(
        0.5,
        "A trajectory that waited begins at most so long after the moment at which its verdict imagined it to begin, "
        "which the world model takes from the image (s).",
        0.0,
        10.0,
    )
    measured_timeout: float = setting(
        0.2, "Oldest measured state: a robot that is told positions neither moves nor stops there on an older one (s).",
        0.01, 10.0,
    )  # fmt: skip
    measured_lag: float = setting(
        0.15,
        "A stop goes to where the robot is only if it can be that far from its target in this time (s).",
        0.0,
        10.0,
    )
    min_lookahead: float = setting(0.2, "Least imagined time still ahead when a command passes (s).", 0.0, 10.0)
    future_tolerance: float = setting(0.05, "How far ahead of the clock a stamp may be (s).", 0.0, 1.0)
    clock_jump: float = setting(0.5, "Least step ahead of the ROS clock that is a jump (s).", 0.01, 60.0)
    clock_freeze: float = setting(0.5, "Longest time that the ROS clock may stand (s).", 0.05, 60.0)
    trigger_count: int = setting(
        1, "Verdicts in a row that make a stop. Fewer withhold the command all the same, but need no release.", 1, 100
    )
    trigger_time: float = setting(0.0, "And for how long they have to say so (s).", 0.0, 10.0)
    release_count: int = setting(2, "Better verdicts in a row that end a stop, a slowdown or a fallback.", 1, 1000)
    release_time: float = setting(0.3, "And for how long they have to say so (s).", 0.0, 60.0)
    latch_stop: bool = setting(False, "Only the operator's release ends a stop.")
    recover_scale: float = setting(0.2, "Share of its speed at which a command leads out of a stop.", 0.01, 1.0)
    position_tolerance: float = setting(
        0.03, "Measured this near to its target, a command of positions is done (rad, m).", 0.0, 1.0
    )
    last_safe_time: float = setting(0.2, "How long the fallback last_safe goes on (s).", 0.0, 5.0)
    ramp_time: float = setting(0.3, "How long the fallback scale takes to a halt (s).", 0.01, 5.0)
    halt_rate: float = setting(
        1.0,
        "How often a halt that has not changed is sent again to a robot that stays where it is (Hz); 0: never. Rates "
        "are brought to rest at every tick.",
        0.0,
        500.0,
    )


@dataclass(frozen=True)
class CommandLimits(Settings):
    """What a command is checked against, beside the limits of its layout; all times in seconds."""

    max_age: float = setting(0.2, "Oldest command that may pass (s).", 0.001, 10.0)
    max_lead: float = setting(0.05, "How far ahead of the clock its stamp may be (s).", 0.0, 10.0)
    require_stamp: bool = setting(False, "Refuse commands without a stamp.")
    max_points: int = setting(1000, "Most way points of one command.", 1, 1_000_000)
    period: float = setting(
        0.02, "Time between two commands of a stream (s); those that come quicker count as so far apart.", 0.001, 1.0
    )
    jump_time: float = setting(
        0.1, "A way point at time 0 may be as far away as the robot gets in this time (s).", 0.001, 1.0
    )
    rate_slack: float = setting(0.1, "Share by which a rate may exceed its limit (jitter).", 0.0, 1.0)
    position_slack: float = setting(0.001, "Share of its range by which a value may exceed it (rounding).", 0.0, 0.1)
