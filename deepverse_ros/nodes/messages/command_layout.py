"""What the values of a command to this robot are, by the parameters that say so."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from deepverse_ros.nodes.messages.command_formats import FORMATS
from deepverse_ros.nodes.runtime.parameters import Parameter, ParameterError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Layout

PARAMETERS = (
    Parameter(
        "command_type", "joint_trajectory", "Message of a command.", choices=tuple(FORMATS),
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
