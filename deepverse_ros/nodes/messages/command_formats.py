"""Commands between ROS messages and the gate. What goes out says only what was checked."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Twist, TwistStamped, Vector3
from std_msgs.msg import Float64MultiArray, Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.errors import MessageError
from deepverse_ros.msg import VehicleControl
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.time import duration, stamp_seconds
from deepverse_ros.nodes.messages.velocity_points import integrated
from deepverse_ros.nodes.runtime.message_bounds import MOST_POINTS, bound_of, trajectory_problem
from deepverse_ros.nodes.runtime.parameters import ParameterError
from deepverse_ros.safety.commands import Command, Layout

TWIST = ("linear_x", "linear_y", "linear_z", "angular_x", "angular_y", "angular_z")
"""Names of an embodiment's modalities that are values of a twist, in m/s and rad/s."""
VEHICLE = ("steering", "throttle", "brake")
"""Those that are values of a vehicle's control, in rad and fractions."""
LONGEST = 2**31 - 1
"""Seconds of a Duration."""


@dataclass(frozen=True)
class Incoming:
    """A command as it came; problem: what is wrong with the message, empty where the gate shall say it."""

    command: Command
    problem: str = ""


class CommandFormat(ABC):
    """One kind of command message for one robot.

    message_type: its class. shortest: seconds; a controller gets at least so long to reach a target. most_points: a
    longer trajectory is not even read (`bound`), as that would take time. turns (A,): whole turns (rad) that messages
    have more than commands, in the layout's order, see `RobotState`; None: none.
    Raises: ParameterError where such messages cannot carry this robot's commands.
    """

    message_type: Any
    most_points = MOST_POINTS
    turns: np.ndarray | None = None

    def __init__(self, layout: Layout, joints: JointLayout, shortest: float = 0.02, frame_id: str = "") -> None:
        self.layout, self.joints, self.shortest, self.frame_id = layout, joints, shortest, frame_id
        gripper = joints.embodiment.gripper
        self.gripper = "" if gripper is None else gripper.name
        """The layout's name of the value that opens a gripper; empty: there is none."""
        self._frame = frame_id
        """That what goes out has: the one of what came last."""

    @property
    def stamped(self) -> bool:
        """Whether such messages have a stamp."""
        return "header" in self.message_type.get_fields_and_field_types()

    def read(self, message: Any, measured: np.ndarray | None) -> Incoming:
        """Args: measured: (A,) where the robot is, for what the message may leave out. Raises nothing."""
        try:
            return Incoming(self._turned(self._read(message, measured)))
        except (MessageError, TypeError, ValueError, OverflowError) as error:
            return self.unreadable(str(error))

    def unreadable(self, problem: str) -> Incoming:
        """A command that came, and of which nothing else is known."""
        return Incoming(Command.setpoint(np.full(self.layout.size, math.nan)), f"the command: {problem}")

    def bound(self, data: bytes) -> str:
        """What is too large of a serialized message to be read; empty: nothing."""
        return bound_of(self.message_type)(data)

    def write(self, command: Command, stamp: Time) -> Any:
        """A message of a command in any order of names, to begin at once. Raises: MessageError."""
        names = command.names or self.layout.names
        values = np.asarray(command.values, float)[:, [names.index(n) for n in self.layout.names]]
        if self.turns is not None:
            values = values + self.turns
        if not np.isfinite(values).all() or not (np.asarray(command.times) < LONGEST).all():
            raise MessageError(f"a command to send is not finite or without end: {values.tolist()}")
        return self._write(values, np.asarray(command.times, float), stamp)

    def _turned(self, command: Command) -> Command:
        """Without the turns that the robot counts."""
        names = command.names or tuple(self.layout.names)
        if self.turns is None or not self.turns.any() or command.values.shape[1] != len(names):
            return command
        turns = dict(zip(self.layout.names, self.turns, strict=True))
        return replace(command, values=command.values - [turns.get(name, 0.0) for name in names])

    @abstractmethod
    def _read(self, message: Any, measured: np.ndarray | None) -> Command:
        """Raises: MessageError."""

    @abstractmethod
    def _write(self, values: np.ndarray, times: np.ndarray, stamp: Time) -> Any:
        """A message of values (K, A) in the layout's order, at `times` (K,) seconds from now."""

    def _stamp(self, header: Header) -> float:
        """ROS seconds; what goes out has its frame from now on. Raises: MessageError for another frame than wanted."""
        if self.frame_id and header.frame_id != self.frame_id:
            raise MessageError(f"header.frame_id is '{header.frame_id}'; expected '{self.frame_id}'")
        self._frame = header.frame_id
        return stamp_seconds(header.stamp)

    def _untold_gripper(self, measured: np.ndarray | None) -> float:
        """What a command that says nothing about the gripper means: rate 0, or stay where it is; NaN: unknown."""
        index = self.layout.names.index(self.gripper)
        if not self.layout.position[index]:
            return 0.0
        return math.nan if measured is None else float(measured[index])


