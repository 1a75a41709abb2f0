"""The robot's eyes and joints as a node sees them: topics in, windows of frames for the model out."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Header

from deepverse_ros.geometry import Intrinsics
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.observation import Goal, Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.perception import camera_input, joint_input, odometry_input
from deepverse_ros.nodes.perception.camera_health import GRACE
from deepverse_ros.nodes.perception.camera_input import SYNC_TOLERANCE, CameraInput
from deepverse_ros.nodes.perception.joint_input import JointInput
from deepverse_ros.nodes.perception.odometry_input import OdometryInput
from deepverse_ros.nodes.perception.robot_state import RobotState, StateInput
from deepverse_ros.nodes.perception.tf_buffer import TransformListener
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.robot.embodiment import Embodiment

PARAMETERS = (
    *camera_input.PARAMETERS,
    *joint_input.PARAMETERS,
    *odometry_input.PARAMETERS,
    Parameter(
        "base_frame",
        "",
        "Frame of the robot's base: of plans, tool positions and camera poses; empty: the embodiment's.",
    ),
)
NO_WINDOW = "the first image waits for its depth"


def base_frame(node: RobotNode, embodiment: Embodiment) -> str:
    """Of a node with PARAMETERS."""
    return node.parameters["base_frame"] or embodiment.base_frame


@dataclass(frozen=True)
class ObservationWindow:
    """What the model is given.

    observation: batch of one, 1 to context frames.
    actions: (1, T-1, A) what the robot did between these frames; of one without joints, what it was told.
    proprioception: (1, T, K) what it measured of itself by odometry, NaN where it did not; None without odometry.
    state: where it was at the newest frame, or is where that is not known, without its speed; None where neither is.
    state_problem: what of the robot was unknown, or silent for too long, when it was looked; empty where nothing was.
    camera_problem: what the model must be told of the camera and nobody says; empty where nothing is missing.
    header: of the newest image, in the camera's frame.
    stamp: of that image, seconds.
    received: time.monotonic() when it arrived.
    complete: whether it was looked for as long as a whole window takes, which bounds rest on.
    """

    observation: Observation
    actions: np.ndarray
    proprioception: np.ndarray | None
    state: RobotState | None
    state_problem: str
    camera_problem: str
    header: Header
    stamp: float
    received: float
    complete: bool

    @property
    def problem(self) -> str:
        """Why no plan can be judged from it; empty where one can."""
        if self.state_problem or self.state is None:
            return self.state_problem or "it is not known where the robot is"
        if self.camera_problem:
            return self.camera_problem
        if not self.complete:
            # A frame alone is read less sharply than what the bounds were calibrated with.
            return "the camera has not been seen for as long as bounds rest on"
        return ""

    def observed_by(self, model: WorldModel) -> Belief:
        """Raises: ShapeError."""
        return model.observe(self.observation, self.actions, self.proprioception)

    def camera_of(self, picture: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The newest frame's camera, had it taken `picture` (H, W, 3): intrinsics (3, 3), camera_to_world (4, 4).

        Each is None where it is not known.
        """
        seen = self.observation
        matrix, pose = None, None
        if seen.intrinsics is not None:
            camera = Intrinsics.from_matrix(seen.intrinsics, *seen.rgb.shape[:-3:-1])
            matrix = camera.resized(*picture.shape[1::-1]).matrix
        if seen.camera_to_world is not None:
            pose = seen.camera_to_world.reshape(-1, 4, 4)[-1].cpu().numpy()
        return matrix, pose


def read_goal(
    model: WorldModel, see: Callable[[], ObservationWindow | None], rgb: np.ndarray, depth: np.ndarray | None
) -> Goal:
    """A goal picture that the camera has taken from where it stands now.

    Args: see: what it sees now, None: nothing yet; asked where the model must be told where its camera stands. rgb
    (H, W, 3) uint8; depth (H, W) metres or None.
    Raises: ShapeError where nobody knows that.
    """
    window = see() if model.config.posed else None
    return model.encode_goal(rgb, depth, *((None, None) if window is None else window.camera_of(rgb)))


