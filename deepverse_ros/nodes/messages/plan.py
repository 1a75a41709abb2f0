"""Plans between ROS messages and numpy, checked against the robot that they are for."""

import array
import math

import numpy as np
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.errors import MessageError
from deepverse_ros.model.inputs import MAX_HORIZON
from deepverse_ros.msg import ActionPlan
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.velocity_points import integrated
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command


def plan_from_msg(message: ActionPlan, embodiment: Embodiment, start: np.ndarray | None = None) -> np.ndarray:
    """The plan's actions (H, A) float32 in physical units.

    Args: start (A,): where the robot is now; a plan of another step time is resampled from there. Without it, such a
    plan is refused.
    Raises: MessageError naming the field when the plan is for another robot, step time or layout, has a wrong number
    of values, is too short or too long, holds NaN, or is beyond the robot's limits.
    """
    if message.embodiment != embodiment.name:
        raise MessageError(f"plan embodiment is '{message.embodiment}'; this robot is '{embodiment.name}'")
    same_dt = abs(message.dt - embodiment.dt) < 1e-6
    if not same_dt and start is None:
        raise MessageError(f"plan dt is {message.dt} s; {embodiment.name} needs {embodiment.dt} s")
    if not 0 < message.dt < math.inf:
        raise MessageError(f"plan dt is {message.dt} s; it must be positive")
    names, dims = [m.name for m in embodiment.modalities], [m.dim for m in embodiment.modalities]
    if list(message.modality_names) != names:
        raise MessageError(f"plan modality_names is {list(message.modality_names)}; {embodiment.name} needs {names}")
    if list(message.modality_dims) != dims:
        raise MessageError(f"plan modality_dims is {list(message.modality_dims)}; {embodiment.name} needs {dims}")
    if message.horizon < 1 or (same_dt and message.horizon > MAX_HORIZON):
        raise MessageError(f"plan horizon is {message.horizon}; allowed: 1 to {MAX_HORIZON}")
    expected = message.horizon * embodiment.action_dim
    if len(message.values) != expected:
        raise MessageError(
            f"plan values has {len(message.values)} numbers; horizon {message.horizon} x {embodiment.action_dim} "
            f"is {expected}"
        )
    plan = np.array(message.values, np.float32).reshape(message.horizon, embodiment.action_dim)
    check_plan(plan, embodiment)
    if same_dt or start is None:
        return plan
    return resample(Command(plan, message.dt * np.arange(1, len(plan) + 1), start=start), embodiment.dt)


def check_plan(plan: np.ndarray, embodiment: Embodiment) -> None:
    """Raises: MessageError naming step, modality and value where (H, A) actions are not finite or beyond limits."""
    finite = np.isfinite(plan)
    within = finite & (plan >= embodiment.lower - 1e-4) & (plan <= embodiment.upper + 1e-4)
    if within.all():
        return
    step, index = (int(i) for i in np.argwhere(~within)[0])
    modality = next(m for m in embodiment.modalities if index < embodiment.slices[m.name].stop)
    offset = index - embodiment.slices[modality.name].start
    raise MessageError(
        f"plan step {step}: {modality.name}[{offset}] is {plan[step, index]:.4g} {modality.units}; "
        f"allowed: {modality.lower[offset]:g} to {modality.upper[offset]:g}"
    )


def plan_to_msg(plan: np.ndarray, embodiment: Embodiment, header: Header, plan_id: str = "") -> ActionPlan:
    """Args: plan (H, A) in physical units; header: stamp of the first action's start, base frame."""
    message = ActionPlan(
        header=header,
        id=plan_id,
        embodiment=embodiment.name,
        dt=embodiment.dt,
        modality_names=[m.name for m in embodiment.modalities],
        modality_dims=[m.dim for m in embodiment.modalities],
        horizon=len(plan),
    )
    message.values = array.array("f", np.ascontiguousarray(plan, np.float32).tobytes())
    return message