class TrajectoryFormat(CommandFormat):
    """trajectory_msgs/JointTrajectory: positions and their times; the way between two of them is straight.

    Velocities, accelerations and efforts of a point are left out: nobody judged the curves that they make. Points that
    have velocities and no positions are integrated from where the robot is; the positions are judged, and sent. The
    stamp is left out too: a trajectory that had to wait for its verdict must not begin in its middle.
    """

    message_type = JointTrajectory

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.layout.stays:
            raise ParameterError("parameter 'command_type' is 'joint_trajectory', whose values are positions: no rates")
        known = {*self.joints.embodiment.joint_names, self.gripper}
        strange = [n for n in self.layout.names if n not in known]
        if strange:
            raise ParameterError(f"parameter 'command_type' is 'joint_trajectory'; '{strange[0]}' is no joint")
        # A gripper that messages do not hold has no name.
        self._ours = {self._joint(n): n for n in self.layout.names if self._joint(n)}
        self._names = list(self._ours)

    def bound(self, data: bytes) -> str:
        return trajectory_problem(data, self.most_points)

    def _joint(self, name: str) -> str:
        """The robot's name."""
        return self.joints.gripper_name if name == self.gripper else self.joints.name(name)

    def _known(self, name: str) -> str:
        """Ours for a name of the robot's; what is none of them is not taken for one of ours either."""
        if name in self._ours:
            return self._ours[name]
        return f"{name} of another robot" if name in self.layout.names and name != self.gripper else name

    def _read(self, message: JointTrajectory, measured: np.ndarray | None) -> Command:
        if not message.points:
            raise MessageError("points is empty; to end a trajectory, send the place to stay at")
        message = integrated(message, None if measured is None else self.joints.places(measured, self.turns))
        names = list(message.joint_names)
        values = []
        for row, point in enumerate(message.points):
            if len(point.positions) != len(names):
                raise MessageError(
                    f"point {row} has {len(point.positions)} positions; joint_names has {len(names)} entries"
                )
            values.append(list(point.positions))
        times = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points]
        array: np.ndarray = np.array(values, float).reshape(len(values), len(names))
        known = [self._known(name) for name in names]
        if self.gripper in self.layout.names:
            closed, travel = self.joints.gripper_closed, self.joints.gripper_open - self.joints.gripper_closed
            if self._joint(self.gripper) in names:
                column = names.index(self._joint(self.gripper))
                array[:, column] = (array[:, column] - closed) / travel
            elif self.gripper not in names:
                array = np.column_stack([array, np.full(len(array), self._untold_gripper(measured))])
                known.append(self.gripper)
        if set(known) == set(self.layout.names) and len(known) == self.layout.size:
            # A controller of these joints would refuse a hold that names others.
            self._names, self._frame = names, message.header.frame_id
        return Command(array, np.array(times), tuple(known), stamp_seconds(message.header.stamp))

    def _write(self, values: np.ndarray, times: np.ndarray, stamp: Time) -> JointTrajectory:
        columns = {self._joint(n): column for n, column in zip(self.layout.names, values.T, strict=True)}
        if self.gripper in self.layout.names:
            closed, travel = self.joints.gripper_closed, self.joints.gripper_open - self.joints.gripper_closed
            name = self._joint(self.gripper)
            columns[name] = closed + columns[name] * travel
        rows = np.stack([columns[n] for n in self._names], 1)
        # The first points of a trajectory that begins at 0 are where the robot is.
        times = np.maximum(times, self.shortest) if len(times) == 1 else times
        points = [
            JointTrajectoryPoint(positions=row.tolist(), time_from_start=duration(t))
            for row, t in zip(rows, times, strict=True)
        ]
        return JointTrajectory(header=Header(frame_id=self._frame), joint_names=self._names, points=points)


