"""Where the tool is imagined when something stops the robot, beside when nothing does."""

from typing import Any

import numpy as np

from deepverse_ros.evaluation.prediction.windows import Windows
from deepverse_ros.robot.embodiment import Embodiment

BEHIND = 0.15
"""A joint that stays so far behind its target is blocked, rad."""

DEFINITIONS = {
    "blocked": f"frames in which a joint is more than {BEHIND:g} rad behind its target, and free, the others; error_m: "
    "median distance of the true place of the tool and that which the model reads from its imagined frame and the "
    "action that leads to it (model) or that of the commanded joints, the base standing where it really does "
    "(kinematics); n: frames of all steps and windows; null for a robot without joints",
}


class BlockedErrors:
    """Errors of the tool's place, gathered window by window."""

    def __init__(self, embodiment: Embodiment) -> None:
        self._embodiment = embodiment
        measured = {m.name for m in embodiment.measured}
        joints = [m.name for m in embodiment.modalities if m.joints and m.name in measured]
        self._joints = joints[0] if joints and embodiment.actions_place_body else None
        self._errors: dict[str, list[np.ndarray]] = {"model": [], "kinematics": []}
        self._blocked: list[np.ndarray] = []

    def add(self, windows: Windows, tool: np.ndarray) -> None:
        """Args: tool (B, H, 3) metres in the base frame, as the model imagines it."""
        if self._joints is None or self._embodiment.body is None:
            return
        told = self._embodiment.action_values(windows.plans)
        stands = self._embodiment.measured_values(windows.states)[self._joints]
        self._blocked.append((np.abs(told[self._joints] - stands) > BEHIND).any(-1))
        brought = self._embodiment.body.forward_kinematics(told)[self._embodiment.tool_frame][..., :3, 3]
        if windows.base is not None:
            brought = brought + windows.base[:, None]
        for name, place in (("model", tool), ("kinematics", brought)):
            self._errors[name].append(np.linalg.norm(place - windows.tool[:, 1:], axis=-1))

    def figures(self) -> dict[str, Any] | None:
        if not self._blocked:
            return None
        blocked = np.concatenate(self._blocked)
        return {**self._of(blocked), "free": self._of(~blocked)}

    def _of(self, frames: np.ndarray) -> dict[str, Any]:
        chosen = {name: np.concatenate(parts)[frames] for name, parts in self._errors.items()}
        median = {name: float(np.median(values)) if len(values) else None for name, values in chosen.items()}
        return {"error_m": median, "n": int(frames.sum())}
