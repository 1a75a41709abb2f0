"""Parameters as a table: name, default, description and range in one place, checked before any node works with them."""

import array
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from deepverse_ros.errors import DeepverseError

ROS_PREFIXES = ("qos_overrides.",)
"""Of parameters that ROS itself reads and declares only where a publisher or subscription asks for them."""


class ParameterError(DeepverseError, ValueError):
    """A parameter has a wrong type or value; the message names both."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    lower, upper: inclusive range of a number. choices: the allowed values of a string. dynamic: may be changed while
    the node is configured; the others are applied by `configure` and are refused until the node is cleaned up.
    """

    name: str
    default: bool | int | float | str | list[float] | list[int] | list[str]
    description: str
    lower: float | None = None
    upper: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False

    def descriptor(self) -> ParameterDescriptor:
        description = self.description
        if not self.dynamic:
            description += " Applied by configure."
        descriptor = ParameterDescriptor(name=self.name, description=description)
        if self.choices:
            descriptor.additional_constraints = "one of: " + ", ".join(self.choices)
        if self.lower is not None and self.upper is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.lower), to_value=float(self.upper))
                ]
            elif isinstance(self.default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(self.lower), to_value=int(self.upper), step=1)]
        return descriptor

    def converted(self, value: Any) -> Any:
        """`value` with its integers as floats where the default is a float or a list of floats: 5 means 5.0."""
        if isinstance(self.default, float) and _is_integer(value):
            return float(value)
        floats = isinstance(self.default, list) and self.default and isinstance(self.default[0], float)
        if floats and isinstance(value, list | tuple | array.array) and any(_is_integer(v) for v in value):
            return [float(v) if _is_integer(v) else v for v in value]
        return value

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, or None."""
        if self.choices and value not in self.choices:
            return f"parameter '{self.name}' is '{value}'; allowed: {', '.join(self.choices)}"
        for number in value if isinstance(value, list | tuple | array.array) else [value]:
            if isinstance(number, int | float) and not isinstance(number, bool):
                below = self.lower is not None and number < self.lower
                if below or (self.upper is not None and number > self.upper):
                    return f"parameter '{self.name}' is {number}; allowed: {self.lower} to {self.upper}"
                if math.isnan(number):
                    return f"parameter '{self.name}' is NaN"
        return None


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Parameters:
    """Declares a table on a node, refuses bad values with a sentence, and hands the values out.

    frozen: set to True by `configure` and to False by `cleanup`; while True only dynamic parameters may be set.
    """

    def __init__(self, node: Node, table: Iterable[Parameter]) -> None:
        self._node = node
        self._table = {p.name: p for p in table}
        self.frozen = False
        # What files, arguments and the constructor gave. rclpy has no public way to those that nobody declares, other
        # than to declare whatever is given.
        self._given: dict[str, RosParameter] = node._parameter_overrides
        node.add_on_set_parameters_callback(self._on_set)
        for parameter in self._table.values():
            self._declare(parameter)

    def _declare(self, parameter: Parameter) -> None:
        if parameter.name in self._given:
            self._given[parameter.name] = self.converted(self._given[parameter.name])
        try:
            self._node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())
        except InvalidParameterTypeException as error:
            expected = type(parameter.default).__name__
            raise ParameterError(f"parameter '{parameter.name}': expected {expected}: {error}") from error
        except InvalidParameterValueException as error:
            raise ParameterError(f"parameter '{parameter.name}': {error}") from error

    def converted(self, given: RosParameter) -> RosParameter:
        """A parameter as it is to be set; see `Parameter.converted`."""
        known = self._table.get(given.name)
        value = known.converted(given.value) if known else given.value
        return given if value is given.value else RosParameter(given.name, value=value)

    def require_known(self) -> None:
        """Raises: ParameterError where a file, an argument or the constructor gave a parameter that the node hasn't."""
        if problems := [problem for name in sorted(self._given) if (problem := self.unknown(name))]:
            raise ParameterError("; ".join(problems) + ". Correct the parameter file or the arguments, and start again")

    def unknown(self, name: str) -> str | None:
        """What to say of a parameter that this node does not have; None where it does, or where it is one of ROS."""
        if name in self._table or self._node.has_parameter(name) or name.startswith(ROS_PREFIXES):
            return None
        near = difflib.get_close_matches(name, self._table, 3, 0.6)
        hint = (
            f"did you mean {' or '.join(repr(n) for n in near)}?"
            if near
            else (f"'ros2 param list {self._node.get_fully_qualified_name()}' shows which it has")
        )
        return f"{self._node.get_name()} has no parameter '{name}': {hint}"

    def _on_set(self, parameters: list[RosParameter]) -> SetParametersResult:
        for given in parameters:
            known = self._table.get(given.name)
            if known is None:
                continue
            if self.frozen and not known.dynamic and given.value != self._node.get_parameter(given.name).value:
                return SetParametersResult(
                    successful=False,
                    reason=f"parameter '{given.name}' is applied by configure: deactivate and clean up the node first",
                )
            if problem := known.problem(given.value):
                return SetParametersResult(successful=False, reason=problem)
        return SetParametersResult(successful=True)

    def __getitem__(self, name: str) -> Any:
        """The current value of one parameter."""
        return self._node.get_parameter(name).value

    def values(self) -> SimpleNamespace:
        """All current values, as attributes named like the parameters."""
        return SimpleNamespace(**{name: self[name] for name in self._table})
