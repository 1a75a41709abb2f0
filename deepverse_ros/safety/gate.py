"""The gate: lets a command through only while a fresh verdict says that the future it leads to is clear."""

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from deepverse_ros.errors import ConfigError
from deepverse_ros.safety.check import Check
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command, Layout, check
from deepverse_ros.safety.finding import Action
from deepverse_ros.safety.motion import Following, Motion
from deepverse_ros.safety.settings import CommandLimits, GateSettings
from deepverse_ros.safety.status import Counts, Decision, Mode, Send, State, Status
from deepverse_ros.safety.verdict import Verdict
from deepverse_ros.safety.verdict_store import Received, VerdictStore
from deepverse_ros.safety.watch import Watch


class _Kind(Enum):
    FAULT = "fault"  # something that is needed is late, wrong or dead
    IDLE = "idle"  # no command is on its way
    WAIT = "wait"  # no verdict answers for the command yet
    BAD = "bad"  # its verdict says stop
    WAY_OUT = "way out"  # its verdict says stop, but it leads out of what is violated already
    CLEAR = "clear"  # its verdict lets it pass, be it slower


@dataclass(frozen=True)
class _Situation:
    kind: _Kind
    cover: Received | None
    checks: tuple[Check, ...]
    reason: str
    fault: str = ""  # name of the first check that is not fine


@dataclass
class _Streak:
    """Verdicts in a row that say the same."""

    count: int = 0
    since: float | None = None

    def add(self, new: bool, now: Now) -> None:
        self.count += new
        self.since = now.steady if self.since is None else self.since

    def reset(self) -> None:
        self.count, self.since = 0, None

    def lasts(self, seconds: float, now: Now) -> bool:
        return self.since is not None and now.steady - self.since >= seconds


