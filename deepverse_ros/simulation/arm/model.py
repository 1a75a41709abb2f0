"""The arm, its table and its camera as a MuJoCo model: primitives only, no files to fetch."""

import numpy as np

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.items import ARM, FIXED, SEEN_ONLY, fixed_geom, mjcf, object_body
from deepverse_ros.simulation.arm.scene import Scene

_ORANGE = "1.0 0.55 0.08 1"
_LIGHT = "1.0 0.72 0.30 1"
_DARK = "0.10 0.10 0.13 1"
_PALM = "0.93 0.95 1.0 1"
_FINGERS = ("0.05 0.25 1.0 1", "0.75 0.10 0.95 1")

GRIPPER_OPEN = 0.038  # metres that each finger travels from closed to open
TOOL_LENGTH = 0.045 + 0.108  # metres from the last joint to the point between the fingertips
SHOULDER_HEIGHT = 0.36  # metres

# Each joint: axis, armature in kg m², stiffness in N m/rad, largest torque in N m (data sheet of the iiwa 14).
_JOINTS = (
    ("0 0 1", 1.0, 9000, 320),
    ("0 1 0", 1.0, 9000, 320),
    ("0 0 1", 0.6, 4500, 176),
    ("0 -1 0", 0.6, 4500, 176),
    ("0 0 1", 0.25, 1500, 110),
    ("0 1 0", 0.15, 900, 40),
    ("0 0 1", 0.10, 600, 40),
)
DAMPING_TIME = 0.03  # seconds: an actuator's damping over its stiffness, which is how far it lags behind its target


_SOLVER = 'cone="elliptic" iterations="50" ls_iterations="20"'
_NEAREST = 0.1  # metres from the camera from where on something is drawn
# Of two that touch the larger friction counts: the table has little, so that a thing's own decides. Contacts are soft,
# so that the arm shoots off nothing that it presses on.
_CONTACT = 'solref="0.02 1" solimp="0.9 0.98 0.001" friction="0.1 0.001 0.0001" density="1000"'
_ARM = 'density="500" friction="0.3 0.005 0.0001"'
_PADS = 'condim="4" friction="0.9 0.01 0.0001" priority="1" solref="0.01 1" solimp="0.9 0.99 0.001"'
_TORQUE = 0.4  # share of the data sheet's
_GRIP = 20  # newtons of a finger
# The fingers move as one, as those of a real gripper.
_COUPLING = '<equality><joint joint1="finger_0" joint2="finger_1" polycoef="0 1 0 0 0" solref="0.01 1"/></equality>'


def build_xml(
    embodiment: Embodiment, scene: Scene, base_offset: tuple[float, float], timestep: float, offscreen: tuple[int, int]
) -> str:
    """MJCF of the arm in `scene`.

    Args:
        base_offset: shift of the whole arm in x and y, metres.
        timestep: seconds.
        offscreen: width and height of the largest picture.

    Names: joints and actuators `embodiment.joint_names`, `finger_0`, `finger_1`; bodies `object_K`, site `tool`, camera
    `camera`; geoms `table`, `obstacle_K`, `object_K`.
    """
    position, axes = scene.camera_position, scene.camera_axes
    camera = f'pos="{mjcf(position)}" xyaxes="{mjcf(axes[:, 0])} {mjcf(-axes[:, 1])}" fovy="{scene.camera_fovy}"'
    back = -np.array([axes[0, 2], axes[1, 2], 0.0])
    back /= np.linalg.norm(back)
    wall = -1.55 * back
    items = [fixed_geom(item, f"obstacle_{k}") for k, item in enumerate(scene.obstacles)]
    items += [fixed_geom(item, f"fixture_{k}") for k, item in enumerate(scene.fixtures)]
    items += [fixed_geom(item, f"patch_{k}", SEEN_ONLY) for k, item in enumerate(scene.patches)]
    items += [object_body(item, f"object_{k}") for k, item in enumerate(scene.objects)]
    lower, upper = np.array(scene.table_lower), np.array(scene.table_upper)
    table = f'pos="{mjcf([*(lower + upper) / 2, -0.03])}" size="{mjcf([*(upper - lower) / 2, 0.03])}"'
    return f"""
<mujoco model="arm">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{timestep}" integrator="implicitfast" {_SOLVER}/>
  <statistic center="0 0 0.4" extent="1"/>
  <visual>
    <global offwidth="{offscreen[0]}" offheight="{offscreen[1]}"/>
    <quality offsamples="0" shadowsize="0" numslices="20" numstacks="12" numquads="2"/>
    <map znear="{_NEAREST}" zfar="12"/>
    <headlight ambient="{mjcf([scene.ambient] * 3)}" diffuse="0.18 0.18 0.18" specular="0 0 0"/>
  </visual>
  <default>
    <geom {_CONTACT}/>
    <default class="arm"><geom {ARM} {_ARM}/></default>
  </default>
  <worldbody>
    <light pos="{mjcf(scene.light_position)}" dir="{mjcf(-np.asarray(scene.light_position))}" castshadow="false"
           cutoff="90" exponent="0" diffuse="{mjcf([scene.light] * 3)}" specular="0.1 0.1 0.1"/>
    <camera name="camera" {camera}/>
    <geom name="floor" type="plane" pos="0 0 -0.72" size="6 6 1" rgba="{mjcf(scene.floor_rgb)} 1" {FIXED}/>
    <geom name="wall" type="plane" pos="{mjcf(wall)}" zaxis="{mjcf(back)}" size="6 6 1" rgba="{mjcf(scene.wall_rgb)} 1"
          {SEEN_ONLY}/>
    <geom name="table" type="box" {table} rgba="{mjcf(scene.table_rgb)} 1" {FIXED}/>
    {_arm(embodiment, base_offset)}
    {"".join(items)}
  </worldbody>
  <actuator>
    {_actuators(embodiment)}
  </actuator>{_COUPLING}
</mujoco>"""


