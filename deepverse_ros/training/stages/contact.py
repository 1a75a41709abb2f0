"""Training of the contact dynamics on practice: H steps on its own predictions, from what a reader would know."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deepverse_ros.model.readout import robust_nll
from deepverse_ros.model.things.contact import Contacts
from deepverse_ros.model.things.detail import COARSE, FINE, Detail
from deepverse_ros.model.things.slots import MOST, Motion
from deepverse_ros.training.batches.practice import PracticeWindows, Window
from deepverse_ros.training.config import ContactStageConfig
from deepverse_ros.training.engine.draw import Draw

DETAILS = {"coarse_": COARSE, "": FINE}
"""In turns: as many plans are ranked, and as one is imagined. By what the figures of each begin with."""
_WINDOWS = 512  # that are validated on
_BATCH = 64
_EXACT = 0.03
"""Metres of error that count as much as being wrong by as far as a thing went."""
_FAR, _STAYED = 0.05, 0.01  # metres from which on a thing went, and up to which it stayed


class ContactStage:
    """Trains the networks that tell how things move with the robot.

    In float32: what it computes with is millimetres of places decimetres away, which bfloat16 does not hold.
    """

    name = "contact"

    def __init__(
        self, module: Contacts, config: ContactStageConfig, train: PracticeWindows, held_out: PracticeWindows
    ) -> None:
        self.module = module
        self.config = config
        self.train = train
        self.held_out = held_out

    def loss(self, step: int, draw: Draw) -> dict[str, Tensor]:
        window = self.train.drawn(self.config.batch, draw)
        detail = [*DETAILS.values()][step % len(DETAILS)]
        motion = self.module.imagine(window.slots, window.parts, window.ground, detail)
        known = window.known
        path = (window.position - window.start[:, None]).norm(dim=-1).cummax(1).values
        error = motion.position - window.position
        surface = window.slots.surface[:, None, :, ::4]
        wrong = surface @ (motion.rotation - window.rotation).mT + error[..., None, :]
        terms = {
            "position": _robust(error.square().sum(-1), path),
            "surface": _robust(wrong.square().sum(-1).mean(-1), path),
            "spread": robust_nll(error.detach(), motion.std.clamp_min(1e-3)),
            "touched": F.binary_cross_entropy(motion.touched.clamp(1e-4, 1 - 1e-4), window.touched, reduction="none"),
        }
        losses = {name: term[known].mean() if bool(known.any()) else term.sum() * 0 for name, term in terms.items()}
        c = self.config
        weights = {
            "position": 1.0, "surface": c.surface_weight, "spread": c.spread_weight, "touched": c.touched_weight,
        }  # fmt: skip
        return {"total": sum((weights[name] * loss for name, loss in losses.items()), error.new_zeros(())), **losses}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """After the last step of held-out windows, in cm: of things that went, that stayed; and what was touched.

        coarse_: the same on the coarse level.
        """
        return {
            prefix + name: value for prefix, detail in DETAILS.items() for name, value in self._scores(detail).items()
        }

    def _scores(self, detail: Detail) -> dict[str, float]:
        wrong, still, touched = [], [], []
        for window, motion in self._imagined(detail):
            known = window.known[:, -1]
            error = (motion.position[:, -1] - window.position[:, -1]).norm(dim=-1)[known]
            way = (window.position[:, -1] - window.start).norm(dim=-1)[known]
            wrong.append(torch.stack([error, way])[:, way >= _FAR].cpu() * 100)
            still.append(error[way < _STAYED].cpu() * 100)
            touched.append(torch.stack([motion.touched[:, -1][known] > 0.5, window.touched[:, -1][known] > 0.5]).cpu())
        went, stayed, (told, true) = torch.cat(wrong, 1), torch.cat(still), torch.cat(touched, 1)
        both = float((told & true).sum())
        scores = {"touched_precision": both / max(1, int(told.sum())), "touched_recall": both / max(1, int(true.sum()))}
        if went.shape[1]:
            names = ("went_{}_cm", "persistence_{}_cm")
            scores |= {
                name.format(kind): float(value)
                for kind, values in (("median", went.median(1).values), ("mean", went.mean(1)))
                for name, value in zip(names, values, strict=True)
            }
        if len(stayed):
            scores |= {"stayed_mean_cm": float(stayed.mean()), "stayed_above_3_cm": float((stayed > 3).float().mean())}
        return scores

    def _imagined(self, detail: Detail) -> list[tuple[Window, Motion]]:
        """Held-out windows, evenly, and what the network of this detail makes of them."""
        every = self.held_out.every
        chosen = every[np.unique(np.linspace(0, len(every) - 1, _WINDOWS).astype(int))]
        noise = torch.Generator().manual_seed(0)
        out = []
        for i in range(0, len(chosen), _BATCH):
            index = chosen[i : i + _BATCH]
            drawn = torch.randn(len(index), 2, MOST, 6, generator=noise).to(self.held_out.device)
            unseen = torch.zeros(len(index), MOST, dtype=torch.bool, device=self.held_out.device)
            window = self.held_out.window(index, drawn, unseen)
            out.append((window, self.module.imagine(window.slots, window.parts, window.ground, detail)))
        return out


def _robust(square: Tensor, path: Tensor) -> Tensor:
    """Of squared errors in m², relative to how far a thing went, in metres: a thing that was lost counts, once."""
    relative = (square + 1e-8).sqrt() / (_EXACT + path)
    return F.smooth_l1_loss(relative, torch.zeros_like(relative), reduction="none", beta=0.3)
