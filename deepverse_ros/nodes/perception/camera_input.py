"""A robot's camera as a node sees it: pictures, depth and calibration in, windows of frames out."""

import math
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from rclpy.callback_groups import CallbackGroup
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from deepverse_ros.errors import MessageError
from deepverse_ros.geometry import Intrinsics
from deepverse_ros.nodes.messages.camera import CameraModel, camera_model
from deepverse_ros.nodes.messages.depth_decoding import MILLIMETRE, check_depth, depth_from_image
from deepverse_ros.nodes.messages.image_decoding import Picture, picture_size, reduction, rgb_from_image
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.perception.camera_health import CameraHealth
from deepverse_ros.nodes.perception.frame_history import FrameHistory, TimedRing, Window
from deepverse_ros.nodes.perception.tf_buffer import TransformTree
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import RateMeter
from deepverse_ros.nodes.runtime.latest_slot import LatestSlot
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter

SYNC_TOLERANCE = 0.05
"""Seconds that a depth image or a joint state may be apart from the colour image that it belongs to."""
SAME_MOMENT = 0.002
"""Seconds apart at which a depth image surely belongs to a colour image, so that no closer one needs to be awaited."""
DEPTH_MEMORY = 1.0
"""Seconds after the last depth image during which a colour image waits for its own."""
MOST_DEPTHS = 10
"""Depth images that wait for the colour image of their moment: a third of a second of a camera at 30 Hz."""
COINCIDE = (0.003, 0.01)
"""Metres and radians within which two optical frames are the same."""
REGISTER = "publish depth that is registered to the colour image (such as aligned_depth_to_color)"

PARAMETERS = (
    Parameter("image_topic", "camera/image_raw", "Colour images, in any encoding of sensor_msgs/image_encodings."),
    Parameter(
        "image_transport", "raw", "compressed: they are sensor_msgs/CompressedImage (JPEG, PNG) on "
        "image_topic/compressed.", choices=("raw", "compressed"),
    ),
    Parameter(
        "rectify", "auto", "Take the distortion of camera_info out of the pictures; auto: unless the topic is named "
        "image_rect…; never: they are rectified.", choices=("auto", "always", "never"),
    ),
    Parameter("depth_topic", "camera/depth/image_raw", "Depth registered to the colour images; empty: no depth."),
    Parameter(
        "depth_transport", "raw", "The same of depth: depth_topic/compressed (PNG) or depth_topic/compressedDepth.",
        choices=("raw", "compressed", "compressedDepth"),
    ),
    Parameter("depth_scale", MILLIMETRE, "Metres of one unit of a 16-bit depth image; floats are metres.", 1e-6, 1.0),
    Parameter("camera_info_topic", "camera/camera_info", "Calibration of the colour camera; empty: unknown."),
    Parameter("camera_frame", "", "Optical frame of the camera; empty: the image header's frame_id."),
    Parameter(
        "stale_timeout", 0.5, "Seconds without a new image before the input counts as stale.", 0.05, 60.0, dynamic=True
    ),
)  # fmt: skip


