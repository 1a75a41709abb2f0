"""Commands to the simulated arm of which half would touch an obstacle, with what really happens: drawn by seed."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deepverse_ros.data.collect import scene_seed
from deepverse_ros.planning.robot_control import RobotControl
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.zones import Zones
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.motions import MotionGenerator
from deepverse_ros.simulation.arm.scene import Item
from deepverse_ros.simulation.arm.simulation import ArmSimulation

LOOK = 0.005
"""Seconds between two looks for contacts: the simulation's own time step."""
NEAR = 0.01
"""Metres: contacts are looked up, which takes longer, only when something is this near."""
_TRIES = 60


class Begins(Protocol):
    """Where a run begins.

    scene: seed of a scene.
    start: (A,) where the arm stands.
    """

    @property
    def scene(self) -> int: ...

    @property
    def start(self) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Scenario:
    """A scene and a command in it.

    scene: seed of the scene.
    start: (A,) where the arm stands.
    commands: (H, A) way points dt apart.
    touches: seconds after which the arm first touches an obstacle where it drives them; None where it touches nothing
        at all.
    clearance: metres that it keeps from everything on the way.
    """

    scene: int
    start: np.ndarray
    commands: np.ndarray
    touches: float | None
    clearance: float

    @property
    def dangerous(self) -> bool:
        return self.touches is not None

    def violated(self, simulation: ArmSimulation) -> bool:
        """Whether the arm touches an obstacle now."""
        if simulation.clearance > NEAR:
            return False
        return any(other.startswith("obstacle") for _, other in simulation.contacts())


def draw(simulation: ArmSimulation, seed: int, number: int, horizon: int) -> Scenario:
    """The scenario `number` of `seed`: even ones touch an obstacle within the horizon, odd ones touch nothing.

    Raises: RuntimeError where no scene of many has one.
    """
    kinematics = ArmKinematics(simulation.embodiment)
    for attempt in range(_TRIES):
        scene = scene_seed(seed, number * _TRIES + attempt)
        rng = np.random.default_rng([seed, number, attempt])
        simulation.reset(scene)
        motions = MotionGenerator(simulation, kinematics, rng)
        kind = "collide" if number % 2 == 0 else ("reach", "random", "collide")[rng.integers(3)]
        start = simulation.joints
        commands = motions.generate(kind, horizon)
        commands[:, 7] = start[7]
        touches, names, clearance = drive(simulation, commands)
        if (touches is not None) if number % 2 == 0 else not names:
            return Scenario(scene, start, commands, touches, clearance)
    raise RuntimeError(f"no scenario {number} of seed {seed} in {_TRIES} scenes")


def drive(simulation: ArmSimulation, commands: np.ndarray) -> tuple[float | None, set[str], float]:
    """Drive commands (H, A) from where the arm is.

    Returns: seconds until an obstacle is touched, None for never; the names of all that is touched; the clearance.
    """
    dt = simulation.embodiment.dt
    before = simulation.joints
    first: float | None = None
    names: set[str] = set()
    nearest = np.inf
    looks = round(dt / LOOK)
    for step, action in enumerate(commands):
        for k in range(1, looks + 1):
            simulation.advance(LOOK, before + (action - before) * k / looks)
            clearance = simulation.clearance
            nearest = min(nearest, clearance)
            if clearance <= NEAR:
                touched = {other for _, other in simulation.contacts()}
                names |= touched
                if first is None and any(name.startswith("obstacle") for name in touched):
                    first = step * dt + k * LOOK
        before = action
    return first, names, float(nearest)


def look(simulation: ArmSimulation, control: RobotControl, scenario: Begins, frames: int = 4) -> None:
    """Begin the scenario, and see the arm stand for `frames` frames."""
    simulation.reset(scenario.scene, joints=scenario.start)
    control.reset()
    for k in range(frames):
        if k:
            simulation.step(scenario.start)
        rgb, depth = simulation.render()
        control.see(
            rgb, simulation.joints, depth, intrinsics=simulation.intrinsics, camera_to_world=simulation.camera_to_world
        )


def obstacle_zones(simulation: ArmSimulation, embodiment: Embodiment) -> Zones:
    """What somebody who knows the obstacles would write: keep the body out of the region of each."""
    return Zones.model_validate(
        {
            "zones": [
                {
                    "name": f"obstacle_{k}", "type": "stop", "of": "robot", "frame_id": embodiment.base_frame,
                    "shape": _shape(item), "position": list(map(float, item.position)), "rpy": [0.0, 0.0, item.yaw],
                }
                for k, item in enumerate(simulation.scene.obstacles)
            ]
        }
    )  # fmt: skip


def _shape(item: Item) -> dict:
    if item.shape == "box":
        return {"kind": "box", "size": [2 * float(half) for half in item.size]}
    return {"kind": "cylinder", "radius": float(item.size[0]), "height": 2 * float(item.size[1])}


def tool_zones(embodiment: Embodiment, radius: float = 0.09, points: int = 20) -> Zones:
    """Without a map of anything: whatever is seen around the hand stops it, but for the table."""
    return Zones.model_validate(
        {
            "min_seen": 500,
            "zones": [
                {
                    "name": "at_the_hand", "type": "stop", "frame_id": embodiment.tool_frame, "attached": True,
                    "shape": {"kind": "sphere", "radius": radius}, "position": [0.0, 0.0, -0.045], "min_points": points,
                },
                {
                    "name": "table", "type": "exclusion", "frame_id": embodiment.base_frame,
                    "shape": {"kind": "box", "size": [2.4, 3.0, 0.13]}, "position": [0.1, 0.0, -0.025],
                },
            ],
        }
    )  # fmt: skip
