"""What the world model shows: the imagined frames, and pictures, points and a path of them for whoever listens."""

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from nav_msgs.msg import Path
from sensor_msgs.msg import Image, PointCloud2

from deepverse_ros.geometry import Intrinsics
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.future import Future
from deepverse_ros.msg import PlanVerdict, PredictedFrames
from deepverse_ros.nodes.messages import predicted_frames
from deepverse_ros.nodes.perception.observation_source import ObservationWindow, base_frame
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import Quantiles, RateMeter
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.robot.embodiment import Embodiment


@dataclass(frozen=True)
class Prediction:
    """An imagined future and what it came from; its pictures are decoded when they are first asked for.

    started: time.monotonic() when the work on it began.
    """

    window: ObservationWindow
    belief: Belief
    future: Future
    plan_id: str
    started: float

    @cached_property
    def rgb(self) -> np.ndarray:
        """(H, h, w, 3) uint8."""
        return predicted_frames.rgb_frames(self.future)

    @cached_property
    def depth(self) -> np.ndarray:
        """(H, h, w) float32 metres."""
        return predicted_frames.depth_frames(self.future)

    @property
    def age_ms(self) -> float:
        """Milliseconds since the work on it began."""
        return 1e3 * (time.monotonic() - self.started)


class PredictionOutputs:
    """Publishers of imagined futures; nothing is rendered for a topic without subscribers.

    Args: node: with the parameters `base_frame` and `publish_cloud_step`.
    Attributes: published: how often; latency_ms: from the start of the work on an image; verdict: the newest one,
        which colours the border of the pictures of its plan; None before the first.
    """

    def __init__(self, node: RobotNode, embodiment: Embodiment) -> None:
        self.published, self.latency_ms = RateMeter(), Quantiles()
        self.verdict: PlanVerdict | None = None
        self._node, self._embodiment = node, embodiment
        self._frames = node.advertise(PredictedFrames, "~/predicted_frames", qos.debug_output())
        self._image = node.advertise(Image, "~/predicted_image", qos.debug_output())
        self._depth_image = node.advertise(Image, "~/predicted_depth_image", qos.debug_output())
        self._cloud = node.advertise(PointCloud2, "~/predicted_cloud", qos.debug_output())
        self._path = node.advertise(Path, "~/predicted_path", qos.debug_output())
        self._all = [self._frames, self._image, self._depth_image, self._cloud, self._path]

    def destroy(self) -> None:
        for publisher in self._all:
            self._node.destroy_lifecycle_publisher(publisher)

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return any(output.get_subscription_count() for output in self._all)

    def message(self, prediction: Prediction) -> PredictedFrames:
        """The frames of a prediction as a message."""
        belief = prediction.belief
        message = predicted_frames.predicted_frames(
            prediction.future,
            prediction.window.header,
            self._embodiment.dt,
            base_frame(self._node, self._embodiment),
            plan_id=prediction.plan_id,
            ood_score=belief.ood_score,
            out_of_distribution=belief.out_of_distribution,
            rgb=prediction.rgb,
            depth=prediction.depth,
        )
        message.latency_ms = prediction.age_ms
        return message

    def publish(self, prediction: Prediction) -> None:
        """Each topic that somebody listens to; what no topic needs is not decoded."""
        header, future = prediction.window.header, prediction.future
        if self._frames.get_subscription_count():
            self._frames.publish(self.message(prediction))
        self.latency_ms.add(prediction.age_ms)
        self.published.tick()
        verdict = self.verdict
        accepted = verdict.accepted if verdict is not None and verdict.plan_id == prediction.plan_id else None
        if self._image.get_subscription_count():
            self._image.publish(predicted_frames.mosaic_image(prediction.rgb, header, accepted))
        if self._path.get_subscription_count():
            positions = future.readout["tool_position"][0].float().cpu().numpy()
            base = predicted_frames.with_frame(header, base_frame(self._node, self._embodiment))
            self._path.publish(predicted_frames.path(positions, base, self._embodiment.dt))
        if self._depth_image.get_subscription_count():
            camera = self._embodiment.camera
            colours = predicted_frames.colour_depth(prediction.depth, camera.near, camera.far)
            self._depth_image.publish(predicted_frames.mosaic_image(colours, header, accepted))
        if self._cloud.get_subscription_count() and future.intrinsics is not None:
            step = min(self._node.parameters["publish_cloud_step"], future.horizon) - 1
            depth, matrix = prediction.depth[step], future.intrinsics.float().cpu().numpy()
            intrinsics = Intrinsics.from_matrix(matrix, depth.shape[1], depth.shape[0])
            self._cloud.publish(predicted_frames.cloud(prediction.rgb[step], depth, intrinsics, header))
