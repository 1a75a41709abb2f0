"""The world model's answers to the prefilter: each command's imagined future, held against the zones, as a verdict."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from deepverse_ros.judging.command_judge import CommandJudge
from deepverse_ros.judging.command_rollout import CommandRollout
from deepverse_ros.judging.command_stream import SetpointStream, Told
from deepverse_ros.judging.moments import JudgeSettings, Seen
from deepverse_ros.judging.tracked_command import TrackedCommand
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.future import Future
from deepverse_ros.model.memory import Memory
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.msg import CommandVerdict
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.command_formats import FORMATS
from deepverse_ros.nodes.messages.command_layout import layout_from
from deepverse_ros.nodes.messages.command_verdict import command_verdict_to_msg
from deepverse_ros.nodes.perception.observation_source import ObservationWindow
from deepverse_ros.nodes.perception.robot_state import StateInput
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import Quantiles
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter, ParameterError
from deepverse_ros.nodes.world_model.zone_reports import ZoneReports
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.commands import STREAM_PAUSE, Command, in_layout_order
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.verdict import Verdict
from deepverse_ros.safety.zones import Zones

PARAMETERS = (
    Parameter("zones", "", "File of the zones that commands are judged by (config/safety); empty: none are judged."),
    Parameter("watched_command_topic", "prefilter/command_in", "Commands to judge: what the prefilter is given."),
    Parameter(
        "passed_command_topic", "prefilter/command_out", "What the prefilter lets through, which tells when a "
        "trajectory began; empty: every command begins when it comes.",
    ),
    Parameter(
        "watched_command_type", "joint_trajectory", "Message of a command, as the prefilter's command_type.",
        choices=tuple(FORMATS),
    ),
    Parameter(
        "watched_command_values", "targets", "What it says, as the prefilter's command_values.",
        choices=("targets", "rates"),
    ),
    Parameter("watched_command_rest", [""], "The prefilter's rest: modalities that go on until another command comes."),
    Parameter(
        "half_width", [""], "How far another command may be off and still share a verdict, as 'modality=number' in the "
        "command's unit; one that is not named has 0.1 % of its range. The wider, the more room a command needs.",
    ),
    Parameter(
        "stream_margin", [""], "The same for set-points that follow each other, around the way that they take, where "
        "nothing is near; one that is not named has 0.4 % of its range.",
    ),
    Parameter(
        "stream_ahead", 1.5, "For so long ahead such set-points are judged at most (s); less where judging is quick.",
        0.1, 10.0,
    ),
    Parameter("time_slack", 0.05, "How early or late a trajectory may run and still share a verdict (s).", 0.0, 0.5),
    Parameter("own_margin", 0.04, "So near to its capsules a point is the robot's own (m).", 0.0, 0.3),
    Parameter(
        "max_depth_scale", 0.05, "A pixel of whose depth the model is less sure than this is no point (m); more for a "
        "robot that looks far.", 0.001, 100.0,
    ),
    Parameter("verdict_valid_for", 0.5, "How long a verdict may be used (s).", 0.05, 5.0),
    Parameter(
        "verdict_deadline", 1.0, "A verdict that took longer than this says stop (s).", 0.05, 10.0, dynamic=True
    ),
)  # fmt: skip
RATE_TIMEOUT, WAIT_TIMEOUT, AFTER, SETPOINT_TIMEOUT = 1.0, 2.0, 0.5, 30.0
"""Seconds for which is judged: a rate that is not repeated, a trajectory that does not pass, one that is done, and a
set-point that is not reached."""
WAIT_JUDGEMENTS = 4
"""So many judgements, if they take longer, has a trajectory that does not pass."""
SPARE = 1.2
"""Times two judgements is how long a verdict on a stream has to last: until the one after it has come."""
PAUSE = 3.0
"""Seconds between two judgements after which nothing was judged meanwhile."""
REACHED = 0.02
"""So near to a set-point in each value (rad, m) it is reached."""


@dataclass(frozen=True, eq=False)
class _Current:
    """watched: the newest command. came, since: ROS seconds of its coming and of its last beginning or halt.

    received: time.monotonic() of its coming.
    """

    watched: TrackedCommand
    came: float
    since: float
    received: float


class CommandJudgeServer:
    """Subscribes to commands, and publishes a verdict on the newest one: at once, and again with every new image.

    Callbacks only store. `on_frame` and `on_command` run on the worker's thread.

    Args: joints: how messages name them. state: where the robot is; it also hears what the robot is told. lookup: as of
    `CommandJudge`.
    Raises: ConfigError, ParameterError, ShapeError or ResourceError naming what cannot be judged with this robot.
    """

    def __init__(
        self, node: RobotNode, model: WorldModel, joints: JointLayout, state: StateInput,
        lookup: Callable[[str], np.ndarray | None],
    ) -> None:  # fmt: skip
        p = node.parameters.values()
        # A checkpoint may be older than the robot's body.
        embodiment = Embodiment.load(p.embodiment) if p.embodiment else model.embodiment.with_known_body()
        if p.base_frame not in ("", embodiment.base_frame):
            raise ParameterError(
                f"parameter 'base_frame' is '{p.base_frame}', but zones and verdicts are in the base frame of "
                f"'{embodiment.name}', '{embodiment.base_frame}'"
            )
        layout = layout_from(
            embodiment,
            SimpleNamespace(
                command_type=p.watched_command_type, command_values=p.watched_command_values,
                rest=p.watched_command_rest, unscaled=[],
            ),
        )  # fmt: skip
        rates = p.watched_command_values == "rates"
        widths = {name: dict(_widths(name, getattr(p, name))) for name in ("half_width", "stream_margin")}
        course = CommandRollout(embodiment, layout, rates, time_slack=p.time_slack, **widths)
        settings = JudgeSettings(
            horizon=p.horizon, margin=p.own_margin, max_scale=p.max_depth_scale, valid_for=p.verdict_valid_for
        )
        self.judge = CommandJudge(model, embodiment, Zones.load(p.zones), course, settings, lookup)
        self.reports = ZoneReports(node, self.judge)
        self.latency = Quantiles()
        self._node, self._state, self._layout = node, state, layout
        self._format = FORMATS[p.watched_command_type](layout, joints)
        self._lock = threading.Lock()
        self._current: _Current | None = None
        self._answered: _Current | None = None
        self._seen: Seen | None = None
        self._stream, self._told = SetpointStream(layout), Told()
        self._took: deque[float] = deque([p.stream_ahead / 2], maxlen=4)  # seconds from one judgement to the next
        self._ended = -math.inf
        self._counts = dict.fromkeys(("verdicts", "stopped", "refreshed"), 0)
        self._subscriptions: list = []
        self._verdicts = node.advertise(CommandVerdict, "~/command_verdict", qos.command())

    def start(self, wake: Callable[[], object]) -> None:
        """Args: wake: called when a command has come that nobody has judged yet."""
        node, kind = self._node, self._format.message_type
        self._wake = wake
        wanted = (
            (node.parameters["watched_command_topic"], self._on_command),
            (node.parameters["passed_command_topic"], self._on_passed),
        )
        self._subscriptions = [
            node.subscribe(kind, topic, hear, qos.command(), bound=self._format.bound)
            for topic, hear in wanted
            if topic
        ]

    def stop(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        with self._lock:
            self._current = None
            self._stream.forget()
            self._told.forget()
        self._seen = self._answered = None
        self.judge.forget()
        self.reports.forget()

    def destroy(self) -> None:
        self._node.destroy_lifecycle_publisher(self._verdicts)

    # Callbacks: store only ----------------------------------------------------------------------------------------
    def _on_command(self, message: Any) -> None:
        now = self._node.now()
        command = self._read(message, "watched_command_topic")
        if command is None:
            return
        with self._lock:
            command = replace(command, start=self._start(now))
            at_once = not self._node.parameters["passed_command_topic"]
            passes = at_once and command.duration > 0
            stream = None if self.judge.course.rates else self._stream.add(command, now)
            watched = TrackedCommand(command, begun=now if passes else None, stream=stream)
            self._current = _Current(watched, now, now, time.monotonic())
            if at_once:
                self._told.passed(command, now)
        if at_once:
            self._hear(now, command)
        self._wake()

    def _on_passed(self, message: Any, info: Any) -> None:
        now = self._node.now() - self._on_the_way(info)
        command = self._read(message, "passed_command_topic")
        if command is None:
            return
        self._hear(now, command)
        with self._lock:
            self._told.passed(command, now)
            current = self._current
            if current is None:
                return
            watched = current.watched.continued(command, now) or current.watched.halted(now)
            if watched is not current.watched:  # a hold is sent again and again
                self._current = replace(current, watched=watched, since=now)

    def _hear(self, now: float, command: Command) -> None:
        if command.duration == 0:
            self._state.record_command(now, command.values[-1])

    def _on_the_way(self, info: Any) -> float:
        """Seconds that a message took to get here: the robot has had it since it was sent."""
        if self._node.get_clock().ros_time_is_active:
            return 0.0  # it is stamped in the system's time
        return float(np.clip(1e-9 * (time.time_ns() - info["source_timestamp"]), 0.0, 0.2))

    def _read(self, message: Any, topic: str) -> Command | None:
        here = self._state.now()
        if here is not None:
            self._format.turns = here.turns
        incoming = self._format.read(message, None if here is None else here.values)
        problem = incoming.problem
        if not problem:
            command, checks = in_layout_order(incoming.command, self._layout)
            if command is not None and command.times[0] >= 0 and (np.diff(command.times) > 0).all():
                return command
            problem = next((c.text for c in checks if not c.ok), "times of the way points must rise from 0 or later")
        # The prefilter refuses it as well, so nothing has to be judged.
        self._node.warn("watched", f"{self._node.parameters[topic]}: {problem}; it is not judged")
        return None

    def _start(self, now: float) -> np.ndarray | None:
        """Where the robot was told to be by the command before, if that is on its way, else where it is."""
        before = self._current.watched if self._current is not None else None
        if before is not None and before.begun is not None and before.elapsed(now) <= before.command.duration + AFTER:
            return before.command.at(before.elapsed(now))
        here = self._state.now()
        return None if here is None else here.values.astype(float)

    # On the worker's thread ---------------------------------------------------------------------------------------
    @property
    def busy(self) -> bool:
        """Whether there is a command to judge."""
        return self._newest() is not None

    def on_frame(self, window: ObservationWindow, belief: Belief, memory: Memory | None) -> tuple[Future, str] | None:
        """Judge the newest command by a new image. Returns: the future that was imagined for it, and its id.

        What stands in a zone is told also while there is no command.
        """
        current = self._newest()
        if current is None and not self.reports.due:
            return None
        if window.state_problem:
            self.publish_no_observation(window.state_problem, window.stamp)
            return None
        values = None if window.state is None else window.state.values
        seen = self.judge.see(belief, window.observation, values, window.stamp)
        self.reports.look(seen)
        if current is None:
            return None
        answer = self._judge(current, seen, window.received, memory)
        ended, before = time.monotonic(), self._ended
        if current.watched.stream is not None and ended - before < PAUSE:
            self._took.append(ended - before)
        self._ended = ended
        return answer

    def refresh(self) -> None:
        """Judge a command that has just come without imagining anew, where that can be done."""
        current = self._newest()
        if current is None or self._seen is None or not self.unanswered or self._state.problem():
            return
        verdict = self.judge.refresh(self._seen, current.watched, self._node.now())
        if verdict is not None:
            self._counts["refreshed"] += 1
            self._publish(verdict, current.received)

    @property
    def unanswered(self) -> bool:
        """Whether the newest command has had no verdict by its own imagined future yet."""
        current = self._newest()
        return current is not None and (self._answered is None or current.received != self._answered.received)

    def publish_no_observation(self, why: str, stamp: float) -> None:
        """Nothing can be judged: the newest command must not pass. Args: stamp: of the newest image, ROS seconds."""
        current = self._newest()
        if current is not None:
            self._answered = current
            self._publish(self.judge.no_observation(why, current.watched, stamp, self._node.now()), current.received)

    def _judge(
        self, current: _Current, seen: Seen, received: float, memory: Memory | None
    ) -> tuple[Future, str] | None:
        self._answered = current
        try:
            judged = self.judge.judge(seen, current.watched, self._node.now(), memory)
        except Exception as error:
            self.publish_no_observation(f"judging failed: {type(error).__name__}: {error}", seen.stamp)
            raise
        self._seen = seen
        since = max(current.received, received)
        took, limit = time.monotonic() - since, self._node.parameters["verdict_deadline"]
        verdict = replace(judged.verdict, stamp=self._node.now())
        if took > limit:
            late = Finding(
                Action.STOP, scale=0.0, time_to_enter=0.0, text=f"judging took {took:.2g} s, at most {limit:.2g}"
            )
            verdict = replace(verdict, finding=late)
        self._publish(verdict, since)
        return None if judged.future is None else (judged.future, current.watched.plan_id)

    def _publish(self, verdict: Verdict, since: float) -> None:
        latency = 1e3 * (time.monotonic() - since)
        self.latency.add(latency)
        self._counts["verdicts"] += 1
        self._counts["stopped"] += verdict.finding.action == Action.STOP
        robot = self.judge.embodiment
        message = command_verdict_to_msg(verdict, self._layout.names, robot.base_frame, robot.name, latency)
        self._verdicts.publish(message)

    def _newest(self) -> _Current | None:
        """The newest command, unless it is done, or nobody will execute it any more."""
        now = self._node.now()
        with self._lock:
            current = self._current
            if current is None:
                return None
            watched, command = current.watched, current.watched.command
            if watched.stream is not None:
                done = now - current.came > STREAM_PAUSE
            elif not self._layout.stays:
                done = now - current.came > RATE_TIMEOUT
            elif watched.begun is not None:
                done = watched.elapsed(now) > command.duration + AFTER
            elif command.duration > 0:
                done = now - current.since > self._patience()
            else:
                done = now - current.came > SETPOINT_TIMEOUT or self._reached(command.values[-1])
            if done or now < current.came - 1.0:  # the clock jumped back: it belongs to another time
                self._current = None
            return self._current and self._placed(self._current, now)

    def _patience(self) -> float:
        """Seconds for which a trajectory that does not pass is judged: where that is slow, for some judgements."""
        (slow,) = self.latency.at(0.95)
        return max(WAIT_TIMEOUT, 1e-3 * WAIT_JUDGEMENTS * slow) if np.isfinite(slow) else WAIT_TIMEOUT

    def _placed(self, current: _Current, now: float) -> _Current:
        """A set-point of a stream, with where the robot is meanwhile, and for how long a verdict has to last."""
        stream = current.watched.stream
        if stream is None:
            return current
        places = self._told.places(now, self._measured())
        lasts = min(2 * SPARE * max(self._took), self._node.parameters["stream_ahead"])
        stream = replace(stream, places=stream.places if places is None else places, lasts=lasts)
        return replace(current, watched=replace(current.watched, stream=stream))

    def _measured(self) -> np.ndarray | None:
        here = self._state.now()
        return None if here is None else here.values

    def _reached(self, target: np.ndarray) -> bool:
        here = self._measured()
        return here is not None and bool((np.abs(here - target) <= REACHED).all())

    def values(self) -> dict[str, object]:
        """What /diagnostics says."""
        p50, p95 = self.latency.at(0.5, 0.95)
        counts = {f"command_{name}": count for name, count in self._counts.items()}
        return {"command_verdict_p50_ms": p50, "command_verdict_p95_ms": p95, **counts}


def _widths(parameter: str, entries: list[str]) -> list[tuple[str, float]]:
    """Raises: ParameterError naming the entry."""
    out = []
    for entry in entries:
        name, _, value = (part.strip() for part in entry.partition("="))
        try:
            number = float(value) if name else 0.0
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ParameterError(f"parameter '{parameter}' has '{entry}'; expected 'modality=number'")
        out += [(name, number)] if name else []
    return out
