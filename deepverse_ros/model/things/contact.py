"""How things move with the robot: an interaction network, one step after the other.

Every thing is told by points of its surface how the robot's nearest parts sweep past it, and what its neighbours do. It
answers with shares of motions that need no learning (stay, go on as before, give way, fall, stick to a part) and a
learned rest. What is neither near the robot nor moves nor stands beside such stays exactly, and costs nothing.

After Battaglia et al., "Interaction Networks for Learning about Objects, Relations and Physics", 2016, arXiv
1612.00222.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepverse_ros.model.config import ThingsConfig
from deepverse_ros.model.things.body import Parts
from deepverse_ros.model.things.detail import FINE, Detail, Steps
from deepverse_ros.model.things.ground import HeightMap
from deepverse_ros.model.things.slots import MOST, SURFACE, Motion, Slots
from deepverse_ros.model.things.sweep import Near, Sweeps, after, carried, dot, rotation_of, turned
from deepverse_ros.robot.embodiment import Embodiment

_PARTS, _OTHERS = 3, 2
"""Of the robot, and other things, that a thing hears of: the nearest."""
_LIVE = 0.03
"""Metres between the ball around a thing and a part from which on it may be moved."""
_BESIDE = 0.02
"""Metres between the balls around two things from which on one may move the other."""
_STILL = 0.015
"""Metres a step up to which a thing counts as at rest: as exactly as its motion is seen."""
_APART = 0.15
"""Metres between two things from which on neither tells the other anything."""
_MOST_FALL = 0.2
"""Metres that a thing falls within a step at most."""
_NAMES = 4
"""Numbers that tell one part of the robot from the others."""
_LEAST_STD, _MOST_STD = 5e-4, 0.3
_PROBES = 8
"""Directions in which a thing looks how high the ground beside it is."""

_POINT, _PAIR, _OTHER, _THING = 26 + _NAMES, 24 + _NAMES, 12, 17 + _PROBES
"""Numbers that are told of a point, of a thing beside a part, beside another thing, and of a thing."""
_FREE = 5
"""Motions that need no part: stay, go on, give way, give way over the ground, fall."""


@dataclass(frozen=True)
class _State:
    """Things of N plans, thing by thing: R = K N columns; axes first.

    position (3, R); rotation (3, 3, R) since the newest frame; last (6, R) motion of the step before; variance (R,) m²;
    untouched (R,) log-probability; hidden (hidden, R).
    """

    position: Tensor
    rotation: Tensor
    last: Tensor
    variance: Tensor
    untouched: Tensor
    hidden: Tensor

    def seen(self) -> "_State":
        """What the next step is told. It is not learned from: contacts make small errors grow beyond all bounds."""
        return _State(*(t.detach() for t in vars(self).values()))


class Contact(nn.Module):
    """What becomes of things when the robot moves; see the module."""

    def __init__(self, config: ThingsConfig, embodiment: Embodiment) -> None:
        super().__init__()
        if embodiment.body is None:
            raise ValueError(f"the body of '{embodiment.name}' is not described")
        point, pair, hidden = config.point, config.pair, config.hidden
        self.names = nn.Parameter(torch.randn(_NAMES, len(embodiment.body.capsules)) * 0.5)
        self.from_surface = nn.ModuleDict({"first": nn.Linear(_POINT, point), "second": nn.Linear(point, point)})
        self.from_part = nn.ModuleDict({"first": nn.Linear(_PAIR, pair), "second": nn.Linear(pair, pair)})
        self.enter = nn.Linear(point + pair + _THING + hidden, hidden)
        self.told = nn.Linear(hidden, pair // 2)
        self.from_other = nn.ModuleDict(
            {"first": nn.Linear(_OTHER + pair // 2, pair), "second": nn.Linear(pair, hidden)}
        )
        self.keep = nn.Parameter(torch.zeros(hidden))
        self.out = nn.Linear(hidden, 6 + 2 + _FREE + pair)
        with torch.no_grad():  # at first nearly everything stays
            self.out.weight *= 0.2
            self.out.bias.zero_()
            self.out.bias[6:9] = torch.tensor([-5.0, -2.0, 2.0])

    def imagine(self, slots: Slots, parts: Parts, ground: HeightMap, detail: Detail = FINE) -> Motion:
        """The things of N plans over H steps.

        Args: slots of N beliefs, or of one that all plans share; parts (N, 1 + H, C): the robot at the newest frame and
        after each frame; ground of as many beliefs, or one.
        """
        plans, horizon = parts.start.shape[0], parts.start.shape[1] - 1
        used = slots.there.any(0).nonzero()[:, 0]
        slots = slots.expand(plans) if len(slots.there) == 1 else slots
        zero = slots.position.new_zeros(())
        motion = Motion(
            position=slots.position[:, None].repeat(1, horizon, 1, 1),
            rotation=torch.eye(3, dtype=zero.dtype, device=zero.device).repeat(plans, horizon, MOST, 1, 1),
            std=slots.std[:, None].repeat(1, horizon, 1),
            touched=zero.expand(plans, horizon, MOST).clone(),
        )
        if not len(used):
            return motion
        steps = detail.steps(horizon)
        states = self._states(slots, used, parts, ground.filled(), detail.points, steps)
        columns = [
            torch.stack([getattr(s, name) for s in states])
            for name in ("position", "rotation", "variance", "untouched")
        ]
        position, rotation, variance, untouched = (t.unflatten(-1, (len(used), plans)) for t in columns)
        position, rotation = position.permute(3, 0, 2, 1), rotation.permute(4, 0, 3, 1, 2)
        std, touched = variance.sqrt().permute(2, 0, 1), 1 - untouched.exp().permute(2, 0, 1)
        # In the middle of a step things are in the middle of their ways, and turned as after it.
        return Motion(
            position=motion.position.index_copy(2, used, steps.between(slots.position[:, used], position)),
            rotation=motion.rotation.index_copy(2, used, steps.of_frames(rotation)),
            std=motion.std.index_copy(2, used, steps.between(slots.std[:, used], std)),
            touched=motion.touched.index_copy(2, used, steps.between(torch.zeros_like(touched[:, 0]), touched)),
        )

    def _states(
        self, slots: Slots, used: Tensor, parts: Parts, ground: HeightMap, points: int, steps: Steps
    ) -> list[_State]:
        """The things in slots `used` after each step."""
        sweeps = Sweeps.of(parts, steps.ends)
        plans = len(slots.there)
        # A point and its mirror image stand side by side.
        pairs = slots.surface[:, used].unflatten(2, (SURFACE // 2, 2))[:, :, :: SURFACE // points]
        surface = pairs.flatten(2, 3).permute(3, 2, 1, 0).flatten(2).contiguous()  # (3, P, R)
        things = _Things(
            count=len(used),
            plans=plans,
            there=slots.there[:, used].T.flatten(),
            surface=surface,
            radius=slots.surface[:, used].norm(dim=-1).amax(-1).T.flatten(),
            ground=ground,
        )
        position = slots.position[:, used].permute(2, 1, 0).flatten(1)
        still = position.new_zeros(position.shape[1])
        state = _State(
            position=position,
            rotation=torch.eye(3, dtype=position.dtype, device=position.device)[..., None].expand(-1, -1, len(still)),
            last=slots.last[:, used].permute(2, 1, 0).flatten(1),
            variance=slots.std[:, used].T.flatten().square(),
            untouched=still,
            hidden=still.repeat(len(self.keep), 1),
        )
        states, before = [], 1
        for step, frames in enumerate(steps.counts):
            if frames != before:  # in a longer step, what moves as before goes farther
                state, before = replace(state, last=state.last * (frames / before)), frames
            state = self._step(state, things, sweeps, step)
            states.append(state)
        return states

    def _step(self, state: _State, things: "_Things", sweeps: Sweeps, step: int) -> _State:
        with torch.no_grad():
            position = state.position.unflatten(1, (-1, things.plans))
            gaps = sweeps.least_gaps(step, position).flatten(1) - things.radius
            between = things.between(position)
            live = things.live(gaps.amin(0), state.last, between)
            rows = live.nonzero()[:, 0]
            part = gaps.index_select(1, rows).topk(min(_PARTS, len(gaps)), 0, largest=False).indices
        rest = replace(state, last=torch.zeros_like(state.last))
        if not len(rows):
            return rest
        mine = _State(*(t.index_select(-1, rows) for t in vars(state).values()))
        seen = mine.seen()
        plan = rows % things.plans
        near = sweeps.near(step, part, plan)
        names = self.names.index_select(1, part.flatten()).unflatten(1, part.shape)
        shape = turned(seen.rotation[:, :, None], things.surface.index_select(2, rows))
        points = shape + seen.position[:, None]
        heights = points[2] - things.ground.under(points[0], points[1], things.map_of(plan))
        offset, gap = near.offsets(points)
        away, flat = _ways_out(offset, gap, near.radius)

        surface = self._surface(points, shape, heights, offset, gap, near, names)
        pairs, carry = self._pairs(seen.position, gap, near, names)
        lowest = heights.amin(0)
        thing = _scaled([
            seen.last, things.radius[rows][None], lowest[None], 10 * lowest[None], heights.mean(0)[None],
            shape.abs().amax(1), away, 10 * _length(away)[None], things.around(seen.position, shape, rows, plan),
        ])  # fmt: skip
        z = F.silu(_linear(self.enter, torch.cat([surface, pairs.sum(1), thing, mine.hidden])))
        z = F.silu(z + self._others(z, state.seen(), shape, things, rows, between))

        out = _linear(self.out, z)
        none = torch.zeros_like(away)
        fall = torch.cat([none[:2], -lowest[None].clamp(0, _MOST_FALL)])
        ways = torch.cat([torch.stack([none, seen.last[:3], away, flat, fall], 1), carry], 1)
        turns = torch.cat([torch.stack([none, seen.last[3:], none, none, none], 1), near.turn], 1)
        asked = out[8 + _FREE :]
        stick = (asked[:, None] * pairs).sum(0) / len(asked) ** 0.5
        share = torch.cat([out[8 : 8 + _FREE], stick]).softmax(0)
        translation = (share * ways).sum(1) + 0.05 * out[:3]
        turn = (share * turns).sum(1) + 0.3 * out[3:6]
        gone = _State(
            position=mine.position + translation,
            rotation=after(rotation_of(turn), mine.rotation),
            last=torch.cat([translation, turn]),
            variance=mine.variance + out[6].exp().clamp(_LEAST_STD, _MOST_STD).square(),
            untouched=mine.untouched - F.softplus(out[7]),
            hidden=z + self.keep.sigmoid()[:, None] * (mine.hidden - z),
        )
        # Most of a state is hidden, and nobody asks for what that was: it is changed in place.
        hidden = rest.hidden.index_copy_(-1, rows, gone.hidden)
        names = ("position", "rotation", "last", "variance", "untouched")
        changed = {name: getattr(rest, name).index_copy(-1, rows, getattr(gone, name)) for name in names}
        return _State(**changed, hidden=hidden)

    def _surface(
        self, points: Tensor, shape: Tensor, heights: Tensor, offset: Tensor, gap: Tensor, near: Near, names: Tensor
    ) -> Tensor:
        """What the points (3, P, R) of surfaces tell together: (point, R)."""
        nearest = _least(gap.detach().amin(0))  # (P, R) of the K parts
        link = torch.cat([near.table[21:], near.shift, names])
        link = link.gather(1, nearest.expand(len(link), -1, -1))
        local, stuck = carried(link[:21], link[21:24], points)
        way = offset.flatten(0, 1).gather(1, nearest.expand(9, 1, -1, -1))[:, 0]
        gap = gap.gather(1, nearest.expand(3, 1, -1, -1))[:, 0]
        heights = heights[None]
        told = _scaled([shape, heights, 10 * heights, way, gap, 10 * gap, local, stuck])
        return _mlp(self.from_surface, torch.cat([told, link[24:]])).amax(1)

    def _pairs(self, position: Tensor, gap: Tensor, near: Near, names: Tensor) -> tuple[Tensor, Tensor]:
        """What the parts tell: (pair, K, R); and how far things go that stick to them: (3, K, R)."""
        local, carry = near.carried(position[:, None])
        offset, _ = near.offsets(position[:, None])
        gap = gap.amin(2)
        told = _scaled([local, carry, near.turn, offset[..., 0, :].flatten(0, 1), gap, 10 * gap])
        return _mlp(self.from_part, torch.cat([told, names])), carry

    def _others(
        self, z: Tensor, state: _State, shape: Tensor, things: "_Things", rows: Tensor, between: Tensor
    ) -> Tensor:
        """What the nearest other things tell, together: (hidden, R)."""
        apart, other = between.flatten(1).index_select(1, rows).topk(min(_OTHERS, len(between) - 1), 0, largest=False)
        column = (other * things.plans + rows % things.plans).flatten()

        def of(values: Tensor) -> Tensor:
            return values.index_select(-1, column).unflatten(-1, other.shape)

        offset = of(state.position) - state.position.index_select(1, rows)[:, None]
        distance = _length(offset)
        way = offset / distance
        theirs = turned(of(state.rotation)[:, :, None], of(things.surface))
        gap = distance - dot(shape[:, :, None], way[:, None]).amax(0) - dot(theirs, -way[:, None]).amax(0)
        told = z.new_zeros(len(self.told.bias), things.count * things.plans).index_copy(1, rows, _linear(self.told, z))
        gap, radius = gap[None], of(things.radius)[None]
        x = _scaled([offset, gap, 10 * gap, radius, of(state.last)])
        heard = F.relu(_linear(self.from_other["first"], torch.cat([x, of(told)])), inplace=True)
        return _linear(self.from_other["second"], (heard * (apart < _APART)).sum(1))


class Contacts(nn.Module):
    """A network for each detail: how far a thing goes in one frame and how far in two are different questions.

    One network for both was 2 cm worse on the fine level, in scenes that it had not seen.
    """

    def __init__(self, config: ThingsConfig, embodiment: Embodiment) -> None:
        super().__init__()
        self.fine = Contact(config, embodiment)
        self.coarse = Contact(config, embodiment)

    def imagine(self, slots: Slots, parts: Parts, ground: HeightMap, detail: Detail = FINE) -> Motion:
        """As `Contact.imagine`, by the network of this detail."""
        network = self.fine if detail.frames == 1 else self.coarse
        return network.imagine(slots, parts, ground, detail)


@dataclass(frozen=True)
class _Things:
    """What stays the same of things: R = K N columns. there (R,); surface (3, P, R) metres; radius (R,) metres."""

    count: int
    plans: int
    there: Tensor
    surface: Tensor
    radius: Tensor
    ground: HeightMap

    def map_of(self, plan: Tensor) -> Tensor | None:
        """Which ground is that of each plan; None: they share one."""
        return plan if len(self.ground.heights) > 1 else None

    def between(self, position: Tensor) -> Tensor:
        """Metres (K, K, N) between the balls around things at (3, K, N); infinite where one of both is not there."""
        offset = position[:, :, None] - position[:, None]
        radius, there = (t.unflatten(0, (self.count, self.plans)) for t in (self.radius, self.there))
        gap = dot(offset, offset).sqrt() - radius[:, None] - radius
        itself = torch.eye(self.count, dtype=torch.bool, device=gap.device)[..., None]
        return gap.masked_fill(itself | ~(there[:, None] & there), torch.inf)

    def live(self, gap: Tensor, last: Tensor, between: Tensor) -> Tensor:
        """Which things (R,) may move. Args: gap (R,) metres to the robot; last (6, R) motion; between, as above."""
        goes = _length(last[:3]) + self.radius * _length(last[3:]) > _STILL
        live = self.there & (goes | (gap < _LIVE))
        beside = (between < _BESIDE) & live.unflatten(0, (1, self.count, self.plans))
        return self.there & (live | beside.any(1).flatten())

    def around(self, position: Tensor, shape: Tensor, rows: Tensor, plan: Tensor) -> Tensor:
        """Metres (8, R) from the ground beside things, in all directions, up to their lowest point."""
        angle = torch.arange(_PROBES, dtype=shape.dtype, device=shape.device)[:, None] * (2 * torch.pi / _PROBES)
        away = self.radius[rows] + 0.03
        x, y = position[0] + away * angle.cos(), position[1] + away * angle.sin()
        return position[2] + shape[2].amin(0) - self.ground.under(x, y, self.map_of(plan))


def _ways_out(offset: Tensor, gap: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """How far the robot's way into a thing pushes it, and how far where it can only go sideways: (3, R) metres each.

    To the side on which it lies at the beginning: at the end, a fast part may be beyond it.

    Args: offset (3, 3 moments, K, P, R) of points from parts; gap (3 moments, K, P, R); radius (K, R) of the parts.
    """
    way = offset[:, 0] / _length(offset[:, 0])
    ahead = dot(offset[:, -1], way)
    within = radius[:, None].square() - (dot(offset[:, -1], offset[:, -1]) - ahead.square())
    push = (within.clamp_min(0).sqrt() - ahead + gap[0].clamp_max(0)).clamp_min(0) * (within > 0)
    push, most = push.flatten(0, 1).max(0, keepdim=True)
    way = way.flatten(1, 2).gather(1, most.expand(3, 1, -1))[:, 0] * push
    flat = torch.stack([way[0], way[1], torch.zeros_like(way[2])])
    # Sideways it takes longer, the longer the steeper the robot comes.
    return way, flat * (dot(way, way) / (dot(flat, flat) + 1e-8)).clamp_max(9)


def _scaled(values: list[Tensor]) -> Tensor:
    """Metres, or metres a step, as a network likes them: 1 is 10 cm, and what is far is no further than 30."""
    return (10 * torch.cat(values)).clamp(-3, 3)


def _length(vectors: Tensor) -> Tensor:
    """Of vectors (3, ...); never 0, where a length has no gradient."""
    return (dot(vectors, vectors) + 1e-8).sqrt()


def _least(values: Tensor) -> Tensor:
    """The index of the least of values (K, ...) of few K: many times faster than `argmin` along such an axis."""
    best, index = values[0], torch.zeros_like(values[0], dtype=torch.long)
    for k in range(1, len(values)):
        index = torch.where(values[k] < best, k, index)
        best = torch.minimum(best, values[k])
    return index


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer on what has its features first, (F, ...)."""
    assert isinstance(layer, nn.Linear)
    return torch.addmm(layer.bias[:, None], layer.weight, x.flatten(1)).unflatten(1, x.shape[1:])


def _mlp(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    return F.relu(_linear(layers["second"], F.relu(_linear(layers["first"], x), inplace=True)), inplace=True)
