"""Simulated scenes that the arm's training never shows: another view, other looks, another robot.

All are variations of the training's own scenes, drawn the same way, so that only what the kind names is different;
`ordinary` changes nothing and is the control.
"""

from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.model import GRIPPER_OPEN, build_xml
from deepverse_ros.simulation.arm.sampling import VIEW_TARGET, View, sample_scene, view_from
from deepverse_ros.simulation.arm.scene import Scene
from deepverse_ros.simulation.arm.simulation import intrinsics
from deepverse_ros.simulation.base import SceneFrames
from deepverse_ros.simulation.rendering import Renderer, mujoco

_LOOKS = 20  # poses of a robot that are drawn until its end is seen
_MARGIN = 0.1  # of the picture, between that and the border

# A selective-compliance arm: two links that turn about the vertical, and a quill that slides along it.
_SCARA = """
<body name="robot">
  <geom type="cylinder" fromto="0 0 0 0 0 0.34" size="0.09" rgba="0.85 0.86 0.88 1"/>
  <body pos="0 0 0.38"><joint name="shoulder" axis="0 0 1" range="-2 2"/>
    <geom type="box" pos="0.19 0 0" size="0.25 0.07 0.04" rgba="0.15 0.35 0.75 1"/>
    <body pos="0.38 0 0.08"><joint name="elbow" axis="0 0 1" range="-2.2 2.2"/>
      <geom type="box" pos="0.15 0 0" size="0.21 0.06 0.04" rgba="0.85 0.86 0.88 1"/>
      <geom type="cylinder" pos="0.3 0 0.09" size="0.04 0.1" rgba="0.15 0.35 0.75 1"/>
      <body pos="0.3 0 0"><joint name="quill" type="slide" axis="0 0 1" range="-0.2 0.05"/>
        <geom type="cylinder" pos="0 0 -0.06" size="0.02 0.16" rgba="0.3 0.3 0.32 1"/>
      </body>
    </body>
  </body>
</body>"""

# A box on four wheels that drives on the table.
_ROVER = """
<body name="robot" pos="0.45 0 0">
  <joint name="x" type="slide" axis="1 0 0" range="-0.25 0.25"/>
  <joint name="y" type="slide" axis="0 1 0" range="-0.45 0.45"/>
  <joint name="yaw" axis="0 0 1" range="-3.1 3.1"/>
  <geom type="box" pos="0 0 0.13" size="0.18 0.11 0.06" rgba="0.2 0.6 0.3 1"/>
  <geom type="box" pos="0.05 0 0.23" size="0.07 0.08 0.04" rgba="0.15 0.16 0.18 1"/>
  <geom type="cylinder" pos="0.12 0.13 0.07" size="0.07 0.025" euler="1.5708 0 0" rgba="0.08 0.08 0.08 1"/>
  <geom type="cylinder" pos="0.12 -0.13 0.07" size="0.07 0.025" euler="1.5708 0 0" rgba="0.08 0.08 0.08 1"/>
  <geom type="cylinder" pos="-0.12 0.13 0.07" size="0.07 0.025" euler="1.5708 0 0" rgba="0.08 0.08 0.08 1"/>
  <geom type="cylinder" pos="-0.12 -0.13 0.07" size="0.07 0.025" euler="1.5708 0 0" rgba="0.08 0.08 0.08 1"/>
</body>"""

_OTHER_ROBOTS = {"scara": _SCARA, "rover": _ROVER}


def _other_view(scene: Scene, rng: np.random.Generator) -> Scene:
    """The camera stands beside or behind the arm, where none of training does."""
    azimuth, elevation = np.deg2rad(rng.uniform(110, 250)), np.deg2rad(rng.uniform(25, 60))
    view = view_from(azimuth, elevation, rng.uniform(1.2, 2.2), VIEW_TARGET, 0.0, 1.0)
    return replace(scene, camera_position=view.position, camera_axes=view.axes, camera_fovy=view.fovy)


def _other_looks(scene: Scene, rng: np.random.Generator) -> Scene:
    """Table, floor and wall in strong colours, and a light that is weaker or stronger than in training."""
    strong = [_strong_colour(rng) for _ in range(3)]
    light, ambient = ((0.2, 0.15), (1.0, 0.6))[rng.integers(2)]
    return replace(scene, table_rgb=strong[0], floor_rgb=strong[1], wall_rgb=strong[2], light=light, ambient=ambient)


def _strong_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """One or two of the three colours bright, the others nearly off."""
    bright = rng.permutation([True, bool(rng.integers(2)), False])
    rgb = np.where(bright, rng.uniform(0.7, 1.0, 3), rng.uniform(0.0, 0.2, 3))
    return (float(rgb[0]), float(rgb[1]), float(rgb[2]))


def _view_of(scene: Scene) -> View:
    return View(scene.camera_position, scene.camera_axes, scene.camera_fovy)


def _as_it_is(scene: Scene, rng: np.random.Generator) -> Scene:
    return scene


