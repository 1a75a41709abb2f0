"""What can be predicted without a world model: the last frame, with the robot drawn where the commands bring it."""

from collections.abc import Callable, Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from deepverse_ros.data.store import Episode
from deepverse_ros.errors import EmbodimentError
from deepverse_ros.evaluation.prediction.registry import Predicted
from deepverse_ros.evaluation.prediction.windows import Windows
from deepverse_ros.evaluation.prediction.world import ROBOT
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.base import RobotSimulation

Picture = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""The robot alone at joints (A,): rgb (h, w, 3) uint8, depth (h, w) metres, and which pixels (h, w) it covers."""

_EDGE = np.ones((3, 3), np.uint8)  # a pixel beside the robot is partly the robot's


class KinematicCopy:
    """Predicts windows of simulated episodes by kinematics and copying; keeps one simulation for all of them."""

    def __init__(self, model: WorldModel) -> None:
        self._model = model
        self._simulation: RobotSimulation | None = None

    def of_episode(self, windows: Windows, episode: Episode) -> Predicted | None:
        """The windows' future; None where the episode's scene cannot be built again from its seed."""
        if windows.segmentation_seen is None:
            return None
        simulation = self._scene_of(windows, episode)
        return None if simulation is None else copied(windows, simulation.robot_picture)

    def _scene_of(self, windows: Windows, episode: Episode) -> RobotSimulation | None:
        """The simulation in the scene of an episode, as large as the windows; None where it is not the same view."""
        height, width = windows.rgb.shape[-2:]
        if self._simulation is None:
            try:
                robot = robots.of(self._model.embodiment)
            except EmbodimentError:  # recordings of a robot that nothing simulates
                return None
            self._simulation = robot.simulate(width=width, height=height)
        base = (0.0, 0.0) if windows.base is None else windows.base[0, :2]
        self._simulation.reset(episode.seed, base_offset=(float(base[0]), float(base[1])))
        assert windows.seen.intrinsics is not None
        same = np.allclose(self._simulation.camera_to_world, episode.camera_to_world[0], atol=1e-4) and np.allclose(
            self._simulation.intrinsics, windows.seen.intrinsics, rtol=1e-3
        )
        return self._simulation if same else None

    def close(self) -> None:
        """Free the renderer."""
        if self._simulation is not None:
            self._simulation.close()


def copied(windows: Windows, robot: Picture) -> Predicted:
    """Windows predicted by copying. Args: robot: draws it. Raises: ValueError where nobody knows what frames show."""
    if windows.segmentation_seen is None or windows.seen.depth is None:
        raise ValueError("windows: nobody knows where the robot is in them")
    seen = zip(windows.seen.rgb, windows.seen.depth, windows.segmentation_seen, strict=True)
    return over(without_robot(seen), windows.plans, robot)


def over(empty: Predicted, plans: np.ndarray, robot: Picture) -> Predicted:
    """The robot drawn over pictures without it.

    Args: empty: rgb (B, 3, h, w), depth (B, h, w); plans (B, H, A).
    """
    rgb, depth = (part[:, None].repeat_interleave(plans.shape[1], 1) for part in (empty.rgb, empty.depth))
    for b, plan in enumerate(plans):
        for t, joints in enumerate(plan):
            colours, away, mask = (torch.from_numpy(np.ascontiguousarray(part)) for part in robot(joints))
            drawn = mask & ~(depth[b, t] < away)  # also where nobody knows how far the rest is
            rgb[b, t] = torch.where(drawn, colours.permute(2, 0, 1) / 255, rgb[b, t])
            depth[b, t] = torch.where(drawn, away, depth[b, t])
    return Predicted(rgb, depth)


def without_robot(seen: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Predicted:
    """The newest frames with what is behind the robot.

    Args: seen: of each of B windows rgb (C, 3, h, w), depth (C, h, w) metres and segmentation (C, h, w).
    Returns: rgb (B, 3, h, w) and depth (B, h, w).
    """
    views = [_without_robot(*frames) for frames in seen]
    return Predicted(torch.stack([rgb for rgb, _ in views]), torch.stack([depth for _, depth in views]))


def _without_robot(rgb: Tensor, depth: Tensor, segmentation: Tensor) -> tuple[Tensor, Tensor]:
    covered = [torch.from_numpy(cv2.dilate((s == ROBOT).numpy().astype(np.uint8), _EDGE) > 0) for s in segmentation]
    colours, away, hidden = rgb[-1].clone(), depth[-1].clone(), covered[-1].clone()
    for age in range(len(rgb) - 2, -1, -1):
        shows = hidden & ~covered[age]
        colours, away = torch.where(shows, rgb[age], colours), torch.where(shows, depth[age], away)
        hidden &= ~shows
    if bool(hidden.any()) and not bool(hidden.all()):
        rows, columns = _nearest(~hidden.numpy())
        colours, away = colours[:, rows, columns], away[rows, columns]
    return colours, away


def _nearest(known: np.ndarray) -> tuple[Tensor, Tensor]:
    """Rows and columns (h, w) of the known pixel that is nearest to each pixel."""
    _, label = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    at = np.zeros((label.max() + 1, 2), int)
    at[label[known]] = np.argwhere(known)
    rows, columns = torch.from_numpy(at[label]).unbind(-1)
    return rows, columns
