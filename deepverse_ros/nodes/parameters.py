"""Parameters as a table: name, default, description and range in one place, checked before any node works with them."""

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

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, or None."""
        if self.choices and value not in self.choices:
            return f"parameter '{self.name}' is '{value}'; allowed: {', '.join(self.choices)}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            below = self.lower is not None and value < self.lower
            if below or (self.upper is not None and value > self.upper):
                return f"parameter '{self.name}' is {value}; allowed: {self.lower} to {self.upper}"
            if math.isnan(value):
                return f"parameter '{self.name}' is NaN"
        return None


class Parameters:
    """Declares a table on a node, refuses bad values with a sentence, and hands the values out.

    frozen: set to True by `configure` and to False by `cleanup`; while True only dynamic parameters may be set.
    """

    def __init__(self, node: Node, table: Iterable[Parameter]) -> None:
        self._node = node
        self._table = {p.name: p for p in table}
        self.frozen = False
        node.add_on_set_parameters_callback(self._on_set)
        for parameter in self._table.values():
            self._declare(parameter)

    def _declare(self, parameter: Parameter) -> None:
        try:
            self._node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())
        except InvalidParameterTypeException as error:
            expected = type(parameter.default).__name__
            raise ParameterError(f"parameter '{parameter.name}': expected {expected}: {error}") from error
        except InvalidParameterValueException as error:
            raise ParameterError(f"parameter '{parameter.name}': {error}") from error

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
