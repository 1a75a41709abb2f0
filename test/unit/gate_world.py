"""A gate with the time and the parts around it, and what its tests hand to it."""

from dataclasses import replace

import numpy as np

from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command, Layout
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.gate import Gate
from deepverse_ros.safety.settings import GateSettings
from deepverse_ros.safety.status import Mode, State
from deepverse_ros.safety.verdict import Envelope, Verdict

RATES = Layout(
    ("x", "turn"), np.zeros(2, bool), np.full(2, -1.0), np.full(2, 1.0), np.full(2, np.inf), np.zeros(2),
    np.ones(2, bool),
)  # fmt: skip
JOINTS = replace(RATES, names=("a", "b"), position=np.ones(2, bool), max_rate=np.array([1.0, 1.0]))
CAR = Layout(
    ("steering", "throttle", "brake"), np.zeros(3, bool), np.array([-0.6, 0, 0]), np.array([0.6, 1, 1]),
    np.full(3, np.inf), np.array([np.nan, 0, 1]), np.array([False, True, False]),
)  # fmt: skip

CLEAR = Finding(Action.CLEAR)
BAD = Finding(Action.STOP, "wall", 3, 12, 5, 0.0, text="zone 'wall': 12 points at step 3, 5 count")
OUT = replace(BAD, leads_out=True, gain=0.1)
HALF = Finding(Action.SLOW, "desk", 2, 9, 5, 0.5, text="zone 'desk'")
CAPPED = Finding(Action.LIMIT, "desk", 2, 9, 5, 1.0, {"x": 0.2, "*": 0.4})

GO = np.array([0.5, 0.1])


class World:
    """A gate, the time, and the parts around it; by default all is well."""

    def __init__(self, layout=RATES, mode=Mode.ENFORCE, limits=None, measured=None, **changes):
        self.layout = layout
        self.gate = Gate(layout, GateSettings(**changes), limits, mode)
        self.steady, self.ros = 50.0, 1000.0
        self.alive, self.measured = True, measured
        self.decision = None

    @property
    def now(self):
        return Now(self.steady, self.ros)

    def wait(self, seconds, ros=None):
        """Time passes, with a heartbeat, a measured state and a tick every 20 ms; the decisions of the ticks."""
        out = []
        steps = max(1, round(seconds / 0.02))
        for _ in range(steps):
            self.steady += seconds / steps
            self.ros += (seconds if ros is None else ros) / steps
            if self.alive:
                self.gate.on_heartbeat(self.now)
            if self.measured is not None:
                self.gate.on_measured(np.array(self.measured, float), self.now)
            out.append(self.gate.tick(self.now))
        self.decision = out[-1]
        return out

    def command(self, values=GO, **more):
        self.decision = self.gate.on_command(Command.setpoint(np.array(values, float), **more), self.now)
        return self.decision

    def trajectory(self, *values, times=None, **more):
        times = np.arange(1, len(values) + 1) if times is None else times
        command = Command(np.array(values, float), np.array(times, float), **more)
        self.decision = self.gate.on_command(command, self.now)
        return self.decision

    def verdict(self, finding=CLEAR, center=GO, width=0.05, *, image_age=0.1, age=0.0, valid_for=1.0, horizon=1.6,
                begun=0.0, times=None):  # fmt: skip
        center = np.atleast_2d(np.array(center, float))
        times = np.linspace(0, horizon, len(center) + 1)[1:] if times is None else np.array(times, float)
        envelope = Envelope(self.ros - begun, times, center, np.full(self.layout.size, width))
        made = Verdict(self.ros - age, self.ros - image_age, valid_for, envelope, finding)
        self.decision = self.gate.on_verdict(made, self.now)
        return self.decision

    def drive(self, seconds, finding=CLEAR, values=GO, every=0.02):
        """A stream of one command at 50 Hz and a verdict on it at 10 Hz; the decisions on the commands."""
        out = []
        for k in range(max(1, round(seconds / every))):
            if k % 5 == 0:
                self.verdict(finding, values)
            out.append(self.command(values))
            self.wait(every)
        return out

    def ready(self, **more):
        """Until commands pass."""
        self.wait(0.02)
        self.drive(0.6, **more)
        assert self.gate.state == State.PASS, self.gate.tick(self.now).status.reason
        return self

    @property
    def state(self):
        return self.gate.state

    def check(self, name):
        return next(c for c in self.decision.status.checks if c.name == name)


def sent(decision):
    return decision.command.values[-1].tolist()


def arm(**changes):
    return World(JOINTS, measured=(0.0, 0.0), command_timeout=0.0, **changes)


def moving_arm(**changes):
    """On its way to (0.5, 0), 0.2 of it commanded and 0.18 done."""
    world = arm(**changes)
    world.wait(0.5)
    world.trajectory((0.5, 0.0))
    world.verdict(center=[(0, 0), (0.5, 0)], times=[0, 1])
    world.wait(0.2)
    world.measured = None
    world.gate.on_measured(np.array([0.09, 0.0]), world.now, stamp=world.ros)
    return world


def arrived_arm() -> World:
    """An arm that was let through to (0.1, 0) and is measured there, before its verdict has grown old."""
    world = arm()
    world.wait(0.5)
    world.trajectory((0.1, 0.0), times=[0.2])
    world.verdict(center=[(0, 0), (0.1, 0), (0.1, 0)], times=[0, 0.2, 1.6])
    world.wait(0.1)
    world.measured = (0.1, 0.0)
    return world
