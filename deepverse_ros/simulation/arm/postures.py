"""Joints of the arm for a hand that points down, in closed form: thousands of times a second."""

import numpy as np

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.model import SHOULDER_HEIGHT, TOOL_LENGTH

# Metres between the points where the axes of joints 1 to 3, of joint 4, and of joints 5 to 7 meet, and to the tool.
_UPPER_ARM, _FOREARM, _HAND = 0.42, 0.40, 0.081 + TOOL_LENGTH
# Metres from the shoulder to the wrist: the elbow neither folded to its limit nor stretched.
_NEAREST, _FARTHEST = 0.43, 0.80
TIP = 0.016  # metres that the fingers reach beyond the tool's point
_STEEPEST = 0.85  # sine of the hand's largest tilt


class Postures:
    """Joints for poses of the hand.

    A pose is (5,): x y z of the tool in metres in the base frame; turn: heading in rad of the line along which the
    fingers close, the same after half a turn; opening of the gripper, 0 to 1. The hand points down, and leans towards
    or away from the base where the arm would otherwise not get there.
    """

    def __init__(self, embodiment: Embodiment, elbow: float = 0.0, lean: tuple[float, float] = (0.0, 0.0)) -> None:
        """Args: elbow: joint 3 in rad, out of the upright plane. lean: of the hand, x and y of where it points."""
        self._lower, self._upper = embodiment.lower.astype(float), embodiment.upper.astype(float)
        self._elbow = elbow
        self._lean = np.asarray(lean)

    def joints(self, poses: np.ndarray, wrist: float = 0.0) -> np.ndarray:
        """(N, 8) for poses (N, 5) along one way; NaN in rows out of reach.

        Args: wrist: joint 7 in rad, which that of the first pose is nearest to.
        """
        position, turn = poses[:, :3], poses[:, 3]
        out_of_hand = self._pointing(position)
        x, y, z = (position - _HAND * out_of_hand - (0.0, 0.0, SHOULDER_HEIGHT)).T
        distance = np.sqrt(x * x + y * y + z * z)
        with np.errstate(invalid="ignore"):
            bend = np.arccos((distance**2 - _UPPER_ARM**2 - _FOREARM**2) / (2 * _UPPER_ARM * _FOREARM))
            forward = _FOREARM * np.sin(bend) * np.cos(self._elbow)
            aside = _FOREARM * np.sin(bend) * np.sin(self._elbow)
            upward = _UPPER_ARM + _FOREARM * np.cos(bend)
            length = np.hypot(forward, upward)
            fall = np.arccos(z / length)
        second = fall - np.arctan2(forward, upward)
        first = _wrapped(np.arctan2(y, x) - np.arctan2(aside, length * np.sin(fall)))
        # Where the hand points and how it closes, (2, N) each, as seen from one link after the other.
        level = np.stack([out_of_hand[:, 0], np.cos(turn)]), np.stack([out_of_hand[:, 1], np.sin(turn)])
        x, y = _turned_back(*level, first)
        z = np.stack([out_of_hand[:, 2], np.zeros_like(turn)])
        z, x = _turned_back(z, x, second)
        x, y = _turned_back(x, y, self._elbow)
        z, x = _turned_back(z, x, bend)
        # Of the two ways to point the hand there, the one with less twist of the forearm.
        sign = np.where(x[0] < 0, -1.0, 1.0)
        fifth = np.arctan2(sign * y[0], sign * x[0])
        sixth = sign * np.arccos(np.clip(z[0], -1, 1))
        x, y = _turned_back(x, y, fifth)
        z, x = _turned_back(z, x, sixth)
        seventh = _unwrapped(np.arctan2(-x[1], y[1]), wrist)
        elbow = np.full_like(first, self._elbow)
        joints = np.stack([first, second, elbow, -bend, fifth, sixth, seventh, poses[:, 4]], axis=1)
        within = (joints >= self._lower - 1e-6) & (joints <= self._upper + 1e-6)
        return np.where(within.all(1, keepdims=True), joints, np.nan)

    def depth(self, position: np.ndarray, radius: float) -> float:
        """Metres that a hand of `radius` metres, its tool at `position` (3,), reaches below the tool at most."""
        down = -self._pointing(np.asarray(position, float)[None])[0, 2]
        return float(TIP * down + radius * np.sqrt(max(0.0, 1 - down**2)))

    def _pointing(self, position: np.ndarray) -> np.ndarray:
        """Unit vectors (N, 3) out of the gripper: downwards, with the wrist at a distance that the arm can have."""
        radius = np.hypot(position[:, 0], position[:, 1])
        outward = position[:, :2] / np.maximum(radius, 1e-9)[:, None]
        tilt = np.zeros_like(radius)
        for _ in range(2):
            height = position[:, 2] + _HAND * np.sqrt(1 - tilt**2) - SHOULDER_HEIGHT
            nearest = np.sqrt(np.maximum(_NEAREST**2 - height**2, 0.0))
            farthest = np.sqrt(np.maximum(_FARTHEST**2 - height**2, 0.0))
            tilt = np.clip((radius - np.clip(radius, nearest, farthest)) / _HAND, -_STEEPEST, _STEEPEST)
        level = outward * tilt[:, None]
        out = np.concatenate([level + self._lean, -np.sqrt(1 - tilt**2)[:, None]], axis=1)
        return out / np.sqrt((out**2).sum(axis=1, keepdims=True))


def _turned_back(one: np.ndarray, other: np.ndarray, angle: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Components along two axes, as seen from a link that is turned by `angle` from the one axis to the other."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * one + sin * other, cos * other - sin * one


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _unwrapped(half_turns: np.ndarray, first: float) -> np.ndarray:
    """Angles (N,) rad that mean the same after half a turn, without jumps, the first of them nearest to `first`."""
    if not np.isfinite(half_turns).all():
        return half_turns
    steps = np.diff(half_turns, prepend=first)
    steps -= np.pi * np.round(steps / np.pi)
    return first + np.cumsum(steps)
