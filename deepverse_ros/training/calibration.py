"""How far the truth is from what was imagined: the bounds that a verdict adds, by split conformal prediction."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deepverse_ros import resources
from deepverse_ros.data.collect import scene_seed
from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.errors import EpisodeError
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.checkpoint import write_calibration
from deepverse_ros.model.observation import Goal, Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.objectives.base import Future
from deepverse_ros.planning.search.icem import IcemConfig
from deepverse_ros.planning.search.mpc import Mpc, MpcConfig
from deepverse_ros.planning.verdicts.acceptance import ExecutedOutcomes
from deepverse_ros.planning.verdicts.calibration import NEAR, conformal_quantile
from deepverse_ros.planning.verdicts.judge import Limits
from deepverse_ros.planning.verdicts.monitor import PathMonitor
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.base import GoalPicture, RobotSimulation
from deepverse_ros.training.batches.dataset import Episodes, window_actions

# A collection's seed that training and evaluation have no use for: from it come the scenes of the executed plans.
_COLLECTION = 999_999
# Pictures of a step that is executed: a robot's camera does not wait for its end, and half way the imagined path is
# furthest from the straight line that is taken for it.
_PICTURES = 2
# Looks for contacts during a step, every 20 ms: a tool at full speed moves 3 cm meanwhile.
_CONTACT_LOOKS = 10


@dataclass(frozen=True)
class Errors:
    """Of E independent plans over H steps.

    Most in multiples of the spread that the model predicts, NaN where nobody measured it. goal_z (E, H): how much
    further the true tool is from the true goal than the imagined tool from where the goal is read, at the end of a
    plan; before that, how far these two ways are apart. clearance_z (E, H): how much nearer than imagined the robot
    came to what it might touch, 0 where it stayed away from everything. path_z (E, H): how far from its imagined path
    the model read the tool during each step, as a robot can know it while it follows the plan. clearance_m (P, H)
    metres: how much nearer than its surroundings tell the robot came to things, in P other plans, past obstacles.
    spread (E, H) metres: that of goal_z. These two are None where they were not measured.
    """

    goal_z: np.ndarray
    clearance_z: np.ndarray
    path_z: np.ndarray
    clearance_m: np.ndarray | None = None
    spread: np.ndarray | None = None

    def ends(self) -> list[ExecutedOutcomes]:
        """How the plans of each length ended; a plan is as long as its errors are known."""
        if self.spread is None:
            return []
        known = np.isfinite(self.goal_z)
        lasts = np.where(known.any(1), known.shape[1] - 1 - known[:, ::-1].argmax(1), -1)
        found = []
        for last in sorted(set(lasts[lasts >= 0].tolist())):
            z, spread = self.goal_z[lasts == last, last], self.spread[lasts == last, last]
            found.append(ExecutedOutcomes(last + 1, _rounded(z * spread), _rounded(spread)))
        return found


def calibrate(
    checkpoint: str | Path,
    level: float,
    held_out: Episodes | None,
    executed: Errors | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Write the bounds at `level` into the checkpoint's config.json, and return them.

    tool_error_q, metres, bounds the imagined tool on held-out episodes. goal_error_z, multiples of the predicted
    spread, bounds a goal distance, and ends tell by how much a verdict must see plans of the planner's own lengths
    within their tolerance; clearance_error_z is what it takes off an imagined clearance and clearance_error_m, metres,
    off one that the camera tells, path_error_z how far the tool may be off its imagined path during execution. These
    come from plans that the planner chose and the robot executed, because a planner picks plans that look good, also by
    mistake. Without such plans, held-out episodes stand in for them, but not for path_error_z and clearance_error_m
    (null) nor for ends (none). Without held-out episodes tool_error_q stays as it is.
    """
    folder = resources.find(checkpoint)
    model = WorldModel.load(folder, device)
    values: dict[str, Any] = dict(model.calibration or {}) | {"level": level}
    judged = executed
    if held_out is not None:
        tool_m, seen = held_out_errors(model, held_out)
        values |= {"tool_error_q": _bounds(tool_m, level), "windows": len(tool_m)}
        judged = executed or seen
    if judged is not None:
        values |= {
            "goal_error_z": _bounds(judged.goal_z, level),
            "clearance_error_z": _joint_bounds(judged.clearance_z, level),
            "path_error_z": _joint_bounds(judged.path_z, level),
            "clearance_error_m": None if judged.clearance_m is None else _joint_bounds(judged.clearance_m, level),
            "ends": [asdict(ends) for ends in judged.ends()],
            "executed_plans": len(executed.goal_z) if executed else 0,
        }
    # Not model.save: the weights in memory are in the inference format.
    write_calibration(folder, values)
    return values


