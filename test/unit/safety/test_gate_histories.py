"""The gate in histories that hypothesis makes up: nothing ever passes without its verdict, and good times open it."""

from dataclasses import replace

import numpy as np
from gate_world import BAD, CAPPED, CLEAR, GO, HALF, JOINTS, OUT, RATES
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command
from deepverse_ros.safety.gate import Gate
from deepverse_ros.safety.settings import CommandLimits, GateSettings
from deepverse_ros.safety.status import Send, State
from deepverse_ros.safety.verdict import Envelope, Verdict

choices = np.array([[0.0, 0.0], [0.5, 0.0], [0.52, 0.0], [-0.5, 0.3]])
ages = st.sampled_from([-0.2, 0.0, 0.1, 0.4, 0.7])
waits = st.sampled_from([0.0, 0.001, 0.02, 0.02, 0.1, 0.4])
findings = st.sampled_from([CLEAR, CLEAR, CLEAR, HALF, CAPPED, BAD, OUT])
events = st.one_of(
    st.tuples(st.just("command"), st.integers(0, 3)),
    st.tuples(st.just("command"), st.integers(0, 3)),
    st.tuples(st.just("wrong command"), st.sampled_from([np.nan, np.inf, 7.0])),
    st.tuples(st.just("verdict"), st.integers(0, 3), findings, ages, ages, st.sampled_from([0.1, 0.4, 1.0])),
    st.tuples(st.just("verdict"), st.integers(0, 3), st.just(CLEAR), st.just(0.0), st.just(0.0), st.just(1.0)),
    st.tuples(st.just("wrong verdict"), st.integers(0, 3)),
    st.tuples(st.just("heartbeat")),
    st.tuples(st.just("tick")),
    st.tuples(st.just("well"), st.integers(0, 3), st.integers(1, 30)),
    st.tuples(st.just("jump"), st.sampled_from([-5.0, -0.01, 0.3, 5.0])),
    st.tuples(st.just("freeze"), waits),
    st.tuples(st.just("release")),
    st.tuples(st.just("settings"), st.sampled_from(["hold", "stop", "scale", "last_safe"])),
)


class Oracle:
    """What is known to have happened, and by it whether a command may pass; written without the gate's own parts."""

    def __init__(self, gate):
        self.gate = gate
        self.verdicts, self.beat, self.jumped = [], None, False

    def may_pass(self, values, now, settings):
        """Whether a fresh verdict on these values allows them, with the model alive and the clock steady."""
        if self.beat is None or now.steady - self.beat > settings.heartbeat_timeout or self.jumped:
            return False
        for verdict, at in self.verdicts:
            elapsed = max(now.ros - at.ros, now.steady - at.steady)
            age, image_age = at.ros - verdict.stamp + elapsed, at.ros - verdict.image_stamp + elapsed
            fresh = age <= min(verdict.valid_for, settings.verdict_timeout) and image_age <= settings.image_timeout
            near = np.abs(values - verdict.envelope.center[0]) <= verdict.envelope.half_width + 1e-6
            allows = verdict.finding.action != Action.STOP or verdict.finding.leads_out
            if fresh and near.all() and allows:
                return True
        return False


