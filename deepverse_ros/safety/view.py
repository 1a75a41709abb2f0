"""What zones are held against: points of scene and robot over some moments, and where frames are then."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from deepverse_ros.errors import ShapeError
from deepverse_ros.robot.rigid import check_rigid

Subject = Literal["scene", "robot"]


@dataclass(frozen=True, eq=False)
class Slack:
    """How far a frame may be from where it is taken to be: its origin shift (S,) metres, its axes turn (S,) rad."""

    shift: np.ndarray
    turn: np.ndarray

    def radius(self, points: np.ndarray) -> np.ndarray:
        """(S, N) metres by which points (S, N, 3) in that frame may be elsewhere in it; inf for a turn of 1 or more.

        A point that is fixed in the world and x away from the true origin is off by shift + turn x at most, and x is
        itself off by that much.
        """
        away = np.linalg.norm(points, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            off = (self.shift[:, None] + self.turn[:, None] * away) / (1 - self.turn[:, None])
        return np.where(self.turn[:, None] < 1, off, np.inf).astype(points.dtype)


@dataclass(frozen=True, eq=False)
class View:
    """S moments, such as the steps of an imagined future.

    frame_id: frame of the points.
    scene: (S, N, 3) metres, what is seen but is not the robot; a point that is not finite is no point.
    robot: (S, M, 3) metres, centres of spheres that together cover the robot (see `Placed.collision_spheres`); None
        where the robot is not known.
    robot_radius: metres, one for all, (M,) or (S, M).
    transforms: from `frame_id` to each frame that a zone stands in, (4, 4), or (S, 4, 4) for a frame that moves.
    slack: of frames whose place is not exactly known: by how much they may be shifted and turned.

    Raises: ShapeError naming the field, for another shape, a transform that is not rigid, or a radius below zero.
    """

    frame_id: str
    scene: np.ndarray
    robot: np.ndarray | None = None
    robot_radius: np.ndarray | float = 0.0
    transforms: Mapping[str, np.ndarray] = field(default_factory=dict)
    slack: Mapping[str, "Slack"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("scene", "robot"):
            points = getattr(self, name)
            if points is not None and (points.ndim != 3 or points.shape[2] != 3 or points.dtype.kind != "f"):
                raise ShapeError(f"{name}: expected floats (S, N, 3), got {points.dtype} {points.shape}")
        if self.robot is not None:
            if len(self.robot) != self.steps:
                raise ShapeError(f"robot: has {len(self.robot)} moments, the scene has {self.steps}")
            radius = np.asarray(self.robot_radius)
            if (
                radius.shape not in ((), self.robot.shape[1:2], self.robot.shape[:2])
                or not (np.isfinite(radius) & (radius >= 0)).all()
            ):
                raise ShapeError(
                    f"robot_radius: expected one value, {self.robot.shape[1:2]} or {self.robot.shape[:2]}, none below "
                    f"0, got shape {radius.shape}"
                )
        for frame, transform in self.transforms.items():
            check_rigid(f"transforms['{frame}']", transform, self.steps)
        for frame, slack in self.slack.items():
            if slack.shift.shape != (self.steps,) or slack.turn.shape != (self.steps,):
                raise ShapeError(f"slack['{frame}']: expected shift and turn ({self.steps},)")

    @property
    def steps(self) -> int:
        """S."""
        return len(self.scene)

    def points(self, of: Subject) -> tuple[np.ndarray, np.ndarray | float]:
        """(S, N, 3) and the radius of each, one for all or (N,). Raises: ShapeError where the robot is not known."""
        if of == "scene":
            return self.scene, 0.0
        if self.robot is None:
            raise ShapeError("robot: a zone watches the robot itself, so its points must be given")
        return self.robot, self.robot_radius

    def transform(self, frame_id: str, moving: bool = False) -> np.ndarray:
        """(4, 4) or (S, 4, 4) from the points' frame to `frame_id`.

        Args: moving: the frame moves, so one transform for all moments will not do, unless there is only one moment.
        Raises: ShapeError naming the frame that is missing, or that stands still.
        """
        if frame_id == self.frame_id:
            return np.eye(4)
        if frame_id not in self.transforms:
            known = ", ".join(sorted({self.frame_id, *self.transforms}))
            raise ShapeError(f"transforms: no frame '{frame_id}'; given are {known}")
        transform = self.transforms[frame_id]
        if moving and transform.ndim == 2 and self.steps > 1:
            raise ShapeError(
                f"transforms['{frame_id}']: a zone is attached to this frame; expected ({self.steps}, 4, 4), one for "
                "each moment, got (4, 4)"
            )
        return transform
