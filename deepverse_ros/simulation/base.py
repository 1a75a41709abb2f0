"""What every simulated robot offers: to be moved and seen, to be recorded for training, and to be planned for."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deepverse_ros.robot.embodiment import Embodiment

REVISIT = "revisit"
"""The kind of an episode in which the robot goes away for longer than a model's window, and comes back."""


@dataclass(frozen=True)
class Script:
    """What a robot is told in an episode. kind: what the commands are for; actions (T, A) float32."""

    kind: str
    actions: np.ndarray


@dataclass(frozen=True)
class GoalPicture:
    """What a planner is shown, and where things are in it.

    rgb (H, W, 3) uint8; depth (H, W) float32 metres; intrinsics (3, 3) pixels; camera_to_world (4, 4) of the camera.
    Ground truth for judging, in metres in the world frame: tool_position (3,), object_positions (K, 3).
    """

    rgb: np.ndarray
    depth: np.ndarray
    tool_position: np.ndarray
    object_positions: np.ndarray
    intrinsics: np.ndarray
    camera_to_world: np.ndarray


@dataclass(frozen=True)
class SceneFrames:
    """T pictures of one scene.

    rgb (T, H, W, 3) uint8; depth (T, H, W) float32 metres; intrinsics (3, 3) pixels; camera_to_world (4, 4);
    joints (T, A): where the robot is, as an action tells it.
    """

    rgb: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    camera_to_world: np.ndarray
    joints: np.ndarray


SEEN = 4
"""Commands that lead to where the plans of a `Pair` begin."""


@dataclass(frozen=True)
class Pair:
    """Two plans from the same start to the same end, of which one is meant to move a thing and one to move nothing.

    approach (SEEN, A): what leads to their start. moves, leaves (steps, A): the plans; both within the limits, both
    ending with the tool at the same place. thing: index of the object that `moves` goes through. kind: how `leaves`
    gets past it. What they do is for simulation to say.
    """

    approach: np.ndarray
    moves: np.ndarray
    leaves: np.ndarray
    thing: int
    kind: str


@dataclass(frozen=True)
class Snapshot:
    """A moment of a simulated scene. time: seconds; values: what the physics and the robot's control are at then."""

    time: float
    values: tuple[np.ndarray, ...]


