"""The robot's eyes and joints as a node sees them: topics in, windows of frames for the model out."""

import threading
import time
from dataclasses import dataclass

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.geometry import Intrinsics
from deepverse_ros.model.observation import Belief, Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.nodes import qos
from deepverse_ros.nodes.base import RobotNode
from deepverse_ros.nodes.camera_model import camera_model
from deepverse_ros.nodes.conversions import JointLayout, MessageError, stamp_seconds
from deepverse_ros.nodes.depth_decoding import depth_from_image
from deepverse_ros.nodes.diagnostics import RateMeter
from deepverse_ros.nodes.history import FrameHistory, TimedRing
from deepverse_ros.nodes.image_decoding import picture_size, rgb_from_image
from deepverse_ros.nodes.odometry import OdometryLayout
from deepverse_ros.nodes.parameters import Parameter
from deepverse_ros.nodes.slot import LatestSlot
from deepverse_ros.nodes.transforms import TransformListener

SYNC_TOLERANCE = 0.05
"""Seconds that a depth image or a joint state may be apart from the colour image that it belongs to."""
SAME_MOMENT = 0.002
"""Seconds apart at which a depth image surely belongs to a colour image, so that no closer one needs to be awaited."""
DEPTH_MEMORY = 1.0
"""Seconds after the last depth image during which a colour image waits for its own."""
MOST_DEPTHS = 10
"""Depth images that wait for the colour image of their moment: a third of a second of a camera at 30 Hz."""

PARAMETERS = (
    Parameter("image_topic", "camera/image_raw", "Colour images (sensor_msgs/Image, any encoding)."),
    Parameter("depth_topic", "camera/depth/image_raw", "Depth images (16UC1 mm, 32FC1 or 64FC1 m); empty: none."),
    Parameter("camera_info_topic", "camera/camera_info", "Calibration of the colour camera; empty: unknown."),
    Parameter("joint_states_topic", "joint_states", "Measured joints (sensor_msgs/JointState); empty: none."),
    Parameter(
        "odometry_topic",
        "odom",
        "Own motion of a robot without joints that measures it (nav_msgs/Odometry); empty: none.",
    ),
    Parameter("gripper_joint", "gripper_joint", "Joint that opens the gripper; empty: the messages hold none."),
    Parameter("gripper_closed", 0.0, "That joint's position when the gripper is closed (rad or m).", -10.0, 10.0),
    Parameter("gripper_open", 1.0, "That joint's position when the gripper is open (rad or m).", -10.0, 10.0),
    Parameter(
        "base_frame",
        "",
        "Frame of the robot's base: of plans, tool positions and camera poses; empty: the embodiment's.",
    ),
    Parameter("camera_frame", "", "Optical frame of the camera; empty: the image header's frame_id."),
    Parameter(
        "stale_timeout", 0.5, "Seconds without a new image before the input counts as stale.", 0.05, 60.0, dynamic=True
    ),
)


def base_frame(node: RobotNode, embodiment: Embodiment) -> str:
    """Of a node with PARAMETERS."""
    return node.parameters["base_frame"] or embodiment.base_frame


@dataclass(frozen=True)
class Sight:
    """What the model is given.

    observation: batch of one, 1 to context frames. actions (1, T-1, A): what the joints did between these frames.
    joints (A,): where the robot is now, None when unknown. Of a robot without joints both are what it was told.
    proprioception (1, T, K): what it measured of itself by odometry, NaN where it did not; None without odometry.
    header: of the newest image, in the camera's frame.
    stamp: of that image, seconds; received: time.monotonic() when it arrived. rgb (h, w, 3) uint8: the newest
    picture. intrinsics: of it. whole: whether it was looked for as long as a whole window takes, which bounds rest on.
    """

    observation: Observation
    actions: np.ndarray
    proprioception: np.ndarray | None
    joints: np.ndarray | None
    header: Header
    stamp: float
    received: float
    rgb: np.ndarray
    intrinsics: Intrinsics | None
    whole: bool

    @property
    def problem(self) -> str:
        """Why no plan can be judged from it; empty where one can."""
        if self.joints is None:
            return "the joints are unknown: no usable joint states have arrived"
        if not self.whole:
            # A frame alone is read less sharply than what the bounds were calibrated with.
            return "the camera has not been seen for as long as bounds rest on"
        return ""

    def observed_by(self, model: WorldModel) -> Belief:
        """Raises: ShapeError."""
        return model.observe(self.observation, self.actions, self.proprioception)


@dataclass
class _Frame:
    """One colour image with what belongs to it; pixels are decoded once, on the worker's thread."""

    message: Image
    stamp: float
    received: float
    depth: Image | None = None
    depth_m: np.ndarray | None = None
    _rgb: np.ndarray | None = None

    def pixels(self) -> np.ndarray:
        """(h, w, 3) uint8 RGB. Raises: MessageError."""
        if self._rgb is None:
            self._rgb = rgb_from_image(self.message)
        return self._rgb


