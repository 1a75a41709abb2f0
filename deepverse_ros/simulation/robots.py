"""Which robots can be simulated: those that have a folder of their embodiment's name beside this file.

A folder is looked into when its robot is asked for, so that nobody loads a simulator for the list alone.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from deepverse_ros import simulation
from deepverse_ros.errors import EmbodimentError

if TYPE_CHECKING:  # the command line, which reads the list for its help, starts without numpy
    from deepverse_ros.robot.embodiment import Embodiment
    from deepverse_ros.simulation.base import SimulatedRobot


def names() -> tuple[str, ...]:
    """Of the embodiments that can be simulated, in the order of the alphabet."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(simulation.__path__) if found.ispkg))


def of(embodiment: "Embodiment") -> "SimulatedRobot":
    """The simulated robot of an embodiment, found by its name.

    Raises: EmbodimentError naming the robots that can be simulated; RenderingError where nothing can render.
    """
    if embodiment.name not in names():
        raise EmbodimentError(f"embodiment '{embodiment.name}': nothing simulates it; simulated: {', '.join(names())}")
    module = importlib.import_module(f"{simulation.__name__}.{embodiment.name}.robot")
    robot: SimulatedRobot = module.Robot(embodiment)
    return robot