class Gate:
    """Decides what the robot is told, at every event and at every tick of a timer.

    PASS: commands go through as they come. SLOW: slower, as the verdict says. STOP: not at all, for the imagined future
    is not clear. FALLBACK: something that the gate needs is late, wrong or dead, and it sends what `fallback` says.
    RECOVER: the way out of a stop; only commands that are clear, or clear what is violated, go through, at
    `recover_scale`.

    A command passes only on a verdict whose envelope holds it and which is fresh by both clocks; until one comes, the
    robot holds. A single bad verdict withholds its command at once; `trigger_count` of them over `trigger_time` make a
    STOP. It ends by `release_count` better verdicts over `release_time`, by `release`, or by a command that leads out.
    In MONITOR every command passes as it came, whatever it is, and the status tells what enforcing would have sent.

    Every call gets the time; ages are what the slower of two clocks cannot hide. Not thread-safe, and not a certified
    safety device. Raises: ConfigError where commands may cease that do not end at rest.
    """

    def __init__(
        self, layout: Layout, settings: GateSettings | None = None, limits: CommandLimits | None = None,
        mode: Mode = Mode.ENFORCE,
    ) -> None:  # fmt: skip
        self.layout = layout
        self._limits = limits or CommandLimits()
        self._motion = Motion(layout, self._limits)
        self._watch = Watch(settings or GateSettings())
        self.settings = self._watch.settings
        self.mode, self.state, self.counts = mode, State.FALLBACK, Counts()
        self._verdicts = VerdictStore()
        self._newest: Following | None = None
        self._previous: tuple[Command, Now] | None = None
        self._last_stamp = 0.0
        self._counted = 0
        self._bad, self._good = _Streak(), _Streak()
        self._stopped = self._latched = False
        self._slow: tuple[float, dict[str, float]] = (1.0, {})
        self._fallback_since, self._fell_for = 0.0, "nothing has come yet"
        self._diverged = False

    @property
    def settings(self) -> GateSettings:
        """What the gate goes by; may be replaced at any time. Raises: ConfigError as the constructor."""
        return self._settings

    @settings.setter
    def settings(self, settings: GateSettings) -> None:
        if settings.command_timeout == 0 and not self.layout.stays:
            names = [n for n, stays in zip(self.layout.names, self.layout.position, strict=True) if not stays]
            raise ConfigError(
                f"command_timeout is 0, but {names[0]} is a rate: a robot whose commands cease would go on; "
                "expected more than 0"
            )
        self._settings = self._watch.settings = settings

    # --- what happens -------------------------------------------------------------------------------------------

    def on_command(self, command: Command, now: Now) -> Decision:
        """A command came, whatever is in it."""
        now = self._look(now)
        self.counts.commands += 1
        if 0 < command.stamp < self._last_stamp:
            self.counts.out_of_order += 1
            return self._decide(now, command, newest=False)
        target = self._motion.target()
        reference = self._motion.measured(now, self.settings.measured_timeout) if target is None else target
        previous, since = (self._previous[0], now.steady - self._previous[1].steady) if self._previous else (None, 0.0)
        good, checks = check(command, self.layout, self._limits, now.ros, reference, previous, since)
        self._watch.command(checks, now)
        if good is None:
            self.counts.refused += 1
        else:
            self._last_stamp = max(self._last_stamp, good.stamp)
            self._newest, self._previous = Following(good, command, now), (good, now)
        return self._decide(now, command)

    def on_verdict(self, verdict: Verdict, now: Now) -> Decision:
        """The world model judged a command."""
        now = self._look(now)
        self.counts.verdicts += 1
        problem = verdict.problem(self.layout.size)
        ahead = max(verdict.stamp, verdict.image_stamp) - now.ros
        if not problem and ahead > self.settings.future_tolerance:
            problem = f"stamped {ahead:.3g} s ahead of the clock, at most {self.settings.future_tolerance:.3g}"
        self._watch.verdict(problem)
        if problem:
            self.counts.verdicts_wrong += 1
        elif not self._verdicts.add(verdict, now, self.settings):
            self.counts.verdicts_stale += 1
        return self._decide(now)

    def on_heartbeat(self, now: Now) -> Decision:
        """The world model is alive."""
        now = self._look(now)
        self._watch.heartbeat(now)
        return self._decide(now)

    def on_measured(self, values: np.ndarray, now: Now) -> None:
        """The robot measured where it is: (A,) in the layout's order, of rates whatever; not finite, it is ignored."""
        self._motion.measure(values, now)

    def tick(self, now: Now) -> Decision:
        """Time has passed; to be called by a timer, at 50 Hz or so: it also acts when nothing comes any more."""
        now = self._look(now)
        return self._decide(now)

    def set_mode(self, mode: Mode, now: Now) -> None:
        """Enforce or only monitor from now on.

        Where monitoring let something through that would not have passed, enforcing begins with a halt.
        """
        if mode == self.mode:
            return
        self.mode = mode
        if mode == Mode.MONITOR:
            self._diverged = self._newest is not None and self._newest.speed != 1
        elif self._diverged:
            self._motion.forget()
            self._newest = None
            self._enter_fallback("enforced from now on, after something else had passed", now)

    def release(self, now: Now) -> tuple[bool, str]:
        """The operator ends a stop: the next clear commands pass at once, at `recover_scale`.

        It opens nothing that a verdict forbids. Returns: whether it was done, and a sentence.
        """
        now = self._look(now)
        situation = self._situation(now)
        if self.state in (State.PASS, State.SLOW):
            return False, "nothing is stopped"
        # A pause of the commands is what an operator would make first.
        if situation.kind == _Kind.FAULT and situation.fault != "command_age":
            return False, f"not released: {situation.reason}"
        if situation.kind == _Kind.BAD and situation.cover and not situation.cover.verdict.finding.leads_out:
            return False, f"not released: {situation.reason}"
        self._stopped = self._latched = False
        if situation.kind != _Kind.FAULT:
            self.state = State.RECOVER
        self._good.reset()
        return True, "released: clear commands pass at reduced speed"

    # --- what it means ------------------------------------------------------------------------------------------

    def _look(self, now: Now) -> Now:
        """To begin with at every event: the clocks, and what the robot has done since."""
        now = self._watch.look(now)
        self._motion.advance(now)
        if not self._watch.clock_ok:
            # Stamps from before and after a jump cannot be compared.
            self._verdicts.forget()
            self._newest, self._last_stamp = None, 0.0
        return now

    def _situation(self, now: Now) -> _Situation:
        newest = self._on_its_way(now)
        cover, excess = (None, math.nan) if newest is None else self._verdicts.covering(newest, now, self.settings)
        checks = self._watch.checks(newest, cover, self._verdicts.newest, excess, now)
        fault = next((c for c in checks if not c.ok), None)
        if cover is not None:
            finding = cover.verdict.finding
            name = f"zone:{finding.zone}" if finding.zone else "zones"
            checks += (Check(name, finding.action == Action.CLEAR, finding.points, finding.threshold, finding.text),)
        if fault is not None:
            return _Situation(_Kind.FAULT, cover, checks, fault.text, fault.name)
        if newest is None:
            return _Situation(_Kind.IDLE, None, checks, "no command is on its way")
        if cover is None:
            far = f"{excess:.3g} half-widths off the nearest" if excess < math.inf else "there is none"
            return _Situation(_Kind.WAIT, None, checks, f"the command waits for a verdict of its own, {far}")
        if cover.clear:
            return _Situation(_Kind.CLEAR, cover, checks, cover.verdict.finding.text)
        way_out = cover.verdict.finding.leads_out and self.state in (State.STOP, State.RECOVER) and not self._latched
        return _Situation(_Kind.WAY_OUT if way_out else _Kind.BAD, cover, checks, cover.verdict.finding.text)

    def _on_its_way(self, now: Now) -> Following | None:
        """The newest command, unless it is done or has waited too long."""
        newest = self._newest
        if newest is None:
            return None
        if newest.speed == 0 and now.steady - newest.paused.steady > self.settings.pending_timeout:
            self.counts.expired += 1
            self._newest = None
        elif newest.speed > 0 and self.layout.stays and newest.progress >= newest.command.duration:
            measured = self._motion.measured(now, self.settings.measured_timeout)
            target = newest.command.values[-1]
            if measured is not None and (np.abs(measured - target) <= self.settings.position_tolerance).all():
                self._newest = None
        return self._newest

    def _advance(self, situation: _Situation, now: Now) -> None:
        """The next state."""
        kind, cover = situation.kind, situation.cover
        new = cover is not None and cover.number > self._counted
        if cover is not None and new:
            self._counted = cover.number
        if kind != _Kind.BAD:
            self._bad.reset()
        if kind not in (_Kind.CLEAR, _Kind.IDLE):
            self._good.reset()
        if kind == _Kind.FAULT:
            self._enter_fallback(situation.reason, now)
        elif kind == _Kind.WAY_OUT:
            self.state = State.RECOVER
        elif kind == _Kind.BAD:
            self._tighten(new, now)
        elif cover is not None:
            self._relax(cover, new, now)
        elif kind == _Kind.IDLE:
            self._good.add(False, now)
            if self.state == State.FALLBACK and self._good.lasts(self.settings.release_time, now):
                self.state = State.STOP if self._stopped else State.PASS

    def _tighten(self, new: bool, now: Now) -> None:
        """A bad verdict holds."""
        settings = self.settings
        self._bad.add(new, now)
        enough = self._bad.count >= settings.trigger_count and self._bad.lasts(settings.trigger_time, now)
        if self.state != State.STOP and (enough or self.state == State.RECOVER):
            self.state, self._stopped, self._latched = State.STOP, True, settings.latch_stop

    def _relax(self, cover: Received, new: bool, now: Now) -> None:
        """A verdict holds that lets the command pass, be it slower."""
        settings, finding = self.settings, cover.verdict.finding
        slow = finding.action in (Action.LIMIT, Action.SLOW)
        if slow:
            self._slow = (finding.scale, dict(finding.max_rate))
        if self.state in (State.PASS, State.SLOW) and slow:
            self.state = State.SLOW
            self._good.reset()
            return
        self._good.add(new, now)
        released = self._good.count >= settings.release_count and self._good.lasts(settings.release_time, now)
        if not released or self.state == State.PASS:
            return
        if self._latched:
            self.state = State.STOP
        else:
            self.state, self._stopped = State.SLOW if slow else State.PASS, False

    def _enter_fallback(self, why: str, now: Now) -> None:
        if self.state != State.FALLBACK:
            self._fallback_since = now.steady
        self.state, self._fell_for = State.FALLBACK, why

    # --- what is sent -------------------------------------------------------------------------------------------

    def _decide(self, now: Now, fresh: Command | None = None, newest: bool = True) -> Decision:
        """Args: fresh: the command that this event brought; newest: unless it is older than the one before it."""
        situation = self._situation(now)
        self._advance(situation, now)
        would, command, scale = self._act(situation, now)
        if fresh is not None:
            passes = would in (Send.COMMAND, Send.SCALED) and newest
            self.counts.passed += passes
            self.counts.slowed += passes and would == Send.SCALED
            self.counts.withheld += not passes
        send = would
        if self.mode == Mode.MONITOR:
            if fresh is not None:
                self._diverged = would != Send.COMMAND or not newest
            send, command = (Send.NOTHING, None) if fresh is None else (Send.COMMAND, fresh)
            if would in (Send.HOLD, Send.STOP, Send.LAST_SAFE):
                self._motion.forget()  # the robot is not where a halt would have left it
        return Decision(send, command, self._status(situation, would, scale, now))

    def _act(self, situation: _Situation, now: Now) -> tuple[Send, Command | None, float]:
        """What enforcing sends, and at which share of its speed the command passes."""
        settings, kind, motion = self.settings, situation.kind, self._motion
        if self.state == State.FALLBACK:
            return self._fall_back(situation, now)
        if self.state == State.STOP:
            return self._halt(settings.stop_action, now)
        if kind in (_Kind.WAIT, _Kind.BAD):
            return self._halt("hold", now)
        if self._newest is None or situation.cover is None:
            return Send.NOTHING, None, 1.0
        finding = situation.cover.verdict.finding
        scale, max_rate = 1.0, dict[str, float]()
        if kind == _Kind.CLEAR and (finding.action != Action.CLEAR or self.state == State.SLOW):
            scale, max_rate = self._slow
        if self.state == State.RECOVER:
            scale = min(scale, settings.recover_scale)
        out = motion.follow(self._newest, now, scale, max_rate)
        self._newest.admitted = situation.cover.number
        if out is None:
            return Send.NOTHING, None, scale
        whole = out is self._newest.command
        return (Send.COMMAND, self._newest.original, scale) if whole else (Send.SCALED, out, scale)

    def _fall_back(self, situation: _Situation, now: Now) -> tuple[Send, Command | None, float]:
        settings, motion = self.settings, self._motion
        if not self._watch.commanded:
            return Send.NOTHING, None, 0.0  # nobody has moved the robot through here
        since = now.steady - self._fallback_since
        bad = situation.cover is not None and not situation.cover.clear
        # Nothing goes on that had been halted before, that a verdict forbids, or that its sender wants to end.
        if situation.kind == _Kind.FAULT and motion.moving and not bad and not self._wants_rest():
            share = {"last_safe": float(since <= settings.last_safe_time), "scale": 1 - since / settings.ramp_time}
            factor = share.get(settings.fallback, 0.0)
            if factor > 0 and (command := motion.repeat(now, factor)) is not None:
                return Send.LAST_SAFE, command, factor
        return self._halt("stop" if settings.fallback == "stop" else "hold", now)

    def _wants_rest(self) -> bool:
        if self._newest is None:
            return False
        rest = self.layout.rest
        told = self._newest.command.values[-1]
        return bool((self.layout.position | np.isnan(rest) | (told == rest)).all() and not self.layout.stays)

    def _halt(self, how: str, now: Now) -> tuple[Send, Command | None, float]:
        measured = self._motion.measured(now, self.settings.measured_timeout)
        command = self._motion.halt(now, measured, here=how == "stop")
        if command is None:
            return Send.NOTHING, None, 0.0
        return (Send.STOP if how == "stop" else Send.HOLD), command, 0.0

    def _status(self, situation: _Situation, would: Send, scale: float, now: Now) -> Status:
        finding = situation.cover.verdict.finding if situation.cover else None
        seen = situation.cover or self._verdicts.newest
        return Status(
            state=self.state,
            mode=self.mode,
            would=would,
            reason=self._reason(situation),
            scale=scale,
            checks=situation.checks,
            step=finding.step if finding else -1,
            zone=finding.zone if finding else "",
            command_age=self._watch.command_age(now),
            verdict_age=seen.age(now) if seen else math.nan,
            image_age=seen.image_age(now) if seen else math.nan,
            heartbeat_age=self._watch.heartbeat_age(now),
        )

    def _reason(self, situation: _Situation) -> str:
        fine = situation.kind in (_Kind.CLEAR, _Kind.IDLE)
        reason = situation.reason
        if self.state == State.PASS:
            return "" if fine else reason
        if fine and self._latched:
            reason = "stopped until the operator releases it"
        elif fine and self.state != State.SLOW:
            wanted = f"{self.settings.release_count} verdicts over {self.settings.release_time:g} s"
            reason = f"better again, {self._good.count} of {wanted}"
        if self.state == State.FALLBACK and situation.kind != _Kind.FAULT:
            reason += f"; before: {self._fell_for}"
        return reason