class ObservationInput:
    """Subscribes to a robot's topics, keeps the recent frames, and builds what the model observes.

    Callbacks only look at the header and store. `slot` gets every new complete frame and drives a `Worker`; `sight()`
    is called on the worker's thread and decodes the frames of the window.

    A robot without joints, such as a vehicle, does not say what it did: its past actions are what it was told (`tell`),
    and before that to rest. What it measures of itself comes by odometry.

    Where the camera is comes by tf: a fixed one's newest place, and of one that moves that of each frame's moment.

    Args: node: with PARAMETERS declared. context: frames of the model.
    """

    def __init__(self, node: RobotNode, layout: JointLayout, context: int) -> None:
        self.slot: LatestSlot[_Frame] = LatestSlot()
        self.images, self.joints_rate = RateMeter(), RateMeter()
        self.layout = layout
        self._node = node
        self._transforms = TransformListener(node)
        self._odometry = OdometryLayout(layout.embodiment, base_frame(node, layout.embodiment))
        self._lock = threading.Lock()
        self._history: FrameHistory[_Frame] = FrameHistory(layout.embodiment.dt, context)
        span, jump = context * layout.embodiment.dt + 1.0, layout.embodiment.dt
        self._joints: TimedRing[JointState] = TimedRing(span, jump)
        self._told: TimedRing[np.ndarray] = TimedRing(span, jump)
        self._measured: TimedRing[Odometry] = TimedRing(span, jump)
        self._depths: TimedRing[Image] = TimedRing(1.0, jump=1.0, most=MOST_DEPTHS)
        self._waiting: _Frame | None = None
        self._depth_seen = -np.inf
        self._info: CameraInfo | None = None
        self._subscriptions: list = []

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def start(self) -> None:
        p, node = self._node.parameters, self._node
        wanted = (
            (Image, p["image_topic"], self._on_image),
            (Image, p["depth_topic"], self._on_depth),
            (CameraInfo, p["camera_info_topic"], self._on_info),
            (JointState, p["joint_states_topic"], self._on_joints),
            (Odometry, self._odometry.tells and p["odometry_topic"], self._on_odometry),
        )
        # What shares a group with the node's timers and services has to wait for them.
        group = MutuallyExclusiveCallbackGroup()
        self._subscriptions = [
            node.subscribe(kind, topic, callback, qos.sensor_input(), group)
            for kind, topic, callback in wanted
            if topic
        ]

    def stop(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        self.clear()

    def destroy(self) -> None:
        self._transforms.destroy()

    def clear(self) -> None:
        with self._lock:
            self._history.clear()
            for ring in (self._joints, self._told, self._measured, self._depths):
                ring.clear()
            self._waiting = None
            self._depth_seen = -np.inf
        self.slot.clear()

    # Callbacks: store only ----------------------------------------------------------------------------------------
    def _on_image(self, message: Image) -> None:
        try:
            size = picture_size(message)
        except MessageError as error:
            self._node.warn("image", f"{self._node.parameters['image_topic']}: {error}; the image was ignored")
            return
        self.images.tick()
        stamp = self._stamp(message)
        frame = _Frame(message, stamp, time.monotonic())
        with self._lock:
            cleared = self._history.add(stamp, frame, size)
            if cleared:
                self._joints.clear()
                self._depths.clear()
            match = self._depths.nearest(stamp, SAME_MOMENT)
            if match is not None:
                frame.depth = match[1]
            self._waiting = frame if match is None else None
            depth_is_live = frame.received - self._depth_seen < DEPTH_MEMORY
            if frame.depth is not None or not depth_is_live:
                self.slot.put(frame)  # under the lock, so that no older frame comes after a newer one
        if cleared:
            self._node.warn("history", f"{self._node.parameters['image_topic']}: {cleared}")

    def _on_depth(self, message: Image) -> None:
        stamp = self._stamp(message)
        with self._lock:
            self._depth_seen = time.monotonic()
            self._depths.add(stamp, message)
            frame = self._waiting
            if frame is None or abs(frame.stamp - stamp) > SYNC_TOLERANCE:
                return
            # The one before this may be closer, where the two cameras are not triggered together.
            _, frame.depth = self._depths.nearest(frame.stamp, SYNC_TOLERANCE) or (stamp, message)
            self._waiting = None
            self.slot.put(frame)

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_joints(self, message: JointState) -> None:
        self.joints_rate.tick()
        with self._lock:
            self._joints.add(self._stamp(message), message)

    def _on_odometry(self, message: Odometry) -> None:
        with self._lock:
            self._measured.add(self._stamp(message), message)

    def _stamp(self, message: Image | JointState | Odometry) -> float:
        """The header's stamp; a driver that leaves it zero gets the time of arrival."""
        return stamp_seconds(message.header.stamp) or self._node.now()

    def tell(self, stamp: float, values: np.ndarray) -> None:
        """A robot without joints does this from now on. Args: stamp: seconds; values (A,), of the embodiment."""
        with self._lock:
            self._told.add(stamp, values.astype(np.float32))

    # On the worker's thread ---------------------------------------------------------------------------------------
    def joints_now(self) -> np.ndarray | None:
        """The newest measured joints (A,), None before the first. Raises: MessageError."""
        with self._lock:
            newest = self._joints.newest
        return None if newest is None else self.layout.vector(newest[1])

    def age(self) -> float:
        """Seconds since the newest image arrived; infinite when that is long ago or never was."""
        return self.images.age()

    def to_base(self, frame: str, stamp: float | None = None) -> np.ndarray | None:
        """(4, 4) float64 from `frame` to the base frame; None where it is not known. Args: as for `TransformTree`."""
        return self._transforms.tree.lookup(base_frame(self._node, self.layout.embodiment), frame, stamp)

    def sight(self) -> Sight | None:
        """The window that ends at the newest frame; None before the first one.

        Depth, joints and calibration that cannot be used are left out with a warning.
        """
        with self._lock:
            depth_is_live = time.monotonic() - self._depth_seen < DEPTH_MEMORY
            window = self._history.window(_has_depth if depth_is_live else None)
            if window is None:
                return None
            states = [self._joints.nearest(stamp, 2 * SYNC_TOLERANCE) for stamp in window.stamps]
            told = [self._told.last(stamp) for stamp in window.stamps]
            moving = [self._measured.nearest(stamp, 2 * SYNC_TOLERANCE) for stamp in window.stamps]
            latest, whole = self._joints.newest, self._history.whole
        if latest is not None and states[-1] is None:
            apart = latest[0] - window.stamps[-1]
            self._node.warn(
                "joints",
                f"{self._node.parameters['joint_states_topic']}: the newest stamp is {apart:+.3f} s from the image's; "
                "past frames are left out",
            )
        frames = list(window.frames)
        newest = frames[-1]
        past: list[np.ndarray | None]
        if self.layout.embodiment.joint_names:
            past = [None if state is None else self._vector(state[1]) for state in states]
        else:
            rest = np.asarray(self.layout.embodiment.home, np.float32)
            past = [rest if command is None else command[1] for command in told]
        # An action must stand between two frames: the window begins after the last frame without joints.
        first = max((i for i, joints in enumerate(past) if joints is None), default=0)
        moves = [joints for joints in past[first + 1 :] if joints is not None]
        empty = np.zeros((0, self.layout.embodiment.action_dim), np.float32)
        rgb = np.stack([frame.pixels() for frame in frames[first:]])
        intrinsics = self._intrinsics(newest)
        matrix = None if intrinsics is None else intrinsics.matrix
        header = Header(stamp=newest.message.header.stamp)
        header.frame_id = self._node.parameters["camera_frame"] or newest.message.header.frame_id
        cameras = self._cameras(header.frame_id, window.stamps[first:])
        return Sight(
            observation=Observation.from_numpy(rgb, self._depth(frames[first:]), matrix, cameras),
            actions=(np.stack(moves) if moves else empty)[None],
            proprioception=self._proprioception([None if m is None else m[1] for m in moving[first:]]),
            joints=past[-1] if past[-1] is not None else self._latest_joints(),
            header=header,
            stamp=window.stamps[-1],
            received=newest.received,
            rgb=rgb[-1],
            intrinsics=intrinsics,
            whole=whole,
        )

    def _cameras(self, frame: str, stamps: tuple[float, ...]) -> np.ndarray | None:
        """(4, 4) of a camera that is fixed, (T, 4, 4) of one that moves; None where one of them is not known."""
        if not frame:
            return None
        if self.layout.embodiment.camera.fixed:
            return self.to_base(frame)
        poses = [pose for stamp in stamps if (pose := self.to_base(frame, stamp)) is not None]
        return np.stack(poses) if len(poses) == len(stamps) else None

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

    def _depth(self, frames: list[_Frame]) -> np.ndarray | None:
        """(T, h, w) metres, NaN where a frame has none; None where no frame has any."""
        for frame in frames:
            self._decode_depth(frame)
        known = [frame.depth_m for frame in frames if frame.depth_m is not None]
        if not known:
            return None
        unknown = np.full_like(known[0], np.nan)
        return np.stack([unknown if frame.depth_m is None else frame.depth_m for frame in frames])

    def _decode_depth(self, frame: _Frame) -> None:
        if frame.depth is None or frame.depth_m is not None:
            return
        try:
            frame.depth_m = depth_from_image(frame.depth, picture=frame.pixels().shape[:2])
        except MessageError as error:
            frame.depth = None
            topic = self._node.parameters["depth_topic"]
            self._node.warn("depth", f"{topic}: {error}; going on without depth")

    def _vector(self, message: JointState) -> np.ndarray | None:
        try:
            return self.layout.vector(message)
        except MessageError as error:
            self._node.warn("joints", f"{self._node.parameters['joint_states_topic']}: {error}")
            return None

    def _latest_joints(self) -> np.ndarray | None:
        with self._lock:
            newest = self._joints.newest
        return None if newest is None else self._vector(newest[1])

    def _intrinsics(self, frame: _Frame) -> Intrinsics | None:
        if self._info is None:
            return None
        try:
            return camera_model(self._info, frame.message.height, frame.message.width).intrinsics
        except MessageError as error:
            self._node.warn("info", f"{self._node.parameters['camera_info_topic']}: {error}; going on without it")
            return None


def _has_depth(frame: _Frame) -> bool:
    return frame.depth is not None
