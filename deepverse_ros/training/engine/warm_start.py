"""Fine-tuning: a training that starts from the weights of a checkpoint."""

from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from deepverse_ros import resources
from deepverse_ros.errors import CheckpointError
from deepverse_ros.model.checkpoint import require_embodiment
from deepverse_ros.model.world_model import WorldModel


def warm_start(model: WorldModel, checkpoint: str, console: Console) -> dict[str, Any]:
    """Take every weight of the checkpoint whose name and shape fit; the others keep their first values.

    Returns: what the provenance says about it.
    Raises: CheckpointError if it cannot be read, is for another robot, or has nothing that fits.
    """
    source = WorldModel.load(checkpoint, "cpu", torch.float32)
    require_embodiment(source.embodiment.name, model.embodiment.name)
    given, wanted = (_learned(m) for m in (source, model))
    fitting = [name for name, p in wanted.items() if name in given and given[name].shape == p.shape]
    if not fitting:
        raise CheckpointError(
            f"init: none of the {len(wanted)} tensors of this network has the name and shape of one in '{checkpoint}'; "
            "take over the network section of the config that it was trained with, or train without init"
        )
    with torch.no_grad():
        for name in fitting:
            wanted[name].copy_(given[name])
    fresh = [name for name in wanted if name not in set(fitting)]
    console.print(f"init: {len(fitting)} of {len(wanted)} tensors from {checkpoint}")
    if fresh:
        console.print("init: trained from scratch: " + ", ".join(fresh))
    return {"checkpoint": str(resources.find(checkpoint)), "tensors": len(fitting), "from_scratch": len(fresh)}


def _learned(model: WorldModel) -> dict[str, Tensor]:
    """Tensors by name, without those that are fitted anew after every training."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("novelty.")}