def command_from_trajectory(
    message: JointTrajectory, layout: JointLayout, start: np.ndarray, turns: np.ndarray | None = None
) -> Command | None:
    """A trajectory as way points (P, A) float32, which begin at `start`; None where it has no points, which is a hold.

    The joint names may stand in any order; the gripper's joint may be missing and then stays as in `start`. A first
    point at time 0 states where the trajectory begins (as MoveIt's do) and is no target. Points that have velocities
    and no positions are integrated from `start`.

    Args: start (A,): where the robot is now. turns (A,): of the robot, see `RobotState`.
    Returns: with times that increase strictly, the first above 0.
    Raises: MessageError naming an unknown, repeated or missing joint, or a point that is not finite, out of order, of
    another length or beyond the limits.
    """
    embodiment = layout.embodiment
    required, known = [layout.name(ours) for ours in embodiment.joint_names], layout.names()
    given = list(message.joint_names)
    if not message.points:
        return None
    message = integrated(message, layout.places(start, turns))
    for name in given:
        if name not in known:
            raise MessageError(f"trajectory joint_names has the unknown joint '{name}'; known: {', '.join(known)}")
    for name in required:
        if given.count(name) != 1:
            raise MessageError(f"trajectory joint_names must have '{name}' once; it has: {', '.join(given)}")
    times = np.array([p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points])
    states_start = len(times) > 1 and times[0] == 0.0
    if not (np.diff(times, prepend=-1.0 if states_start else 0.0) > 0).all():
        raise MessageError(f"trajectory time_from_start must be positive and increase; it is {times.tolist()} s")
    positions = _positions(message)
    targets = np.repeat(np.asarray(start, np.float32)[None], len(times), axis=0)
    targets[:, embodiment.joints] = positions[:, [given.index(name) for name in required]]
    if layout.gripper_name in given:
        opening = layout.gripper_opening(positions[:, given.index(layout.gripper_name)])
        targets[:, layout.gripper_column()] = opening
    if turns is not None:
        targets -= turns.astype(np.float32)
    check_plan(targets, embodiment)
    first = int(states_start)
    return Command(targets[first:], times[first:], start=np.asarray(start, np.float32))


def _positions(message: JointTrajectory) -> np.ndarray:
    """(points, joints). Raises: MessageError."""
    joints = len(message.joint_names)
    for row, waypoint in enumerate(message.points):
        if len(waypoint.positions) != joints:
            raise MessageError(
                f"trajectory point {row}: positions has {len(waypoint.positions)} values; joint_names has {joints}"
            )
    return np.array([waypoint.positions for waypoint in message.points])


def resample(command: Command, dt: float) -> np.ndarray:
    """A command with a start as a plan (H, A) float32 of steps of `dt`, up to its last way point.

    Raises: MessageError when that is longer than the world model can imagine.
    """
    # Rounded, so that 0.1 + 0.2 is not a step longer than 0.3.
    steps = max(1, math.ceil(command.duration / dt - 1e-6))
    if steps > MAX_HORIZON:
        raise MessageError(
            f"the plan lasts {command.duration:.4g} s; at most {MAX_HORIZON} steps of {dt:g} s "
            f"({MAX_HORIZON * dt:.4g} s) can be imagined"
        )
    return command.at(dt * np.arange(1, steps + 1)).astype(np.float32)


def plan_from_trajectory(
    message: JointTrajectory, layout: JointLayout, start: np.ndarray, turns: np.ndarray | None = None
) -> np.ndarray:
    """A whole trajectory as a plan (H, A) float32 of the embodiment's steps.

    Args: start (A,): where the robot is when it begins. turns (A,): of the robot, see `RobotState`.
    Raises: MessageError as `command_from_trajectory` and `resample`, and for a trajectory without points.
    """
    command = command_from_trajectory(message, layout, start, turns)
    if command is None:
        raise MessageError("trajectory points is empty; a plan has at least one")
    return resample(command, layout.embodiment.dt)
