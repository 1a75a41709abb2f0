"""The arm as those know it who know no robot by name: what an episode of it is, and what it can be planned for."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm import handling
from deepverse_ros.simulation.arm.goals import sample_goal
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.motions import REVISIT_FRAMES, MotionGenerator
from deepverse_ros.simulation.arm.ood_scenes import KINDS as OOD_KINDS
from deepverse_ros.simulation.arm.ood_scenes import ArmOodScenes
from deepverse_ros.simulation.arm.pairs import draw_pair
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks.avoid import Avoid
from deepverse_ros.simulation.arm.tasks.base import SCENE_SEEDS
from deepverse_ros.simulation.base import REVISIT, GoalPicture, OodScenes, Pair, RobotSimulation, Script, SimulatedRobot

_LOOKS = 8  # configurations that are drawn until one is seen
SHIFTED_SHARE = 0.12  # of the episodes show an arm that stands somewhere else
SHIFT = (0.15, 0.40)  # metres: how far at most, in x and y
WIDE_SHARE = {True: 0.5, False: 0.08}  # of the shifted and of the other episodes reach beyond the workspace


class Robot(SimulatedRobot):
    """The arm; see `SimulatedRobot`."""

    revisit_frames = REVISIT_FRAMES
    ood_kinds = tuple(OOD_KINDS)

    def __init__(self, embodiment: Embodiment) -> None:
        self._embodiment = embodiment

    def simulate(
        self,
        seed: int = 0,
        width: int = 128,
        height: int = 128,
        randomise: bool = True,
        *,
        objects: int | None = None,
        obstacles: int | None = None,
    ) -> RobotSimulation:
        """The arm at its table; see `SimulatedRobot.simulate`."""
        return DrawnArmSimulation(
            seed, width, height, randomise, n_objects=objects, n_obstacles=obstacles, embodiment=self._embodiment
        )

    def ood_scenes(self, width: int, height: int) -> OodScenes:
        """See `SimulatedRobot.ood_scenes`."""
        return ArmOodScenes(self._embodiment, width, height)


class DrawnArmSimulation(ArmSimulation):
    """The simulated arm, with what it is told in episodes and the goals that it is given drawn from seeds."""

    @cached_property
    def _kinematics(self) -> ArmKinematics:
        return ArmKinematics(self.embodiment)

    @cached_property
    def _avoid(self) -> Avoid:
        return Avoid(self)

    def begin_episode(
        self, scene: int, rng: np.random.Generator, frames: int, revisit: bool = False, free: bool = False
    ) -> Script:
        """See `RobotSimulation.begin_episode`.

        A revisit begins with the arm at one side of the table; its base is never shifted.
        """
        shifted = not revisit and bool(rng.random() < SHIFTED_SHARE)
        offset = tuple(rng.uniform(-1, 1, 2) * SHIFT) if shifted else (0.0, 0.0)
        self.reset(scene, base_offset=offset)
        wide = rng.random() < WIDE_SHARE[shifted]
        if not revisit and not free:
            kind = str(rng.choice(list(handling.SHARES), p=list(handling.SHARES.values())))
            return handling.Handling(self, self._kinematics, rng, wide).begin(kind, frames)
        motions = MotionGenerator(self, self._kinematics, rng, wide)
        if revisit:
            kind = REVISIT
            self._start_at(motions.aside, motions)
        else:
            kind = str(rng.choice(handling.BY_CHANCE))
            self._start_at(lambda: self._seen(motions.configuration), motions)
        return Script(kind, motions.generate(kind, frames))

    def _start_at(self, draw: Callable[[], np.ndarray], motions: MotionGenerator) -> None:
        """Put the arm at a drawn configuration (7,) that touches nothing, if one is found quickly."""
        for _ in range(5):
            joints = np.append(draw(), motions.random_opening())
            if self.clearance_at(joints) > 0.01:
                self.set_joints(joints)
                return

    def _seen(self, draw: Callable[[], np.ndarray]) -> np.ndarray:
        """The first of a few drawn configurations (7,) with the tool in the picture, or the last of them."""
        for _ in range(_LOOKS):
            joints = draw()
            if self.sees(self.base_position + self._kinematics.tool_position(joints)):
                break
        return joints

    def begin_reach(self, scene: int, steps: int) -> GoalPicture | None:
        """See `RobotSimulation.begin_reach`."""
        self.reset(scene)
        try:
            joints = sample_goal(self, scene, self.joints, steps)
        except RuntimeError:
            return None
        return GoalPicture(*self.goal_frame(joints), self.object_positions, self.intrinsics, self.camera_to_world)

    def begin_pair(self, scene: int, rng: np.random.Generator, steps: int) -> Pair | None:
        """See `RobotSimulation.begin_pair`."""
        self.reset(scene, base_offset=(0.0, 0.0))
        return draw_pair(self, rng, steps)

    def begin_avoid(self, seed: int) -> GoalPicture:
        """The task "avoid" of `seed` below `SCENE_SEEDS`; see `RobotSimulation.begin_avoid`."""
        self._avoid.reset(SCENE_SEEDS + seed)  # no benchmark has tasks of this block
        return self._avoid.goal
