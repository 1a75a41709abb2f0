"""The prefilter's parameters, and what a command to this robot is by them."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar, cast

import numpy as np

from deepverse_ros.nodes import controller_output, joints
from deepverse_ros.nodes.parameters import Parameter, ParameterError
from deepverse_ros.nodes.prefilter_commands import FORMATS
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Layout
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
    Parameter("embodiment", "arm", "The robot: a name or file of config/embodiments."),
    Parameter(
        "command_type", "joint_trajectory", "Message of a command.", choices=tuple(FORMATS),
    ),
    Parameter(
        "command_values", "targets", "What a command says. targets: the embodiment's values; rates: their change per "
        "second.", choices=("targets", "rates"),
    ),
    Parameter(
        "rest", [""], "Modalities that go on until another command comes, each with the value that brings it to rest: "
        "'throttle=0', or 'steering=keep' for the last one. When left out, of a twist it is all of them, at 0, and of "
        "a vehicle's control 'steering=keep', 'throttle=0' and 'brake=1'.",
    ),
    Parameter(
        "unscaled", [""], "Of those, the modalities that are not made smaller to slow down (brakes). When left out, of "
        "a vehicle's control they are steering and brake.",
    ),
    Parameter("command_frame", "", "frame_id that a stamped twist or a vehicle's control must have; empty: any."),
    *joints.PARAMETERS,
    Parameter("verdict_topic", "world_model/command_verdict", "The world model's verdicts (CommandVerdict)."),
    Parameter("heartbeat_topic", "world_model/heartbeat", "The world model's sign of life (std_msgs/Header)."),
    Parameter("joint_states_topic", "joint_states", "Measured joints."),
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


def layout_from(embodiment: Embodiment, p: Any) -> Layout:
    """What the values of a command mean. Args: p: the parameters' values as attributes.

    Raises: ParameterError naming the parameter; ShapeError for a modality that the robot does not have.
    """
    rest = dict(_rest(entry) for entry in p.rest if entry.strip())
    unscaled = tuple(name.strip() for name in p.unscaled if name.strip())
    vehicle = p.command_type == "vehicle_control"
    goes_on = vehicle or p.command_type.startswith("twist")
    if p.command_values == "rates":
        if goes_on or rest or unscaled:
            raise ParameterError(
                "parameter 'command_values' is 'rates', which are at rest at 0; 'rest' and 'unscaled' must be empty, "
                "and the values of a twist or a vehicle's control are the embodiment's own: use 'targets'"
            )
        return _rates(embodiment)
    names = [m.name for m in embodiment.modalities]
    if goes_on and not rest:
        rest = {name: _VEHICLE_REST.get(name, 0.0) if vehicle else 0.0 for name in names}
    if vehicle and not unscaled:
        unscaled = tuple(name for name in ("steering", "brake") if name in names)
    layout = Layout.of(embodiment, rest, unscaled)
    if goes_on and layout.position.any():
        name = layout.names[int(np.argmax(layout.position))]
        raise ParameterError(f"parameter 'rest' leaves out {name}; every value of a {p.command_type} goes on")
    return layout


_VEHICLE_REST: dict[str, float | None] = {"steering": None, "throttle": 0.0, "brake": 1.0}


def _rest(entry: str) -> tuple[str, float | None]:
    name, _, value = (part.strip() for part in entry.partition("="))
    try:
        number = None if value == "keep" else float(value)
    except ValueError:
        number = math.nan
    if not name or (number is not None and not math.isfinite(number)):
        raise ParameterError(f"parameter 'rest' has '{entry}'; expected 'modality=number' or 'modality=keep'")
    return name, number


def _rates(embodiment: Embodiment) -> Layout:
    layout = Layout.of(embodiment)
    if np.isinf(layout.max_rate).any():
        name = layout.names[int(np.argmax(np.isinf(layout.max_rate)))]
        raise ParameterError(
            f"parameter 'command_values' is 'rates', but {name} of '{embodiment.name}' has no max_rate to limit them"
        )
    size = layout.size
    return replace(
        layout, position=np.zeros(size, bool), lower=-layout.max_rate, upper=layout.max_rate,
        max_rate=np.full(size, np.inf), rest=np.zeros(size), scaled=np.ones(size, bool),
        units=tuple(f"{unit}/s" for unit in layout.units),
    )  # fmt: skip
