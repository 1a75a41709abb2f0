"""Planning to goal pictures, or places, without ROS: give it what the camera shows, do what it says where it accepts.

control = RobotControl("models/arm")
camera = {"intrinsics": matrix, "camera_to_world": pose}
result = control.plan_and_simulate(rgb, goal_rgb, joints=joints, depth=depth, **camera)
if result.verdict.accepted:
    robot.execute(result.plan)  # and see() every frame of it
    control.executed(result)
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.observation import Goal, Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.search.mpc import Mpc, MpcConfig
from deepverse_ros.planning.search.result import PlanResult
from deepverse_ros.planning.verdicts.recalibration import Recalibration


class _Frame(NamedTuple):
    rgb: np.ndarray
    depth: np.ndarray | None
    joints: np.ndarray
    intrinsics: np.ndarray | None
    camera_to_world: np.ndarray | None


class RobotControl:
    """A world model, a planner, and the last frames that were seen. Not thread-safe.

    recalibration: how much wider bounds are than calibrated, after what was said to be `executed`.
    """

    def __init__(self, model: WorldModel | str | Path, config: MpcConfig | None = None, seed: int = 0) -> None:
        """Args: model: or its checkpoint folder. Raises: as WorldModel.load and Mpc."""
        self.model = model if isinstance(model, WorldModel) else WorldModel.load(model)
        self.mpc = Mpc(self.model, config, seed)
        self.recalibration = Recalibration(self.mpc.calibration)
        self._goal: Goal | None = None
        self._frames: list[_Frame] = []

    def reset(self) -> None:
        """Forget what was seen and planned: for another scene, or after a pause."""
        self._frames.clear()
        self.mpc.forget()

    def see(
        self,
        rgb: np.ndarray,
        joints: np.ndarray,
        depth: np.ndarray | None = None,
        *,
        intrinsics: np.ndarray | None = None,
        camera_to_world: np.ndarray | None = None,
    ) -> None:
        """Take a frame into the history; frames must be `model.embodiment.dt` apart.

        Args:
            rgb: uint8 (H, W, 3).
            joints: (A,) measured, in the order of the actions.
            depth: (H, W) metres, NaN unknown.
            intrinsics, camera_to_world: (3, 3) in pixels and (4, 4), of the camera, where they are known; a model that
                is told where its camera stands needs them. Only with them can imagined pictures be lifted to points.
        Raises: ShapeError naming the field; the frame is then not taken.
        """
        joints = np.asarray(joints, np.float32)
        if joints.shape != (self.model.embodiment.action_dim,) or not np.isfinite(joints).all():
            raise ShapeError(f"joints: expected {self.model.embodiment.action_dim} finite values, got {joints!r}")
        Observation.from_numpy(rgb[None], None if depth is None else depth[None])  # raises for a wrong shape
        for name, matrix, shape in (("intrinsics", intrinsics, (3, 3)), ("camera_to_world", camera_to_world, (4, 4))):
            if matrix is not None and (np.shape(matrix) != shape or not np.isfinite(matrix).all()):
                raise ShapeError(f"{name}: expected {shape} finite numbers, got {matrix!r}")
        if self._frames and self._frames[-1].rgb.shape != rgb.shape:
            raise ShapeError(f"rgb: the frames before have shape {self._frames[-1].rgb.shape}, this one {rgb.shape}")
        frame = _Frame(rgb, depth, joints, intrinsics, camera_to_world)
        self._frames = [*self._frames, frame][-self.model.config.context :]

    def believe(self) -> Belief:
        """What the model makes of the frames seen. Raises: ShapeError before the first."""
        if not self._frames:
            raise ShapeError("nothing was seen yet; call see() first")
        rgb, depths, joints, intrinsics, poses = zip(*self._frames, strict=True)
        # One frame without depth is one whose depth is unknown everywhere.
        known = [d for d in depths if d is not None]
        depth = None
        if known:
            depth = np.stack([np.full(known[0].shape, np.nan, np.float32) if d is None else d for d in depths])
        pose = None if any(p is None for p in poses) else np.stack(poses)
        seen = Observation.from_numpy(np.stack(rgb), depth, intrinsics[-1], pose)
        return self.model.observe(seen, np.stack(joints)[None, 1:])

    def plan_and_simulate(
        self,
        current_image: np.ndarray,
        goal_image: np.ndarray | None = None,
        *,
        joints: np.ndarray,
        depth: np.ndarray | None = None,
        goal_position: np.ndarray | None = None,
        goal_depth: np.ndarray | None = None,
        intrinsics: np.ndarray | None = None,
        camera_to_world: np.ndarray | None = None,
        deadline: float = np.inf,
    ) -> PlanResult:
        """See the current image, plan to the goal, and imagine what the plan leads to.

        Args:
            current_image, joints, depth, intrinsics, camera_to_world: as for `see`.
            goal: either goal_image uint8 (H, W, 3), with goal_depth (H, W) metres or None, or goal_position (3,) metres
                in the base frame: the tool shall be there, in any orientation.
            deadline: seconds of time.monotonic() at which the best verified plan so far is returned.
        Returns: plan, verdict and imagined future (`result.future.rgb`, `.depth`); hold where the verdict rejects.
        Raises: ShapeError naming the field.
        """
        goal = self._read_goal(goal_image, goal_depth, goal_position, intrinsics, camera_to_world)
        self.see(current_image, joints, depth, intrinsics=intrinsics, camera_to_world=camera_to_world)
        self._goal = goal
        return self.mpc.plan(self.believe(), goal, self._frames[-1].joints, deadline=deadline)

    def _read_goal(
        self, image: np.ndarray | None, depth: np.ndarray | None, position: np.ndarray | None,
        intrinsics: np.ndarray | None, camera_to_world: np.ndarray | None,
    ) -> Goal:  # fmt: skip
        """Args: intrinsics, camera_to_world: of the camera that sees now, as it has taken the picture too."""
        if (image is None) == (position is None):
            raise ShapeError("goal_image, goal_position: expected one of the two")
        if image is not None:
            return self.model.encode_goal(image, depth, intrinsics, camera_to_world)
        if depth is not None:
            raise ShapeError("goal_depth: belongs to a goal_image, not to a goal_position")
        assert position is not None
        return Goal.at(position)

    def executed(self, result: PlanResult, steps: int | None = None) -> None:
        """Say that the plan which was made last is done; a frame of its end must have been seen (`see`).

        The bounds of the next plans get wider where it ended further off than its verdict promised.

        Args: steps: so many of its actions were executed; all of them by default.
        Raises: ShapeError where there is no plan, or it has fewer steps.
        """
        if self._goal is None or result.plan is None:
            raise ShapeError("executed: there is no plan of plan_and_simulate")
        last = (len(result.plan) if steps is None else steps) - 1
        if not 0 <= last < len(result.plan):
            raise ShapeError(f"steps: expected 1 to {len(result.plan)}, got {steps}")
        tool = self.believe().tool_position[0].float().cpu().numpy()
        error = float(np.linalg.norm(tool - result.tool_path[last]))
        self.recalibration.observe(error, last, float(result.tool_std[last]), self._goal.tool_std)
        self.mpc.calibration = self.recalibration.calibration
