"""Which joint of a JointState is which value of an action."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.nodes.messages import MessageError


@dataclass(frozen=True)
class JointLayout:
    """Which joint of a JointState is which value of an action.

    gripper_joint: name of the joint that opens the gripper; empty: there is none in the messages, and the gripper
    counts as `gripper_default`. gripper_closed, gripper_open: that joint's positions which are 0 and 1.
    """

    embodiment: Embodiment
    gripper_joint: str = "gripper_joint"
    gripper_closed: float = 0.0
    gripper_open: float = 1.0
    gripper_default: float = 1.0

    def vector(self, message: JointState) -> np.ndarray:
        """The measured joints as an action vector (A,) float32: what a command to stay here would be.

        Raises: MessageError naming a joint that is missing, repeated or not finite, or lists of unequal length.
        """
        if len(message.position) != len(message.name):
            raise MessageError(
                f"joint_states position has {len(message.position)} values; name has {len(message.name)} entries"
            )
        positions = dict(zip(message.name, message.position, strict=True))
        out = np.array(self.embodiment.home, np.float32)
        slices = self.embodiment.slices
        if "joint_positions" in slices:
            out[slices["joint_positions"]] = [self._pick(positions, name) for name in self.embodiment.joint_names]
        if "gripper_state" in slices:
            opening = self.gripper_default
            if self.gripper_joint:
                travel = self.gripper_open - self.gripper_closed
                opening = (self._pick(positions, self.gripper_joint) - self.gripper_closed) / travel
            out[slices["gripper_state"]] = np.clip(opening, 0.0, 1.0)
        return out

    def names(self) -> list[str]:
        """Joint names in the order of an action vector."""
        gripper = [self.gripper_joint] if self.gripper_joint and "gripper_state" in self.embodiment.slices else []
        return [*self.embodiment.joint_names, *gripper]

    def places(self, values: np.ndarray) -> dict[str, float]:
        """Where each joint of `names` is by an action vector (A,)."""
        slices = self.embodiment.slices
        out = [float(v) for v in values[slices["joint_positions"]]] if "joint_positions" in slices else []
        out += [self.gripper_position(v) for v in values[slices["gripper_state"]]] if "gripper_state" in slices else []
        return dict(zip(self.names(), out, strict=False))

    def gripper_position(self, opening: float) -> float:
        """The gripper joint's position for an opening of 0 (closed) to 1 (open)."""
        return self.gripper_closed + float(opening) * (self.gripper_open - self.gripper_closed)

    @staticmethod
    def _pick(positions: Mapping[str, float], name: str) -> float:
        if name not in positions:
            raise MessageError(f"joint_states has no joint '{name}'; it has: {', '.join(positions) or 'none'}")
        if not np.isfinite(positions[name]):
            raise MessageError(f"joint_states position of '{name}' is {positions[name]}")
        return positions[name]


def joint_state(names: Sequence[str], positions: Sequence[float] | np.ndarray, header: Header) -> JointState:
    return JointState(header=header, name=list(names), position=[float(p) for p in positions])
