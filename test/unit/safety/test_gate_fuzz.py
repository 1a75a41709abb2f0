"""Random events at the gate: whatever comes, what is sent keeps to limits, rates and verdicts.

DEEPVERSE_GATE_EVENTS=260000 makes it long; the seed of a failure stands in its message.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
from gate_world import CAR, JOINTS, RATES

from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.gate import Gate
from deepverse_ros.safety.settings import CommandLimits, GateSettings
from deepverse_ros.safety.status import Mode, Send, State
from deepverse_ros.safety.verdict import Envelope, Verdict

EVENTS = int(os.environ.get("DEEPVERSE_GATE_EVENTS", "4000"))
EACH = 400
"""Events of one history."""
WIDTH = 0.04
LAYOUTS = {
    "positions": replace(JOINTS, max_rate=np.array([1.0, 2.0])),
    "trajectories": replace(JOINTS, max_rate=np.array([1.0, 2.0])),
    "twist": replace(RATES, max_rate=np.array([1.0, 3.0])),
    "vehicle": replace(CAR, max_rate=np.array([1.5, 4.0, 8.0])),
    "mixed": replace(
        CAR, names=("lift", "speed", "wheel"), position=np.array([True, False, False]), lower=-np.ones(3),
        upper=np.ones(3), max_rate=np.array([0.5, 2.0, 1.5]), rest=np.array([np.nan, 0, np.nan]),
        scaled=np.array([True, True, False]),
    ),
}  # fmt: skip


class History:
    """One random history, and what is known of it without the gate's own parts."""

    def __init__(self, kind: str, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.kind, self.seed, self.layout = kind, seed, LAYOUTS[kind]
        self.timed = kind == "trajectories"
        self.settings = GateSettings(
            fallback=str(rng.choice(["hold", "stop", "scale", "last_safe"])),
            stop_action=str(rng.choice(["hold", "stop"])), command_timeout=0.0 if self.layout.stays else 0.25,
            trigger_count=int(rng.integers(1, 3)), release_count=int(rng.integers(1, 3)),
            release_time=float(rng.choice([0.0, 0.05, 0.3])), latch_stop=bool(rng.random() < 0.1),
            recover_scale=float(rng.choice([0.05, 0.2, 1.0])),
        )  # fmt: skip
        self.limits = CommandLimits(rate_slack=float(rng.choice([0.0, 0.1])))
        self.gate = Gate(self.layout, self.settings, self.limits)
        self.now = Now(50.0, 1000.0)
        self.verdicts: list[tuple[Verdict, Now]] = []
        self.beat = self.seen = -np.inf
        self.here = np.clip(np.nan_to_num(self.layout.rest), self.layout.lower, self.layout.upper)
        self.wanted = self.here
        self.measured: np.ndarray | None = None
        self.way: tuple[float, np.ndarray, np.ndarray] | None = None  # what the robot was told: since, times, values
        self.sent_at = -np.inf
        self.passed = 0
        self.course = (np.zeros(1), self.here[None])

    # --- what is known ----------------------------------------------------------------------------------------------
    def told(self) -> np.ndarray | None:
        if self.way is None:
            return None
        since, times, values = self.way
        return np.array([np.interp(self.now.steady - since, times, column) for column in values.T])

    def fresh(self, verdict: Verdict, at: Now) -> bool:
        now, settings = self.now, self.settings
        elapsed = max(now.ros - at.ros, now.steady - at.steady)
        age, image_age = (at.ros - stamp + elapsed for stamp in (verdict.stamp, verdict.image_stamp))
        return age <= min(verdict.valid_for, settings.verdict_timeout) and image_age <= settings.image_timeout

    def answers(self) -> list[Verdict]:
        """Fresh verdicts on the newest command, those on the newest image."""
        out = [
            verdict
            for verdict, at in self.verdicts
            if self.fresh(verdict, at) and self.near(verdict.envelope.center[-1])
        ]
        return [v for v in out if v.image_stamp == max(o.image_stamp for o in out)]

    def near(self, center: np.ndarray) -> bool:
        return bool((np.abs(self.wanted - center) <= WIDTH * (1 + 1e-6)).all())

    # --- what must hold ---------------------------------------------------------------------------------------------
    def look(self, decision) -> None:
        assert (decision.command is None) == (decision.send == Send.NOTHING)
        command, layout = decision.command, self.layout
        if self.gate.mode == Mode.MONITOR:
            if command is not None:
                self.way = None
            return
        if decision.send in (Send.COMMAND, Send.SCALED):
            self.passed += 1
            self.look_at_the_verdicts(decision)
        if command is None:
            return
        assert np.isfinite(command.values).all()
        assert (np.diff(command.times, prepend=-1e-9) > 0).all()
        slack = 0.0 if decision.send in (Send.HOLD, Send.STOP) else self.limits.position_slack + 1e-9
        slack = slack * (layout.upper - layout.lower)
        assert (command.values >= layout.lower - slack).all(), command.values
        assert (command.values <= layout.upper + slack).all(), command.values
        self.look_at_the_rates(command, decision.send in (Send.HOLD, Send.STOP))
        here = self.here if self.told() is None else self.told()
        if command.duration == 0 or decision.send in (Send.HOLD, Send.STOP):
            self.way = (self.now.steady, np.zeros(1), command.values[-1:])
        else:
            self.way = (
                self.now.steady, np.concatenate([[-1e-9], command.times]), np.concatenate([here[None], command.values])
            )  # fmt: skip
        self.sent_at = self.now.steady

    def look_at_the_verdicts(self, decision) -> None:
        assert decision.status.state in (State.PASS, State.SLOW, State.RECOVER)
        assert self.now.steady - self.beat <= self.settings.heartbeat_timeout + 1e-9, "the world model is dead"
        if self.layout.position.any():
            assert self.now.steady - self.seen <= self.settings.measured_timeout + 1e-9, "nobody knows where it is"
        answers = self.answers()
        assert answers, "no fresh verdict answers for it"
        # Of a way that has begun, what was said of its beginning is said of another one.
        forbids = [v for v in answers if v.finding.action == Action.STOP and not self.timed]
        assert all(v.finding.leads_out for v in forbids), "the newest image forbids it"
        assert not forbids or decision.status.state == State.RECOVER

    def look_at_the_rates(self, command: Command, halts: bool) -> None:
        layout, here = self.layout, self.told()
        if here is None:
            return
        rates = layout.max_rate * (1 + self.limits.rate_slack)
        if command.duration == 0 or halts:
            value = command.values[0]
            if (
                halts
                and self.measured is not None
                and np.array_equal(
                    value[layout.position], np.clip(self.measured, layout.lower, layout.upper)[layout.position]
                )
            ):  # where it is: others have moved it
                value = np.where(layout.position, here, value)
            nearest = np.clip(layout.rest, np.minimum(here, value), np.maximum(here, value))
            base = np.where(layout.position | np.isnan(layout.rest), here, nearest)
            time = np.clip(self.now.steady - self.sent_at, self.limits.period, 2 * self.limits.period)
            assert (np.abs(value - base) <= rates * time + 1e-6).all(), (here, value, time)
            return
        times, values = command.times, np.concatenate([here[None], command.values])
        steps = np.diff(times, prepend=0.0)
        steps[0] = steps[0] if times[0] > 0 else self.limits.jump_time
        assert (np.abs(np.diff(values, axis=0)) <= rates * steps[:, None] + 1e-6).all(), (here, times, command.values)

    # --- what happens -----------------------------------------------------------------------------------------------
    def pass_time(self, seconds: float, ros: float | None = None) -> None:
        self.now = Now(self.now.steady + seconds, self.now.ros + (seconds if ros is None else ros))

    def draw_target(self) -> np.ndarray:
        layout, rng = self.layout, self.rng
        if rng.random() < 0.1:
            return np.where(layout.position, self.wanted, np.nan_to_num(layout.rest))
        step = layout.max_rate * rng.choice([0.02, 0.02, 0.2, 1.0]) * rng.uniform(-1, 1, layout.size)
        return np.clip(self.wanted + step, layout.lower, layout.upper)

    def command(self, well: bool = False) -> None:
        rng = self.rng
        target = self.wanted if well else self.draw_target()
        values, times = target[None], np.zeros(1)
        if self.timed:
            start = self.told() if self.told() is not None else self.here
            duration = float((np.abs(target - start) / self.layout.max_rate).max()) * rng.choice([0.9, 1.0, 2.0]) + 0.05
            values, times = np.stack([(start + target) / 2, target]), np.array([duration / 2, duration])
        stamp = float(rng.choice([0.0, self.now.ros]))
        if not well:
            wrong = rng.random()
            if wrong < 0.03:
                values = values + rng.choice([np.nan, np.inf, 9.0])
            elif wrong < 0.05:
                times = times[::-1] - 0.1
            elif wrong < 0.07:
                stamp = self.now.ros + float(rng.choice([-5.0, 0.2, 3600.0]))
            elif wrong < 0.08:
                values = values[:, 1:]
        before = self.gate._newest
        command = Command(values, times, (), stamp)
        accepted = []
        original = self.gate._decide

        def decide(*args, **more):
            accepted.append(self.gate._newest is not before)
            if accepted[-1]:
                self.wanted, self.course = values[-1], (times, values)
            return original(*args, **more)

        self.gate._decide = decide
        try:
            self.look(self.gate.on_command(command, self.now))
        finally:
            del self.gate._decide

    def verdict(self, well: bool = False) -> None:
        rng, layout = self.rng, self.layout
        finding = Finding(Action.CLEAR)
        age, image_age, valid_for = 0.0, 0.05, 1.0
        center, times = self.wanted[None], np.array([1.6])
        if self.timed:
            start = self.told() if self.told() is not None else self.here
            ends, values = self.course
            if self.way is not None and np.array_equal(self.way[2][-1], self.wanted):  # it is on its way
                ends, values = self.way[1] - (self.now.steady - self.way[0]), self.way[2]
            center = np.concatenate([start[None], values[ends > 1e-6], values[-1:]])
            times = np.concatenate([[0.0], ends[ends > 1e-6], [max(ends[-1], 0.0) + 1.6]])
        if not well:
            action = Action(int(rng.choice([0, 0, 0, 1, 2, 3])))
            scale = {0: 1.0, 1: 1.0, 2: float(rng.choice([0.0, 0.1, 0.5])), 3: 0.0}[int(action)]
            caps = {layout.names[0]: 0.3, "*": 0.7} if action == Action.LIMIT else {}
            finding = Finding(action, "zone", 1, 9, 5, scale, caps, leads_out=bool(rng.random() < 0.3))
            age = float(rng.choice([0.0, 0.0, 0.15, 0.6, -0.2, -3600.0]))
            image_age = float(rng.choice([0.05, 0.05, 0.2, 0.6, 3.0, -3600.0]))
            valid_for = float(rng.choice([0.1, 0.4, 1.0, 0.0, np.nan]))
            if rng.random() < 0.05:
                center = np.full_like(center, np.nan)
            if rng.random() < 0.05:
                times = times * 1e3
        envelope = Envelope(self.now.ros, times, center, np.full(layout.size, WIDTH))
        for _ in range(1 if well or rng.random() < 0.95 else 80):
            made = Verdict(self.now.ros - age, self.now.ros - image_age, valid_for, envelope, finding)
            if age >= 0 and image_age >= age and valid_for > 0 and np.isfinite(center).all() and times[-1] < 60:
                self.verdicts = [*self.verdicts[-200:], (made, self.now)]
            self.look(self.gate.on_verdict(made, self.now))

    def heartbeat(self, well: bool = False) -> None:
        stamp = self.now.ros if well else self.now.ros + float(self.rng.choice([0.0, -0.05, -1.0, 3600.0]))
        if stamp <= self.now.ros:
            self.beat = max(self.beat, self.now.steady - (self.now.ros - stamp))
        self.look(self.gate.on_heartbeat(self.now, stamp))

    def measure(self, well: bool = False) -> None:
        told = self.told()
        self.here = self.here if told is None else told
        noise = 0.0 if well else self.rng.choice([0.0, 0.01, 0.1, np.nan, 5.0]) * self.rng.uniform(-1, 1)
        stamp = 0.0 if well else self.now.ros + float(self.rng.choice([0.0, -0.1, -1.0, 3600.0]))
        if self.gate.on_measured(self.here + noise, self.now, stamp):
            self.measured = self.here + noise
            self.seen = self.now.steady - max(self.now.ros - stamp, 0.0) if stamp else self.now.steady

    def well(self) -> None:
        for k in range(int(self.rng.integers(5, 40))):
            self.pass_time(0.02)
            self.heartbeat(True)
            self.measure(True)
            if not self.timed or k % 20 == 0:
                self.command(True)
            self.verdict(True)
            self.look(self.gate.tick(self.now))

    def jump(self) -> None:
        self.look(self.gate.tick(self.now))
        by = float(self.rng.choice([-5.0, -0.01, 0.3, 5.0]))
        self.pass_time(0.0, by)
        if by < 0 or by > 0.5:
            self.verdicts.clear()
        self.look(self.gate.tick(self.now))

    def other(self) -> None:
        which = self.rng.integers(5)
        if which == 0:
            self.gate.release(self.now)
        elif which == 1:
            self.gate.fail("something broke", self.now)
            self.verdicts.clear()
        elif which == 2:
            self.gate.set_mode(Mode.MONITOR, self.now)
        elif which == 3:
            self.pass_time(float(self.rng.choice([0.3, 1.5])), 0.0)
            self.look(self.gate.tick(self.now))
        else:
            self.settings = replace(
                self.settings, fallback=str(self.rng.choice(["hold", "stop", "scale", "last_safe"]))
            )
            self.gate.settings = self.settings
        if which != 2 and self.gate.mode == Mode.MONITOR:
            self.gate.set_mode(Mode.ENFORCE, self.now)

    def run(self, events: int) -> "History":
        happens = [self.command, self.verdict, self.heartbeat, self.measure, self.well, self.jump, self.other]
        shares = np.array([8, 5, 5, 5, 1.5, 0.15, 0.4])
        for count in range(events):
            self.pass_time(
                float(self.rng.choice([0.0, 0.001, 0.005, 0.02, 0.02, 0.1], p=[0.2, 0.2, 0.3, 0.14, 0.14, 0.02]))
            )
            event = happens[self.rng.choice(len(happens), p=shares / shares.sum())]
            try:
                event()
                self.look(self.gate.tick(self.now))
            except AssertionError as error:
                raise AssertionError(
                    f"{self.kind}, seed {self.seed}, event {count} ({event.__name__}): {error}"
                ) from error
        return self


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        # Held, watched for a moment and enforced again: the halt led to where the robot had been told to be before.
        ("trajectories", 44),
        # A way that the fallback had sent again a moment ago was halted by twice the step that the rates allow.
        ("trajectories", 52), ("trajectories", 89), ("trajectories", 103),
        # Watched from then on, a command that waited counted as what the robot had been told.
        ("vehicle", 88), ("vehicle", 124),
        # Watched for long enough, the wheel was set to the middle at once: nobody knew any more where it stood.
        ("vehicle", 125),
    ],
)  # fmt: skip
def test_histories_in_which_a_halt_was_faster_than_the_largest_rates(kind, seed):
    History(kind, seed).run(EACH)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_whatever_comes_what_is_sent_keeps_to_limits_rates_and_verdicts(kind):
    histories = [History(kind, seed).run(EACH) for seed in range(max(1, EVENTS // EACH // len(LAYOUTS)))]
    assert sum(h.passed for h in histories) > 5 * len(histories), "nothing passed, so nothing is shown"