@given(
    st.sampled_from([RATES, JOINTS]), st.lists(st.tuples(waits, events), min_size=1, max_size=40),
    st.sampled_from(["hold", "stop", "scale", "last_safe"]), st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_no_command_ever_passes_without_a_fresh_verdict_that_covers_it(layout, happened, fallback, trigger_count):  # noqa: C901, PLR0912
    gate_settings = GateSettings(fallback=fallback, trigger_count=trigger_count, release_time=0.05)
    gate = Gate(layout, gate_settings, CommandLimits(rate_slack=1.0))
    oracle, now, newest = Oracle(gate), Now(10.0, 500.0), None
    last_moved_at, safe_until = -np.inf, -np.inf

    def judge_decision(decision):
        nonlocal safe_until, last_moved_at
        assert (decision.command is None) == (decision.send == Send.NOTHING)
        if decision.command is not None:
            assert np.isfinite(decision.command.values).all()
            assert decision.command.values.shape == (1, 2)
        if decision.send in (Send.COMMAND, Send.SCALED):
            assert newest is not None, "nothing good has come"
            assert oracle.may_pass(newest, now, gate.settings), decision
            assert decision.status.state in (State.PASS, State.SLOW, State.RECOVER)
            if decision.send == Send.COMMAND:
                assert np.array_equal(decision.command.values[0], newest)
            elif layout is RATES:
                assert (np.abs(decision.command.values[0]) <= np.abs(newest) + 1e-9).all()
            last_moved_at = now.steady
        elif decision.send == Send.LAST_SAFE:
            # Only what was moving before, and only for a moment.
            limit = gate.settings.last_safe_time if gate.settings.fallback == "last_safe" else gate.settings.ramp_time
            assert decision.status.state == State.FALLBACK
            assert now.steady - last_moved_at <= limit + 0.45 + gate.settings.heartbeat_timeout + 0.25
        elif layout is RATES and decision.command is not None:
            assert (decision.command.values == 0).all()

    def verdict(which, finding, age, image_age, valid_for):
        envelope = Envelope(now.ros, np.array([1.6]), choices[which][None], np.full(2, 0.05))
        made = Verdict(now.ros - age, now.ros - image_age, valid_for, envelope, finding)
        oracle.verdicts.append((made, now))
        return gate.on_verdict(made, now)

    def command(values):
        nonlocal newest
        newest = values
        return gate.on_command(Command.setpoint(values), now)

    for seconds, event in happened:
        now = Now(now.steady + seconds, now.ros + seconds)
        kind, *rest = event
        if kind == "jump":
            judge_decision(gate.tick(now))
            now = Now(now.steady, now.ros + rest[0])
            if rest[0] < 0 or rest[0] > 0.5:
                oracle.verdicts.clear()
                oracle.jumped, newest = True, None
            judge_decision(gate.tick(now))
            oracle.jumped = False
        elif kind == "freeze":
            now = Now(now.steady + rest[0], now.ros)
            judge_decision(gate.tick(now))
        elif kind == "command":
            judge_decision(command(choices[rest[0]]))
        elif kind == "wrong command":
            judge_decision(gate.on_command(Command.setpoint(np.array([rest[0], 0.0])), now))
        elif kind == "verdict":
            judge_decision(verdict(*rest))
        elif kind == "wrong verdict":
            judge_decision(
                gate.on_verdict(
                    Verdict(now.ros, now.ros, 1.0, Envelope(now.ros, np.ones(1), np.full((1, 2), np.nan), GO), CLEAR),
                    now,
                )
            )
        elif kind == "heartbeat":
            oracle.beat = now.steady
            judge_decision(gate.on_heartbeat(now))
        elif kind == "tick":
            judge_decision(gate.tick(now))
        elif kind == "release":
            gate.release(now)
        elif kind == "settings":
            gate.settings = replace(gate.settings, fallback=rest[0])
        else:
            for _ in range(rest[1]):
                now = Now(now.steady + 0.02, now.ros + 0.02)
                gate.on_measured(np.zeros(2), now)
                oracle.beat = now.steady
                judge_decision(gate.on_heartbeat(now))
                judge_decision(verdict(rest[0], CLEAR, 0.0, 0.05, 1.0))
                judge_decision(command(choices[rest[0]]))


@given(st.lists(st.tuples(waits, events), max_size=20), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_whatever_happened_good_times_open_the_gate_again(happened, which):
    gate = Gate(RATES)
    now = Now(10.0, 500.0)

    def verdict(which, finding, age, image_age, valid_for):
        envelope = Envelope(now.ros, np.array([1.6]), choices[which][None], np.full(2, 0.05))
        gate.on_verdict(Verdict(now.ros - age, now.ros - image_age, valid_for, envelope, finding), now)

    for seconds, (kind, *rest) in happened:
        now = Now(now.steady + seconds, now.ros + seconds + (rest[0] if kind == "jump" else 0.0))
        if kind == "command":
            gate.on_command(Command.setpoint(choices[rest[0]]), now)
        elif kind == "wrong command":
            gate.on_command(Command.setpoint(np.array([rest[0], 0.0])), now)
        elif kind == "verdict":
            verdict(*rest)
        else:
            gate.tick(now)
    for _ in range(60):
        now = Now(now.steady + 0.02, now.ros + 0.02)
        gate.on_heartbeat(now)
        verdict(which, CLEAR, 0.0, 0.02, 1.0)
        decision = gate.on_command(Command.setpoint(choices[which]), now)
    assert decision.send == Send.COMMAND, decision.status.reason