def _arm(embodiment: Embodiment, base_offset: tuple[float, float]) -> str:
    """The links. z of each body runs along the link towards the tool when all joints are zero."""
    lower, upper = embodiment.lower, embodiment.upper
    joints = [
        f'<joint name="{name}" axis="{axis}" range="{lower[k]} {upper[k]}" armature="{armature}"/>'
        for k, (name, (axis, armature, _, _)) in enumerate(zip(embodiment.joint_names, _JOINTS, strict=True))
    ]
    geoms = (
        _capsule(0.0, 0.16, 0.078, _ORANGE) + _ball(0.2025, 0.088, _DARK),
        _capsule(0.08, 0.2045, 0.066, _ORANGE),
        _capsule(0.0, 0.15, 0.064, _LIGHT),
        _ball(0.0, 0.078, _DARK) + _capsule(0.07, 0.1845, 0.058, _ORANGE),
        _capsule(0.0, 0.15, 0.054, _LIGHT),
        _ball(0.0, 0.062, _DARK),
        f'<geom class="arm" type="cylinder" fromto="0 0 0 0 0 0.045" size="0.046" rgba="{_ORANGE}"/>' + _gripper(),
    )
    offsets = (0.1575, 0.2025, 0.2045, 0.2155, 0.1845, 0.2155, 0.081)
    xml = ""
    for k in reversed(range(7)):
        name = f"link_{k + 1}"
        z = offsets[k]
        xml = f'<body name="{name}" pos="0 0 {z}" gravcomp="1">{joints[k]}{geoms[k]}{xml}</body>'
    base = f'<geom name="base" class="arm" type="cylinder" fromto="0 0 0 0 0 0.10" size="0.11" rgba="{_DARK}"/>'
    return f'<body name="base" pos="{base_offset[0]} {base_offset[1]} 0">{base}{xml}</body>'


def _gripper() -> str:
    palm = f'<geom class="arm" type="box" pos="0 0 0.065" size="0.036 0.076 0.021" rgba="{_PALM}"/>'
    site = f'<site name="tool" pos="0 0 {TOOL_LENGTH}" size="0.004" rgba="0 0 0 0"/>'
    fingers = "".join(
        f'<body name="finger_{k}" pos="0 {side * 0.019} 0.085" gravcomp="1">'
        f'<joint name="finger_{k}" type="slide" axis="0 {side} 0" range="0 {GRIPPER_OPEN}" armature="0.5"/>'
        f'<geom class="arm" type="box" pos="0 0 0.042" size="0.020 0.018 0.042" rgba="{_FINGERS[k]}" {_PADS}/></body>'
        for k, side in enumerate((1, -1))
    )
    return palm + site + fingers


def _actuators(embodiment: Embodiment) -> str:
    arm = "".join(
        f'<position name="{name}" joint="{name}" kp="{kp}" kv="{kp * DAMPING_TIME}" '
        f'forcerange="-{torque * _TORQUE:g} {torque * _TORQUE:g}"/>'
        for name, (_, _, kp, torque) in zip(embodiment.joint_names, _JOINTS, strict=True)
    )
    return arm + "".join(
        f'<position name="finger_{k}" joint="finger_{k}" kp="3000" kv="{3000 * DAMPING_TIME}" '
        f'forcerange="-{_GRIP} {_GRIP}"/>'
        for k in (0, 1)
    )


def _capsule(start: float, end: float, radius: float, rgba: str) -> str:
    return f'<geom class="arm" type="capsule" fromto="0 0 {start} 0 0 {end}" size="{radius}" rgba="{rgba}"/>'


def _ball(z: float, radius: float, rgba: str) -> str:
    return f'<geom class="arm" type="sphere" pos="0 0 {z}" size="{radius}" rgba="{rgba}"/>'
