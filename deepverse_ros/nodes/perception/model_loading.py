"""The world model of a node: its parameters, and loading it ready for the first frame."""

import torch

from deepverse_ros import resources
from deepverse_ros.model import checkpoint
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.robot.embodiment import Embodiment

PARAMETERS = (
    Parameter(
        "checkpoint",
        "models/arm",
        "Folder of the world model: absolute, or a name of this package, such as models/arm.",
    ),
    Parameter(
        "device", "auto", "Where the model computes; auto: CUDA if there is one.", choices=("auto", "cpu", "cuda")
    ),
    Parameter(
        "embodiment",
        "",
        "Robot that the checkpoint must be for: a name or file of config/embodiments; empty: whichever it is for.",
    ),
    Parameter("torch_threads", 0, "CPU threads of the model; 0: one per core.", 0, 256),
)


def load_model(node: RobotNode) -> WorldModel:
    """Load and warm up what the parameters name. Raises: DeepverseError saying what is wrong with which."""
    p = node.parameters.values()
    if p.torch_threads:
        torch.set_num_threads(p.torch_threads)
    # What is wrong with a description is said before a large file is read.
    embodiment = Embodiment.load(p.embodiment) if p.embodiment else None
    model = WorldModel.load(p.checkpoint, device=p.device)
    if embodiment is not None:
        checkpoint.require_embodiment(model.embodiment.name, embodiment.name)
    milliseconds = model.warm_up()
    node.get_logger().info(
        f"loaded {resources.find(p.checkpoint)} on {model.device} ({torch.get_num_threads()} threads, "
        f"{model.config.width}x{model.config.height}), warmed up in {milliseconds:.0f} ms"
    )
    return model
