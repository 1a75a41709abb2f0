"""What the zones make of an imagined future: clear, slower, or not at all, and why."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.view import View
from deepverse_ros.safety.zones import Zone, Zones

LEAST_SCALE = 1e-3
"""Least share of its speed at which a command is executed."""


@dataclass(frozen=True)
class Finding:
    """The worst that the zones found.

    zone: the worst zone's name, also of an approach that is too far off to act on; empty where nothing is entered, or
        nothing was seen.
    step: the first that offends, 0 is the first imagined one; -1 for none.
    points, threshold: how many points were where they should not be in that step, and how many count.
    scale: share of its speed at which the command may pass, the least of all zones.
    max_rate: as in `LimitZone`, the least of all zones.
    time_to_enter: seconds for which the worst zone is sure to stay clear; inf where it does throughout.
    leads_out: no zone that says stop is entered anew, and the command leads away from each of them.
    gain: how much clearer the least improved of them is at the end, metres.
    text: one sentence.
    stops: names of the zones that say stop.

    A scale below LEAST_SCALE is no speed at all: whatever action it came with, it is a STOP.
    """

    action: Action
    zone: str = ""
    step: int = -1
    points: int = 0
    threshold: int = 0
    scale: float = 1.0
    max_rate: Mapping[str, float] = field(default_factory=dict)
    time_to_enter: float = math.inf
    leads_out: bool = False
    gain: float = 0.0
    text: str = ""
    stops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.scale < LEAST_SCALE:
            object.__setattr__(self, "action", Action.STOP)


def judge(
    zones: Zones, future: View, times: np.ndarray, present: View | None = None, min_gain: float = 0.01,
    leave: Collection[str] = (),
) -> Finding:  # fmt: skip
    """Hold an imagined future against the zones.

    Args:
        times: (S,) seconds from now, rising.
        present: the moment before the first step, for the way out of a violated zone; without it no command leads out.
        min_gain: metres by which a command must clear what is violated, and by which it may come nearer before it does,
            as imagined points tremble.
        leave: names of zones that stop it for what else it may do: it leads out only if it leads away from these too.
    Raises: ShapeError for arrays, frames or times that do not fit; ConfigError for a zone that would never count.
    """
    if not (np.isfinite(times).all() and (np.diff(times, prepend=0.0) > 0).all()):
        raise ShapeError(f"times: expected rising seconds above 0, got {times}")
    counts = zones.count(future, times)
    blind = _blind(zones, future)
    if blind is not None:
        return blind
    worst = Finding(Action.CLEAR)
    stops: list[str] = []
    scale = 1.0
    max_rate = dict[str, float]()
    for zone, count in zip(zones.checked, counts, strict=True):
        if (count < zone.min_points).all():
            continue
        finding = _violated(zone, count, times)
        if finding.action == Action.STOP:
            stops.append(zone.name)
        scale = min(scale, finding.scale)
        max_rate |= {name: min(rate, max_rate.get(name, rate)) for name, rate in finding.max_rate.items()}
        if worst.step < 0 or _gravity(finding) > _gravity(worst):
            worst = finding
    left = [zone for zone in zones.checked if zone.name in {*stops, *leave}]
    gain = _gain(zones, left, future, times, present, min_gain) if left and present is not None else 0.0
    return Finding(
        worst.action, worst.zone, worst.step, worst.points, worst.threshold, scale, max_rate, worst.time_to_enter,
        gain > 0, gain, worst.text, tuple(stops),
    )  # fmt: skip


def _gravity(finding: Finding) -> tuple[int, float, int]:
    return finding.action, -finding.scale, -finding.step


def _blind(zones: Zones, future: View) -> Finding | None:
    if zones.watches("scene"):
        seen = np.isfinite(future.scene).all(-1).sum(1)
        if (seen < zones.min_seen).any():
            step = int(np.argmax(seen < zones.min_seen))
            text = f"only {seen[step]} points are seen at step {step}, at least {zones.min_seen} are needed"
            return Finding(Action.STOP, "", step, int(seen[step]), zones.min_seen, 0.0, time_to_enter=0.0, text=text)
    if zones.watches("robot"):
        known = np.isfinite(future.points("robot")[0]).all(-1)
        if not known.size or not known.all():
            step = int(np.argmin(known.all(1)))
            text = f"where the robot itself is at step {step} is not known"
            return Finding(Action.STOP, "", step, int(known[step].sum()), known.shape[1], 0.0, time_to_enter=0.0,
                           text=text)  # fmt: skip
    return None


def _violated(zone: Zone, count: np.ndarray, times: np.ndarray) -> Finding:
    """Args: count (S,) points, enough of them in some step."""
    step = int(np.argmax(count >= zone.min_points))
    # It was clear the step before; when it was entered in between is not known.
    enters = float(times[step - 1]) if step else 0.0
    points = int(count[step])
    answer = zone.answer(enters)
    text = f"zone '{zone.name}': {points} points at step {step}, {zone.min_points} count"
    text += f", {answer.note}" if answer.note else ""
    return Finding(
        answer.action, zone.name, step, points, zone.min_points, answer.scale, answer.max_rate, enters, text=text
    )


def _gain(zones: Zones, left: list[Zone], future: View, times: np.ndarray, present: View, min_gain: float) -> float:
    """Metres by which the least improved of these zones is clearer at its end; 0 unless all are left, or kept clear."""
    gains = []
    for zone in left:
        now = _nearest(zones, zone, present, np.zeros(1))[0]
        then = _nearest(zones, zone, future, times)[zone.covers(times)]
        enters = now > 0 and (then <= 0).any()
        if enters or (then < now - min_gain).any() or then[-1] < now + min_gain:
            return 0.0
        gains.append(float(then[-1] - now))
    return min(gains)


def _nearest(zones: Zones, zone: Zone, view: View, times: np.ndarray) -> np.ndarray:
    """(S,) metres of clearance that all but `min_points - 1` points keep: the zone is violated where it is not above 0.

    One stray point does not decide how far the rest is; inf where there are not enough points.
    """
    clearance = zone.clearance(view)
    clearance = np.where(np.isnan(clearance) | zones.ignored(view, times, zone.of), np.inf, clearance)
    k = zone.min_points - 1
    if clearance.shape[1] <= k:
        return np.full(len(clearance), np.inf)
    return np.partition(clearance, k, axis=1)[:, k]
