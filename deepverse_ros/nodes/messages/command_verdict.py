"""The prefilter's verdicts between ROS messages and numpy. No torch: the prefilter is a process without it."""

import math
from collections.abc import Sequence

import numpy as np
from std_msgs.msg import Header

from deepverse_ros.errors import MessageError, printable
from deepverse_ros.msg import CommandEnvelope, CommandFinding, CommandVerdict
from deepverse_ros.nodes.messages.time import stamp_from_seconds, stamp_seconds
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.verdict import MOST_TIMES, Envelope, Verdict

MOST_NAMES = 200
"""Names in a verdict that are read: more than any robot has values."""


def most_bytes(values: int) -> int:
    """Largest message that is read, of a robot with so many values: the longest envelope, with room for its texts."""
    return 16384 + 8 * MOST_TIMES * (1 + values)


def command_verdict_to_msg(
    verdict: Verdict, names: Sequence[str], frame_id: str, embodiment: str, latency_ms: float = math.nan
) -> CommandVerdict:
    """Args: names: of a command's values, in the order of the envelope (`safety.commands.Layout.names`).

    frame_id: the robot's base frame. embodiment: the robot's name. latency_ms: from what was judged to the verdict.
    Raises: MessageError where the verdict has a problem, or is not one on commands of these values.
    """
    if problem := verdict.problem(len(names)):
        raise MessageError(f"verdict: {problem}; names are {', '.join(names)}")
    return CommandVerdict(
        header=Header(stamp=stamp_from_seconds(verdict.stamp), frame_id=frame_id),
        image_stamp=stamp_from_seconds(verdict.image_stamp),
        valid_for=float(verdict.valid_for),
        embodiment=embodiment,
        command_id=verdict.plan_id,
        latency_ms=float(latency_ms),
        envelope=_envelope_to_msg(verdict.envelope, names),
        finding=_finding_to_msg(verdict.finding),
    )


def _envelope_to_msg(envelope: Envelope, names: Sequence[str]) -> CommandEnvelope:
    return CommandEnvelope(
        start=stamp_from_seconds(envelope.start),
        names=list(names),
        times=envelope.times.astype(float).tolist(),
        center=envelope.center.astype(float).ravel().tolist(),
        half_width=envelope.half_width.astype(float).tolist(),
        time_slack=float(envelope.time_slack),
        tube=bool(envelope.tube),
    )


def _finding_to_msg(finding: Finding) -> CommandFinding:
    return CommandFinding(
        action=getattr(CommandFinding, finding.action.name),
        zone=finding.zone,
        first_offending_step=int(finding.step),
        points=int(finding.points),
        threshold=int(finding.threshold),
        scale=float(finding.scale),
        max_rate_names=list(finding.max_rate),
        max_rates=[float(rate) for rate in finding.max_rate.values()],
        time_to_enter=float(finding.time_to_enter),
        leads_out=bool(finding.leads_out),
        gain=float(finding.gain),
        text=finding.text,
    )


def command_verdict_from_msg(
    message: CommandVerdict, names: Sequence[str], frame_id: str = "", embodiment: str = ""
) -> Verdict:
    """Args: names: of the robot's values, in the order that the envelope shall have; the message may have another.

    frame_id, embodiment: what the message must say; empty: anything.
    Raises: MessageError naming field, value and what is expected, for whatever is in the message.
    """
    if frame_id and message.header.frame_id != frame_id:
        raise MessageError(
            f"verdict header.frame_id is '{message.header.frame_id}'; this robot's base frame is '{frame_id}'"
        )
    if embodiment and message.embodiment != embodiment:
        raise MessageError(f"verdict embodiment is '{message.embodiment}'; this robot is '{embodiment}'")
    verdict = Verdict(
        stamp_seconds(message.header.stamp),
        stamp_seconds(message.image_stamp),
        message.valid_for,
        _envelope(message.envelope, list(names)),
        _finding(message.finding, list(names)),
        printable(message.command_id, 100),
    )
    if problem := verdict.problem(len(names)):
        raise MessageError(f"verdict {problem}")
    return verdict


def _envelope(message: CommandEnvelope, names: list[str]) -> Envelope:
    # Sizes first: nothing is made of what is too long.
    steps = len(message.times)
    if not 1 <= steps <= MOST_TIMES:
        raise MessageError(f"verdict envelope.times has {steps} values; expected 1 to {MOST_TIMES}")
    if len(message.names) > MOST_NAMES:
        raise MessageError(f"verdict envelope.names has {len(message.names)} values; at most {MOST_NAMES}")
    order = _order(list(message.names), names)
    expected = {"center": steps * len(names), "half_width": len(names)}
    for name, size in expected.items():
        if len(getattr(message, name)) != size:
            raise MessageError(
                f"verdict envelope.{name} has {len(getattr(message, name))} values; expected {size} for {steps} times "
                f"and {len(names)} names"
            )
    return Envelope(
        stamp_seconds(message.start),
        np.array(message.times, float),
        np.array(message.center, float).reshape(steps, len(names))[:, order],
        np.array(message.half_width, float)[order],
        message.time_slack,
        message.tube,
    )


def _order(given: list[str], names: list[str]) -> list[int]:
    """Where each of `names` stands in `given`."""
    wrong = [f"unknown '{n}'" for n in given if n not in names] + [f"missing '{n}'" for n in names if n not in given]
    if not wrong and len(given) != len(names):
        wrong = ["a name that stands twice"]
    if wrong:
        raise MessageError(f"verdict envelope.names is {given}: {wrong[0]}; expected {names}")
    return [given.index(n) for n in names]


def _finding(message: CommandFinding, names: list[str]) -> Finding:
    actions = [int(a) for a in Action]
    if message.action not in actions:
        raise MessageError(f"verdict finding.action is {message.action}; expected {actions[0]} to {actions[-1]}")
    limited = len(message.max_rate_names)
    if limited > MOST_NAMES:
        raise MessageError(f"verdict finding.max_rate_names has {limited} values; at most {MOST_NAMES}")
    if len(message.max_rates) != limited:
        raise MessageError(
            f"verdict finding.max_rates has {len(message.max_rates)} values; max_rate_names has {limited}"
        )
    # A limit for a value that is not there is one that would not be kept.
    unknown = next((name for name in message.max_rate_names if name != "*" and name not in names), None)
    if unknown is not None:
        raise MessageError(
            f"verdict finding.max_rate_names has the unknown '{unknown}'; expected '*' or one of {names}"
        )
    for name in ("time_to_enter", "gain"):
        if math.isnan(getattr(message, name)):
            raise MessageError(f"verdict finding.{name} is nan; expected a number")
    return Finding(
        Action(message.action),
        printable(message.zone, 100),
        message.first_offending_step,
        message.points,
        message.threshold,
        message.scale,
        _least(list(message.max_rate_names), list(message.max_rates)),
        message.time_to_enter,
        leads_out=message.leads_out,
        gain=message.gain,
        text=printable(message.text, 500),
    )


def _least(names: list[str], rates: list[float]) -> dict[str, float]:
    """The largest rate of each name; where one stands twice, the lesser, and NaN stays NaN."""
    out: dict[str, float] = {}
    for name, rate in zip(names, rates, strict=True):
        before = out.get(name, math.inf)
        out[name] = rate if math.isnan(rate) or rate < before else before
    return out