class ArrayFormat(CommandFormat):
    """std_msgs/Float64MultiArray: all values in the layout's order; a gripper without a joint has none."""

    message_type = Float64MultiArray

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._short = self.layout.names[-1] == self.gripper and not self.joints.gripper_joint

    def _read(self, message: Float64MultiArray, measured: np.ndarray | None) -> Command:
        if message.layout.data_offset:
            raise MessageError(f"layout.data_offset is {message.layout.data_offset}; expected 0")
        data: np.ndarray = np.array(message.data, float)
        return Command.setpoint(np.append(data, self._untold_gripper(measured)) if self._short else data)

    def _write(self, values: np.ndarray, times: np.ndarray, stamp: Time) -> Float64MultiArray:
        return Float64MultiArray(data=values[-1, : -1 if self._short else None].tolist())


class TwistFormat(CommandFormat):
    """geometry_msgs/Twist: velocities; those that the robot does not have must be 0."""

    message_type = Twist

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        strange = [n for n in self.layout.names if n not in TWIST]
        if strange:
            raise ParameterError(
                f"parameter 'command_type' is a twist; '{strange[0]}' of '{self.joints.embodiment.name}' is none of "
                f"its values: {', '.join(TWIST)}"
            )

    def _read(self, message: Twist, measured: np.ndarray | None) -> Command:
        return self._command(message)

    def _command(self, twist: Twist, stamp: float = 0.0) -> Command:
        given = dict(zip(TWIST, [getattr(v, a) for v in (twist.linear, twist.angular) for a in "xyz"], strict=True))
        for name, value in given.items():
            if name not in self.layout.names and value != 0:
                raise MessageError(f"{name} is {value:.3g}; this robot has only {', '.join(self.layout.names)}")
        return Command.setpoint(np.array([given[n] for n in self.layout.names]), self.layout.names, stamp)

    def _write(self, values: np.ndarray, times: np.ndarray, stamp: Time) -> Any:
        return self._twist(values)

    def _twist(self, values: np.ndarray) -> Twist:
        told = dict(zip(self.layout.names, values[-1].tolist(), strict=True))
        x, y, z, roll, pitch, yaw = (told.get(name, 0.0) for name in TWIST)
        return Twist(linear=Vector3(x=x, y=y, z=z), angular=Vector3(x=roll, y=pitch, z=yaw))


class StampedTwistFormat(TwistFormat):
    """geometry_msgs/TwistStamped. What goes out is stamped when it goes out."""

    message_type = TwistStamped

    def _read(self, message: TwistStamped, measured: np.ndarray | None) -> Command:
        return self._command(message.twist, self._stamp(message.header))

    def _write(self, values: np.ndarray, times: np.ndarray, stamp: Time) -> TwistStamped:
        return TwistStamped(header=Header(stamp=stamp, frame_id=self._frame), twist=self._twist(values))


class VehicleFormat(CommandFormat):
    """deepverse_ros/VehicleControl. What goes out is stamped when it goes out."""

    message_type = VehicleControl

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if set(self.layout.names) != set(VEHICLE):
            raise ParameterError(
                f"parameter 'command_type' is 'vehicle_control', whose values are {', '.join(VEHICLE)}; those of "
                f"'{self.joints.embodiment.name}' are {', '.join(self.layout.names)}"
            )

    def _read(self, message: VehicleControl, measured: np.ndarray | None) -> Command:
        values = np.array([getattr(message, name) for name in VEHICLE], float)
        return Command.setpoint(values, VEHICLE, self._stamp(message.header))

    def _write(self, values: np.ndarray, times: np.ndarray, stamp: Time) -> VehicleControl:
        told = dict(zip(self.layout.names, values[-1].tolist(), strict=True))
        return VehicleControl(header=Header(stamp=stamp, frame_id=self._frame), **told)


FORMATS: dict[str, type[CommandFormat]] = {
    "joint_trajectory": TrajectoryFormat,
    "float64_multi_array": ArrayFormat,
    "twist": TwistFormat,
    "twist_stamped": StampedTwistFormat,
    "vehicle_control": VehicleFormat,
}
