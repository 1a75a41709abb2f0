"""Which joint of a message is which value of an action, and by which names and turns a robot knows its joints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from deepverse_ros.nodes.runtime.parameters import Parameter, ParameterError
from deepverse_ros.robot.embodiment import Embodiment

NAMES = (
    Parameter("gripper_joint", "gripper_joint", "Joint that opens the gripper; empty: the messages hold none."),
    Parameter("joint_prefix", "", "What the robot's names of its joints begin with before the embodiment's."),
    Parameter(
        "joint_map",
        [""],
        "Joints that the robot names otherwise, as 'robot_name=our_name'; ours is the embodiment's or gripper_joint's.",
    ),
)
PARAMETERS = (
    *NAMES,
    Parameter("gripper_closed", 0.0, "Position of gripper_joint when the gripper is closed (rad or m).", -10.0, 10.0),
    Parameter("gripper_open", 1.0, "Position of gripper_joint when the gripper is open (rad or m).", -10.0, 10.0),
)


@dataclass(frozen=True)
class JointLayout:
    """Which joint of a message is which value of an action.

    gripper_joint: our name of the joint that opens the gripper; empty: there is none in the messages, and the gripper
    counts as `gripper_default`. gripper_closed, gripper_open: that joint's positions which are 0 and 1. prefix,
    renamed: a joint's name in messages is `renamed[our name]` where that is given, and otherwise `prefix` + our name.
    """

    embodiment: Embodiment
    gripper_joint: str = "gripper_joint"
    gripper_closed: float = 0.0
    gripper_open: float = 1.0
    gripper_default: float = 1.0
    prefix: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, embodiment: Embodiment, p: SimpleNamespace) -> "JointLayout":
        """Args: p: values of NAMES, and of PARAMETERS where the robot has a gripper of its own units.

        Raises: ParameterError naming what cannot be.
        """
        closed, opened = getattr(p, "gripper_closed", 0.0), getattr(p, "gripper_open", 1.0)
        if closed == opened:
            raise ParameterError(f"parameter 'gripper_open' is {opened}, the same as gripper_closed")
        renamed: dict[str, str] = {}
        layout = cls(embodiment, p.gripper_joint, closed, opened, prefix=p.joint_prefix, renamed=renamed)
        for entry in filter(None, p.joint_map):
            robots, _, ours = (part.strip() for part in entry.partition("="))
            if not robots or ours not in layout.our_names:
                known = ", ".join(layout.our_names) or "none"
                raise ParameterError(
                    f"parameter 'joint_map' has '{entry}'; expected 'robot_name=our_name' with one of ours: {known}"
                )
            if ours in renamed:
                raise ParameterError(f"parameter 'joint_map' names '{ours}' twice")
            renamed[ours] = robots
        names = layout.names()
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ParameterError(f"parameter 'joint_map': two joints would be '{twice}' in messages")
        return layout

    @property
    def our_names(self) -> list[str]:
        """The embodiment's names in the order of an action vector, and gripper_joint."""
        return [*self.embodiment.joint_names, *([self.gripper_joint] if self.has_gripper_joint else [])]

    @property
    def has_gripper_joint(self) -> bool:
        """Whether messages hold a joint that opens the gripper."""
        return bool(self.gripper_joint) and self.embodiment.gripper is not None

    @property
    def gripper_name(self) -> str:
        """The robot's name of the joint that opens the gripper; empty where messages hold none."""
        return self.name(self.gripper_joint) if self.has_gripper_joint else ""

    def name(self, ours: str) -> str:
        """The robot's name of a joint."""
        return self.renamed.get(ours, self.prefix + ours)

    def names(self) -> list[str]:
        """The robot's names in the order of an action vector."""
        return [self.name(ours) for ours in self.our_names]

    def columns(self) -> list[int]:
        """Which value of an action each of `names` is."""
        gripper, joints = self.gripper_column(), self.embodiment.joints
        return [*range(joints.start, joints.stop), *([gripper] if self.has_gripper_joint else [])]

    def gripper_column(self) -> int:
        """Which value of an action opens the gripper; -1: none."""
        gripper = self.embodiment.gripper
        return -1 if gripper is None else self.embodiment.slices[gripper.name].start

    def values(self, positions: Mapping[str, float]) -> np.ndarray:
        """An action vector (A,) float32 of positions by the robot's names, of which all must be there."""
        out = np.array(self.embodiment.home, np.float32)
        if self.embodiment.gripper is not None:
            out[self.gripper_column()] = np.clip(self.gripper_default, 0.0, 1.0)
        for name, column in zip(self.names(), self.columns(), strict=True):
            out[column] = positions[name]
        if self.has_gripper_joint:
            opening = self.gripper_opening(positions[self.name(self.gripper_joint)])
            out[self.gripper_column()] = np.clip(opening, 0.0, 1.0)
        return out

    def positions(self, action: np.ndarray, turns: np.ndarray | None = None) -> list[float]:
        """Positions in the order of `names` of an action (A,). Args: turns (A,): see `RobotState`."""
        values = np.asarray(action, np.float64) + (0.0 if turns is None else turns)
        out = values[self.columns()].tolist()
        if self.has_gripper_joint:
            out[-1] = self.gripper_position(out[-1])
        return out

    def places(self, action: np.ndarray, turns: np.ndarray | None = None) -> dict[str, float]:
        """`positions` by name."""
        return dict(zip(self.names(), self.positions(action, turns), strict=True))

    def gripper_opening(self, position: Any) -> Any:
        """0 (closed) to 1 (open) for a position, or positions, of the gripper's joint; beyond for what is beyond."""
        return (position - self.gripper_closed) / (self.gripper_open - self.gripper_closed)

    def gripper_position(self, opening: float) -> float:
        """The gripper joint's position for an opening of 0 (closed) to 1 (open)."""
        return self.gripper_closed + float(opening) * (self.gripper_open - self.gripper_closed)


def joint_state(names: Sequence[str], positions: Sequence[float] | np.ndarray, header: Header) -> JointState:
    """Joints by their names as a message; positions in rad or metres."""
    return JointState(header=header, name=list(names), position=[float(p) for p in positions])
