"""The prefilter as a node: commands pass to the robot only while a fresh verdict says that their future is clear.

A process of its own without torch, so that a crash of the world model cannot open the gate. Not a certified safety
device.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from deepverse_ros.errors import DeepverseError, MessageError, printable
from deepverse_ros.msg import CommandVerdict, PrefilterStatus
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.command_formats import FORMATS, CommandFormat
from deepverse_ros.nodes.messages.command_layout import layout_from
from deepverse_ros.nodes.messages.command_verdict import command_verdict_from_msg, most_bytes
from deepverse_ros.nodes.messages.odometry import OdometryLayout
from deepverse_ros.nodes.messages.prefilter_status import status_to_msg
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.perception.measured_joints import MeasuredJoints
from deepverse_ros.nodes.prefilter.output import PrefilterOutput
from deepverse_ros.nodes.prefilter.parameters import PARAMETERS, settings_from
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import Quantiles
from deepverse_ros.nodes.runtime.lifecycle import RobotNode, named, run
from deepverse_ros.nodes.runtime.message_bounds import bytes_problem
from deepverse_ros.nodes.runtime.parameters import ParameterError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command
from deepverse_ros.safety.gate import Gate
from deepverse_ros.safety.halts import Halts
from deepverse_ros.safety.settings import CommandLimits, GateSettings
from deepverse_ros.safety.status import Decision, Mode, Send, State, Status

LIVE = tuple(p.name for p in PARAMETERS if p.dynamic)


class PrefilterNode(RobotNode):
    """Asks the gate at every message and every tick, and sends what it answers. One lock: the gate knows no threads."""

    # Made by `configure`, gone after `cleanup`.
    gate: Gate
    format: CommandFormat

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("prefilter", PARAMETERS, **kwargs)
        self._lock = threading.RLock()
        self._active = False
        self.add_on_set_parameters_callback(self._check_live)

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def configure(self) -> None:
        p = self.parameters.values()
        if not p.embodiment:
            raise ParameterError(
                "parameter 'embodiment' is empty; expected the robot: a name or file of config/embodiments"
            )
        self._embodiment = Embodiment.load(p.embodiment)
        self._joints = MeasuredJoints(JointLayout.of(self._embodiment, p))
        self._odometry = OdometryLayout(self._embodiment.modalities, self._embodiment.base_frame)
        layout = layout_from(self._embodiment, p)
        settings, limits = self._settings(self.parameters.__getitem__)
        self.gate = Gate(layout, settings, limits, Mode[p.mode.upper()])
        self.format = FORMATS[p.command_type](layout, self._joints.layout, limits.period, p.command_frame)
        self.format.most_points = limits.max_points
        self._halts = Halts(layout)
        self._require_stamps(limits)
        self._live = tuple(self.parameters[name] for name in LIVE)
        self._measured: tuple[np.ndarray, float] | None = None
        self._added, self._failures, self._failed = Quantiles(1000), 0, ""
        self._status: Status | None = None
        self._said = -np.inf
        self._connect()
        self.diagnostics.add_check("gate", self._check)
        names = ", ".join(layout.names)
        self.get_logger().info(f"{p.mode}: commands of {self._embodiment.name} ({p.command_type}): {names}")

    def _connect(self) -> None:
        p, kind = self.parameters.values(), self.format.message_type
        # One group each: within one, what stands first in the executor's list would starve the others.
        group = MutuallyExclusiveCallbackGroup
        verdicts = qos.command()
        verdicts.depth = 10  # several commands are judged at once
        self._out = self.own(PrefilterOutput(self, kind, self._joints.layout))
        self._status_out = self.own(self.advertise(PrefilterStatus, "~/status", qos.debug_output()))
        subscriptions = [
            self.subscribe(
                kind, "~/command_in", self.on_command, qos.command(), group(), self.format.bound, self.on_unreadable
            ),
            self.subscribe(
                CommandVerdict,
                p.verdict_topic,
                self.on_verdict,
                verdicts,
                group(),
                self._verdict_bound,
                lambda _, problem: self._on_wrong_verdict(problem),
            ),
            self.subscribe(Header, p.heartbeat_topic, self.on_heartbeat, qos.sensor_input(), group()),
        ]
        if self._embodiment.joint_names:
            subscriptions.append(
                self.subscribe(
                    JointState, p.joint_states_topic, self.on_joint_states, qos.joints_input(), group(), drain=True
                )
            )
        elif p.odometry_topic and self._odometry.told.any():
            subscriptions.append(
                self.subscribe(Odometry, p.odometry_topic, self.on_odometry, qos.sensor_input(), group())
            )
        for subscription in subscriptions:
            self.own(subscription)
        self.own(self.create_service(Trigger, "~/release", self._on_release, callback_group=group()))
        # Wall time: it also acts while a simulation stands still.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.own(self.create_timer(1.0 / p.tick_rate, self.on_tick, callback_group=group(), clock=clock))

    def activate(self) -> None:
        with self._lock:
            self.gate.fail("just activated", self.moment())
            self._joints.forget()
            self._active = True

    def deactivate(self) -> None:
        with self._lock:
            if not self._active:
                return
            self._active = False
            command = self._halt("deactivated")
            if command is not None:
                self._send(command, rest=True)
            else:
                self._out.stop()
            self._halts.over()

    def cleanup(self) -> None:
        for name in ("gate", "format"):
            self.__dict__.pop(name, None)

    # What comes ---------------------------------------------------------------------------------------------------
    def moment(self) -> Now:
        """The present moment by both clocks."""
        return Now(time.monotonic(), self.now())

    def on_command(self, message: Any) -> None:
        began = time.perf_counter()
        with self._lock:
            if not self._active:
                return
            now = self.moment()
            incoming = self.format.read(message, self._recent(self.gate.settings.measured_timeout))
            send = self._do(lambda: self.gate.on_command(incoming.command, now, incoming.problem), message)
            if send in (Send.COMMAND, Send.SCALED):
                self._added.add(1e3 * (time.perf_counter() - began))

    def on_unreadable(self, data: bytes, problem: str) -> None:
        """A command that was not read is one that must not pass. Args: data: as it came; while monitoring it passes."""
        with self._lock:
            if self._active:
                now, incoming = self.moment(), self.format.unreadable(problem)
                self._do(lambda: self.gate.on_command(incoming.command, now, incoming.problem), data)

    def on_verdict(self, message: CommandVerdict) -> None:
        with self._lock:
            if not self._active:
                return
            now, robot = self.moment(), self._embodiment
            try:
                verdict = command_verdict_from_msg(message, self.gate.layout.names, robot.base_frame, robot.name)
            except MessageError as error:
                self.warn("verdict", f"{self.parameters['verdict_topic']}: {error}")
                self._on_wrong_verdict(str(error).removeprefix("verdict "))
            else:
                self._do(lambda: self.gate.on_verdict(verdict, now))

    def _on_wrong_verdict(self, problem: str) -> None:
        with self._lock:
            if self._active:
                self._do(lambda: self.gate.on_wrong_verdict(problem, self.moment()))

    def _verdict_bound(self, data: bytes) -> str:
        return bytes_problem(data, most_bytes(self.gate.layout.size))

    def on_heartbeat(self, message: Header) -> None:
        with self._lock:
            if self._active:
                self._do(lambda: self.gate.on_heartbeat(self.moment(), stamp_seconds(message.stamp)))

    def on_joint_states(self, message: JointState) -> None:
        with self._lock:
            if not self._active:
                return
            now, timeout = self.moment(), self.gate.settings.measured_timeout
            stamp = stamp_seconds(message.header.stamp) or now.ros
            if problem := self._joints.add(message.name, message.position, stamp, now.steady):
                self.warn("joints", f"{self.parameters['joint_states_topic']}: {problem}; the message was ignored")
            state = self._joints.state(now.ros, now.steady, timeout)
            if state is None:
                if problem := self._joints.problem(now.ros, now.steady, timeout):
                    self.warn("joints", f"{self.parameters['joint_states_topic']}: {problem}")
                return
            self._count_turns(state.turns)
            # As old as the joint that was measured longest ago.
            then = Now(now.steady - self._joints.age(now.ros, now.steady), now.ros)
            joints = state.values.astype(float)
            if len(joints) == self.gate.layout.size and self.gate.on_measured(joints, then):
                self._measured = (joints, then.steady)

    def on_odometry(self, message: Odometry) -> None:
        """Where a robot without joints is."""
        with self._lock:
            if not self._active:
                return
            now = self.moment()
            try:
                values = self._odometry.vector(message).astype(float)
            except MessageError as error:
                self.warn("odometry", f"{self.parameters['odometry_topic']}: {error}; the message was ignored")
                return
            # Rates that odometry does not tell are of no account.
            values[~self.gate.layout.position & np.isnan(values)] = 0.0
            stamp = stamp_seconds(message.header.stamp)
            if self.gate.on_measured(values, now, stamp):
                self._measured = (values, now.steady - (max(now.ros - stamp, 0.0) if stamp else 0.0))

    def _count_turns(self, turns: np.ndarray) -> None:
        """What is sent is near where the robot is by its own count. Who turns it further ends what was sent before."""
        if len(turns) != self.gate.layout.size:
            return
        before, self.format.turns = self.format.turns, turns
        if before is not None and (before != turns).any():
            self.gate.fail("a joint has been turned beyond its limits: its turns are counted anew", self.moment())

    def on_tick(self) -> None:
        with self._lock:
            if not self._active:
                return
            enforced = self._apply_live()
            sent = self._do(lambda: self.gate.tick(self.moment()))
            if enforced and sent == Send.NOTHING and self.gate.state == State.FALLBACK and self.gate.counts.commands:
                self.warn(
                    "place", "what passed before may go on: nobody has said where the robot is, so nothing halts it"
                )

    def _on_release(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            if not self._active:
                response.success, response.message = False, "the prefilter is not active"
                return response
            response.success, response.message = self.gate.release(self.moment())
        self.get_logger().info(f"release: {response.message}")
        return response

    # What is sent -------------------------------------------------------------------------------------------------
    def _do(self, ask: Callable[[], Decision], message: Any = None) -> Send:
        """Ask the gate and send what it answers. Args: message: of the command that came, None for other events."""
        try:
            decision = ask()
            if self.gate.mode == Mode.MONITOR:
                if message is not None:
                    self._halts.over()
                    self._out.publish(message)  # as it came, whatever is in it
            elif decision.command is not None:
                if decision.send in (Send.HOLD, Send.STOP):
                    self._send_halt(decision.command)
                else:
                    self._halts.over()
                    self._send(decision.command)
        except Exception as error:  # whatever it is, it must not open the gate or end the node
            self._fail(error, message)
            return Send.NOTHING
        self._report(decision.status)
        return decision.send

    def _fail(self, error: Exception, message: Any) -> None:
        """Fail closed: the fallback holds, and the robot is told to rest; while monitoring, what came passes."""
        self._say_failure(error)
        self.gate.fail(self._failed, self.moment())
        if self.gate.mode == Mode.ENFORCE:
            command = self._halt(self._failed)
            if command is not None:
                self._send_halt(command)
            else:
                self._out.stop()
        elif message is not None:
            self._out.publish(message)
        self._report(Status(State.FALLBACK, self.gate.mode, Send.HOLD, f"the gate failed: {self._failed}", 0.0))

    def _say_failure(self, error: Exception) -> None:
        self._failures += 1
        self._failed = named(error)
        self.warn_unexpected("gate", "the gate failed and is closed", error)

    def _halt(self, why: str) -> Command | None:
        """Close the gate. Returns: what to send; None where nothing moves the robot, or nobody knows its place."""
        try:
            return self.gate.halt(why, self.moment())
        except Exception as error:  # the robot must be told to rest, whatever happened
            self._say_failure(error)
            return self._rest()

    def _rest(self) -> Command | None:
        """Rates to rest, positions where they were measured last; made without the gate."""
        layout, measured = self.gate.layout, self._recent(self.gate.settings.measured_timeout)
        if measured is None and layout.position.any():
            return None
        place = np.zeros(layout.size) if measured is None else measured
        rest = np.where(layout.position, place, np.nan_to_num(layout.rest))
        return Command.setpoint(np.clip(rest, layout.lower, layout.upper), layout.names)

    def _recent(self, seconds: float) -> np.ndarray | None:
        """(A,) where the robot was measured no more than so long ago."""
        if self._measured is None or self.moment().steady - self._measured[1] > seconds:
            return None
        return self._measured[0]

    def _send_halt(self, command: Command) -> None:
        """Unless it was sent already."""
        if self._halts.due(command, self.gate.settings.halt_rate, self.moment()):
            self._send(command, rest=True)

    def _send(self, command: Command, rest: bool = False) -> None:
        self._out.publish(self.format.write(command, self.get_clock().now().to_msg()), rest)

    def _report(self, status: Status) -> None:
        last, self._status = self._status, status
        changed = last is None or (last.state, last.mode) != (status.state, status.mode)
        now = time.monotonic()
        if changed and last is not None:
            because = f": {printable(status.reason)}" if status.reason else ""
            self.get_logger().info(f"{last.state.name} -> {status.state.name} ({status.mode.name.lower()}){because}")
        if changed or now - self._said >= 1.0 / self.parameters["status_rate"]:
            self._said = now
            header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._embodiment.base_frame)
            self._status_out.publish(status_to_msg(status, header))

    # Live parameters ----------------------------------------------------------------------------------------------
    @staticmethod
    def _settings(value: Callable[[str], Any]) -> tuple[GateSettings, CommandLimits]:
        return settings_from(GateSettings, value), settings_from(CommandLimits, value)

    def _require_stamps(self, limits: CommandLimits) -> None:
        if limits.require_stamp and not self.format.stamped:
            kind = self.format.message_type.__name__
            raise ParameterError(f"parameter 'require_stamp' is true, but a {kind} has no stamp")

    def _check_live(self, given: list[RosParameter]) -> SetParametersResult:
        """What no single parameter's range can say."""
        if not hasattr(self, "gate"):
            return SetParametersResult(successful=True)
        new = {parameter.name: parameter.value for parameter in given}
        try:
            settings, limits = self._settings(lambda name: new[name] if name in new else self.parameters[name])
            self.gate.check_settings(settings)
            self._require_stamps(limits)
        except DeepverseError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_live(self) -> bool:
        """Hand changed parameters to the gate. Returns: whether it enforces from now on, and did not before."""
        live = tuple(self.parameters[name] for name in LIVE)
        if live == self._live:
            return False
        self._live = live
        values = dict(zip(LIVE, live, strict=True))
        self.gate.settings, self.gate.limits = self._settings(values.__getitem__)
        self.format.shortest, self.format.most_points = self.gate.limits.period, self.gate.limits.max_points
        before, mode = self.gate.mode, Mode[values["mode"].upper()]
        self.gate.set_mode(mode, self.moment())
        return (before, mode) == (Mode.MONITOR, Mode.ENFORCE)

    # Diagnostics --------------------------------------------------------------------------------------------------
    def _check(self) -> tuple[bytes, str, dict[str, object]]:
        p50, p95 = self._added.at(0.5, 0.95)
        counts, status = self.gate.counts, self._status
        values: dict[str, object] = {
            "mode": self.gate.mode.name.lower(),
            "state": self.gate.state.name if self._active else "inactive",
            "command_p50_ms": p50,
            "command_p95_ms": p95,
            "commands": counts.commands,
            "commands_passed": counts.passed,
            "commands_slowed": counts.slowed,
            "commands_refused": counts.refused,
            "commands_out_of_order": counts.out_of_order,
            "commands_expired": counts.expired,
            "reject_rate": counts.withheld / counts.commands if counts.commands else 0.0,
            "verdicts": counts.verdicts,
            "verdicts_dropped": counts.verdicts_wrong + counts.verdicts_stale,
            "stamps_ahead": counts.ahead,
            "gate_failures": self._failures,
        }
        problem, controller = self._out.check()
        values |= controller
        if self._active and problem:
            return DiagnosticStatus.ERROR, problem, values
        if not self._active or status is None:
            return DiagnosticStatus.OK, "inactive", values
        if status.state in (State.PASS, State.SLOW):
            return DiagnosticStatus.OK, "", values
        level = DiagnosticStatus.ERROR if status.state == State.FALLBACK else DiagnosticStatus.WARN
        return level, f"{status.state.name}: {status.reason}", values


def main() -> None:
    """Run the prefilter node until it is shut down."""
    sys.exit(run(PrefilterNode, threads=1))


if __name__ == "__main__":
    main()
