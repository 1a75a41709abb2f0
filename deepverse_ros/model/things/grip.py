"""How far a gripper closes: until both fingers meet a thing, and no farther while they hold it.

Whoever takes the fingers to be where they are told has them inside what they hold. Nothing of this is learned.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from deepverse_ros.model.things.body import Parts
from deepverse_ros.model.things.slots import Slots
from deepverse_ros.robot.embodiment import Embodiment

# In radii of a finger's capsule, which covers its corners too: how thick it is on the side of the other one, how far to
# both sides, and how far beyond the ends of the capsule's axis it meets what is between them. Chosen on episodes.
_THICK, _WIDE, _ENDS = 0.45, 0.8, 0.8
# A thing is between the fingers where it is at most so much wider than the room there, metres: places are not exact.
_WIDER = 0.01
# A thing whose middle is farther from the fingers' than its own size and this is not looked at, metres.
_REACH = 0.10
# What is told differs from where the hand is by more than this when it is to close, and what it holds by less than that
# from how far it is open, in shares of its range.
_CLOSES, _HOLDS = 0.03, 0.25


class Grip(nn.Module):
    """Of a gripper of two fingers that slide apart as one value grows; of another hand nothing is known."""

    def __init__(self, embodiment: Embodiment) -> None:
        super().__init__()
        self.fingers: list[int] = []
        gripper, body = embodiment.gripper, embodiment.body
        if gripper is None or body is None or gripper.dim != 1:
            return
        links = [link for link in body.links if link.modality == gripper.name and link.motion == "slide"]
        capsules = [next((k for k, c in enumerate(body.capsules) if c.frame == link.name), -1) for link in links]
        if len(links) != 2 or -1 in capsules or links[0].per_unit != links[1].per_unit:
            return
        self.fingers, self.stroke = capsules, links[0].per_unit
        self.value = embodiment.slices[gripper.name].start
        self.every = [[k for k, c in enumerate(body.capsules) if c.frame == link.name] for link in links]
        self.register_buffer("axes", torch.tensor([link.axis for link in links]), persistent=False)

    axes: Tensor

    def close(self, begin: Tensor, joints: Tensor, parts: Parts, slots: Slots) -> tuple[Tensor, Parts]:
        """The hand of N plans, closed as far as things between its fingers let it.

        They are taken to lie where they lay when they were seen last, until the fingers hold them.

        Args: begin (N, K) as measured at the newest frame; joints (N, H, K) where the robot would stand without things;
        parts (N, 1 + H, C) there; slots of batch N or 1.
        Returns: joints and parts with the fingers where they stop.
        """
        if not self.fingers:
            return joints, parts
        told = joints[..., self.value]
        closing = (told < begin[:, self.value, None] - _CLOSES) | (told.diff(dim=1, prepend=told[:, :1]) < -_CLOSES)
        if not bool(closing.any()):
            return joints, parts
        needs, fits = self._openings(begin, joints, parts, slots, closing.any(1))
        opening, out = begin[:, self.value], []
        # What the hand holds already is between the fingers, as wide as these are apart.
        has = (fits[:, 0] <= opening[:, None] + _HOLDS) & ((needs[:, 0] - opening[:, None]).abs() < _HOLDS)
        held = torch.where(has.any(1) & (told[:, 0] < opening - _CLOSES), opening, -torch.inf)
        for t in range(told.shape[1]):
            goes = told[:, t]
            there = fits[:, t + 1] <= (opening + _WIDER / self.stroke)[:, None]
            meets = needs[:, t + 1].masked_fill(~there, -torch.inf).amax(1)
            held = torch.where(goes >= torch.maximum(held, opening), -torch.inf, held)  # it opens
            held = torch.where(torch.isinf(held) & (meets > goes), torch.minimum(meets, opening), held)
            opening = torch.maximum(goes, held)
            out.append(opening)
        opened = torch.stack(out, 1)
        joints = joints.clone()
        joints[..., self.value] = opened
        return joints, self._moved(parts, (opened - told) * self.stroke)

    def _openings(
        self, begin: Tensor, joints: Tensor, parts: Parts, slots: Slots, asked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(N, 1 + H, 8): the opening at which both fingers would touch a thing, and that from which on it has room.

        -inf and inf where it is not between the fingers. Args: asked (N,): other plans close on nothing.
        """
        first = self.fingers[0]
        middle = (parts.start + parts.end)[:, :, self.fingers].mean(2) / 2  # (N, 1 + H, 3)
        away = (slots.position[:, None] - middle[:, :, None]).norm(dim=-1)
        size = slots.surface.norm(dim=-1).amax(-1)[:, None]
        row, moment, thing = (slots.there[:, None] & (away < size + _REACH) & asked[:, None, None]).nonzero().unbind(1)
        needs, fits = torch.full_like(away, -torch.inf), torch.full_like(away, torch.inf)
        if not len(row):
            return needs, fits
        own = row if len(slots.there) > 1 else torch.zeros_like(row)
        along = (parts.end - parts.start)[row, moment, first]
        length = along.norm(dim=-1)
        along = along / length[:, None].clamp_min(1e-6)
        across = parts.rotation[row, moment, first] @ self.axes[0]
        points = slots.surface[own, thing] + (slots.position[own, thing] - middle[row, moment])[:, None]
        up, over = (points * along[:, None]).sum(-1), (points * across[:, None]).sum(-1)
        beside = (points * torch.linalg.cross(along, across)[:, None]).sum(-1)
        radius = parts.radius[first]
        within = (up.abs() < length[:, None] / 2 + _ENDS * radius) & (beside.abs() < _WIDE * radius)
        most = over.masked_fill(~within, -torch.inf).amax(1)
        least = over.masked_fill(~within, torch.inf).amin(1)
        # Half the room between the fingers where they are now, and how far they are open there.
        room = ((parts.start[row, moment, first] - middle[row, moment]) * across).sum(-1) - _THICK * radius
        now = torch.cat([begin[:, None, self.value], joints[..., self.value]], 1)[row, moment]
        needs[row, moment, thing] = now + ((most - least) / 2 - room) / self.stroke
        widest = torch.maximum(most, -least)
        fits[row, moment, thing] = torch.where(within.any(1), now + (widest - room) / self.stroke, torch.inf)
        return needs, fits

    def _moved(self, parts: Parts, by: Tensor) -> Parts:
        """The fingers farther apart. Args: by (N, H) metres each, after every step."""
        start, end, origin = parts.start.clone(), parts.end.clone(), parts.origin.clone()
        for axis, capsules in zip(self.axes, self.every, strict=True):
            for k in capsules:
                shift = (parts.rotation[:, 1:, k] @ axis) * by[..., None]
                for places in (start, end, origin):
                    places[:, 1:, k] += shift
        return replace(parts, start=start, end=end, origin=origin)