@dataclass
class Frame:
    """One colour image with what belongs to it. Pixels are decoded once, on the worker's thread, and replace it.

    header: of the image, in the camera's frame. stamp: seconds; received: time.monotonic() when it came. size: (height,
    width) as it came. picture, depth: until they are decoded. without_depth: it had one that cannot be used.
    """

    header: Header
    stamp: float
    received: float
    size: tuple[int, int]
    picture: Picture | None
    depth: Picture | None = None
    without_depth: bool = False
    rgb: np.ndarray | None = None
    depth_m: np.ndarray | None = None
    straight: dict[str, tuple[CameraModel, np.ndarray]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return self.depth is not None or self.depth_m is not None or self.without_depth


@dataclass(frozen=True)
class CameraWindow:
    """Frames as the model takes them, oldest first, made smaller (`reduction`) and rectified.

    rgb (T, h, w, 3) uint8. depth (T, h, w) metres, NaN where unknown, None where no frame has any. intrinsics: of these
    pixels; None: not calibrated. frames: as many. complete: whether was looked for as long as a whole window takes.
    """

    rgb: np.ndarray
    depth: np.ndarray | None
    intrinsics: Intrinsics | None
    stamps: tuple[float, ...]
    frames: tuple[Frame, ...]
    complete: bool


class CameraInput:
    """Subscribes to a camera's topics and keeps its recent frames.

    Callbacks only look at headers and store. `slot` gets every new complete frame; `view` runs on the worker's thread
    and decodes.

    Args: node: with PARAMETERS declared. dt, context: of the model; size: its (height, width), None: pictures are not
    made smaller. tree: where frames are.
    """

    def __init__(
        self, node: RobotNode, dt: float, context: int, size: tuple[int, int] | None, tree: TransformTree
    ) -> None:
        self.slot: LatestSlot[Frame] = LatestSlot()
        self.images = RateMeter()
        self.health = CameraHealth(node)
        self._node, self._size, self._tree = node, size, tree
        self._lock = threading.Lock()
        self._history: FrameHistory[Frame] = FrameHistory(dt, context)
        self._depths: TimedRing[Picture] = TimedRing(1.0, jump=1.0, most=MOST_DEPTHS)
        self._waiting: Frame | None = None
        self._depth_seen = -math.inf
        self._info: CameraInfo | None = None

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def start(self, group: CallbackGroup) -> list:
        """Returns: subscriptions."""
        p = self._node.parameters.values()
        image = _transported(self._node, p.image_topic, p.image_transport)
        depth = _transported(self._node, p.depth_topic, p.depth_transport)
        wanted = (
            (*image, self._on_image),
            (*depth, self._on_depth),
            (CameraInfo, p.camera_info_topic, self._on_info),
        )
        self.health.reads = [(kind, topic) for kind, topic, _ in wanted if topic]
        return [
            self._node.subscribe(kind, topic, callback, qos.sensor_input(), group)
            for kind, topic, callback in wanted
            if topic
        ]

    def stop(self) -> None:
        self.health.reads = []
        self.clear()

    def clear(self) -> None:
        """Forget what was seen so far."""
        with self._lock:
            self._history.clear()
            self._depths.clear()
            self._waiting = None
            self._depth_seen = -math.inf
        self.health.clear()
        self.slot.clear()

    # Callbacks: store only ----------------------------------------------------------------------------------------
    def _on_image(self, message: Picture) -> None:
        now = time.monotonic()
        try:
            size = picture_size(message)
        except MessageError as error:
            self.health.refuse(str(error))
            return
        self.images.tick()
        stamp = self._stamp(message.header)
        self.health.saw(now, stamp)
        header = Header(stamp=message.header.stamp)
        header.frame_id = self._node.parameters["camera_frame"].lstrip("/") or _frame_of(message)
        frame = Frame(header, stamp, now, size, message)
        with self._lock:
            cleared = self._history.add(stamp, frame, size)
            if cleared:
                self._depths.clear()
            match = self._depths.nearest(stamp, SAME_MOMENT)
            if match is not None:
                frame.depth = match[1]
            self._waiting = frame if match is None else None
            depth_is_live = now - self._depth_seen < DEPTH_MEMORY
            if frame.depth is not None or not depth_is_live:
                self.slot.put(frame)  # under the lock, so that no older frame comes after a newer one
        if cleared:
            self._node.warn("history", f"{self._node.parameters['image_topic']}: {cleared}")

    def _on_depth(self, message: Picture) -> None:
        try:
            check_depth(message)
        except MessageError as error:
            self._without_depth(str(error))
            return
        stamp = self._stamp(message.header)
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

    def _stamp(self, header: Header) -> float:
        """A driver that leaves it zero gets the time of arrival."""
        return stamp_seconds(header.stamp) or self._node.now()

    def _without_depth(self, problem: str) -> None:
        self._node.warn("depth", f"{self._node.parameters['depth_topic']}: {problem}; going on without depth")

    # On the worker's thread ---------------------------------------------------------------------------------------
    def view(self) -> CameraWindow | None:
        """The window that ends at the newest frame; None before the first one.

        Depth and calibration that cannot be used are left out with a warning, and so is what lies before a damaged
        picture. Raises: MessageError where the newest is damaged.
        """
        with self._lock:
            depth_is_live = time.monotonic() - self._depth_seen < DEPTH_MEMORY
            window = self._history.window((lambda frame: frame.complete) if depth_is_live else None)
            complete = self._history.complete
        if window is None:
            return None
        window = self._decoded(window)
        newest = window.frames[-1]
        model, k = self._model(newest), reduction(*newest.size, self._size)
        rgb = [self._straight("rgb", frame.rgb, frame, model, k) for frame in window.frames]
        known = [f.depth_m is not None for f in window.frames]
        depth = None
        if any(known):
            unknown = np.full(rgb[0].shape[:2], np.nan, np.float32)
            depth = np.stack(
                [
                    unknown if f.depth_m is None else self._straight("depth", f.depth_m, f, model, k)
                    for f in window.frames
                ]
            )
        intrinsics = None if model is None else model.reduced(k)
        return CameraWindow(np.stack(rgb), depth, intrinsics, window.stamps, window.frames, complete)

    def _decoded(self, window: Window[Frame]) -> Window[Frame]:
        for back, frame in enumerate(reversed(window.frames)):
            try:
                self._decode(frame)
            except MessageError as error:
                self.health.refuse(str(error))
                if not back:
                    raise
                return Window(window.stamps[-back:], window.frames[-back:])
        return window

    def _decode(self, frame: Frame) -> None:
        k = reduction(*frame.size, self._size)
        if frame.rgb is None:
            assert frame.picture is not None
            frame.rgb = rgb_from_image(frame.picture, k)
            frame.picture = None
        depth = frame.depth
        if depth is None or frame.depth_m is not None:
            return
        try:
            self._require_registered(frame, depth)
            frame.depth_m = depth_from_image(depth, self._node.parameters["depth_scale"], frame.size, k)
        except MessageError as error:
            frame.without_depth = True
            self._without_depth(str(error))
        frame.depth = None

    def _require_registered(self, frame: Frame, depth: Picture) -> None:
        ours, theirs = frame.header.frame_id, _frame_of(depth)
        if not ours or not theirs or ours == theirs:
            return
        pose = self._tree.lookup(ours, theirs, frame.stamp)
        if pose is None:
            raise MessageError(
                f"depth is in frame '{theirs}', the pictures are in '{ours}', and tf does not say that they coincide: "
                f"{REGISTER}"
            )
        turn = math.acos(min(1.0, max(-1.0, (float(np.trace(pose[:3, :3])) - 1) / 2)))
        apart = float(np.linalg.norm(pose[:3, 3]))
        if apart > COINCIDE[0] or turn > COINCIDE[1]:
            raise MessageError(
                f"depth is in frame '{theirs}', {apart:.3f} m and {math.degrees(turn):.1f} degrees from that of the "
                f"pictures, '{ours}': {REGISTER}"
            )

    def _model(self, frame: Frame) -> CameraModel | None:
        info, p = self._info, self._node.parameters
        if info is None:
            return None
        ours, theirs = frame.header.frame_id, _frame_of(info)
        other = bool(ours and theirs) and ours != theirs and not p["camera_frame"]
        text = f"{p['camera_info_topic']}: it is of frame '{theirs}', the pictures are in '{ours}': is it another's?"
        self.health.condition("camera_info", text if other else "")
        named = p["image_topic"].rstrip("/").rsplit("/")[-1].startswith("image_rect")
        rectified = p["rectify"] == "never" or (p["rectify"] == "auto" and named)
        try:
            return camera_model(info, *frame.size, rectified)
        except MessageError as error:
            self._node.warn("info", f"{p['camera_info_topic']}: {error}; going on without it")
            return None

    @staticmethod
    def _straight(name: str, pixels: np.ndarray | None, frame: Frame, model: CameraModel | None, k: int) -> np.ndarray:
        """`pixels` of a frame rectified; once, unless the camera's model changes."""
        assert pixels is not None
        if model is None or not model.distortion:
            return pixels
        made = frame.straight.get(name)
        if made is None or made[0] != model:
            made = frame.straight[name] = (model, model.rectified(pixels, k))
        return made[1]


def _frame_of(message: Picture | CameraInfo) -> str:
    """The frame as tf knows it, without a leading slash; drivers from before it still write one."""
    return message.header.frame_id.lstrip("/")


def _transported(node: RobotNode, topic: str, transport: str) -> tuple[type, str]:
    """The message and the topic of a transport, named as image_transport does: after what the topic is remapped to."""
    if transport == "raw" or not topic:
        return Image, topic
    after = f"/{transport}"
    return CompressedImage, topic if topic.endswith(after) else node.resolve_topic_name(topic) + after
