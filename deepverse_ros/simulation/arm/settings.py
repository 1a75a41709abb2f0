"""The settings that the arm is simulated in: None, seen from afar, and "near"."""

from collections.abc import Callable

from deepverse_ros.errors import EmbodimentError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.near_scene import sample_near_scene
from deepverse_ros.simulation.arm.scene import Scene, sample_scene

_SAMPLERS: dict[str | None, Callable[..., Scene]] = {None: sample_scene, "near": sample_near_scene}
_COUNTS: dict[str | None, tuple[int | None, int | None]] = {None: (3, 1), "near": (None, None)}


def sampler_of(embodiment: Embodiment) -> Callable[..., Scene]:
    """What draws the scenes of its setting, called as `sample_scene`.

    Raises: EmbodimentError for a setting that the arm has not.
    """
    _require_known(embodiment)
    return _SAMPLERS[embodiment.setting]


def counts_of(embodiment: Embodiment) -> tuple[int | None, int | None]:
    """How many objects and obstacles a scene of its setting has, None where that is drawn. Raises: as `sampler_of`."""
    _require_known(embodiment)
    return _COUNTS[embodiment.setting]


def _require_known(embodiment: Embodiment) -> None:
    if embodiment.setting not in _SAMPLERS:
        known = ", ".join(name for name in _SAMPLERS if name)
        raise EmbodimentError(f"embodiment '{embodiment.name}': setting '{embodiment.setting}': the arm has: {known}")
