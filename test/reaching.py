"""A problem with a known truth for planners: the arm's tool, by its kinematics, and goals that it can reach."""

import numpy as np

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.kinematics import ArmKinematics

ARM = Embodiment.load("arm")
HOME = np.asarray(ARM.home, np.float32)
FORWARD = ArmKinematics(ARM)


def reachable(count: int, seed: int) -> list[np.ndarray]:
    """Joints (8,) with the tool above the table in front of the arm."""
    rng, out = np.random.default_rng(seed), []
    while len(out) < count:
        joints = np.clip(HOME + rng.normal(size=8) * [0.7, 0.45, 0.4, 0.5, 0.5, 0.5, 0.5, 0.3], ARM.lower, ARM.upper)
        tool = FORWARD.tool_position(joints)
        if tool[2] > 0.05 and tool[0] > 0.25:
            out.append(joints.astype(np.float32))
    return out


def tool_paths(plans: np.ndarray) -> np.ndarray:
    """(N, H, 3) metres of plans (N, H, A)."""
    return np.array([[FORWARD.tool_position(action) for action in plan] for plan in plans])