class RobotSimulation(Protocol):
    """A robot in a scene, seen by one camera.

    World frame: the embodiment's base frame where the robot stands unshifted, z up. Every picture, state and motion
    follows from the seed and the commands. An instance belongs to the thread that made it, as its renderer does.

    embodiment: the robot. render_backend: what draws the pictures, such as "egl".
    """

    embodiment: Embodiment
    render_backend: str

    # --- motion -------------------------------------------------------------------------------------------------

    def reset(self, seed: int, *, base_offset: tuple[float, float] | None = None) -> None:
        """Start again in the scene of `seed`.

        Args: base_offset: how far the robot's base is shifted in x and y from now on, metres; None: as far as before.
        """

    def step(self, action: np.ndarray) -> None:
        """Move for one model frame (`embodiment.dt`) so that the robot is at `action` (A,) at its end."""

    def advance(self, seconds: float, target: np.ndarray) -> None:
        """Move for `seconds` so that the robot is at `target` (A,) at the end, within its limits."""

    def snapshot(self) -> Snapshot:
        """The present moment, for `restore`."""

    def restore(self, snapshot: Snapshot) -> None:
        """Back to a moment of the present scene: what follows is what followed it."""

    @property
    def joints(self) -> np.ndarray:
        """(A,) measured: the values of an action as they really are."""

    # --- pictures -----------------------------------------------------------------------------------------------

    def render(self) -> tuple[np.ndarray, np.ndarray]:
        """What the camera sees: rgb (H, W, 3) uint8, depth (H, W) float32 in metres along the optical axis."""

    def render_segmented(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `render`, and what is seen (H, W) uint8: 0 what stands fast, 1 the robot, 2 + k thing k."""

    def robot_picture(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The present scene without its things, the robot at `joints` (A,), without disturbing it.

        Returns: rgb, depth as in `render`; mask (H, W) bool of the robot's pixels, where nothing that stands fast hides
        it.
        """

    @property
    def intrinsics(self) -> np.ndarray:
        """(3, 3) pixels, in the present scene."""

    @property
    def camera_to_world(self) -> np.ndarray:
        """(4, 4) from the camera's optical frame (x right, y down, z forward) to the world frame."""

    # --- ground truth -------------------------------------------------------------------------------------------

    @property
    def tool_to_world(self) -> np.ndarray:
        """(4, 4) from the embodiment's tool frame to the world frame."""

    @property
    def tool_position(self) -> np.ndarray:
        """(3,) metres, world frame."""

    @property
    def object_positions(self) -> np.ndarray:
        """(K, 3) metres, world frame: the middle of what each thing takes up."""

    @property
    def object_poses(self) -> np.ndarray:
        """(K, 7) world frame: x y z in metres as `object_positions`, then the quaternion x y z w."""

    @property
    def touched(self) -> np.ndarray:
        """(K,) bool: what the robot touched at any moment since the last `step` or `advance` began."""

    @property
    def base_position(self) -> np.ndarray:
        """(3,) metres, world frame: where the robot's base really stands."""

    @property
    def clearance(self) -> float:
        """Metres between the robot and the nearest thing that it may hit; 0 or less in contact."""

    def state(self) -> dict[str, np.ndarray]:
        """Ground truth of this moment, each (·,) float32; see `Episode.state` for names and units."""

    # --- what is drawn for training and for planners ------------------------------------------------------------

    def begin_episode(
        self, scene: int, rng: np.random.Generator, frames: int, revisit: bool = False, free: bool = False
    ) -> Script:
        """Start again in the scene of the seed `scene`, for an episode of so many frames. Returns: its commands.

        Args: rng: of everything but the scene. revisit: commands of the kind `REVISIT`. free: the robot begins anywhere
        in its working space, in sight of the camera where that is found, and seeks no contact.
        Raises: ValueError where a revisit does not fit into so few frames.
        """

    def begin_reach(self, scene: int, steps: int) -> GoalPicture | None:
        """Start again in the scene of the seed `scene`.

        Returns: a goal within one plan of so many steps; None where the scene leaves no room for one.
        """

    def begin_pair(self, scene: int, rng: np.random.Generator, steps: int) -> Pair | None:
        """Start again in the scene of the seed `scene`, where the approach of a pair of plans begins.

        Args: rng: of everything but the scene. steps: of each plan.
        Returns: the pair; None where the scene leaves no room for one.
        """

    def begin_avoid(self, seed: int) -> GoalPicture:
        """Start again where something stands in the way to a goal, in a scene that is no benchmark's.

        Raises: RuntimeError where no such scene is found.
        """

    def close(self) -> None:
        """Free the renderer."""


class OodScenes(Protocol):
    """Scenes that training never shows; an instance belongs to the thread that made it, as its renderer does."""

    def frames(self, kind: str, seed: int, count: int) -> SceneFrames:
        """`count` pictures of a scene of `kind` (one of `SimulatedRobot.ood_kinds`), the robot slowly moving."""

    def close(self) -> None:
        """Free the renderer."""


class SimulatedRobot(Protocol):
    """An embodiment that can be simulated: an instance of `Robot` in `simulation/NAME/robot.py`.

    revisit_frames: the fewest of an episode with a revisit. ood_kinds: kinds of scenes that training never shows, and
    "ordinary" ones as their control; none where the robot has no such scenes.
    """

    revisit_frames: int
    ood_kinds: tuple[str, ...]

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
        """The robot in the scene of `seed`.

        Args:
            width: pixels of a picture.
            height: the same.
            randomise: draw colours, light, camera and the first pose from the seed, not only the places of things.
            objects: how many may be moved; None: their number is drawn, too.
            obstacles: how many stand fast; None: as with objects.
        Raises: RenderingError where nothing can render.
        """

    def ood_scenes(self, width: int, height: int) -> OodScenes:
        """Args: width, height: pixels of a picture. Raises: RenderingError where nothing can render."""
