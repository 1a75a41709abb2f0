"""What the world model remembers of an observation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deepverse_ros.model.codec import Source, View
from deepverse_ros.model.dynamics import KeyValue, Steps
from deepverse_ros.model.observation import unlike_training
from deepverse_ros.model.things.model import ThingsBelief

LEAST_SHOWN = 0.6
"""Of the pixels in which a robot has to be seen by its joints, the share that shows it or what stands before it."""
_ALIKE = 0.1  # of a pixel's colours, 0 to 1, the largest difference
_LEAST = 0.05  # of that share that counts in the score, which stays a number that can be read


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
    def strangeness(self) -> Tensor:
        """(B,) the novelty, or how much too little of the robot is seen where its joints say; above 1 is unknown."""
        return torch.maximum(self.novelty, self._missing)

    @property
    def ood_score(self) -> float:
        """Largest strangeness in the batch; above 1 is out of distribution."""
        return float(self.strangeness.max())

    @property
    def out_of_distribution(self) -> bool:
        return self.ood_score > 1.0

    @property
    def doubt(self) -> str:
        """What is out of distribution, as the end of a sentence about the observation; empty where nothing is."""
        if not self.out_of_distribution:
            return ""
        row = int(self.strangeness.argmax())
        if self.things is None or self._missing[row] < self.novelty[row]:
            return unlike_training(self.ood_score)
        return (
            f"shows no robot in {1 - float(self.things.shown[row]):.0%} of where the joints say that it is, "
            f"more than {1 - LEAST_SHOWN:.0%}: it is another robot, its base was moved, or its joints' zeros or the "
            "camera's extrinsics are wrong"
        )

    def agreement(self, frame: Tensor | None) -> float:
        """The share of the pixels of a picture that look as the newest frame does, 0 to 1; 1 without a picture.

        Args: frame (5, H, W) as the codec sees it. With a batch, the least of its rows.
        """
        if frame is None:
            return 1.0
        newest = self.source.frames[:, -5:]  # the older one comes first
        alike = (newest[:, :3] - frame[:3]).abs().amax(1) < _ALIKE
        return float(alike.float().mean((1, 2)).min())

    @property
    def _missing(self) -> Tensor:
        """(B,) above 1 where too little of the robot is seen where its joints say; 0 where nobody knows."""
        if self.things is None:
            return torch.zeros_like(self.novelty)
        return (LEAST_SHOWN / self.things.shown.clamp_min(_LEAST)).nan_to_num().to(self.novelty)
