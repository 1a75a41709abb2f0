"""Windows of simulated scenes that the robot's training never shows."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.model.observation import Observation
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation import robots


@dataclass(frozen=True)
class OodWindow:
    """T frames of one scene as the model observes them.

    seen: Observation of (1, T) frames. past (1, T-1, A): the joints at each frame but the first; the robot's home pose
    where another one is seen.
    """

    seen: Observation
    past: np.ndarray


class Strangers:
    """Draws ood_windows; belongs to the thread that made it, as its renderer does.

    kinds: of the scenes, of which "ordinary" ones are the control.
    """

    def __init__(self, embodiment: Embodiment, width: int, height: int) -> None:
        """Args: width, height: pixels. Raises: EmbodimentError for a robot that is not simulated."""
        robot = robots.of(embodiment)
        self.kinds = robot.ood_kinds
        self._scenes = robot.ood_scenes(width, height)

    def sight(self, kind: str, seed: int, frames: int) -> OodWindow:
        """`frames` pictures of a scene of `kind` (one of `kinds`), the robot slowly moving."""
        scene = self._scenes.frames(kind, seed, frames)
        seen = Observation.from_numpy(scene.rgb, scene.depth, scene.intrinsics, scene.camera_to_world)
        return OodWindow(seen, scene.joints[None, 1:].astype(np.float32))

    def close(self) -> None:
        """Free the renderer."""
        self._scenes.close()

    def __enter__(self) -> "Strangers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def kinds_of(embodiment: Embodiment) -> tuple[str, ...]:
    """Kinds of scenes that can be simulated; none for a robot that cannot be."""
    return robots.of(embodiment).ood_kinds if embodiment.name in robots.names() else ()
