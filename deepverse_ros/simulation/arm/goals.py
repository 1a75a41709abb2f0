"""Goals for the arm: some that it can reach, and pictures of some that it cannot."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.model import REACH, SHOULDER_HEIGHT
from deepverse_ros.simulation.arm.motions import MotionGenerator
from deepverse_ros.simulation.arm.simulation import ArmSimulation

PLAN_STEPS = 8
_CLEARANCE = 0.04  # metres between a goal pose and everything else
GOAL_MARGIN = 0.12  # of the picture's width and height that a goal's tool is away from its border: a hand is that large
_OUT_OF_REACH = 0.15  # metres that an impossible goal lies beyond the arm's reach


@dataclass(frozen=True)
class ImpossibleGoal:
    """A picture of an arm that stands elsewhere and holds its tool where the true arm cannot.

    rgb (H, W, 3) uint8; depth (H, W) float32 metres; tool_position (3,) metres in the world frame; joints (8,) of the
    pictured arm; base_offset: where it stands, metres.
    """

    rgb: np.ndarray
    depth: np.ndarray
    tool_position: np.ndarray
    joints: np.ndarray
    base_offset: tuple[float, float]


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


def impossible_goal(simulation: ArmSimulation, seed: int) -> ImpossibleGoal:
    """A goal picture with the tool at least 0.15 m beyond the reach of the true arm, and in sight of the camera."""
    rng = np.random.default_rng(seed)
    motions = MotionGenerator(simulation, ArmKinematics(simulation.embodiment), rng)
    shoulder = simulation.base_position + np.array([0.0, 0.0, SHOULDER_HEIGHT])
    for _ in range(500):
        side = rng.choice((-1.0, 1.0))
        offset = (float(rng.uniform(-0.1, 0.1)), float(side * rng.uniform(0.3, 0.4)))
        joints = np.append(motions.stretched(), simulation.embodiment.home[7])
        tool = motions.tool_position(joints) + np.array([*offset, 0.0])
        if np.linalg.norm(tool - shoulder) < REACH + _OUT_OF_REACH or not simulation.sees(tool, margin=0.06):
            continue
        rgb, depth, tool = simulation.goal_frame(joints, base_offset=offset)
        return ImpossibleGoal(rgb, depth, tool, joints, offset)
    raise RuntimeError(f"no impossible goal found in this scene with seed {seed}")
