"""Pairs of plans with the same beginning and end: one goes through a thing, one lets it be."""

import numpy as np

from deepverse_ros.simulation.arm import strokes
from deepverse_ros.simulation.arm.postures import Postures
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.strokes import MARGIN, TIP, Thing, hand_radius, things_of
from deepverse_ros.simulation.base import SEEN, Pair

KINDS = ("over", "beside", "short")
_TRIES = 30  # of each kind
_START = (0.08, 0.15)  # metres from the thing's surface to the hand's where the plans begin
_PUSH = (0.09, 0.15)  # metres that the thing shall be pushed
_REACHED = (0.35, 0.80)  # metres from the base to the thing
_USED_RATE = 0.97  # of the joints' largest rates
_PARTS = 4  # poses that are looked at within each step of a plan
_CLEAR = 0.008  # metres that a plan which shall move nothing keeps


def draw_pair(simulation: ArmSimulation, rng: np.random.Generator, steps: int) -> Pair | None:
    """Put the arm near a thing of the present scene, and plan from there.

    Returns: a pair of plans of so many steps that the arm can follow, as far as kinematics tells; None where no thing
    leaves room for one. Whether a thing really moves is for physics to say.
    """
    things = things_of(simulation)
    near = [t for t in things if _REACHED[0] < np.hypot(*t.place[:2]) < _REACHED[1]]
    for kind in rng.permutation(KINDS) if near else ():
        for _ in range(_TRIES):
            postures = Postures(simulation.embodiment, float(rng.normal(0, 0.15)))
            thing = near[rng.integers(len(near))]
            pair = _plans(simulation, rng, steps, postures, thing, str(kind))
            if pair is not None:
                return pair
    return None


def _plans(
    simulation: ArmSimulation, rng: np.random.Generator, steps: int, postures: Postures, thing: Thing, kind: str
) -> Pair | None:
    heading = rng.uniform(-np.pi, np.pi)
    ahead = np.array([np.cos(heading), np.sin(heading)])
    # With the closed hand's broad side ahead, or with both open fingers in line: nothing passes between them.
    broad = rng.random() < 0.7
    opening = 0.0 if broad else float(rng.random())
    turn = heading + (np.pi / 2 if broad else 0.0) + rng.normal(0, 0.1)
    hand = hand_radius(opening)
    front = strokes.THICKNESS if broad else hand
    start = thing.place[:2] - (thing.radius + front + rng.uniform(*_START)) * ahead
    end = thing.place[:2] + (rng.uniform(*_PUSH) - min(thing.item.extents[:2]) - front) * ahead
    depth = postures.depth(thing.place, hand)
    low = thing.bottom + depth + max(0.012, rng.uniform(0.2, 0.7) * thing.half_height)
    raised = thing.top + TIP + MARGIN + rng.uniform(0.0, 0.03)
    begin, finish = np.append(start, low), np.append(end, raised)
    if kind == "over":
        leaving = strokes.over(begin, finish, thing.top)
    elif kind == "beside":
        gap = thing.radius + hand + MARGIN
        leaving = strokes.beside(begin, finish, thing, int(rng.choice((-1, 1))), gap)
    else:
        gap = thing.radius + front + MARGIN
        leaving = strokes.short(begin, finish, thing, gap)
    here = np.append(begin, (turn, opening))
    first = postures.joints(here[None])[0]
    if not np.isfinite(first).all():
        return None

    def plan(points: np.ndarray) -> np.ndarray | None:
        way = strokes.paced(points, steps)
        if way is None:
            return None
        poses = np.concatenate([way, np.broadcast_to((turn, opening), (steps, 2))], axis=1)
        return _followed(simulation, first, postures.joints(poses, first[6]))

    moves, leaves = plan(strokes.through(begin, finish)), plan(leaving)
    if moves is None or leaves is None or not _free(simulation, first, leaves):
        return None
    return _approached(simulation, rng, postures, here, first, moves, leaves, thing.index, kind)


def _approached(
    simulation: ArmSimulation, rng: np.random.Generator, postures: Postures, here: np.ndarray, first: np.ndarray,
    moves: np.ndarray, leaves: np.ndarray, thing: int, kind: str,
) -> Pair | None:  # fmt: skip
    """The pair with a way to where its plans begin, at the beginning of which the arm is put."""
    for _ in range(4):
        away = here + np.concatenate([rng.normal(0, 0.04, 2), [rng.uniform(0.03, 0.16)], rng.normal(0, 0.3, 1), [0.0]])
        poses = away + (here - away) * (np.arange(SEEN + 1) / SEEN)[:, None]
        joints = postures.joints(poses[::-1], first[6])[::-1]
        if np.isfinite(joints).all():
            approach = _followed(simulation, joints[0], joints[1:])
            if approach is not None and _free(simulation, joints[0], approach):
                simulation.set_joints(joints[0])
                return Pair(approach, moves, leaves, thing, kind)
    return None


def _followed(simulation: ArmSimulation, start: np.ndarray, joints: np.ndarray) -> np.ndarray | None:
    """`joints` (T, 8) as commands from `start` (8,); None where they are out of reach or too fast."""
    if not np.isfinite(joints).all():
        return None
    steps = np.abs(np.diff(joints, axis=0, prepend=start[None]))
    return joints.astype(np.float32) if (steps <= _USED_RATE * simulation.embodiment.max_step).all() else None


def _free(simulation: ArmSimulation, start: np.ndarray, plan: np.ndarray) -> bool:
    """Whether the arm touches nothing on the way from `start` (8,) along `plan` (T, 8)."""
    rows = np.concatenate([start[None], plan])
    parts = np.linspace(0, 1, _PARTS, endpoint=False)
    between = rows[:-1, None] + (rows[1:] - rows[:-1])[:, None] * parts[:, None]
    return all(simulation.clearance_at(joints) > _CLEAR for joints in (*between.reshape(-1, 8)[::-1], rows[-1]))