class ObservationSource:
    """Subscribes to a robot's topics, keeps the recent frames, and builds what the model observes.

    Callbacks only look at the header and store. `slot` gets every new complete frame and drives a `Worker`;
    `latest_window()` is called on the worker's thread and decodes the frames of the window.

    Where the camera is comes by tf: a fixed one's newest place, and of one that moves that of each frame's moment.

    Args: node: with PARAMETERS declared. context: frames of the model; size: its (height, width), so that pictures are
    not decoded larger than it takes them; None: as they come. posed: whether the model must be told where its camera
    stands.
    """

    def __init__(
        self, node: RobotNode, layout: JointLayout, context: int, size: tuple[int, int] | None = None,
        posed: bool = False,
    ) -> None:  # fmt: skip
        self.layout = layout
        self._posed = posed
        self._node = node
        self._transforms = TransformListener(node)
        dt, tree = layout.embodiment.dt, self._transforms.tree
        self.camera = CameraInput(node, dt, context, size, tree)
        self.slot, self.images = self.camera.slot, self.camera.images
        self.health = self.camera.health
        self.age, self.stale = self.health.age, self.health.stale
        self.state = state_input(node, layout, context * layout.embodiment.dt + 1.0)
        self._subscriptions: list = []

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def start(self) -> None:
        # What shares a group with the node's timers and services has to wait for them.
        group = MutuallyExclusiveCallbackGroup()
        self._subscriptions = self.camera.start(group)
        self.state.start(group)

    def stop(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        self.state.stop()
        self.camera.stop()

    def destroy(self) -> None:
        self._transforms.destroy()

    def clear(self) -> None:
        """Forget what was seen."""
        self.camera.clear()

    # On the worker's thread ---------------------------------------------------------------------------------------
    def to_base(self, frame: str, stamp: float | None = None) -> np.ndarray | None:
        """(4, 4) float64 from `frame` to the base frame; None where it is not known. Args: as for `TransformTree`."""
        return self._transforms.tree.lookup(base_frame(self._node, self.layout.embodiment), frame, stamp)

    def newest(self) -> tuple[ObservationWindow | None, str]:
        """The newest window, and why no plan can be judged by it; empty where one can.

        Raises: MessageError for a picture that cannot be read.
        """
        if problem := self.stale():
            return None, problem
        window = self.latest_window()
        return window, NO_WINDOW if window is None else window.problem

    def latest_window(self) -> ObservationWindow | None:
        """The window that ends at the newest frame; None before the first one.

        Depth, joints and calibration that cannot be used are left out with a warning.
        """
        view = self.camera.view()
        if view is None:
            return None
        past = [self.state.action_at(stamp, 2 * SYNC_TOLERANCE) for stamp in view.stamps]
        now = self.state.now()
        if now is not None and past[-1] is None:
            self._node.warn(
                "joints", f"{self.state.topic}: none has the stamp of the newest image; past frames are left out"
            )
        # An action must stand between two frames: the window begins after the last frame without one.
        first = max((i for i, values in enumerate(past) if values is None), default=0)
        moves = [values for values in past[first + 1 :] if values is not None]
        empty = np.zeros((0, self.layout.embodiment.action_dim), np.float32)
        newest = view.frames[-1]
        depth = None if view.depth is None else view.depth[first:]
        matrix = None if view.intrinsics is None else view.intrinsics.matrix
        cameras = self._cameras(newest.header.frame_id, view.stamps[first:])
        untold = self._untold(matrix, cameras)
        self.health.condition("untold", untold, GRACE)
        return ObservationWindow(
            observation=Observation.from_numpy(view.rgb[first:], depth, matrix, cameras),
            actions=(np.stack(moves) if moves else empty)[None],
            proprioception=self.state.proprioception(view.stamps[first:], 2 * SYNC_TOLERANCE),
            state=self._state_then(self.state.at(view.stamps[-1], 2 * SYNC_TOLERANCE), now),
            state_problem=self.state.problem(),
            camera_problem=untold,
            header=newest.header,
            stamp=view.stamps[-1],
            received=newest.received,
            complete=view.complete,
        )

    def _untold(self, intrinsics: np.ndarray | None, cameras: np.ndarray | None) -> str:
        """What a model that must be told its camera is not told; empty where it is told all, or need not be."""
        base = base_frame(self._node, self.layout.embodiment)
        told = (
            ("its calibration (camera_info)", intrinsics),
            (f"where its pictures' frame is in '{base}' (tf)", cameras),
        )
        missing = " and ".join(text for text, value in told if value is None)
        if not missing or not self._posed:
            return ""
        return f"the model must be told of its camera, and nobody says {missing}: nothing is imagined"

    def _cameras(self, frame: str, stamps: tuple[float, ...]) -> np.ndarray | None:
        """(4, 4) of a camera that is fixed, (T, 4, 4) of one that moves; None where one of them is not known."""
        if not frame:
            return None
        fixed = self.layout.embodiment.camera.fixed
        poses = [self.to_base(frame, None if fixed else stamp) for stamp in stamps]
        known = [pose for pose in poses if pose is not None]
        placed = len(known) == len(stamps) or self.to_base(frame) is not None
        base = base_frame(self._node, self.layout.embodiment)
        text = f"tf does not say where the camera's frame '{frame}' is in '{base}'; going on without its place"
        # A model that must be told says so itself.
        self.health.condition("frame", "" if placed or self._posed else text, GRACE)
        if len(known) < len(stamps):
            return None
        return known[0] if fixed else np.stack(known)

    @staticmethod
    def _state_then(values: np.ndarray | None, now: RobotState | None) -> RobotState | None:
        """Args: values: (A,) of the robot then; now: what is known of it now."""
        if values is None:
            return None if now is None else replace(now, speed=np.zeros(len(now.speed)))
        return RobotState.at_rest(values) if now is None else RobotState(values, now.turns, np.zeros(len(values)))


def state_input(node: RobotNode, layout: JointLayout, span: float) -> StateInput:
    """What this robot measures of itself, and how: joint states, or odometry of one without joints.

    Args: node: with PARAMETERS declared. span: seconds that are remembered.
    """
    embodiment = layout.embodiment
    if embodiment.joint_names:
        return JointInput(node, layout, span)
    return OdometryInput(node, embodiment, base_frame(node, embodiment), span)