def _rounded(metres: np.ndarray) -> tuple[float, ...]:
    """To a hundredth of a millimetre, for a file that people read."""
    return tuple(round(float(value), 5) for value in metres)


def _bounds(errors: np.ndarray, level: float) -> list[float]:
    """One bound for each step."""
    return [max(0.0, float(conformal_quantile(step[np.isfinite(step)], level))) for step in errors.T]


def _joint_bounds(errors: np.ndarray, level: float) -> list[float] | None:
    """One bound that holds at all steps of a plan together."""
    known = errors[np.isfinite(errors).any(1)]
    if not len(known):
        return None
    return [max(0.0, float(conformal_quantile(np.nanmax(known, 1), level)))] * errors.shape[1]


def _nearer(future: Future, clearance: np.ndarray) -> np.ndarray:
    """See Errors.clearance_z. Args: future of one plan; clearance (H,) metres, true."""
    imagined, std = (future.readout[name][0].float().cpu().numpy() for name in ("clearance", "clearance_std"))
    return _where_near((imagined - clearance) / std, clearance)


def _where_near(error: np.ndarray, clearance: np.ndarray) -> np.ndarray:
    """0 where the true clearance is no less than NEAR, NaN where nobody knows it."""
    return np.where(clearance < NEAR, error, np.where(np.isnan(clearance), np.nan, 0.0))


def held_out_episodes(model: WorldModel, directory: Path, level: float) -> Episodes:
    """Episodes that the model was not trained on, for `calibrate`, as long as the shortest that has a whole window.

    Raises: EpisodeError where there is no such folder, or fewer episodes than a bound at `level` needs; EmbodimentError
    for those of another robot.
    """
    if not directory.is_dir():
        raise EpisodeError(f"{directory}: no such folder of episodes")
    c = model.config
    store = EpisodeStore(directory)
    lengths = [len(episode) for episode in store if len(episode) >= c.window]
    episodes = Episodes.load(store, model.embodiment, (c.height, c.width), min(lengths, default=c.window))
    if math.isinf(conformal_quantile(np.zeros(len(episodes)), level)):
        raise EpisodeError(f"{directory}: {len(episodes)} usable episodes are too few for a bound at {level:.0%}")
    return episodes


def held_out_errors(model: WorldModel, episodes: Episodes, seed: int = 0) -> tuple[np.ndarray, Errors]:
    """One random window of every episode; the goal of each step is a picture of the true outcome, without depth.

    Episodes, not windows, are exchangeable.

    Returns: (E, H) metres from the imagined to the true tool; the errors, without path_z: nothing was seen between the
    frames.
    """
    c = model.config
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, episodes.length - c.window + 1, len(episodes))
    tool_errors, goal_errors, nearer = [], [], []
    for e, start in enumerate(starts):
        index, begin = np.array([e]), np.array([start])
        actions = window_actions(episodes, index, begin, c.window, c.context)
        belief = model.observe(episodes.observation(e, start, c.context), actions[:, : c.context - 1])
        future = model.imagine(belief, actions[:, c.context - 1 :])
        imagined = future.readout["tool_position"][0].cpu().numpy()
        outcome = range(start + c.context, start + c.window)
        matrix = episodes.intrinsics[e].numpy()
        shown = [
            model.encode_goal(episodes.rgb[e, t], None, matrix, episodes.camera_to_world[e, t].numpy()) for t in outcome
        ]
        tool_errors.append(np.linalg.norm(imagined - episodes.tool[e, outcome].numpy(), axis=-1))
        # The true distance is 0, so the whole of the imagined one is an error, of which the sign does not matter here.
        gap = np.linalg.norm(imagined - np.stack([goal.tool_position for goal in shown]), axis=-1)
        spread = np.hypot(future.uncertainty[0].cpu().numpy(), [goal.tool_std for goal in shown])
        goal_errors.append(gap / spread)
        nearer.append(_nearer(future, episodes.clearance[e, outcome].numpy()))
    tool_m = np.stack(tool_errors)
    return tool_m, Errors(np.stack(goal_errors), np.stack(nearer), np.full(tool_m.shape, np.nan))


