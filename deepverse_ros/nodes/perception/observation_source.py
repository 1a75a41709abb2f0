"""The robot's eyes and joints as a node sees them: topics in, windows of frames for the model out."""

import threading
from dataclasses import dataclass

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Header

from deepverse_ros.errors import MessageError
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.odometry import OdometryLayout
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.perception import camera_input, joint_input
from deepverse_ros.nodes.perception.camera_input import SYNC_TOLERANCE, CameraInput
from deepverse_ros.nodes.perception.frame_history import TimedRing
from deepverse_ros.nodes.perception.joint_input import JointInput
from deepverse_ros.nodes.perception.measured_joints import Posture
from deepverse_ros.nodes.perception.tf_buffer import TransformListener
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.robot.embodiment import Embodiment

PARAMETERS = (
    *camera_input.PARAMETERS,
    *joint_input.PARAMETERS,
    Parameter(
        "odometry_topic",
        "odom",
        "Own motion of a robot without joints that measures it (nav_msgs/Odometry); empty: none.",
    ),
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

    observation: batch of one, 1 to context frames. actions (1, T-1, A): what the joints did between these frames.
    joints (A,): where the robot was then, or is where that is not known, None when neither is. Of a robot without
    joints both are what it was told. turns (A,): see `Posture`. joints_problem: which joints were unknown, or silent
    for too long, when it was looked; empty where none was.
    proprioception (1, T, K): what it measured of itself by odometry, NaN where it did not; None without odometry.
    header: of the newest image, in the camera's frame.
    stamp: of that image, seconds; received: time.monotonic() when it arrived. complete: whether it was looked for as
    long as a whole window takes, which bounds rest on.
    """

    observation: Observation
    actions: np.ndarray
    proprioception: np.ndarray | None
    joints: np.ndarray | None
    turns: np.ndarray
    joints_problem: str
    header: Header
    stamp: float
    received: float
    complete: bool

    @property
    def problem(self) -> str:
        """Why no plan can be judged from it; empty where one can."""
        if self.joints_problem or self.joints is None:
            return self.joints_problem or "the joints are unknown"
        if not self.complete:
            # A frame alone is read less sharply than what the bounds were calibrated with.
            return "the camera has not been seen for as long as bounds rest on"
        return ""

    @property
    def posture(self) -> Posture:
        """Of `joints`, which must be known."""
        assert self.joints is not None
        return Posture(self.joints, self.turns, np.zeros(len(self.turns)))

    def observed_by(self, model: WorldModel) -> Belief:
        """Raises: ShapeError."""
        return model.observe(self.observation, self.actions, self.proprioception)


class ObservationSource:
    """Subscribes to a robot's topics, keeps the recent frames, and builds what the model observes.

    Callbacks only look at the header and store. `slot` gets every new complete frame and drives a `Worker`;
    `latest_window()` is called on the worker's thread and decodes the frames of the window.

    A robot without joints, such as a vehicle, does not say what it did: its past actions are what it was told
    (`record_command`), and before that to rest. What it measures of itself comes by odometry.

    Where the camera is comes by tf: a fixed one's newest place, and of one that moves that of each frame's moment.

    Args: node: with PARAMETERS declared. context: frames of the model; size: its (height, width), so that pictures are
    not decoded larger than it takes them; None: as they come.
    """

    def __init__(self, node: RobotNode, layout: JointLayout, context: int, size: tuple[int, int] | None = None) -> None:
        self.layout = layout
        self._node = node
        self._transforms = TransformListener(node)
        self._odometry = OdometryLayout(layout.embodiment, base_frame(node, layout.embodiment))
        self._lock = threading.Lock()
        dt, tree = layout.embodiment.dt, self._transforms.tree
        self.camera = CameraInput(node, dt, context, size, tree)
        self.slot, self.images = self.camera.slot, self.camera.images
        self.health = self.camera.health
        self.age, self.stale = self.health.age, self.health.stale
        span, jump = context * layout.embodiment.dt + 1.0, layout.embodiment.dt
        self.joints = JointInput(node, layout, span)
        self._commanded: TimedRing[np.ndarray] = TimedRing(span, jump)
        self._measured: TimedRing[Odometry] = TimedRing(span, jump)
        self._subscriptions: list = []

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def start(self) -> None:
        p, node = self._node.parameters, self._node
        wanted = ((Odometry, self._odometry.tells and p["odometry_topic"], self._on_odometry),)
        # What shares a group with the node's timers and services has to wait for them.
        group = MutuallyExclusiveCallbackGroup()
        self._subscriptions = self.camera.start(group) + [
            node.subscribe(kind, topic, callback, qos.sensor_input(), group)
            for kind, topic, callback in wanted
            if topic
        ]
        self.joints.start(group)

    def stop(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        self.joints.stop()
        self.camera.stop()
        self.clear()

    def destroy(self) -> None:
        self._transforms.destroy()

    def clear(self) -> None:
        with self._lock:
            for ring in (self._commanded, self._measured):
                ring.clear()
        self.camera.clear()

    # Callbacks: store only ----------------------------------------------------------------------------------------
    def _on_odometry(self, message: Odometry) -> None:
        with self._lock:
            self._measured.add(self._stamp(message), message)

    def _stamp(self, message: Odometry) -> float:
        """The header's stamp; a driver that leaves it zero gets the time of arrival."""
        return stamp_seconds(message.header.stamp) or self._node.now()

    def record_command(self, stamp: float, values: np.ndarray) -> None:
        """A robot without joints does this from now on. Args: stamp: seconds; values (A,), of the embodiment."""
        with self._lock:
            self._commanded.add(stamp, values.astype(np.float32))

    # On the worker's thread ---------------------------------------------------------------------------------------
    def joints_now(self) -> np.ndarray | None:
        """Where the robot is (A,); None where one of its joints is unknown, or its measurement too old."""
        return _values(self.joints.now())

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
        with self._lock:
            told = [self._commanded.last(stamp) for stamp in view.stamps]
            moving = [self._measured.nearest(stamp, 2 * SYNC_TOLERANCE) for stamp in view.stamps]
        past: list[np.ndarray | None]
        if self.layout.embodiment.joint_names:
            past = [self.joints.at(stamp, 2 * SYNC_TOLERANCE) for stamp in view.stamps]
        else:
            rest = np.asarray(self.layout.embodiment.home, np.float32)
            past = [rest if command is None else command[1] for command in told]
        posture = self.joints.now()
        if posture is not None and past[-1] is None:
            topic = self._node.parameters["joint_states_topic"]
            self._node.warn("joints", f"{topic}: none has the stamp of the newest image; past frames are left out")
        # An action must stand between two frames: the window begins after the last frame without joints.
        first = max((i for i, joints in enumerate(past) if joints is None), default=0)
        moves = [joints for joints in past[first + 1 :] if joints is not None]
        empty = np.zeros((0, self.layout.embodiment.action_dim), np.float32)
        newest = view.frames[-1]
        depth = None if view.depth is None else view.depth[first:]
        matrix = None if view.intrinsics is None else view.intrinsics.matrix
        cameras = self._cameras(newest.header.frame_id, view.stamps[first:])
        return ObservationWindow(
            observation=Observation.from_numpy(view.rgb[first:], depth, matrix, cameras),
            actions=(np.stack(moves) if moves else empty)[None],
            proprioception=self._proprioception([None if m is None else m[1] for m in moving[first:]]),
            joints=past[-1] if past[-1] is not None else _values(posture),
            turns=np.zeros(self.layout.embodiment.action_dim) if posture is None else posture.turns,
            joints_problem=self.joints.problem(),
            header=newest.header,
            stamp=view.stamps[-1],
            received=newest.received,
            complete=view.complete,
        )

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
        self.health.condition("frame", "" if placed else text)
        if len(known) < len(stamps):
            return None
        return known[0] if fixed else np.stack(known)

    def _proprioception(self, messages: list[Odometry | None]) -> np.ndarray | None:
        """(1, T, K) float32, NaN where nothing was measured; None where that is everywhere."""
        out = np.full((1, len(messages), self.layout.embodiment.state_dim), np.nan, np.float32)
        for i, message in enumerate(messages):
            if message is not None:
                try:
                    out[0, i] = self._odometry.vector(message)
                except MessageError as error:
                    topic = self._node.parameters["odometry_topic"]
                    self._node.warn("odometry", f"{topic}: {error}; going on without it")
        return None if np.isnan(out).all() else out


def _values(posture: Posture | None) -> np.ndarray | None:
    return None if posture is None else posture.values
