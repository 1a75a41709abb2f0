"""The simulated arm: physics, an RGB-D camera and ground truth."""

from collections.abc import Iterable

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.model import DAMPING_TIME, GRIPPER_OPEN, build_xml
from deepverse_ros.simulation.arm.sampling import sample_scene
from deepverse_ros.simulation.arm.scene import Scene
from deepverse_ros.simulation.base import Snapshot
from deepverse_ros.simulation.rendering import BACKEND, Renderer, mujoco

_TIMESTEP = 0.005
# Anti-windup: while something blocks the arm, its reference stays this close to where it really is (rad, fraction).
_LEAD = np.array([0.10] * 7 + [1.0])
# What a pixel or a geom belongs to: what stands fast, the robot, or `_THING` + k for thing k.
_FAST, _ROBOT, _THING = 0, 1, 2
_THINGS_GROUP = 1  # of geoms, so that pictures can leave the things out
_HIDDEN_GROUP = 4  # of geoms: one that MuJoCo draws only when asked to


class ArmSimulation:
    """A 7-joint arm with a gripper at a table, seen by one fixed camera.

    World frame: x forward, y left, z up, origin on the table below the unshifted arm. Every picture, state and motion
    follows from the seed and the commands. An instance belongs to one thread, because its OpenGL context does.
    """

    def __init__(
        self,
        seed: int = 0,
        width: int = 128,
        height: int = 128,
        randomise: bool = True,
        *,
        n_objects: int | None = None,
        n_obstacles: int | None = None,
        base_offset: tuple[float, float] = (0.0, 0.0),
        embodiment: Embodiment | None = None,
    ) -> None:
        """Build the scene of `seed`.

        Args: width, height: pixels of a picture when `render` is not told otherwise. randomise: draw colours, light,
        camera and the first pose, not only what stands and lies on the table. n_objects, n_obstacles: None: their
        number is drawn, too. base_offset: shift of the arm in metres.
        Raises: RenderingError where nothing can render.
        """
        self.embodiment = embodiment or Embodiment.load("arm")
        self.width, self.height = width, height
        self.render_backend = BACKEND
        self._randomise = randomise
        self._n_objects, self._n_obstacles = n_objects, n_obstacles
        self._base_offset = base_offset
        self._renderer: Renderer | None = None
        self.reset(seed)

    def reset(
        self, seed: int, joints: np.ndarray | None = None, base_offset: tuple[float, float] | None = None
    ) -> None:
        """Start again in the scene of `seed`.

        Args: joints (8,): where the arm starts; by default near the home pose, clear of everything.
        base_offset: changes the shift of the arm from now on.
        """
        self._base_offset = self._base_offset if base_offset is None else base_offset
        rng = np.random.default_rng(seed)
        self.scene: Scene = sample_scene(rng, self._n_objects, self._n_obstacles, self._randomise, self._base_offset)
        xml = build_xml(self.embodiment, self.scene, self._base_offset, _TIMESTEP, (self.width, self.height))
        self._model = mujoco.MjModel.from_xml_string(xml)
        self._data, self._ghost = mujoco.MjData(self._model), mujoco.MjData(self._model)
        self._site = self._model.site("tool").id
        self._index_geoms()
        if self._renderer is None:
            self._renderer = Renderer(self._model, self.width, self.height)
        else:
            self._renderer.use(self._model)
        self.set_joints(self._first_joints(rng) if joints is None else joints)

    def _index_geoms(self) -> None:
        """What each geom belongs to, and which can hit what: (arm geom, other geom) pairs.

        Links that cannot reach the table are left out of the pairs with it.
        """
        model = self._model
        base = model.body("base").id
        bodies = {model.body(f"link_{k}").id: k for k in range(1, 8)}
        bodies |= {model.body(f"finger_{k}").id: 8 for k in (0, 1)}
        self._arm_geoms = {g: bodies[b] for g, b in enumerate(model.geom_bodyid) if b in bodies}
        self._base_geoms = {g for g, b in enumerate(model.geom_bodyid) if b == base}
        self._things = np.array([model.body(f"object_{k}").id for k in range(len(self.scene.objects))], int)
        label_of_body = np.full(model.nbody, _FAST, np.uint8)
        label_of_body[[base, *bodies]] = _ROBOT
        label_of_body[self._things] = _THING + np.arange(len(self._things))
        # One more, which is the last and so that of geom -1: nothing.
        self._labels = np.append(label_of_body[model.geom_bodyid], np.uint8(_FAST))
        model.geom_group[self._labels[:-1] >= _THING] = _THINGS_GROUP
        self._touched = np.zeros(_THING + len(self._things), bool)
        self._table = model.geom("table").id
        beside = (model.geom("floor").id, self._table)
        solid = np.flatnonzero((model.geom_contype > 0) & (self._labels[:-1] != _ROBOT))
        pairs = [(g, self._table) for g, link in self._arm_geoms.items() if link >= 3]
        pairs += [(g, item) for g in self._arm_geoms for item in solid if item not in beside]
        self._pairs = np.array(pairs)

    def _first_joints(self, rng: np.random.Generator) -> np.ndarray:
        home = np.asarray(self.embodiment.home)
        if not self._randomise:
            return home
        for _ in range(50):
            joints = home + np.concatenate([rng.normal(0, 0.12, 7), [0.0]])
            if self.clearance_at(joints) > 0.03:
                return joints
        return home

    # --- motion -------------------------------------------------------------------------------------------------

    def set_joints(self, joints: np.ndarray) -> None:
        """Put the arm at `joints` (8,) at once, at rest."""
        joints = self._checked(joints)
        self._place(self._data, joints)
        self._data.qvel[:9] = 0
        self._reference = joints.copy()
        self._data.ctrl[:] = _actuator_targets(joints)
        self._touched[:] = False
        mujoco.mj_forward(self._model, self._data)

    def snapshot(self) -> Snapshot:
        """The present moment, for `restore`."""
        data = self._data
        values = [data.qpos, data.qvel, data.act, data.ctrl, data.qacc_warmstart, self._reference]
        return Snapshot(data.time, tuple(np.array(v) for v in values))

    def restore(self, snapshot: Snapshot) -> None:
        """Back to a moment of the present scene: what follows is what followed it."""
        data = self._data
        data.time = snapshot.time
        data.qpos[:], data.qvel[:], data.act[:], data.ctrl[:] = snapshot.values[:4]
        mujoco.mj_forward(self._model, data)  # changes what the solver begins with, which comes last
        data.qacc_warmstart[:], self._reference = snapshot.values[4], snapshot.values[5].copy()

    def step(self, action: np.ndarray) -> None:
        """Move for one model frame (`embodiment.dt`) so that the joints are at `action` (8,) at its end."""
        self.advance(self.embodiment.dt, action)

    def advance(self, seconds: float, target: np.ndarray) -> None:
        """Move for `seconds` so that the joints are at `target` (8,) at the end.

        The reference runs linearly from where it is to the target, within the position and rate limits of the
        embodiment. Contacts may stop the arm.
        """
        target = self._checked(target)
        steps = max(1, round(seconds / _TIMESTEP))
        measured = self.joints
        start = np.clip(self._reference, measured - _LEAD, measured + _LEAD)
        most = self.embodiment.max_step * (steps * _TIMESTEP / self.embodiment.dt)
        end = np.clip(target, start - most, start + most)
        velocity = (end - start) / (steps * _TIMESTEP)
        contacts = []
        for k in range(steps):
            reference = start + velocity * ((k + 1) * _TIMESTEP)
            # A position actuator lags behind a moving target by its damping time; aim that much ahead.
            self._data.ctrl[:] = _actuator_targets(reference + velocity * DAMPING_TIME)
            mujoco.mj_step(self._model, self._data)
            contacts.append(self._data.contact.geom.copy())
        met = self._labels[np.concatenate(contacts)]  # (contacts, 2)
        self._touched[:] = False
        self._touched[met[(met == _ROBOT).any(axis=1)]] = True
        mujoco.mj_kinematics(self._model, self._data)
        self._reference = end

    @property
    def joints(self) -> np.ndarray:
        """(8,) measured: 7 joint positions in rad and the gripper's opening, 0 closed to 1 open."""
        gripper = np.clip(self._data.qpos[7:9].mean() / GRIPPER_OPEN, 0, 1)
        return np.append(self._data.qpos[:7], gripper)

    @property
    def velocities(self) -> np.ndarray:
        """(8,) measured: rad/s, and the gripper's opening per second."""
        return np.append(self._data.qvel[:7], self._data.qvel[7:9].mean() / GRIPPER_OPEN)

    # --- pictures -----------------------------------------------------------------------------------------------

    @property
    def intrinsics(self) -> np.ndarray:
        """(3, 3) of the default picture size, in the present scene."""
        return intrinsics(self.width, self.height, self.scene.camera_fovy)

    @property
    def camera_to_world(self) -> np.ndarray:
        """(4, 4) from the camera's optical frame (x right, y down, z forward) to the world frame."""
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = self.scene.camera_axes, self.scene.camera_position
        return out

    def render(self, width: int | None = None, height: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """What the camera sees: rgb (H, W, 3) uint8, depth (H, W) float32 in metres along the optical axis."""
        return self._picture(self._data, width, height)

    def render_segmented(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `render`, and what is seen (H, W) uint8: 0 what stands fast, 1 the robot, 2 + k thing k."""
        rgb, depth, geoms = self._drawn.render_geoms(self._data, self.width, self.height)
        return rgb, depth, self._labels[geoms]

    def robot_picture(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The present scene without its things, the robot at `joints` (8,), without disturbing it.

        Returns: rgb, depth as in `render`; mask (H, W) bool of the robot's pixels, where nothing that stands fast hides
        it.
        """
        self._pose_ghost(joints)
        rgb, depth, geoms = self._drawn.render_geoms(self._ghost, self.width, self.height, hidden=_THINGS_GROUP)
        return rgb, depth, self._labels[geoms] == _ROBOT

    def sees(self, point: np.ndarray, margin: float = 0.0) -> bool:
        """Whether a point (3,) in metres lies in the picture, `margin` (of its width and height) from the border."""
        x, y, z = (np.asarray(point) - self.scene.camera_position) @ self.scene.camera_axes
        (fx, _, cx), (_, fy, cy), _ = self.intrinsics
        u, v = (fx * x / z + cx + 0.5) / self.width, (fy * y / z + cy + 0.5) / self.height
        return bool(z > 0 and margin <= u <= 1 - margin and margin <= v <= 1 - margin)

    def goal_frame(
        self, joints: np.ndarray, *, base_offset: tuple[float, float] | None = None, without: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The present scene with the arm at `joints` (8,), without disturbing it.

        Args: base_offset: where the pictured arm stands in x and y, metres; by default where the arm really stands.
        without: index of an obstacle that is left out of the picture.
        Returns: rgb, depth as in `render`; tool_position (3,) of the pictured arm in metres.
        """
        base = self._model.body("base").id
        true_position = self._model.body_pos[base].copy()
        left_out = [] if without is None else [self._model.geom(f"obstacle_{without}").id]
        try:
            if base_offset is not None:
                self._model.body_pos[base, :2] = base_offset
            self._model.geom_group[left_out] = _HIDDEN_GROUP
            self._pose_ghost(joints)
            return *self._picture(self._ghost, None, None), self._ghost.site_xpos[self._site].copy()
        finally:
            self._model.body_pos[base] = true_position
            self._model.geom_group[left_out] = 0

    def _picture(self, data: mujoco.MjData, width: int | None, height: int | None) -> tuple[np.ndarray, np.ndarray]:
        return self._drawn.render(data, width or self.width, height or self.height)

    @property
    def _drawn(self) -> Renderer:
        if self._renderer is None:
            raise RuntimeError("the simulation is closed")
        return self._renderer

    # --- ground truth -------------------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Simulated seconds since the last reset."""
        return float(self._data.time)

    @property
    def tool_to_world(self) -> np.ndarray:
        """(4, 4) from the tool frame, whose z axis points out of the gripper, to the world frame."""
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = self._data.site_xmat[self._site].reshape(3, 3), self.tool_position
        return out

    @property
    def tool_position(self) -> np.ndarray:
        """(3,) metres, world frame: the point between the fingertips."""
        return self._data.site_xpos[self._site].copy()

    @property
    def base_position(self) -> np.ndarray:
        """(3,) metres, world frame: where the arm really stands."""
        return np.array([*self._base_offset, 0.0])

    @property
    def object_positions(self) -> np.ndarray:
        """(K, 3) metres, world frame: the middle of what each thing takes up."""
        return self._data.xpos[self._things].copy()

    @property
    def object_poses(self) -> np.ndarray:
        """(K, 7) world frame: x y z in metres as `object_positions`, then the quaternion x y z w."""
        w_x_y_z = self._data.xquat[self._things]
        return np.concatenate([self.object_positions, np.roll(w_x_y_z, -1, axis=1)], axis=1)

    @property
    def touched(self) -> np.ndarray:
        """(K,) bool: what the robot touched at any physics step since the last `step` or `advance` began."""
        return self._touched[_THING:].copy()

    @property
    def clearance(self) -> float:
        """Metres between the arm and the nearest of table, obstacles and objects; 0 or less in contact.

        Links that can never reach the table do not count against it, so that the figure is not their fixed height.
        """
        return self._clearance(self._data)

    def clearance_at(self, joints: np.ndarray) -> float:
        """`clearance` if the arm were at `joints` (8,), with everything else where it is now."""
        self._pose_ghost(joints)
        return self._clearance(self._ghost)

    def contacts(self) -> list[tuple[str, str]]:
        """What the arm touches: pairs of link name and name of the table, obstacle or object."""
        out = set()
        for contact in self._data.contact:
            for geom, other in ((contact.geom1, contact.geom2), (contact.geom2, contact.geom1)):
                if geom in self._arm_geoms and contact.dist <= 0:
                    body = self._model.body(self._model.geom_bodyid[geom]).name
                    label = self._labels[other]
                    out.add((body, f"object_{label - _THING}" if label >= _THING else self._model.geom(other).name))
        return sorted(out)

    def state(self) -> dict[str, np.ndarray]:
        """Ground truth of this moment, each (·,) float32; see `Episode.state` for names and units."""
        joints = self.joints
        values: dict[str, Iterable[float]] = {
            "joint_positions": joints[:7],
            "gripper_state": joints[7:],
            "tool_position": self.tool_position,
            "clearance": [self.clearance],
            "object_positions": self.object_positions.ravel(),
            "object_poses": self.object_poses.ravel(),
            "object_touched": self.touched,
            "base_position": self.base_position,
        }
        return {name: np.asarray(value, np.float32) for name, value in values.items()}

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self) -> "ArmSimulation":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside -------------------------------------------------------------------------------------------------

    def _checked(self, joints: np.ndarray) -> np.ndarray:
        """`joints` as (8,) float64 within the position limits."""
        values = np.asarray(joints, float)
        if values.shape != (self.embodiment.action_dim,) or not np.isfinite(values).all():
            raise ShapeError(f"joints: expected {self.embodiment.action_dim} finite values, got {joints!r}")
        return np.clip(values, self.embodiment.lower, self.embodiment.upper)

    def _place(self, data: mujoco.MjData, joints: np.ndarray) -> None:
        data.qpos[:7] = joints[:7]
        data.qpos[7:9] = joints[7] * GRIPPER_OPEN

    def _pose_ghost(self, joints: np.ndarray) -> None:
        self._ghost.qpos[:] = self._data.qpos
        self._place(self._ghost, self._checked(joints))
        mujoco.mj_kinematics(self._model, self._ghost)
        mujoco.mj_camlight(self._model, self._ghost)

    def _clearance(self, data: mujoco.MjData) -> float:
        """Smallest distance over all pairs; bounding spheres decide which pairs are measured exactly."""
        ours, others = self._pairs.T
        radius = self._model.geom_rbound
        bound = np.linalg.norm(data.geom_xpos[ours] - data.geom_xpos[others], axis=1) - radius[ours] - radius[others]
        above = data.geom_xpos[ours, 2] - radius[ours]
        bound = np.where(others == self._table, above, bound)
        best = np.inf
        for k in np.argsort(bound):
            if bound[k] >= best:
                break
            best = min(best, mujoco.mj_geomDistance(self._model, data, int(ours[k]), int(others[k]), 2.0, None))
        return float(best)


def intrinsics(width: int, height: int, fovy: float) -> np.ndarray:
    """(3, 3) pinhole matrix of a picture; a pixel's centre has whole coordinates. fovy: degrees, vertical."""
    focal = height / (2 * np.tan(np.deg2rad(fovy) / 2))
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def _actuator_targets(joints: np.ndarray) -> np.ndarray:
    """(9,) for joints (8,): both fingers follow the gripper's opening."""
    return np.concatenate([joints[:7], np.full(2, joints[7] * GRIPPER_OPEN)])