def executed_errors(
    model: WorldModel, plans: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> Errors:
    """Plan in `plans` simulated scenes, one plan each, and execute it, accepted or not.

    Every second plan is a long one, as the planner makes them to goals beyond a short one: these tell about the steps
    that a short one does not have. Half of the goal pictures have depth.
    Raises: EmbodimentError for a robot that has no simulation; RenderingError where nothing can render.
    """
    c = model.config
    config = MpcConfig(max_replans=0)
    lengths = c.horizon, config.longer * c.horizon
    planners = [Mpc(model, replace(config, sampler=IcemConfig(horizon=steps))) for steps in lengths]
    found: list[np.ndarray] = []
    with closing(robots.of(model.embodiment).simulate(width=c.width, height=c.height)) as simulation:
        for number in range(plans):
            mpc = planners[number % 2]
            shown = simulation.begin_reach(scene_seed(_COLLECTION, number), lengths[number % 2])
            if shown is None:
                continue
            goal = _read_goal(model, shown, number)
            mpc.forget()
            errors = np.full((4, lengths[1]), np.nan)
            robot = _Robot(model, simulation)
            errors[:, : lengths[number % 2]] = _execute(mpc, goal, shown.tool_position, robot)
            if number % 2:  # a place on the way was not chosen to be near the goal, as the end of a short plan was
                errors[0, : lengths[0]] = np.nan
            found.append(errors)
            progress(number + 1, plans)
    goal_z, clearance_z, path_z, spread = np.stack(found, 1)
    return Errors(goal_z, clearance_z, path_z, spread=spread)


def _read_goal(model: WorldModel, shown: GoalPicture, number: int) -> Goal:
    """What is shown, in two of four without depth."""
    depth = shown.depth if number // 2 % 2 else None
    return model.encode_goal(shown.rgb, depth, shown.intrinsics, shown.camera_to_world)


def avoiding_errors(
    model: WorldModel, plans: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray | None:
    """Plan past obstacles in `plans` simulated scenes, one plan each, and execute it, accepted or not.

    Scenes in which hardly anything is near would say that any bound holds. As a verdict takes its figure, so does this:
    from the camera's picture before the plan, and the least of each step. From a first contact on, things are no longer
    where they were seen, and a verdict has to tell nothing any more: 0.
    Returns: see Errors.clearance_m; None where geometry tells nothing of this robot.
    Raises: EmbodimentError for a robot that has no simulation; RenderingError where nothing can render.
    """
    c = model.config
    config = MpcConfig(max_replans=0, limits=Limits(clearance=0.0))
    lengths = c.horizon, config.longer * c.horizon
    planners = [Mpc(model, replace(config, sampler=IcemConfig(horizon=steps))) for steps in lengths]
    found: list[np.ndarray] = []
    with closing(robots.of(model.embodiment).simulate(width=c.width, height=c.height)) as simulation:
        for number in range(plans):
            shown = simulation.begin_avoid(scene_seed(_COLLECTION, number))
            goal = _read_goal(model, shown, number)
            robot = _Robot(model, simulation)
            mpc = planners[number % 2]
            mpc.forget()
            belief = robot.believe()
            joints = robot.joints
            around = mpc.surroundings(belief, joints)
            plan = mpc.plan(belief, goal, joints).plan
            if around is None or plan is None:
                return None
            true = np.array([min(_clearances(robot, action)) for action in plan])
            touched = np.concatenate([[False], np.logical_or.accumulate(true <= 0)[:-1]])
            errors = np.full(lengths[1], np.nan)
            nearer = _where_near(around.judged_clearance(plan, joints) - true, true)
            errors[: len(plan)] = np.where(touched, 0.0, nearer)
            found.append(errors)
            progress(number + 1, plans)
    return np.stack(found)


def _clearances(robot: "_Robot", action: np.ndarray) -> Iterator[float]:
    """Metres, during one step."""
    for _ in robot.step(action, _CONTACT_LOOKS):
        yield robot.simulation.clearance


class _Robot:
    """A simulated robot that has stood for as long as the model looks back, with a camera of _PICTURES a step."""

    def __init__(self, model: WorldModel, simulation: RobotSimulation) -> None:
        self._model = model
        self.simulation = simulation
        back = model.config.context - 1
        self._frames: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque(maxlen=back * _PICTURES + 1)
        self._target = simulation.joints
        self._see()
        for _ in range(back):
            for _moment in self.step(self._target):
                pass

    @property
    def joints(self) -> np.ndarray:
        return self._frames[-1][2].astype(np.float32)

    def step(self, action: np.ndarray, pauses: int = _PICTURES) -> Iterator[float]:
        """Move to `action` (A,) within one step. Yields: the share of the step that is done, at each pause.

        There is a picture at each of _PICTURES pauses, of which `pauses` is a multiple.
        """
        begin = self._target
        self._target = action
        for pause in range(1, pauses + 1):
            share = pause / pauses
            self.simulation.advance(self._model.embodiment.dt / pauses, begin + (action - begin) * share)
            if pause % (pauses // _PICTURES) == 0:
                self._see()
            yield share

    def _see(self) -> None:
        self._frames.append((*self.simulation.render(), self.simulation.joints))

    def believe(self) -> Belief:
        rgb, depth, joints = (np.stack(x) for x in zip(*list(self._frames)[::_PICTURES], strict=True))
        simulation = self.simulation
        observation = Observation.from_numpy(rgb, depth, simulation.intrinsics, simulation.camera_to_world)
        return self._model.observe(observation, joints[None, 1:].astype(np.float32))


def _execute(mpc: Mpc, goal: Goal, truth: np.ndarray, robot: _Robot) -> tuple[np.ndarray, ...]:
    """Plan and execute. Args: truth (3,) metres: where the goal's tool really is.

    Returns: goal_z, clearance_z, path_z and spread of Errors, (H,) each.
    """
    belief = robot.believe()
    dt = mpc.embodiment.dt
    result = mpc.plan(belief, goal, robot.joints)
    if result.plan is None or result.future is None:
        raise RuntimeError("planning without a deadline always ends with a plan")
    imagined, spread = result.tool_path, result.tool_std
    monitor = PathMonitor(belief.tool_position[0].cpu().numpy(), imagined, spread, dt)
    true, clearance, off = [], [], []
    for t, action in enumerate(result.plan):
        seen = [
            monitor.check(robot.believe().tool_position[0].cpu().numpy(), (t + share) * dt)
            for share in robot.step(action)
        ]
        off.append(max(deviation.metres / deviation.bound for deviation in seen))
        true.append(robot.simulation.tool_position)
        clearance.append(robot.simulation.clearance)
    ways = np.stack(true) - truth, imagined - goal.tool_position
    # How much further it is than it seems, at the end, which was chosen to be near the goal. On the way it is not near,
    # and only a part of an error shows in the distance; there the whole of it counts, for plans that end so early.
    further = np.linalg.norm(ways[0] - ways[1], axis=-1)
    further[-1] = np.linalg.norm(ways[0][-1]) - np.linalg.norm(ways[1][-1])
    expected = np.hypot(spread, goal.tool_std)
    return further / expected, _nearer(result.future, np.array(clearance)), np.array(off), expected
