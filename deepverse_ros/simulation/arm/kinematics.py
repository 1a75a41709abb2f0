"""Where the tool is for given joints, and which joints bring the tool somewhere."""

import numpy as np

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.model import build_xml
from deepverse_ros.simulation.arm.sampling import sample_scene
from deepverse_ros.simulation.rendering import mujoco


class ArmKinematics:
    """Forward and inverse kinematics of the arm, its base at the origin of the world frame."""

    def __init__(self, embodiment: Embodiment) -> None:
        self.embodiment = embodiment
        scene = sample_scene(np.random.default_rng(0), 0, 0, randomise=False)
        self._model = mujoco.MjModel.from_xml_string(build_xml(embodiment, scene, (0.0, 0.0), 0.005, (64, 64)))
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site("tool").id

    def tool_pose(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) in metres and rotation (3, 3) of the tool frame, whose z axis points out of the gripper.

        Args: joints (7,) or (8,) rad; a gripper value is ignored.
        """
        self._data.qpos[:7] = np.asarray(joints, float)[:7]
        mujoco.mj_kinematics(self._model, self._data)
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        """(3,) metres."""
        return self.tool_pose(joints)[0]

    def inverse(
        self, position: np.ndarray, approach: np.ndarray, start: np.ndarray, iterations: int = 60
    ) -> np.ndarray | None:
        """Joints (7,) that put the tool at `position` with its z axis along `approach`, close to `start`.

        Args:
            position: (3,) metres.
            approach: (3,) unit vector.
            start: (7,) rad.
        Returns: None when the point is not reached within 3 mm and 0.05 of the axis within the joint limits.
        """
        joints = np.array(start[:7], float)
        rest = joints.copy()
        lower, upper = self.embodiment.lower[:7] + 0.02, self.embodiment.upper[:7] - 0.02
        jac_p, jac_r = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        for _ in range(iterations):
            at, rotation = self.tool_pose(joints)
            axis = rotation[:, 2]
            error = np.concatenate([position - at, np.cross(axis, approach)])
            if np.dot(axis, approach) < 0:
                error[3:] += 0.3 * rotation[:, 0]
            if np.linalg.norm(error[:3]) < 2e-3 and np.linalg.norm(axis - approach) < 0.03:
                break
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jacSite(self._model, self._data, jac_p, jac_r, self._site)
            jacobian = np.concatenate([jac_p[:, :7], jac_r[:, :7]])
            inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + 1e-3 * np.eye(6))
            step = inverse @ error + 0.05 * (np.eye(7) - inverse @ jacobian) @ (rest - joints)
            joints = np.clip(joints + np.clip(step, -0.3, 0.3), lower, upper)
        at, rotation = self.tool_pose(joints)
        reached = np.linalg.norm(position - at) < 3e-3 and np.linalg.norm(rotation[:, 2] - approach) < 0.05
        return joints if reached else None
