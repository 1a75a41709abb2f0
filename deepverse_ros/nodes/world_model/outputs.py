"""What the world model shows: the imagined frames, and pictures, points and a path of them for whoever listens."""

import time

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

    def message(
        self, window: ObservationWindow, belief: Belief, future: Future, plan_id: str, started: float
    ) -> PredictedFrames:
        """Args: started: time.monotonic() when the work on it began."""
        message = predicted_frames.predicted_frames(
            future,
            window.header,
            self._embodiment.dt,
            base_frame(self._node, self._embodiment),
            plan_id=plan_id,
            ood_score=belief.ood_score,
            out_of_distribution=belief.out_of_distribution,
        )
        message.latency_ms = 1e3 * (time.monotonic() - started)
        return message

    def publish(self, window: ObservationWindow, belief: Belief, future: Future, plan_id: str, started: float) -> None:
        """Args: as `message`."""
        header = window.header
        if self._frames.get_subscription_count():
            self._frames.publish(self.message(window, belief, future, plan_id, started))
        self.latency_ms.add(1e3 * (time.monotonic() - started))
        self.published.tick()
        verdict = self.verdict
        accepted = verdict.accepted if verdict is not None and verdict.plan_id == plan_id else None
        if self._image.get_subscription_count():
            self._image.publish(predicted_frames.mosaic_image(predicted_frames.rgb_frames(future), header, accepted))
        if self._path.get_subscription_count():
            positions = future.readout["tool_position"][0].float().cpu().numpy()
            base = predicted_frames.with_frame(header, base_frame(self._node, self._embodiment))
            self._path.publish(predicted_frames.path(positions, base, self._embodiment.dt))
        depth = predicted_frames.depth_frames(future)
        if depth is None:
            return
        if self._depth_image.get_subscription_count():
            camera = self._embodiment.camera
            colours = predicted_frames.colour_depth(depth, camera.near, camera.far)
            self._depth_image.publish(predicted_frames.mosaic_image(colours, header, accepted))
        if self._cloud.get_subscription_count() and future.intrinsics is not None:
            step = min(self._node.parameters["publish_cloud_step"], future.horizon) - 1
            matrix = future.intrinsics.float().cpu().numpy()
            intrinsics = Intrinsics.from_matrix(matrix, depth.shape[2], depth.shape[1])
            self._cloud.publish(
                predicted_frames.cloud(predicted_frames.rgb_frames(future)[step], depth[step], intrinsics, header)
            )
