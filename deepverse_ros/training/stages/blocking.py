"""Training of where a blocked robot comes to stand, on what robots measured that were driven against things."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros.data.practice import Practice, looks
from deepverse_ros.model.readout import robust_nll
from deepverse_ros.model.things.blocking import Blocking
from deepverse_ros.model.things.detail import COARSE, FINE, Detail
from deepverse_ros.model.things.ground import HeightMap
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.config import BlockingStageConfig
from deepverse_ros.training.engine.draw import Draw

# Where the absolute error takes over from the square: rad and metres.
_ROBUST_RAD, _ROBUST_M = 0.02, 0.005
_TOOL_WEIGHT, _BLOCKED_WEIGHT = 5.0, 0.02
_UNSURE = 1e-3  # nothing is surer than this
_BATCH = 128
# As one plan is imagined, and, every so many steps, as many are ranked.
_COARSE_EVERY = 3


@dataclass(frozen=True)
class Drives:
    """E episodes of T frames of a robot that stands where its joints say.

    commanded, measured: (E, T, A) float32, physical units: commanded[t] leads from measured[t] to measured[t + 1].
    grounds: (E, F, ROWS, COLUMNS) heights in metres, known everywhere, as read at some frames.
    frames: (E, F) which ones, in their order.
    """

    commanded: Tensor
    measured: Tensor
    grounds: Tensor
    frames: Tensor

    @classmethod
    def of(cls, practice: Practice) -> "Drives":
        """The robot's part of what was practised."""
        seen = torch.tensor(list(looks(practice.poses.shape[1]))).expand(len(practice), -1)
        commanded, measured = (torch.from_numpy(t) for t in (practice.commanded, practice.measured))
        return cls(commanded, measured, torch.from_numpy(practice.ground), seen)

    def __len__(self) -> int:
        return len(self.commanded)

    def __getitem__(self, index: slice) -> "Drives":
        return replace(self, **{name: part[index] for name, part in vars(self).items()})

    def ground(self, episodes: Tensor, times: Tensor) -> HeightMap:
        """As it was last read at (B,) times of (B,) episodes, or else read first."""
        read = (self.frames[episodes] <= times[:, None]).sum(1) - 1
        return HeightMap(self.grounds[episodes, read.clamp_min(0)].float())


class BlockingStage:
    """Trains the network that tells where a commanded robot comes to stand."""

    name = "blocking"

    def __init__(
        self,
        module: Blocking,
        embodiment: Embodiment,
        config: BlockingStageConfig,
        train: Drives,
        held_out: Drives,
        device: torch.device,
    ) -> None:
        """Raises: ValueError for a robot that `Blocking` knows nothing of."""
        if module.chain is None:
            raise ValueError(f"'{embodiment.name}': its body is not described, or it does not measure its actions")
        self.module = module.to(device)
        self.chain = module.chain
        self.tool_frame = embodiment.tool_frame
        self.config = config
        self.device = device
        self.train, self.held_out = train, held_out
        self.windows, held = self._windows(train)
        self.held = held if len(held) else self.windows

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        batch = self.config.batch
        windows, held = (
            among[torch.from_numpy(draw.integers(0, len(among), batch))] for among in (self.windows, self.held)
        )
        chosen = torch.where(draw.uniform(batch)[:, None] < self.config.blocked, held, windows)
        joints, std, blocked, plans, truth = self._followed(
            self.train, chosen, FINE if step % _COARSE_EVERY else COARSE
        )
        off = (self._tool(joints) - self._tool(truth)).flatten(0, 1)
        turned = (joints - truth)[..., self.module.turns]
        held_back = self.module.behind(plans - truth).float()
        losses = {
            "joints": F.smooth_l1_loss(turned, torch.zeros_like(turned), beta=_ROBUST_RAD),
            "tool": _TOOL_WEIGHT * F.smooth_l1_loss(off, torch.zeros_like(off), beta=_ROBUST_M),
            "spread": robust_nll(off.detach(), std.flatten()).mean(),
            "blocked": _BLOCKED_WEIGHT * F.binary_cross_entropy(blocked.clamp(_UNSURE, 1 - _UNSURE), held_back),
        }
        return {"total": sum(losses.values(), off.new_zeros(())), **losses, "tool_m": off.norm(dim=-1).mean()}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """How well it is known where robots stand, on held-out windows.

        blocked_median_cm, blocked_mean_cm: tool error of frames in which a joint is more than `BEHIND` from its
        command; free_ of the others; kinematic_ of the same if the robot stood at its command. blocked_recall,
        blocked_precision: of telling the former.
        """
        windows, _ = self._windows(self.held_out)
        windows = windows[:: self.config.horizon]
        parts = []
        for rows in windows.split(_BATCH):
            joints, _, blocked, plans, truth = self._followed(self.held_out, rows)
            behind = self.module.behind(plans - truth)
            tool, told, true = (self._tool(states) for states in (joints, plans, truth))
            error, kinematic = ((place - true).norm(dim=-1) * 100 for place in (tool, told))
            parts.append(torch.stack([error, kinematic, behind.float(), (blocked > 0.5).float()]).flatten(1).cpu())
        error, kinematic, behind, found = torch.cat(parts, 1)
        scores: dict[str, float] = {}
        for kind, chosen in (("blocked", behind > 0), ("free", behind == 0)):
            for name, values in ((kind, error[chosen]), (f"{kind}_kinematic", kinematic[chosen])):
                scores |= {f"{name}_median_cm": float(values.median()), f"{name}_mean_cm": float(values.mean())}
        both = float((behind * found).sum())
        scores["blocked_recall"] = both / max(1.0, float(behind.sum()))
        scores["blocked_precision"] = both / max(1.0, float(found.sum()))
        return scores

    def _windows(self, drives: Drives) -> tuple[Tensor, Tensor]:
        """(M, 2) episode and first frame of all windows, and of those in which the robot is held back."""
        behind = self.module.behind((drives.commanded[:, :-1] - drives.measured[:, 1:]).to(self.device)).cpu()
        held = behind.unfold(1, self.config.horizon, 1).any(-1)
        return torch.ones_like(held).nonzero(), held.nonzero()

    def _followed(
        self, drives: Drives, windows: Tensor, detail: Detail = FINE
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What the network says of windows (B, 2): joints, std and blocked; and their plans and what was measured."""
        episodes, start = windows.unbind(1)
        times = start[:, None] + torch.arange(self.config.horizon)
        plans = drives.commanded[episodes[:, None], times].to(self.device)
        truth = drives.measured[episodes[:, None], times + 1].to(self.device)
        newest = drives.measured[episodes, start].to(self.device)
        ground = HeightMap(drives.ground(episodes, start).heights.to(self.device))
        stance = self.module.stands(newest, plans, ground, plans.new_zeros(1, 3), detail)
        assert stance is not None
        return stance.joints, stance.std, stance.blocked, plans, truth

    def _tool(self, states: Tensor) -> Tensor:
        """(B, H, 3) metres."""
        return self.chain.origin(states.flatten(0, 1), self.tool_frame).unflatten(0, states.shape[:2])
