"""Goals for the arm: some that it can reach, and pictures of some that it cannot."""

import numpy as np

from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.motions import MotionGenerator
from deepverse_ros.simulation.arm.simulation import ArmSimulation

PLAN_STEPS = 8
_CLEARANCE = 0.04  # metres between a goal pose and everything else
GOAL_MARGIN = 0.12  # of the picture's width and height that a goal's tool is away from its border: a hand is that large
_DEPTH = 0.08  # metres below the top of an obstacle at which an impossible goal has its tool
_WIDE = 0.042  # metres: half of how wide such an obstacle is at least; open fingers are 0.078 m apart
_NEAR_IT = 0.005  # metres from the middle of the obstacle, in each direction


def sample_goal(
    simulation: ArmSimulation, seed: int, start: np.ndarray | None = None, steps: int = PLAN_STEPS
) -> np.ndarray:
    """Joints (8,) with the tool over the table, which the arm can reach within one plan of so many steps.

    The tool is in the picture. The goal touches nothing, nor does the straight way in joint space to it from `start`
    (8,), by default the home pose. The rate limits leave a fifth of the way in reserve.
    Raises: RuntimeError when the scene leaves no such goal.
    """
    embodiment = simulation.embodiment
    home = np.asarray(embodiment.home)
    start = home if start is None else np.asarray(start, float)
    motions = MotionGenerator(simulation, ArmKinematics(embodiment), np.random.default_rng(seed))
    most = 0.8 * steps * embodiment.max_step
    for _ in range(300):
        goal = np.append(motions.configuration(), home[7])
        if np.any(np.abs(goal - home) > most) or np.any(np.abs(goal - start) > most):
            continue
        tool = simulation.base_position + motions.tool_position(goal)
        if not simulation.sees(tool, GOAL_MARGIN):
            continue
        way = (start + (goal - start) * s for s in np.linspace(0.125, 0.875, 7))
        if simulation.clearance_at(goal) > _CLEARANCE and all(simulation.clearance_at(q) > 0.01 for q in way):
            return goal
    raise RuntimeError(f"no reachable goal found in this scene with seed {seed}")


def impossible_goal(simulation: ArmSimulation, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture of the arm with its tool where an obstacle stands, which the picture does not show.

    The tool is in the picture, deep in an obstacle that is too wide for the fingers to go around it, and for the tool
    to come within 5 cm of the place from outside.
    Returns: as `ArmSimulation.goal_frame`.
    Raises: RuntimeError where no such obstacle stands within reach.
    """
    motions = MotionGenerator(simulation, ArmKinematics(simulation.embodiment), np.random.default_rng(seed))
    obstacles = simulation.scene.obstacles
    for k in np.random.default_rng(seed).permutation(len(obstacles)):
        x, y, half = obstacles[k].position
        tool = np.array([x, y, 2 * half - _DEPTH])
        if min(obstacles[k].size[:-1]) < _WIDE or not simulation.sees(tool, GOAL_MARGIN):
            continue
        box = [tool - simulation.base_position + side * _NEAR_IT for side in (-1, 1)]
        for _ in range(20):
            joints = np.append(motions.configuration(*box), simulation.embodiment.home[7])
            rgb, depth, found = simulation.goal_frame(joints, without=int(k))
            if np.all(np.abs(found - tool) < _NEAR_IT + 0.003):
                return rgb, depth, found
    raise RuntimeError(f"no impossible goal found in this scene with seed {seed}")
