"""Whether what moves is imagined: the world beside the robot, things, touches and a robot that something stops."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.data.store import Episode
from deepverse_ros.evaluation.prediction import blocked, things, world
from deepverse_ros.evaluation.prediction.blocked import BlockedErrors
from deepverse_ros.evaluation.prediction.kinematic_copy import KinematicCopy
from deepverse_ros.evaluation.prediction.registry import Predicted
from deepverse_ros.evaluation.prediction.things import Imagined, ThingErrors
from deepverse_ros.evaluation.prediction.windows import Windows
from deepverse_ros.evaluation.prediction.world import WorldErrors
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.future import Future
from deepverse_ros.model.things.slots import Things
from deepverse_ros.model.world_model import WorldModel

DEFINITIONS = {**world.DEFINITIONS, **things.DEFINITIONS, **blocked.DEFINITIONS}


class MovingWorld:
    """Gathers the figures of what moves, episode by episode."""

    def __init__(self, model: WorldModel, horizon: int) -> None:
        self._model = model
        self._world = WorldErrors(horizon)
        self._things = ThingErrors()
        self._blocked = BlockedErrors(model.embodiment)
        self._copy = KinematicCopy(model)

    def add(
        self, windows: Windows, episode: Episode, belief: Belief, future: Future, predicted: Mapping[str, Predicted]
    ) -> None:
        """Args: belief and future of the windows; predicted: by predictor, see `evaluate`."""
        self._blocked.add(windows, future.readout["tool_position"].float().cpu().numpy())
        if windows.segmentation is None:
            return
        copy = self._copy.of_episode(windows, episode)
        self._world.add(windows, predicted if copy is None else {**predicted, "copy": copy})
        self._things.add(windows, imagined_things(self._model, windows, belief, future))

    def figures(self) -> dict[str, Any]:
        """world, things, contact and blocked, as their definitions say; each None where nobody knows."""
        return {
            "world": self._world.figures(),
            "things": self._things.figures(),
            "contact": self._things.contact(),
            "blocked": self._blocked.figures(),
        }

    def close(self) -> None:
        """Free the renderer of the copies."""
        self._copy.close()


def imagined_things(model: WorldModel, windows: Windows, belief: Belief, future: Future) -> Imagined | None:
    """What a model says of the things of some windows; None for one that knows none."""
    if belief.things is None or future.things is None:
        return None
    slots, ahead = belief.things.slots, future.things
    coarse = model.imagine_coarse(belief, windows.plans).things
    last = future.rgb[:, -1].float(), future.depth[:, -1].float(), future.states[:, -1]
    true = windows.rgb[:, -1], windows.depth[:, -1], torch.from_numpy(windows.states[:, -1]).float()
    return Imagined(
        seen_at=np.where(slots.there.cpu().numpy()[..., None], slots.position.float().cpu().numpy(), np.nan),
        future=_last(ahead),
        coarse=None if coarse is None else _last(coarse),
        read_pictures=_read(model, windows, *last),
        read_truth=_read(model, windows, *true),
    )


def _read(model: WorldModel, windows: Windows, rgb: Tensor, depth: Tensor, states: Tensor) -> Things | None:
    """What the model's reader sees in pictures (B, 3, h, w) with depth (B, h, w) of a robot at states (B, K)."""
    intrinsics, pose = windows.seen.intrinsics, windows.seen.camera_to_world
    if intrinsics is None or pose is None:
        return None
    return model.read_things(rgb, depth, states, intrinsics, pose.expand(len(rgb), 4, 4))


def _last(things: Things) -> Things:
    """Of the last of some steps."""
    return Things(**{f.name: getattr(things, f.name)[:, -1] for f in fields(things)})
