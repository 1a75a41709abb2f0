"""The prefilter's parameters, and what a command to this robot is by them."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, cast

from deepverse_ros.nodes.control import controller_output
from deepverse_ros.nodes.messages import action_layout, command_layout
from deepverse_ros.nodes.perception import odometry_input
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.safety.settings import CommandLimits, GateSettings, Settings

S = TypeVar("S", bound=Settings)


def parameters_of(kind: type[Settings]) -> tuple[Parameter, ...]:
    """One parameter for each field of settings, to be changed live."""
    out = []
    for spec in fields(kind):
        meta, default = spec.metadata, cast(Any, spec.default)
        text, choices = meta["description"], meta["choices"]
        out.append(Parameter(spec.name, default, text, meta["lower"], meta["upper"], choices, dynamic=True))
    return tuple(out)


def settings_from(kind: type[S], value: Callable[[str], Any]) -> S:
    """Args: value: of a parameter by its name. Raises: ConfigError naming field, value and what is allowed."""
    return kind(**{spec.name: value(spec.name) for spec in fields(kind)})


PARAMETERS = (
    Parameter("embodiment", "", "The robot: a name or file of config/embodiments. It must be given."),
    Parameter(
        "command_values", "targets", "What a command says. targets: the embodiment's values; rates: their change per "
        "second.", choices=("targets", "rates"),
    ),
    *command_layout.PARAMETERS,
    *action_layout.PARAMETERS,
    Parameter("verdict_topic", "world_model/command_verdict", "The world model's verdicts (CommandVerdict)."),
    Parameter("heartbeat_topic", "world_model/heartbeat", "The world model's sign of life (std_msgs/Header)."),
    Parameter("joint_states_topic", "joint_states", "Measured joints."),
    *odometry_input.PARAMETERS,
    Parameter("tick_rate", 50.0, "How often it looks whether anything is late (Hz).", 10.0, 500.0),
    Parameter("status_rate", 10.0, "Status messages per second; a change is said at once (Hz).", 1.0, 100.0),
    Parameter(
        "mode", "enforce", "monitor: judge and report, and let every command through. enforce: what is not clear does "
        "not pass.", choices=("monitor", "enforce"), dynamic=True,
    ),
    *controller_output.PARAMETERS,
    *parameters_of(GateSettings),
    *parameters_of(CommandLimits),
)  # fmt: skip
