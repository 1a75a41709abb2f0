"""Whether what a plan does to a thing is imagined: two plans from one moment, of which one moves it and one not."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.data.collect import scene_seed
from deepverse_ros.evaluation.prediction.kinematic_copy import over, without_robot
from deepverse_ros.evaluation.prediction.metrics import changed_pixels
from deepverse_ros.evaluation.prediction.world import ROBOT
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.base import Pair, RobotSimulation

PAIR_SEEDS = 20_000_000
"""Scenes of pairs are drawn with collection seeds from here on, apart from those of training and evaluation."""
MOVES, LEAVES = 0.06, 0.01
"""A pair is one where its first plan moves the thing so far at least, and its second nothing so far, metres."""
FEWEST_PIXELS = 12
"""Of the thing in the frames that are seen, and of the difference between the two true futures."""
_TRIES = 20  # scenes a pair, on average, before it is given up

DEFINITIONS = {
    "counterfactual": "pairs of plans from one belief that end with the tool at the same place: one that moves a thing "
    f"by {100 * MOVES:g} cm or more and one that moves nothing by {100 * LEAVES:g} cm; one of the seen frames shows "
    f"{FEWEST_PIXELS} pixels of the thing or more, and the two true last frames differ by more than 0.1 in a colour or "
    f"3 cm in depth in {FEWEST_PIXELS} pixels or more that the robot covers in neither: in those the imagined last "
    "frame of a plan is right if its mse to its own truth is lower than to the other's; moves_right, leaves_right: how "
    "many are, of the plans of each kind; right: of how many pairs both are, share that of the pairs; copy_right: the "
    "same for kinematics and copying; kinds: by how the second plan gets past the thing; null where none were asked "
    "for",
}


@dataclass(frozen=True)
class Enacted:
    """A pair as it really went; first the plan that moves the thing.

    seen: (1, T) frames. past: (1, T-1, A) measured. plans: (2, H, A). rgb: (2, 3, h, w) the last true frames.
    differ: (h, w) bool, the pixels that count. copy: (2, 3, h, w) by kinematics and copying. kind: how the second plan
    gets past.
    """

    seen: Observation
    past: np.ndarray
    plans: np.ndarray
    rgb: Tensor
    differ: Tensor
    copy: Tensor
    kind: str


def evaluate_pairs(
    model: WorldModel, count: int, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Imagine `count` pairs, or as many as are found in twenty times as many scenes.

    Args: seed: of the scenes and plans; the same gives the same pairs. progress(done, of): called after each pair.
    Raises: EmbodimentError for a robot that has no simulation.
    """
    height, width = model.config.height, model.config.width
    simulation = robots.of(model.embodiment).simulate(width=width, height=height)
    tally: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    try:
        for index in range(_TRIES * count):
            if tally["pairs"] == count:
                break
            rng = np.random.default_rng([PAIR_SEEDS + seed, index])
            pair = simulation.begin_pair(scene_seed(PAIR_SEEDS + seed, index), rng, model.config.horizon)
            enacted = None if pair is None else enact(simulation, pair, model.config.context)
            if enacted is None:
                continue
            future = model.imagine(model.observe(enacted.seen, enacted.past), enacted.plans)
            moves, leaves = nearer_to_own(future.rgb[:, -1].float().cpu(), enacted)
            scored = {"pairs": True, "right": moves and leaves, "moves_right": moves, "leaves_right": leaves}
            tally.update(name for name, value in scored.items() if value)
            tally["copy_right"] += all(nearer_to_own(enacted.copy, enacted))
            kinds.setdefault(enacted.kind, Counter()).update(n for n in ("pairs", "right") if scored[n])
            if progress is not None:
                progress(tally["pairs"], count)
    finally:
        simulation.close()
    return {
        **{name: tally[name] for name in ("pairs", "right", "moves_right", "leaves_right", "copy_right")},
        "share": tally["right"] / tally["pairs"] if tally["pairs"] else None,
        "kinds": {kind: {name: found[name] for name in ("pairs", "right")} for kind, found in sorted(kinds.items())},
    }


def nearer_to_own(imagined: Tensor, enacted: Enacted) -> tuple[bool, bool]:
    """Whether each of two pictures (2, 3, h, w) is nearer to its own truth than to the other's."""
    where = enacted.differ
    own, other = (
        [float((imagined[i] - truth[i])[:, where].square().mean()) for i in range(2)]
        for truth in (enacted.rgb, enacted.rgb.flip(0))
    )
    return own[0] < other[0], own[1] < other[1]


def enact(simulation: RobotSimulation, pair: Pair, context: int) -> Enacted | None:
    """Carry out a pair where `begin_pair` left the simulation; None where it turns out to be none.

    Args: context: frames that a model sees, at most.
    """
    frames, measured = [simulation.render_segmented()], []
    for action in pair.approach:
        simulation.step(action)
        measured.append(simulation.joints)
        frames.append(simulation.render_segmented())
    frames = frames[-context:]
    rgb, depth, labels = (np.stack(part) for part in zip(*frames, strict=True))
    if (labels == 2 + pair.thing).sum((1, 2)).max() < FEWEST_PIXELS:  # what nobody saw, nobody can imagine
        return None
    start, stood = simulation.snapshot(), simulation.object_positions
    ends, travels = [], []
    plans = np.stack([pair.moves, pair.leaves]).astype(np.float32)
    for plan in plans:
        simulation.restore(start)
        for action in plan:
            simulation.step(action)
        travels.append(np.linalg.norm(simulation.object_positions - stood, axis=-1))
        ends.append(simulation.render_segmented())
    if travels[0][pair.thing] < MOVES or travels[1].max() >= LEAVES:
        return None
    last = Observation.from_numpy(*(np.stack([end[part] for end in ends]) for part in (0, 1)))
    robot = torch.from_numpy(np.stack([end[2] for end in ends]) == ROBOT).any(0)
    assert last.depth is not None
    changed = changed_pixels(last.rgb[:, :1], last.depth[:, :1], last.rgb[:, 1], last.depth[:, 1])
    differ = changed[0, 0] & ~robot
    if int(differ.sum()) < FEWEST_PIXELS:
        return None
    seen = Observation.from_numpy(rgb, depth, simulation.intrinsics, simulation.camera_to_world)
    assert seen.depth is not None
    empty = without_robot([(seen.rgb[0], seen.depth[0], torch.from_numpy(labels))] * 2)
    return Enacted(
        seen=seen,
        past=np.asarray(measured, np.float32)[None, len(measured) - len(frames) + 1 :],
        plans=plans,
        rgb=last.rgb[0],
        differ=differ,
        copy=over(empty, plans[:, -1:], simulation.robot_picture).rgb[:, 0],
        kind=pair.kind,
    )
