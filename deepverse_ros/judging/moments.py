"""What a command is judged by: settings, the moment that is seen, and what is imagined from it."""

from dataclasses import dataclass, field

import numpy as np

from deepverse_ros.model.belief import Belief
from deepverse_ros.model.future import Future
from deepverse_ros.safety.verdict import Verdict


@dataclass(frozen=True)
class JudgeSettings:
    """What a command is judged by.

    horizon: steps of dt that are imagined.
    margin: metres around the capsules within which points are the robot's own; predicted depth is off by a few
        centimetres.
    max_scale: metres; a pixel of whose depth the model is less sure than this is no point: such are the edges of what
        moves, where depth is between two things.
    stride: rows and columns of a depth picture from one point to the next.
    substeps: moments in a step for which the body's place is computed.
    valid_for: seconds for which a verdict may be used.
    min_gain: metres by which a command must clear what is violated to lead out of it.
    refresh_points: a command whose body would meet more scene points than this changes the scene, and is not refreshed.
    refresh_clearance: metres that the coarse level must see between robot and things in a refresh.
    refresh_tool: metres that its tool may be from where kinematics has it.
    """

    horizon: int = 8
    margin: float = 0.04
    max_scale: float = 0.05
    stride: int = 2
    substeps: int = 8
    valid_for: float = 0.5
    min_gain: float = 0.03
    refresh_points: int = 8
    refresh_clearance: float = 0.05
    refresh_tool: float = 0.10


@dataclass(frozen=True, eq=False)
class Seen:
    """One moment: what the model believes, and the measured picture that the belief ends with.

    stamp: of its image, ROS seconds.
    joints: (A,) measured then, None where unknown.
    no_observation: why nothing can be judged from it; empty where it can, and only then there are the following.
    depth: (N,) metres of the pixels.
    points: (1, N, 3) their points.
    own: (1, N) which of them are the robot.
    things: (M, 3) the points of all pixels that are neither the robot nor in an exclusion zone, and of what the robot
        hides.
    pixel: metres between two of them that face the camera.
    """

    belief: Belief
    stamp: float
    joints: np.ndarray | None
    no_observation: str = ""
    depth: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)
    points: np.ndarray = field(default_factory=lambda: np.zeros((1, 0, 3), np.float32), repr=False)
    own: np.ndarray = field(default_factory=lambda: np.zeros((1, 0), bool), repr=False)
    things: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32), repr=False)
    pixel: float = 0.0


@dataclass(frozen=True, eq=False)
class Imagined:
    """What a plan leads to.

    joints: (H, A) where the robot will be.
    scene: (H, N, 3) points without the robot's own.
    """

    future: Future
    joints: np.ndarray = field(repr=False)
    scene: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Judged:
    """A verdict, and the future that it rests on; None where nothing was imagined."""

    verdict: Verdict
    future: Future | None = None
