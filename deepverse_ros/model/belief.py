"""What the world model remembers of an observation."""

from dataclasses import dataclass

from torch import Tensor

from deepverse_ros.model.codec import Source, View
from deepverse_ros.model.dynamics import KeyValue, Steps
from deepverse_ros.model.things.model import ThingsBelief


@dataclass(frozen=True)
class Belief:
    """What the model remembers of an observation; opaque to its users.

    newest: the newest frame (T = 1; its action is what the robot did last, NaN unknown).
    context: keys and values of the frames before it.
    recalled: of frames from memory.
    source: what the decoder may copy.
    view: of the newest frame.
    embedding: (B, E) of the coarse level.
    tool_position: (B, 3) metres, of the newest frame.
    tool_std: (B,) metres, of the newest frame.
    novelty: (B,).
    depth: (B, h, w) metres, of the newest frame as it was observed, at the model's resolution; None without a depth
        camera.
    intrinsics: (3, 3) at the model's resolution; None: unknown.
    origin, camera_to_world: (B, 4, 4) of the oldest frame, to which poses are relative, and of the newest one; None:
        unknown.
    displaced: (B, 3) metres that the robot is seen beside where its joints say, 0 where the model knows no things.
    things: what is known of things; None: the model knows none, or the observation told no camera.
    """

    newest: Steps
    context: list[KeyValue]
    recalled: list[KeyValue]
    source: Source
    view: View
    embedding: Tensor
    tool_position: Tensor
    tool_std: Tensor
    novelty: Tensor
    depth: Tensor | None
    intrinsics: Tensor | None
    origin: Tensor | None
    camera_to_world: Tensor | None
    displaced: Tensor
    things: ThingsBelief | None = None

    def __len__(self) -> int:
        return len(self.novelty)

    @property
    def ood_score(self) -> float:
        """Largest novelty in the batch; above 1 is out of distribution."""
        return float(self.novelty.max())

    @property
    def out_of_distribution(self) -> bool:
        return self.ood_score > 1.0
