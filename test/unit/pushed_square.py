"""Hand-made episodes in which what is where is known: a square that moves, a robot that hides a column, a still one."""

import numpy as np

from deepverse_ros.data.store import Episode
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
SIZE = 64
METRES = 0.01
"""Of a pixel, 2 m away."""
ROBOT = (20, 200, 20)


def pushed(seed=0, *, frames=12, size=SIZE, steps=2, begins=4, labelled=True, touched=True):
    """From frame `begins` on the red square (thing 0) moves right by `steps` pixels a frame; a blue one (1) stays.

    The robot is a green column in front, 40 pixels from the left in frame 0 and one farther in each that follows.
    """
    rgb = np.full((frames, size, size, 3), 90, np.uint8)
    rgb[..., 0] += np.arange(size, dtype=np.uint8)  # so that each column of the wall is another colour
    depth = np.full((frames, size, size), 3000, np.uint16)
    seen = np.zeros((frames, size, size), np.uint8)
    poses = np.zeros((frames, 2, 7), np.float32)
    poses[..., 6] = 1
    touch = np.zeros((frames, 2), np.float32)
    for t in range(frames):
        gone = steps * max(0, t - begins + 1)
        for thing, (top, left, colour) in enumerate(((20, 5 + gone, (200, 30, 30)), (50, 5, (30, 30, 200)))):
            where = t, slice(top, top + 8), slice(left, left + 8)
            rgb[where], depth[where], seen[where] = colour, 2000, 2 + thing
            poses[t, thing, :3] = METRES * (left + 4 - size / 2), METRES * (top + 4 - size / 2), 2.0
        touch[t, 0] = touched and t == begins
        column = t, slice(0, size), slice(40 + t, 44 + t)
        rgb[column], depth[column], seen[column] = ROBOT, 1500, 1
    joints = np.tile(np.asarray(ARM.home, np.float32), (frames, 1))
    joints[:, :7] += np.random.default_rng(seed).normal(0, 0.1, (frames, 7)).astype(np.float32)
    state = {
        "joint_positions": joints[:, :7],
        "gripper_state": joints[:, 7:],
        "tool_position": np.zeros((frames, 3), np.float32),
    }
    if labelled:
        state |= {"object_poses": poses.reshape(frames, -1), "object_touched": touch}
        state["base_position"] = np.zeros((frames, 3), np.float32)
    return Episode(
        embodiment="arm",
        dt=ARM.dt,
        seed=seed,
        kind="push",
        rgb=rgb,
        depth=depth,
        actions=np.concatenate([joints[1:], joints[-1:]]),
        state=state,
        intrinsics=np.array([[200, 0, size / 2], [0, 200, size / 2], [0, 0, 1]], np.float32),
        camera_to_world=np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1)),
        segmentation=seen if labelled else None,
    )