KINDS: dict[str, Callable[[Scene, np.random.Generator], Scene]] = {
    "ordinary": _as_it_is,
    "other_view": _other_view,
    "other_looks": _other_looks,
    **dict.fromkeys(_OTHER_ROBOTS, _as_it_is),
}
"""How the scene of each kind is made from one of the training's."""


class ArmOodScenes:
    """Draws these scenes; belongs to the thread that made it, as its renderer does."""

    def __init__(self, embodiment: Embodiment, width: int, height: int) -> None:
        """Args: width, height: pixels."""
        self._embodiment = embodiment
        self._width = width
        self._height = height
        self._renderer: Renderer | None = None
        self._kinematics = ArmKinematics(embodiment)

    def frames(self, kind: str, seed: int, count: int) -> SceneFrames:
        """`count` pictures of a scene of `kind` (a key of `KINDS`), the robot slowly moving.

        Their joints are the arm's home pose where another robot is seen.
        """
        # Each from a generator of its own, so that the kinds of one seed share the scene and the arm's motion.
        looks, change, motion = (np.random.default_rng([seed, k]) for k in range(3))
        drawn = sample_scene(looks, 3, 1)
        scene = KINDS[kind](drawn, change)
        model = mujoco.MjModel.from_xml_string(self._xml(kind, scene))
        if self._renderer is None:
            self._renderer = Renderer(model, self._width, self._height)
        else:
            self._renderer.use(model)
        data = mujoco.MjData(model)
        joints, path = (
            self._path(model, data, _view_of(drawn), motion, count)
            if kind in _OTHER_ROBOTS
            else self._arm_path(drawn, motion, count)
        )
        pictures = []
        for pose in path:
            for name, value in pose.items():
                data.joint(name).qpos[0] = value
            mujoco.mj_kinematics(model, data)
            mujoco.mj_camlight(model, data)
            pictures.append(self._renderer.render(data, self._width, self._height))
        rgb, depth = (np.stack(parts) for parts in zip(*pictures, strict=True))
        camera = np.eye(4)
        camera[:3, :3], camera[:3, 3] = scene.camera_axes, scene.camera_position
        matrix = intrinsics(self._width, self._height, scene.camera_fovy)
        return SceneFrames(rgb, depth, matrix, camera, joints)

    def _xml(self, kind: str, scene: Scene) -> str:
        xml = build_xml(self._embodiment, scene, (0.0, 0.0), 0.005, (self._width, self._height))
        if kind not in _OTHER_ROBOTS:
            return xml
        root = ElementTree.fromstring(xml)
        world, actuator = root.find("worldbody"), root.find("actuator")
        assert world is not None
        assert actuator is not None
        arm = world.find("body[@name='base']")
        assert arm is not None
        world.remove(arm)
        root.remove(actuator)
        coupling = root.find("equality")
        assert coupling is not None
        root.remove(coupling)
        world.append(ElementTree.fromstring(_OTHER_ROBOTS[kind]))
        return ElementTree.tostring(root, encoding="unicode")

    def _arm_path(
        self, scene: Scene, rng: np.random.Generator, frames: int
    ) -> tuple[np.ndarray, list[dict[str, float]]]:
        """The arm near its home pose, its tool in sight: (T, A) joints, and the value of each of the model's joints."""
        robot, view = self._embodiment, _view_of(scene)
        for _ in range(_LOOKS):
            first = np.asarray(robot.home) + np.append(rng.normal(0, 0.2, robot.action_dim - 1), 0.0)
            if view.sees(self._kinematics.tool_position(first), _MARGIN):
                break
        step = rng.uniform(-0.4, 0.4, robot.action_dim) * robot.max_step
        joints = np.clip(first + np.arange(frames)[:, None] * step, robot.lower, robot.upper)
        names = [*robot.joint_names, "finger_0", "finger_1"]
        values = np.concatenate([joints[:, :-1], np.repeat(joints[:, -1:] * GRIPPER_OPEN, 2, axis=1)], axis=1)
        return joints, [dict(zip(names, row, strict=True)) for row in values]

    def _path(
        self, model: "mujoco.MjModel", data: "mujoco.MjData", view: View, rng: np.random.Generator, frames: int
    ) -> tuple[np.ndarray, list[dict[str, float]]]:
        """Another robot: its hinges and slides move within their ranges, from where its end is in sight."""
        moved = [k for k in range(model.njnt) if model.jnt_type[k] != mujoco.mjtJoint.mjJNT_FREE]
        lower, upper = model.jnt_range[moved].T
        for _ in range(_LOOKS):
            first = rng.uniform(lower, upper)
            data.qpos[model.jnt_qposadr[moved]] = first
            mujoco.mj_kinematics(model, data)
            if view.sees(data.geom_xpos[-1], _MARGIN):  # its body is the last one
                break
        path = np.clip(first + np.arange(frames)[:, None] * rng.uniform(-0.05, 0.05) * (upper - lower), lower, upper)
        names = [model.joint(k).name for k in moved]
        home = np.tile(np.asarray(self._embodiment.home), (frames, 1))
        return home, [dict(zip(names, row, strict=True)) for row in path]

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
