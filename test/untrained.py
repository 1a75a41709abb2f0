"""A checkpoint for tests of everything around the model: quick to make and to run, and it knows nothing."""

from pathlib import Path

import torch

from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment

IN_REACH = (0.55, 0.0, 0.40)
"""Metres in the base frame: in front of the arm, above the table."""


def untrained_checkpoint(path: Path, embodiment: str | Path = "arm") -> Path:
    """Write a model that knows every picture, promises an error of 1 cm and reads another place from every picture.

    Args: embodiment: name or file of its robot.
    """
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(Embodiment.load(embodiment)))
    with torch.no_grad():
        model.outcome_readout.body[-1].weight[:3] *= 15.0
        last = model.picture_readout.place[-1]
        last.weight[:3] *= 5.0
        grey, _ = model.picture_readout(torch.full((1, 5, model.config.height, model.config.width), 0.5))
        # What is read, of pictures and of what is imagined, stays around a place that the arm can be led to.
        last.bias[:3] += torch.tensor(IN_REACH) - grey[0]
        model.outcome_readout.body[-1].bias[:3] += torch.tensor(IN_REACH)
    model.novelty.trust_all()
    model.calibration = {"level": 0.9, "goal_error_z": [0.01] * model.config.horizon}
    model.save(path)
    return path
