"""One command, or one stream of set-points, through the real gate to the simulated arm, in simulated time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Protocol

import numpy as np

from deepverse_ros.evaluation.prefilter.scenarios import LOOK, Begins, look
from deepverse_ros.judging.command_judge import CommandJudge
from deepverse_ros.judging.command_stream import SetpointStream, Stream, Told
from deepverse_ros.judging.moments import Imagined, Seen
from deepverse_ros.judging.tracked_command import TrackedCommand
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.robot_control import RobotControl
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command, Layout
from deepverse_ros.safety.gate import Gate
from deepverse_ros.safety.settings import GateSettings
from deepverse_ros.safety.status import Decision, Send
from deepverse_ros.safety.verdict import Verdict
from deepverse_ros.simulation.arm.simulation import ArmSimulation

TICK = 0.02
"""Seconds between two ticks of the gate."""
SLOWER = 3.0
"""Times the duration of a trajectory is how long somebody takes who leads the arm along it."""
_EXTRA = 2.0  # seconds that a command may take longer than it says
_START = 100.0  # ROS seconds at the beginning: a stamp of zero would mean that there is none


class Scenario(Begins, Protocol):
    """A scene and a command in it. commands (H, A): way points dt apart."""

    @property
    def commands(self) -> np.ndarray: ...

    def violated(self, simulation: ArmSimulation) -> bool:
        """Whether what must not happen happens now."""
        ...


@dataclass
class Run:
    """What became of one run.

    violated: what must not happen did.
    passed: share of a stream's set-points that passed until the last one of its way.
    arrived: seconds after which the arm was at its last target, None for never.
    judged_ms: wall times of the judgements.
    """

    violated: bool = False
    passed: float | None = None
    arrived: float | None = None
    judged_ms: list[float] = field(default_factory=list)


class Onlooker:
    """What the model sees and imagines in the runs of one scenario.

    The same moment, which several runs come by, is seen and imagined once; its wall time counts in each of them.
    """

    def __init__(self, model: WorldModel) -> None:
        self._control = RobotControl(model)
        self._context = model.config.context
        self._frames: list[bytes] = []
        self._known: dict[tuple[object, ...], tuple[Belief | Imagined, float]] = {}
        self.spared = 0.0
        """Seconds that were spared since it was last set to 0."""

    def begin(self, simulation: ArmSimulation, scenario: Scenario) -> None:
        """Put the simulation at the start of the scenario, and see the arm stand."""
        look(simulation, self._control, scenario)
        self._frames = []

    def look(self, watch: CommandJudge, simulation: ArmSimulation, now: float) -> Seen:
        rgb, depth = simulation.render()
        here, pose = simulation.joints, simulation.camera_to_world
        self._control.see(rgb, here, depth, intrinsics=simulation.intrinsics, camera_to_world=pose)
        # Every run begins with the same frames, so those since then tell the moment.
        digest = blake2b(rgb.tobytes() + depth.tobytes() + here.tobytes(), digest_size=16).digest()
        self._frames = [*self._frames, digest][-self._context :]
        observation = Observation.from_numpy(rgb[None], depth[None], simulation.intrinsics, pose)
        belief = self._once((*self._frames,), self._control.believe)
        assert isinstance(belief, Belief)
        return watch.see(belief, observation, here.astype(np.float32), now)

    def imagine(self, watch: CommandJudge, seen: Seen, watched: TrackedCommand) -> Imagined | None:
        """None where nothing can be seen."""
        if seen.no_observation:
            return None
        plan = watch.plan(seen, watched)
        imagined = self._once((*self._frames, watch.settings, plan.tobytes()), lambda: watch.imagine(seen, plan))
        assert isinstance(imagined, Imagined)
        return imagined

    def _once(self, key: tuple[object, ...], make: Callable[[], Belief | Imagined]) -> Belief | Imagined:
        if key in self._known:
            self.spared += self._known[key][1]
        else:
            began = time.perf_counter()
            made = make()
            self._known[key] = made, time.perf_counter() - began
        return self._known[key][0]


Judge = Callable[[CommandJudge, Onlooker, Seen, TrackedCommand], Verdict]


def present_only(watch: CommandJudge, _onlooker: Onlooker, seen: Seen, watched: TrackedCommand) -> Verdict:
    """Stops while a zone is violated now."""
    assert seen.joints is not None
    stay = TrackedCommand(Command.setpoint(seen.joints.astype(float), watch.course.layout.names))
    return watch.wrap(watch.judge_still(seen, stay, seen.stamp).finding, watched, seen.stamp, seen.stamp)


def kinematic(watch: CommandJudge, _onlooker: Onlooker, seen: Seen, watched: TrackedCommand) -> Verdict:
    """The scene stays as it is seen, the body goes where the command leads."""
    return watch.judge_still(seen, watched, seen.stamp)


def imagining(watch: CommandJudge, onlooker: Onlooker, seen: Seen, watched: TrackedCommand) -> Verdict:
    """The world model imagines scene and body."""
    return watch.judge(seen, watched, seen.stamp, imagined=onlooker.imagine(watch, seen, watched)).verdict


class _Whole:
    """A trajectory, sent once."""

    passed: float | None = None

    def __init__(self, command: Command) -> None:
        self.command = command
        self._watched = TrackedCommand(command)
        self._sent = False

    def next(self, since: float, now: float) -> Command | None:
        first = not self._sent
        self._sent = True
        return self.command if first else None

    def sent(self, decision: Decision, since: float) -> None:
        """What became of it."""

    def obey(self, decision: Decision, robot: "_Robot", now: float) -> None:
        """Do what the gate says; what passes, or does not, is what is judged from now on."""
        if decision.command is None or decision.send == Send.NOTHING:
            return
        robot.tell(decision.command, now)
        self._watched = self._watched.continued(decision.command, now) or self._watched.halted(now)

    def watched(self, now: float, measured: np.ndarray) -> TrackedCommand:
        return self._watched


class _Streamed:
    """The way of a trajectory, sent as set-points: one each tick, to be reached until the next; then the last one.

    lasts: seconds from what is judged to the verdict after the next.
    """

    def __init__(self, layout: Layout, way: Command, lasts: float) -> None:
        self.command = replace(way, times=SLOWER * way.times)
        self._layout = layout
        self._lasts = lasts
        self._maker = SetpointStream(layout)
        self._told = Told()
        self._stream: Stream | None = None
        self._newest = way
        self._passes: list[bool] = []

    def next(self, since: float, now: float) -> Command | None:
        place = self.command.at(since + TICK)
        self._newest = Command(place[None], np.array([TICK]), self._layout.names)
        self._stream = self._maker.add(self._newest, now)
        return self._newest

    def sent(self, decision: Decision, since: float) -> None:
        if since < self.command.duration:
            self._passes.append(decision.send in (Send.COMMAND, Send.SCALED))

    def obey(self, decision: Decision, robot: "_Robot", now: float) -> None:
        if decision.command is not None and decision.send != Send.NOTHING:
            robot.tell(decision.command, now)
            self._told.passed(decision.command, now)

    def watched(self, now: float, measured: np.ndarray) -> TrackedCommand:
        stream = self._stream
        places = self._told.places(now, measured)
        if stream is not None and places is not None:
            stream = replace(stream, places=places, lasts=self._lasts)
        return TrackedCommand(self._newest, stream=stream)

    @property
    def passed(self) -> float | None:
        return float(np.mean(self._passes)) if self._passes else None


class _Robot:
    """The simulated arm as a trajectory controller drives it, and whether anything happens that must not."""

    def __init__(self, simulation: ArmSimulation, scenario: Scenario) -> None:
        self.simulation = simulation
        self.scenario = scenario
        self.violated = False
        self._command: Command | None = None
        self._since = 0.0
        self._target = simulation.joints

    def tell(self, command: Command, now: float) -> None:
        self._command = replace(command, start=self._target)
        self._since = now

    def advance(self, now: float) -> None:
        """Move for a tick from `now` on."""
        for k in range(1, round(TICK / LOOK) + 1):
            if self._command is not None:
                self._target = self._command.at(now + k * LOOK - self._since)
            self.simulation.advance(LOOK, self._target)
            self.violated = self.violated or self.scenario.violated(self.simulation)


def run(
    simulation: ArmSimulation, onlooker: Onlooker, scenario: Scenario, watch: CommandJudge | None, judge: Judge | None,
    latency: float, streamed: bool = False,
) -> Run:  # fmt: skip
    """One scenario, with images and judgements every dt, and verdicts `latency` seconds later.

    Args: watch, judge: None to let commands pass as they come. streamed: its way comes as set-points, SLOWER.
    """
    onlooker.begin(simulation, scenario)
    if watch is not None:
        watch.forget()
    embodiment = simulation.embodiment
    robot = _Robot(simulation, scenario)
    out = Run()
    layout = Layout.of(embodiment)
    dt = embodiment.dt
    command = Command(
        scenario.commands.astype(float), dt * np.arange(1, len(scenario.commands) + 1), layout.names, 0.0,
        simulation.joints,
    )  # fmt: skip
    sender = _Streamed(layout, command, 1.2 * (latency + dt)) if streamed else _Whole(command)
    command = sender.command
    settings = GateSettings(
        command_timeout=0.0, verdict_timeout=1.0, image_timeout=1.0, wait_timeout=1.0, begin_delay=1.0
    )
    gate = Gate(layout, settings)
    coming: list[tuple[float, Verdict]] = []
    begins, each = round(0.5 / TICK), round(dt / TICK)  # the gate first finds that everything is well
    for k in range(begins + round((command.duration + _EXTRA) / TICK)):
        now, since = _START + TICK * k, TICK * (k - begins)
        if (watch is None or judge is None) and k == begins:
            robot.tell(command, now)
        if watch is not None and judge is not None:
            moment = Now(now, now)
            decisions = [gate.on_heartbeat(moment, now)]
            gate.on_measured(simulation.joints, moment, now)
            if k >= begins and (told := sender.next(since, now)) is not None:
                decisions.append(gate.on_command(told, moment))
                sender.sent(decisions[-1], since)
            if k >= begins and (k - begins) % each == 0 and gate.pending:
                began = time.perf_counter()
                onlooker.spared = 0.0
                seen = onlooker.look(watch, simulation, now)
                verdict = judge(watch, onlooker, seen, sender.watched(now, simulation.joints))
                out.judged_ms.append(1e3 * (time.perf_counter() - began + onlooker.spared))
                coming.append((now + latency, verdict))
            while coming and coming[0][0] <= now + TICK / 2:
                decisions.append(gate.on_verdict(replace(coming.pop(0)[1], stamp=now), moment))
            decisions.append(gate.tick(moment))
            for decision in decisions:
                sender.obey(decision, robot, now)
        robot.advance(now)
        close = np.abs(simulation.joints - command.values[-1]).max() < 0.05
        if out.arrived is None and close and since > command.duration / 2:
            out.arrived = since
    out.violated, out.passed = robot.violated, sender.passed
    return out
