"""Pictures of moved things for training: from where things truly were, and at times not quite from there."""

import math

import numpy as np
import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.model.things.moved import MovedPictures, is_elsewhere
from deepverse_ros.model.things.plate import clean_plate, dilated
from deepverse_ros.model.things.slots import MOST, Motion, Slots, nothing
from deepverse_ros.robot.embodiment import Camera
from deepverse_ros.training.batches.dataset import Episodes

_ROBOT, _FIRST_THING = 1, 2
# Of the noise on where a thing is, and on how it is turned: about what the contact dynamics gets wrong.
_OFF, _TURNED = 4e-3, math.radians(2.0)


def moved_pictures(
    episodes: Episodes, index: np.ndarray, newest: np.ndarray, ahead: np.ndarray, context: int, shake: Tensor | None,
    device: torch.device,
) -> Tensor | None:  # fmt: skip
    """What `draw_moved` would draw of later frames, knew one how things move.

    Args:
        index, newest: (B,) episodes, and their newest observed frames.
        ahead: (B, N) frames after these.
        context: frames that are observed.
        shake: (B, N, 8, 6) of unit variance, where motions are to be in error: along x, y and z, and as a rotation
            vector. What lies still stays all the same.
    Returns: (B * N, 7, H, W); None of episodes that do not know their things.
    """
    if episodes.segmentation is None or episodes.poses is None:
        return None
    # A camera that moves has seen other pixels before.
    seen = context if episodes.embodiment.camera.fixed else 1
    times = newest[:, None] + np.arange(1 - seen, 1)
    rows = np.broadcast_to(index[:, None], times.shape)
    frames = episodes.frames(rows, times, device)
    labels = torch.from_numpy(episodes.segmentation[rows, times]).to(device)
    before = episodes.poses[index, newest].to(device)
    after = episodes.poses[index[:, None], newest[:, None] + ahead].to(device)
    return truly_moved(
        frames, labels, before, true_motion(before, after, shake), episodes.intrinsics[index].to(device),
        episodes.camera_to_world[index, newest].to(device), episodes.embodiment.camera,
    ).draw()  # fmt: skip


def truly_moved(
    frames: Tensor, labels: Tensor, before: Tensor, motion: Motion, intrinsics: Tensor, camera_to_world: Tensor,
    camera: Camera,
) -> MovedPictures:  # fmt: skip
    """What is drawn of windows whose things are known.

    Args: frames (B, T, 5, H, W) as the codec takes them; labels (B, T, H, W) and before (B, 8, 7), at the newest frame,
    see `true_slots`; motion (B, N); intrinsics and camera_to_world: of the newest frames.
    """
    plate = clean_plate(frames, dilated(labels > 0, 1))
    return MovedPictures(
        frames[:, -1], plate, true_slots(labels[:, -1], before), dilated(labels[:, -1] == _ROBOT, 1), motion,
        intrinsics, camera_to_world, camera.near, camera.far,
    )  # fmt: skip


def beside_robot(episodes: Episodes, index: np.ndarray, newest: np.ndarray, ahead: np.ndarray) -> Tensor | None:
    """Pixels that the robot covers neither in the newest frame nor in a later one.

    Args: as for `moved_pictures`. Returns: (B * N, H, W) bool; None of episodes that do not know where the robot is.
    """
    if episodes.segmentation is None:
        return None
    now = episodes.segmentation[index, newest] == _ROBOT
    then = episodes.segmentation[index[:, None], newest[:, None] + ahead] == _ROBOT
    return torch.from_numpy(~(now[:, None] | then)).flatten(0, 1)


def true_slots(labels: Tensor, poses: Tensor) -> Slots:
    """Things as they truly are in frames.

    Args: labels (B, H, W) uint8: 0 what stands fast, 1 the robot, 2 + k thing k; poses (B, 8, 7) metres and a
    quaternion x y z w, NaN where there is no thing.
    """
    pixels = torch.where(labels >= _FIRST_THING, labels - (_FIRST_THING - 1), 0)
    there = torch.isfinite(poses).all(-1)
    shown = torch.stack([(pixels == 1 + k).flatten(1).any(1) for k in range(MOST)], 1)
    batch, height, width = labels.shape
    empty = nothing(batch, height, width, labels.device)
    return Slots(
        there=there,
        seen=there & shown,
        position=poses[..., :3].nan_to_num(),
        std=empty.std,
        surface=empty.surface,
        last=empty.last,
        pixels=pixels,
    )


def true_motion(before: Tensor, after: Tensor, shake: Tensor | None = None) -> Motion:
    """What truly becomes of things, with noise on those that do not stay.

    Args: before (B, 8, 7), after (B, N, 8, 7), as poses of `true_slots`; shake (B, N, 8, 6), see `moved_pictures`.
    """
    turned = geometry.rotation_from_quaternion(after[..., 3:])
    rotation = turned @ geometry.rotation_from_quaternion(before[:, None, :, 3:]).mT
    position = after[..., :3]
    if shake is not None:
        gone = is_elsewhere(position - before[:, None, :, :3], rotation)
        noise = shake.to(position) * gone[..., None] * position.new_tensor([_OFF] * 3 + [_TURNED] * 3)
        position = position + noise[..., :3]
        rotation = geometry.pose_from_motion(noise)[..., :3, :3] @ rotation
    unknown = position.new_zeros(position.shape[:-1])
    return Motion(position, rotation, unknown, unknown)
