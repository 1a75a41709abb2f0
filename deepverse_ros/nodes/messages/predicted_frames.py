"""An imagined future as ROS messages: predicted frames, picture strips, a point cloud and the tool's path."""

import array
import copy
from collections.abc import Sequence

import cv2
import numpy as np
from geometry_msgs.msg import PoseStamped, Quaternion
from nav_msgs.msg import Path
from sensor_msgs.msg import Image, PointCloud2, PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

from deepverse_ros.geometry import Intrinsics
from deepverse_ros.model.future import Future
from deepverse_ros.msg import PredictedFrames
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.messages.pose import point, pose_from_matrix

ACCEPTED = (46, 160, 67)
REJECTED = (207, 34, 46)
NEUTRAL = (128, 128, 128)
"""Border colours of a mosaic (RGB): the plan's verdict was accepted, rejected, or there is none."""


def border_colour(accepted: bool | None) -> tuple[int, int, int]:
    """RGB of the frame around a prediction, by what was said of its plan; None: nothing yet."""
    return NEUTRAL if accepted is None else ACCEPTED if accepted else REJECTED


def rgb_frames(future: Future, index: int = 0) -> np.ndarray:
    """The pictures of one plan, (H, h, w, 3) uint8."""
    frames = future.rgb[index].float().clamp(0, 1).mul(255).round().byte()
    return frames.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def depth_frames(future: Future, index: int = 0) -> np.ndarray:
    """The depth of one plan, (H, h, w) float32 metres."""
    return future.depth[index].float().cpu().numpy()


def predicted_frames(
    future: Future,
    header: Header,
    dt: float,
    base_frame: str,
    *,
    plan_id: str = "",
    ood_score: float = 0.0,
    out_of_distribution: bool = False,
    latency_ms: float = 0.0,
    rgb: np.ndarray | None = None,
    depth: np.ndarray | None = None,
) -> PredictedFrames:
    """The future of one plan.

    Args: header: of the newest input image; dt: seconds between predicted frames; rgb (H, h, w, 3), depth (H, h, w):
    its frames, where somebody has made them already.
    """
    rgb = rgb_frames(future) if rgb is None else rgb
    depth = depth_frames(future) if depth is None else depth
    headers = [_later(header, (step + 1) * dt) for step in range(len(rgb))]
    message = PredictedFrames(
        header=header,
        plan_id=plan_id,
        dt=dt,
        base_frame=base_frame,
        rgb=[image_from_array(frame, "rgb8", h) for frame, h in zip(rgb, headers, strict=True)],
        depth=[image_from_depth(frame, "32FC1", h) for frame, h in zip(depth, headers, strict=True)],
        ood_score=float(ood_score),
        out_of_distribution=bool(out_of_distribution),
        latency_ms=float(latency_ms),
    )
    if future.camera_to_world is not None:
        poses = future.camera_to_world[0].cpu().numpy()
        message.camera_poses = [pose_from_matrix(pose) for pose in poses]
    message.tool_positions = [point(p) for p in future.readout["tool_position"][0].tolist()]
    message.uncertainty = array.array("f", future.uncertainty[0].float().cpu().numpy().tobytes())
    return message


def mosaic(
    frames: Sequence[np.ndarray] | np.ndarray, colour: tuple[int, int, int] = NEUTRAL, border: int = 3
) -> np.ndarray:
    """Pictures (h, w, 3) uint8 side by side, each in a border of `colour`: (h + 2b, n (w + 2b), 3) uint8."""
    tiles = [
        cv2.copyMakeBorder(np.ascontiguousarray(f), border, border, border, border, cv2.BORDER_CONSTANT, value=colour)
        for f in frames
    ]
    return np.hstack(tiles)


def colour_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Depth (..., h, w) metres as colours (..., h, w, 3) uint8 RGB: near is warm, far is cold, unknown is black."""
    scaled = np.clip((far - depth) / (far - near), 0, 1)
    codes = np.nan_to_num(scaled * 255, nan=0).astype(np.uint8)
    flat = cv2.applyColorMap(codes.reshape(-1, codes.shape[-1]), cv2.COLORMAP_TURBO)
    colours = flat[..., ::-1].reshape(*codes.shape, 3).copy()
    colours[np.isnan(depth)] = 0
    return colours


def mosaic_image(frames: np.ndarray, header: Header, accepted: bool | None = None) -> Image:
    """The strip t+1 … t+H as an rgb8 Image with the header of the newest input."""
    return image_from_array(mosaic(frames, border_colour(accepted)), "rgb8", header)


def cloud(rgb: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics, header: Header) -> PointCloud2:
    """Coloured points of one RGB-D frame in its optical frame (header.frame_id); unknown pixels are left out.

    Args: rgb (h, w, 3) uint8; depth (h, w) metres, NaN unknown; intrinsics: of that size.
    """
    known = np.isfinite(depth)
    z = depth[known]
    rays = intrinsics.rays().numpy()[known]
    r, g, b = (rgb[known][:, c].astype(np.uint32) for c in range(3))
    points = np.empty((len(z), 4), np.float32)
    points[:, :3] = rays * z[:, None]
    points[:, 3] = (r << 16 | g << 8 | b).view(np.float32)
    fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate(("x", "y", "z", "rgb"))
    ]
    return point_cloud2.create_cloud(header, fields, points)


def path(positions: np.ndarray, header: Header, dt: float) -> Path:
    """Predicted tool positions (H, 3) metres in the base frame (header.frame_id) as a Path."""
    poses = []
    for step, position in enumerate(positions):
        pose = PoseStamped(header=_later(header, (step + 1) * dt))
        pose.pose.position = point(position)
        pose.pose.orientation = Quaternion(w=1.0)
        poses.append(pose)
    return Path(header=header, poses=poses)


def with_frame(header: Header, frame_id: str) -> Header:
    """The same stamp in another frame."""
    return Header(stamp=copy.copy(header.stamp), frame_id=frame_id)


def _later(header: Header, seconds: float) -> Header:
    total = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec + round(seconds * 1e9)
    out = Header(frame_id=header.frame_id)
    out.stamp.sec, out.stamp.nanosec = divmod(total, 1_000_000_000)
    return out
