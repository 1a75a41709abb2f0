"""The gate: lets a command through only while a fresh verdict says that the future it leads to is clear."""

import math

import numpy as np

from deepverse_ros.errors import ConfigError
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.assessment import Assessment, Kind
from deepverse_ros.safety.check import Check
from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.command_tracker import OTHERS_MAY_MOVE_IT, ActiveCommand, CommandTracker
from deepverse_ros.safety.commands import Command, Layout, check
from deepverse_ros.safety.settings import CommandLimits, GateSettings
from deepverse_ros.safety.states import States
from deepverse_ros.safety.status import Counts, Decision, Mode, Send, State, Status
from deepverse_ros.safety.verdict import Verdict
from deepverse_ros.safety.verdict_store import Nearest, VerdictStore
from deepverse_ros.safety.watchdogs import Watchdogs


class Gate:
    """Decides what the robot is told, at every event and at every tick of a timer.

    PASS: commands go through as they come.
    SLOW: slower, as the verdict says.
    STOP: not at all, for the imagined future is not clear.
    FALLBACK: something that the gate needs is late, wrong or dead, and it sends what `fallback` says.
    RECOVER: the way out of a stop; only commands that are clear, or clear what is violated, go through, at
        `recover_scale`.

    A command passes only on a verdict whose envelope holds it and which is fresh by both clocks; until one comes, the
    robot holds. A single bad verdict withholds its command at once; `trigger_count` of them over `trigger_time` make a
    STOP. It ends by `release_count` better verdicts over `release_time`, by `release`, or by a command that leads out.
    In MONITOR every command passes as it came, whatever it is, and the status tells what enforcing would have sent.

    Every call gets the time; ages are what the slower of two clocks cannot hide. Not thread-safe, and not a certified
    safety device.

    Raises: ConfigError where commands may cease that do not end at rest.
    """

    def __init__(
        self, layout: Layout, settings: GateSettings | None = None, limits: CommandLimits | None = None,
        mode: Mode = Mode.ENFORCE,
    ) -> None:  # fmt: skip
        settings, limits = settings or GateSettings(), limits or CommandLimits()
        self.layout = layout
        self.mode = mode
        self.counts = Counts()
        self._motion = CommandTracker(layout, limits)
        self._watch = Watchdogs(settings)
        self._states = States(settings)
        self.limits, self.settings = limits, settings
        self._verdicts = VerdictStore()
        self._newest: ActiveCommand | None = None
        self._previous: tuple[Command, Now] | None = None
        self._last_stamp = 0.0
        self._busy_until = -math.inf  # when a command was last on its way, on the steady clock
        self._diverged = False

    @property
    def state(self) -> State:
        return self._states.state

    @property
    def pending(self) -> bool:
        """Whether a command is on its way or waits; while none is, no verdict matters."""
        return self._newest is not None

    @property
    def settings(self) -> GateSettings:
        """What the gate goes by; may be replaced at any time. Raises: ConfigError as the constructor."""
        return self._settings

    @settings.setter
    def settings(self, settings: GateSettings) -> None:
        self.check_settings(settings)
        self._settings = self._watch.settings = self._states.settings = settings

    def check_settings(self, settings: GateSettings) -> None:
        """Raises: ConfigError where commands of this robot may not cease without anything happening."""
        if settings.command_timeout == 0 and not self.layout.stays:
            names = [n for n, stays in zip(self.layout.names, self.layout.position, strict=True) if not stays]
            raise ConfigError(
                f"command_timeout is 0, but {names[0]} is a rate: a robot whose commands cease would go on; "
                "expected more than 0"
            )

    @property
    def limits(self) -> CommandLimits:
        """What commands are checked against; may be replaced at any time."""
        return self._limits

    @limits.setter
    def limits(self, limits: CommandLimits) -> None:
        self._limits = self._motion.limits = limits

    # --- what happens -------------------------------------------------------------------------------------------

    def on_command(self, command: Command, now: Now, problem: str = "") -> Decision:
        """A command came, whatever is in it. Args: problem: what was wrong with the message that brought it."""
        now = self._look(now)
        self.counts.commands += 1
        # One that was overtaken on its way is not followed, but monitoring still passes it as it came.
        if not problem and 0 < command.stamp < self._last_stamp:
            self.counts.out_of_order += 1
            return self._decide(now, command, newest=False)
        # Whatever is wrong with it is reported; only a good one takes the place of the command before it.
        good, checks = self._check(command, now, problem)
        self._watch.command(checks, now)
        if good is None:
            self.counts.refused += 1
        else:
            self._last_stamp = max(self._last_stamp, good.stamp)
            # What passes unslowed is sent as it came, unless it needs more time than it says.
            original = command if good.duration == command.times[-1] else good
            self._newest = ActiveCommand(good, original, now)
            self._previous = (good, now)
        return self._decide(now, command, read=None if good is None else self._newest)

    def _check(self, command: Command, now: Now, problem: str) -> tuple[Command | None, tuple[Check, ...]]:
        if problem:
            return None, (Check("message", False, text=problem),)
        target = self._motion.target()
        reference = self._motion.measured(now, self.settings.measured_timeout) if target is None else target
        previous, since = (self._previous[0], now.steady - self._previous[1].steady) if self._previous else (None, 0.0)
        return check(command, self.layout, self._limits, now.ros, reference, previous, since)

    def on_verdict(self, verdict: Verdict, now: Now) -> Decision:
        """The world model judged a command."""
        problem = verdict.problem(self.layout.size) or self._wrong_stamp(verdict, now) or self._too_wide(verdict)
        if problem:
            return self.on_wrong_verdict(problem, now)
        now = self._look(now)
        self.counts.verdicts += 1
        self._watch.verdict("", now)
        if not self._verdicts.add(verdict, now, self.settings):
            self.counts.verdicts_stale += 1
        return self._decide(now)

    def _wrong_stamp(self, verdict: Verdict, now: Now) -> str:
        most = self.settings.future_tolerance
        ahead, newer = max(verdict.stamp, verdict.image_stamp) - now.ros, verdict.image_stamp - verdict.stamp
        if ahead > most:
            return f"stamped {ahead:.3g} s ahead of the clock, at most {most:.3g}"
        return f"its image is {newer:.3g} s newer than the judgement, at most {most:.3g}" if newer > most else ""

    def _too_wide(self, verdict: Verdict) -> str:
        """No model imagines all that a robot can do at once: such an envelope is a damaged one."""
        width = verdict.envelope.half_width
        most = (self.layout.upper - self.layout.lower) / 2
        width = width + np.ptp(verdict.envelope.center, axis=0) / 2 if verdict.envelope.tube else width
        slack = verdict.envelope.time_slack
        lasts = float(verdict.envelope.times[-1])
        if slack > lasts / 2:
            return f"envelope.time_slack is {slack:.3g} s, at most half of its {lasts:.3g} s"
        if (width <= most).all():
            return ""
        value = int(np.argmax(width / most))
        text = f"envelope.half_width of {self.layout.names[value]} is {width[value]:.3g}"
        return f"{text}, at most half of its range, {most[value]:.3g}"

    def on_wrong_verdict(self, problem: str, now: Now) -> Decision:
        """A verdict came that cannot be used. Args: problem: what is wrong with it."""
        now = self._look(now)
        self.counts.verdicts += 1
        self.counts.verdicts_wrong += 1
        self._watch.verdict(problem, now)
        return self._decide(now)

    def on_heartbeat(self, now: Now, stamp: float = 0.0) -> Decision:
        """The world model is alive. Args: stamp: when it said so, ROS seconds; 0 for none."""
        now = self._look(now)
        if not self._ahead(stamp, now):
            self._watch.heartbeat(now, stamp)
        return self._decide(now)

    def on_measured(self, values: np.ndarray, now: Now, stamp: float = 0.0) -> bool:
        """The robot measured where it is: (A,) in the layout's order, of rates whatever.

        What is not finite, beyond the limits, ahead of the clock, or older than what came before is ignored. Args:
        stamp: of the measurement, ROS seconds; 0 for none. Returns: whether it counts.
        """
        return now.finite and not self._ahead(stamp, now) and self._motion.measure(values, now, stamp)

    def _ahead(self, stamp: float, now: Now) -> bool:
        """Whether a stamp cannot be true; it must not become the newest, for all that comes later would be older."""
        ahead = not stamp - now.ros <= self.settings.future_tolerance
        self.counts.ahead += ahead
        return ahead

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
            self._motion.remember(now)
            self._diverged = self._newest is not None and self._newest.speed != 1
        elif self._diverged:
            self._close("enforced from now on, after something else had passed", now)

    def fail(self, why: str, now: Now) -> None:
        """Something broke: what is known counts for nothing, and the fallback holds. A latched stop stays one."""
        self._verdicts.forget()
        self._close(why, now)

    def halt(self, why: str, now: Now) -> Command | None:
        """Bring the robot to rest because the gate is about to be closed; the fallback holds from now on.

        Returns: what to send; None where the robot's place is not known, or nobody moved it through here.
        """
        now = self._look(now)
        command = self._halt("stop" if self.settings.fallback == "stop" else "hold", now)[1]
        self._newest = None
        self._states.fall(why, now)
        return command if self._watch.commanded else None

    def _close(self, why: str, now: Now) -> None:
        self._motion.lose(now)
        self._newest = None
        self._states.fall(why, now)

    def release(self, now: Now) -> tuple[bool, str]:
        """The operator ends a stop: the next clear commands pass at once, at `recover_scale`.

        It opens nothing that a verdict forbids. Returns: whether it was done, and a sentence.
        """
        return self._states.release(self._situation(self._look(now)))

    # --- what it means ------------------------------------------------------------------------------------------

    def _look(self, now: Now) -> Now:
        """To begin with at every event: the clocks, and what the robot has done since."""
        now = self._watch.look(now)
        self._motion.advance(now)
        if not self._watch.clock_ok:
            # Stamps from before and after a jump cannot be compared.
            self._verdicts.forget()
            self._motion.forget_stamps()
            self._newest = None
            self._last_stamp = 0.0
        return now

    def _situation(self, now: Now) -> Assessment:
        # The verdict that answers for the command on its way, if there is one.
        newest = self._on_its_way(now)
        cover = None
        excess = math.nan
        nearest = None
        if newest is not None:
            cover, excess, nearest = self._verdicts.covering(newest, now, self.settings)
        # All checks at every event, fine or not, as the status shows them; the first that is not fine is the fault.
        measured_age = self._motion.measured_age(now) if self.layout.position.any() else None
        why = "" if newest is None or cover is not None else self._unanswered(nearest)
        checks = self._watch.checks(newest, cover, self._verdicts.newest, excess, why, measured_age, now)
        fault = next((c for c in checks if not c.ok), None)
        if cover is not None:
            finding = cover.verdict.finding
            name = f"zone:{finding.zone}" if finding.zone else "zones"
            checks += (Check(name, finding.action == Action.CLEAR, finding.points, finding.threshold, finding.text),)
        # The gravest first: a fault counts before any verdict, and a missing verdict before what one says.
        if fault is not None:
            return Assessment(Kind.FAULT, cover, checks, fault.text, fault.name)
        if newest is None:
            return Assessment(Kind.IDLE, None, checks, "no command is on its way")
        if cover is None:
            return Assessment(Kind.WAIT, None, checks, f"the command waits for a verdict of its own: {why}")
        if cover.clear:
            return Assessment(Kind.CLEAR, cover, checks, cover.verdict.finding.text)
        stopped = self.state in (State.STOP, State.RECOVER) and not self._states.latched
        way_out = stopped and cover.verdict.finding.leads_out
        return Assessment(Kind.LEADS_OUT if way_out else Kind.BAD, cover, checks, cover.verdict.finding.text)

    def _unanswered(self, nearest: Nearest | None) -> str:
        if nearest is None:
            return "there is none that looks far enough ahead"
        name = self.layout.names[nearest.value]
        unit = self.layout.unit(nearest.value)
        apart = f"{nearest.apart:.2g} {unit}".rstrip()
        return f"the nearest was made for one that differs by {apart} in {name}"

    def _on_its_way(self, now: Now) -> ActiveCommand | None:
        """The newest command, unless it is done or has waited too long."""
        newest = self._newest
        if newest is None:
            return None
        self._busy_until = now.steady
        if newest.speed == 0 and now.steady - newest.paused.steady > self.settings.pending_timeout:
            self.counts.expired += 1
            self._newest = None
        elif newest.speed > 0 and self.layout.stays and newest.progress >= newest.command.duration:
            measured = self._motion.measured(now, self.settings.measured_timeout)
            target = newest.command.values[-1]
            if measured is not None and (np.abs(measured - target) <= self.settings.position_tolerance).all():
                self._newest = None
        return self._newest

    # --- what is sent -------------------------------------------------------------------------------------------

    def _decide(
        self, now: Now, fresh: Command | None = None, newest: bool = True, read: ActiveCommand | None = None
    ) -> Decision:
        """Args: fresh: the command that this event brought, `read` as; newest: unless it is older than one before."""
        # What is known decides the state, and the state what enforcing sends; in monitoring that is only reported.
        situation = self._situation(now)
        self._states.advance(situation, now)
        if self.mode == Mode.MONITOR and not self._diverged:
            # From here on, what enforcing would have sent takes the place of what was sent.
            self._motion.remember(now)
        would, command, scale = self._act(situation, now)
        if fresh is not None:
            passes = would in (Send.COMMAND, Send.SCALED) and newest
            self.counts.passed += passes
            self.counts.slowed += passes and would == Send.SCALED
            self.counts.withheld += not passes
        send = would
        # Monitoring lets every command through as it came, and keeps track of whether the robot does something else
        # than enforcing would have made it do.
        if self.mode == Mode.MONITOR:
            passed = newest and would == Send.COMMAND
            send, command = (Send.NOTHING, None) if fresh is None else (Send.COMMAND, fresh)
            if fresh is not None:
                self._diverged = not passed
                self._motion.went_by(read, now)
            if would != Send.NOTHING and (fresh is None or not passed):
                # The robot does not do what enforcing would have made it do, and is not where that would have led.
                self._diverged = True
                self._motion.forget()
        return Decision(send, command, self._status(situation, would, scale, now))

    def _act(self, situation: Assessment, now: Now) -> tuple[Send, Command | None, float]:
        """What enforcing sends, and at which share of its speed the command passes."""
        settings = self.settings
        kind = situation.kind
        motion = self._motion
        # None of these lets the command pass.
        if self.state == State.FALLBACK:
            return self._fall_back(situation, now)
        if self.state == State.STOP:
            return self._halt(settings.stop_action, now)
        if kind in (Kind.WAIT, Kind.BAD):
            return self._halt("hold", now)
        if self._newest is None or situation.cover is None:
            if self.layout.stays and now.steady - self._busy_until > OTHERS_MAY_MOVE_IT:
                motion.come_to_rest()
            return Send.NOTHING, None, 1.0
        # The command passes, slowed down as its verdicts, the way out and the recovery ask.
        finding = situation.cover.verdict.finding
        scale = 1.0
        max_rate = dict[str, float]()
        if kind == Kind.CLEAR and (situation.cover.slow or self.state == State.SLOW):
            scale, max_rate = self._states.slow
        if kind == Kind.LEADS_OUT:
            max_rate = dict(finding.max_rate)
        if self.state == State.RECOVER:
            scale = min(scale, settings.recover_scale)
        # What to send: the command itself where it passes whole, else it slower, or the next step towards it.
        out = motion.follow(self._newest, now, scale, max_rate)
        self._newest.admitted = situation.cover.numbers
        if out is None:
            return Send.NOTHING, None, scale
        whole = out is self._newest.command
        return (Send.COMMAND, self._newest.original, scale) if whole else (Send.SCALED, out, scale)

    def _fall_back(self, situation: Assessment, now: Now) -> tuple[Send, Command | None, float]:
        settings = self.settings
        motion = self._motion
        if not self._watch.commanded:
            return Send.NOTHING, None, 0.0  # nobody has moved the robot through here
        since = now.steady - self._states.fallback_since
        # Nothing goes on that had been halted before, that a verdict forbids, or that its sender wants to end.
        if situation.kind == Kind.FAULT and motion.moving and not situation.bad and not self._wants_rest():
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
        motion = self._motion
        settings = self.settings
        reach = self.layout.max_rate * settings.measured_lag + settings.position_tolerance
        command = motion.halt(now, motion.measured(now, settings.measured_timeout), reach, how == "stop")
        if self._newest is not None:
            motion.begin_anew(self._newest)
        if command is None:
            return Send.NOTHING, None, 0.0
        return (Send.STOP if how == "stop" else Send.HOLD), command, 0.0

    def _status(self, situation: Assessment, would: Send, scale: float, now: Now) -> Status:
        finding = situation.cover.verdict.finding if situation.cover else None
        seen = situation.cover or self._verdicts.newest
        return Status(
            state=self.state,
            mode=self.mode,
            would=would,
            reason=self._states.reason(situation, now),
            scale=scale,
            checks=situation.checks,
            step=finding.step if finding else -1,
            zone=finding.zone if finding else "",
            command_age=self._watch.command_age(now),
            verdict_age=seen.age(now) if seen else math.nan,
            image_age=seen.image_age(now) if seen else math.nan,
            heartbeat_age=self._watch.heartbeat_age(now),
        )
