"""What the safety prefilter prevents and what it costs: the real gate and the simulated arm, in simulated time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.evaluation.prefilter_scenarios import LOOK, Scenario, draw, look, obstacle_zones, tool_zones
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.command_course import CourseMaker, Watched
from deepverse_ros.planning.command_watch import CommandWatch, WatchSettings
from deepverse_ros.planning.robot_control import RobotControl
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command, Layout
from deepverse_ros.safety.gate import Gate
from deepverse_ros.safety.settings import GateSettings
from deepverse_ros.safety.status import Decision, Send
from deepverse_ros.safety.verdict import Verdict
from deepverse_ros.simulation.arm import ArmSimulation

DEFINITIONS = {
    "scenarios": "an arm at rest gets one trajectory; in every second scenario it touches an obstacle within the "
    "horizon, in the others it touches nothing",
    "zones": "mapped: the body is kept out of the obstacles' true regions. seen: nothing is known of them; what is "
    "seen around the hand stops it",
    "touched": "share of the touching scenarios in which the arm does touch an obstacle",
    "harmless_stopped": "share of the harmless scenarios in which the arm is not at its last target at the end",
    "extra_s": "mean time that a harmless command that ends at its target takes longer than without a filter, seconds",
    "none": "commands pass as they come",
    "present only": "stops while a zone is violated now, as a protective field does",
    "kinematic": "the scene stays as it is seen, the body goes where the command leads; nothing is imagined",
    "prefilter": "the world model imagines the scene and the body",
    "judged_ms": "wall time of a judgement on this machine, with the model's observation; the simulated one takes "
    "`latency_s` whatever this is",
}
VARIANTS = ("none", "present only", "kinematic", "prefilter")
TICK = 0.02
"""Seconds between two ticks of the gate."""
_EXTRA = 2.0  # seconds that a command may take longer than it says
_START = 100.0  # ROS seconds at the beginning: a stamp of zero would mean that there is none


@dataclass
class _Run:
    touched: bool = False
    arrived: float | None = None
    judged_ms: list[float] = field(default_factory=list)


class _Robot:
    """The simulated arm as a trajectory controller drives it, and what it touches."""

    def __init__(self, simulation: ArmSimulation) -> None:
        self.simulation = simulation
        self.touched = False
        self._command: Command | None = None
        self._since = 0.0
        self._target = simulation.joints

    def tell(self, command: Command, time: float) -> None:
        self._command = replace(command, start=self._target)
        self._since = time

    def advance(self, time: float) -> None:
        """Move for a tick from `time` on."""
        for k in range(1, round(TICK / LOOK) + 1):
            if self._command is not None:
                self._target = self._command.at(time + k * LOOK - self._since)
            self.simulation.advance(LOOK, self._target)
            if self.simulation.clearance < 0.01:
                self.touched |= any(other.startswith("obstacle") for _, other in self.simulation.contacts())


def benchmark(
    model: WorldModel, embodiment: Embodiment, count: int, seed: int, latency: float = 0.2,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, Any]:  # fmt: skip
    """Run every variant, with both kinds of zones, on the same scenarios.

    Args: embodiment: with the robot's body. latency: simulated seconds from an image to its verdict.
    progress(part, done, total). Raises: RenderingError where nothing can render.
    """
    c = model.config
    settings = WatchSettings(horizon=c.horizon)
    control = RobotControl(model)
    tables: dict[str, dict[str, list[tuple[Scenario, _Run]]]] = {
        zones: {name: [] for name in VARIANTS} for zones in ("mapped", "seen")
    }
    with ArmSimulation(width=c.width, height=c.height, embodiment=embodiment) as simulation:
        for number in range(count):
            scenario = draw(simulation, seed, number, c.horizon)
            kinds = {"mapped": obstacle_zones(simulation, embodiment), "seen": tool_zones(embodiment)}
            free = _run(simulation, control, scenario, None, latency)
            for name, zones in kinds.items():
                course = CourseMaker(embodiment, Layout.of(embodiment))
                watch = CommandWatch(model, embodiment, zones, course, settings)
                for variant in VARIANTS:
                    judge = None if variant == "none" else _judge(watch, variant)
                    run = free if judge is None else _run(simulation, control, scenario, judge, latency)
                    tables[name][variant].append((scenario, run))
            progress("scenarios", number + 1, count)
    return {
        "scenarios": count, "seed": seed, "latency_s": latency, "definitions": DEFINITIONS,
        "zones": {
            zones: {variant: _summary(runs, rows["none"]) for variant, runs in rows.items()}
            for zones, rows in tables.items()
        },
    }  # fmt: skip


Judge = Callable[[ArmSimulation, RobotControl, Watched, float], Verdict]


def _judge(watch: CommandWatch, variant: str) -> Judge:
    def judge(simulation: ArmSimulation, control: RobotControl, watched: Watched, now: float) -> Verdict:
        rgb, depth = simulation.render()
        here, pose = simulation.joints, simulation.camera_to_world
        control.see(rgb, here, depth, intrinsics=simulation.intrinsics, camera_to_world=pose)
        observation = Observation.from_numpy(rgb[None], depth[None], simulation.intrinsics, pose)
        seen = watch.see(control.believe(), observation, here.astype(np.float32), now)
        if variant == "prefilter":
            return watch.judge(seen, watched, now).verdict
        verdict = watch.judge_still(seen, watched, now)
        if variant == "kinematic":
            return verdict
        stay = Watched(Command.setpoint(here, watch.course.layout.names))
        return replace(verdict, finding=watch.judge_still(seen, stay, now).finding)

    return judge


def _run(
    simulation: ArmSimulation, control: RobotControl, scenario: Scenario, judge: Judge | None, latency: float
) -> _Run:
    """One scenario, with images and judgements every dt, and verdicts `latency` seconds later."""
    look(simulation, control, scenario)
    embodiment = simulation.embodiment
    robot, run = _Robot(simulation), _Run()
    layout, dt = Layout.of(embodiment), embodiment.dt
    command = Command(
        scenario.commands.astype(float), dt * np.arange(1, len(scenario.commands) + 1), layout.names, 0.0,
        simulation.joints,
    )  # fmt: skip
    gate = Gate(layout, GateSettings(command_timeout=0.0, verdict_timeout=1.0, image_timeout=1.0, wait_timeout=1.0))
    watched = Watched(command)
    coming: list[tuple[float, Verdict]] = []
    ticks = round((command.duration + _EXTRA) / TICK)
    sent = _START + 0.5  # the gate first finds that everything is well
    for now in _moments(ticks + round(0.5 / TICK)):
        moment = Now(now, now)
        decisions = [gate.on_heartbeat(moment, now)]
        gate.on_measured(simulation.joints, moment, now)
        first = abs(now - sent) < TICK / 2
        if judge is None:
            decisions = []
            if first:
                robot.tell(command, now)
        elif first:
            decisions.append(gate.on_command(command, moment))
        if judge is not None and now >= sent - TICK / 2 and round((now - sent) / TICK) % round(dt / TICK) == 0:
            began = time.perf_counter()
            coming.append((now + latency, judge(simulation, control, watched, now)))
            run.judged_ms.append(1e3 * (time.perf_counter() - began))
        while coming and coming[0][0] <= now + TICK / 2:
            decisions.append(gate.on_verdict(replace(coming.pop(0)[1], stamp=now), moment))
        if judge is not None:
            decisions.append(gate.tick(moment))
        for decision in decisions:
            watched = _obey(decision, robot, watched, now)
        robot.advance(now)
        run.touched |= robot.touched
        close = np.abs(simulation.joints - command.values[-1]).max() < 0.05
        if run.arrived is None and close and now > sent + command.duration / 2:
            run.arrived = now - sent
    return run


def _moments(count: int) -> Iterator[float]:
    yield from (_START + TICK * k for k in range(count))


def _obey(decision: Decision, robot: _Robot, watched: Watched, now: float) -> Watched:
    """Do what the gate says; what passes, or does not, is what is judged from now on."""
    if decision.command is None or decision.send == Send.NOTHING:
        return watched
    robot.tell(decision.command, now)
    return watched.continued(decision.command, now) or watched.halted(now)


def _summary(runs: list[tuple[Scenario, _Run]], free: list[tuple[Scenario, _Run]]) -> dict[str, Any]:
    touching = [run for scenario, run in runs if scenario.touches is not None]
    harmless = [
        (run, other)
        for (scenario, run), (_, other) in zip(runs, free, strict=True)
        if scenario.touches is None and other.arrived is not None
    ]
    extra = [run.arrived - other.arrived for run, other in harmless if run.arrived is not None and other.arrived]
    times = [ms for _, run in runs for ms in run.judged_ms]
    p50, p95 = map(float, np.percentile(times, [50, 95])) if times else (None, None)
    return {
        "touching": len(touching),
        "touched": float(np.mean([run.touched for run in touching])) if touching else None,
        "harmless": len(harmless),
        "harmless_stopped": float(np.mean([run.arrived is None for run, _ in harmless])) if harmless else None,
        "extra_s": float(np.mean(extra)) if extra else None,
        "judged_ms": {"p50": p50, "p95": p95},
    }
