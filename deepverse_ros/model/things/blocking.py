"""Where a commanded robot comes to stand: at its command, unless something that stands fast is in the way.

A blocked robot is pressed against the ground by its motors, which push like springs up to a limit, and slides on it
against friction: it stands where these and the contacts balance. How stiff and how strong the joints are, how hard and
how rough the ground is, is learned, with what small networks find of it in a posture, how much of the way each joint
goes, and what all this leaves unexplained. They know on which sides the ground is, and how far the robot stood behind
its last command already: who was held, be it by what nobody sees, is held for longer. Where neither is so, nothing of
this is asked, and the robot stands exactly at its command.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from deepverse_ros.model.readout import ActionFeatures
from deepverse_ros.model.things.chain import Chain
from deepverse_ros.model.things.detail import FINE, Detail
from deepverse_ros.model.things.ground import HeightMap
from deepverse_ros.model.things.nearness import highest_around, nearness
from deepverse_ros.robot.embodiment import Embodiment

BEHIND = 0.15
"""rad that a joint is behind its target, from which on the robot counts as blocked."""
# A path that keeps so far from the ground is free, metres.
_MARGIN = 0.03
# How far ahead of a blocked joint its driver lets the reference run, rad.
_LEAD = 0.10
# From which learning starts: a contact's stiffness against joints of 1 / rad, per metre, across it and along it, for
# the ground is known to a few centimetres only; friction; and rad that a motor is behind where it pushes its most.
_HARDNESS, _STICKS, _FRICTION, _BENT = 5.0, 3.0, 1.0, 0.01
# How far a ball may be inside the ground, metres, and how far more or less a posture may make it.
_SLACK, _MOST_SLACK = 0.008, 0.02
# Who is seen to stand deeper in the ground, metres, is not pushed out of it at once: the ground is misread.
_DEEPEST = 0.01
# Balls that may come to touch in a step: those whose path goes lowest.
_CLOSEST = 10
# Those of them whose sides the networks are told.
_TOLD = 3
# The share of the way to the balance that each round goes.
_SHARE = 0.7
# The networks are not told of ground that is farther, metres; nor of how much more a joint stands off its command, rad.
_NEAR, _HELD = 0.1, 0.5
# Metres: the least, and those from which training starts.
_LEAST_STD, _STD, _PRESSED_STD = 1e-3, 4e-3, 2e-2


@dataclass(frozen=True)
class Stance:
    """Where the robot stands after each of H steps of N plans.

    joints: (N, H, K) as it will measure them, physical units.
    std: (N, H) metres of the tool, per axis.
    blocked: (N, H) from 0 to 1: that a joint stands more than `BEHIND` from its command.
    """

    joints: Tensor
    std: Tensor
    blocked: Tensor


class Blocking(nn.Module):
    """See the module. Args: width: of the networks."""

    steps: Tensor
    lead: Tensor
    turns: Tensor
    lower: Tensor
    upper: Tensor

    def __init__(self, embodiment: Embodiment, width: int) -> None:
        super().__init__()
        self.chain: Chain | None = None
        if embodiment.body is None or embodiment.proprioception is not None:
            return
        self.chain = Chain(embodiment, embodiment.body)
        dim, self.capsules = embodiment.action_dim, len(embodiment.body.capsules)
        turns = np.array([m.units == "rad" for m in embodiment.modalities for _ in range(m.dim)])
        steps = embodiment.max_step
        lead = np.where(turns, np.float32(_LEAD), steps)
        limits = (("lower", embodiment.lower), ("upper", embodiment.upper))
        for name, values in (("turns", turns), ("steps", steps), ("lead", lead), *limits):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.posture = ActionFeatures(embodiment)
        seen = self.posture.dim + 4 * dim + 2 * self.capsules + _TOLD * (1 + dim + 3)
        self.springs = _network(seen, width, dim + self.capsules + 1)
        self.rest = _network(seen, width, 2 * dim + 2)
        self.stiffness = nn.Parameter(torch.zeros(dim))
        self.bent = nn.Parameter(torch.full((dim,), math.log(_BENT)))
        self.surface = nn.Parameter(torch.tensor([_HARDNESS, _STICKS, _FRICTION]).log())
        self.free_std = nn.Parameter(torch.tensor(math.log(_STD)))

    def stands(
        self, newest: Tensor, plans: Tensor, ground: HeightMap, shift: Tensor, detail: Detail = FINE
    ) -> Stance | None:
        """Where plans bring the robot.

        Args:
            newest: (N or 1, K) as measured before the first step; NaN unknown: it stands at the first command.
            plans: (N, H, K) physical units.
            ground: of batch N or 1, in the base frame.
            shift: (N or 1, 3) metres that the robot stands beside its joints' word.
        Returns: None for a robot that does not measure the quantities of its actions, or whose body is not described.
        """
        if self.chain is None:
            return None
        ground, shift = ground.filled(), shift.expand(len(plans), 3)
        begin = torch.where(torch.isfinite(newest), newest, plans[:, 0])
        steps = detail.steps(plans.shape[1])
        commands = plans[:, [end - 1 for end in steps.ends]]
        path = torch.cat([begin[:, None], commands], 1)
        rooms = self._rooms(path, ground, shift)
        near = (rooms < _MARGIN).any(-1)
        closest = rooms.topk(min(_CLOSEST, rooms.shape[-1]), -1, largest=False).indices
        joints = reference = told = begin
        out = []
        for t, command in enumerate(commands.unbind(1)):
            before = joints.detach()  # contacts make small errors grow beyond all bounds
            most = self.steps * steps.counts[t]
            reference = _within(command, _within(reference, before, self.lead), most)
            joints, std = reference, (_LEAST_STD + self.free_std.exp()).expand(len(plans))
            blocked = self.behind(command - joints).to(std.dtype)
            # Off its plan, a robot's path is another than the one that was looked at beforehand.
            asked = (near[:, t] | (before != told).any(-1) | self.behind(command - reference)).nonzero()[:, 0]
            if len(asked):
                drive = _Drive(before, told, reference, command).of(asked)
                balls = _Balls(closest[:, t], ground, shift).of(asked)
                asked, *pressed = self._press(asked, drive, most, balls, detail)
                joints, std, blocked = (
                    whole.index_put((asked,), part) for whole, part in zip((joints, std, blocked), pressed, strict=True)
                )
            out.append((joints, std, blocked))
            told = command
        joints, std, blocked = (torch.stack(values, 1) for values in zip(*out, strict=True))
        # Who stands at its command after a step and did before it followed its plan meanwhile.
        free = (torch.cat([begin[:, None], joints], 1) == path).all(-1)
        free = steps.of_frames(free[:, 1:] & free[:, :-1])
        joints = torch.where(free[..., None], plans, steps.between(begin, joints))
        return Stance(joints, steps.of_frames(std), steps.of_frames(blocked))

    @torch.no_grad()
    def _rooms(self, path: Tensor, ground: HeightMap, shift: Tensor) -> Tensor:
        """(N, H, P) metres over the ground, at least, of balls at beginning, middle and end of the steps of a path.

        Heights are the highest around each ball, so that nothing thin hides between the moments looked at. Halfway, a
        ball may be 6 cm below the line from where it begins to where it ends: its middle is looked up too.
        Args: path (N, H + 1, K) states.
        """
        assert self.chain is not None
        moments = torch.cat([path, (path[:, :-1] + path[:, 1:]) / 2], 1)
        places = self.chain.places(moments.flatten(0, 1)).unflatten(0, moments.shape[:2]) + shift[:, None, None]
        ends, middle = places[:, : path.shape[1]], places[:, path.shape[1] :]
        points = torch.stack([ends[:, :-1], middle, ends[:, 1:]])
        around = highest_around(ground, self.chain.largest + _MARGIN)
        heights = around.at(points.movedim(0, 1)).movedim(1, 0)
        return (points[..., 2] - heights).amin(0) - self.chain.radius

    def _press(
        self, rows: Tensor, drive: "_Drive", most: Tensor, balls: "_Balls", detail: Detail
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step of R robots that may touch.

        Args: rows (R,): their numbers; most (K,): that joints go in it.
        Returns: numbers, joints (P, K), std (P,) and blocked (P,), as in `Stance`, of those that do not simply come
        where they are driven.
        """
        contacts = self._contacts(drive.joints, balls)
        if detail.parts == 1:  # no more is looked at: who does not touch by that will not, whatever the networks say
            room = contacts.after(drive.target - drive.joints).amin(-1) + _SLACK - _MOST_SLACK
            kept = ((room < 0) | self.behind(drive.held) | self.behind(drive.beyond)).nonzero()[:, 0]
            rows, drive, balls, contacts = rows[kept], drive.of(kept), balls.of(kept), contacts.of(kept)
        assert self.chain is not None
        joints, target = drive.joints, drive.target
        # Who is held already, or told to go farther than one goes in a step, may be so by what nobody sees.
        held, beyond = drive.held, drive.beyond
        known = [held.clamp(-_HELD, _HELD), beyond.clamp(-_HELD, _HELD), target - joints]
        features = self._features(joints, [*known, torch.zeros_like(held)], balls, contacts, target - joints)
        stiff, slack, rough = self.springs(features).split([joints.shape[-1], self.capsules, 1], -1)
        hardness, sticks, friction = self.surface.exp()
        motors = _Motors((self.stiffness + stiff.tanh()).exp(), self.bent.exp())
        surface = _Surface(hardness, sticks, friction * rough.tanh().exp())
        slack = (_SLACK + _MOST_SLACK * slack.tanh()).gather(1, self.chain.capsule[balls.which])
        now, touched = joints, self.behind(held) | self.behind(beyond)
        for part in range(1, detail.parts + 1):
            if part > 1:
                contacts = self._contacts(now, balls)
            free = torch.lerp(joints, target, part / detail.parts) - now
            move, hit = contacts.slackened(slack).balance(free, motors, surface, detail.rounds)
            before, now, touched = now, _within(now + move, joints, most), touched | hit
        features = self._features(now, [*known, now - joints], balls, contacts, now - before)
        left, goes, log_std, behind = self.rest(features).split([joints.shape[-1], joints.shape[-1], 1, 1], -1)
        pressed = _within(joints + 2 * goes.sigmoid() * (now - joints) + left * most, joints, most)
        sure = self.behind(beyond)
        return (
            rows,
            torch.where(touched[:, None], pressed.clamp(self.lower, self.upper), target),
            _LEAST_STD + torch.where(touched, math.log(_PRESSED_STD) + log_std[:, 0].clamp(-4, 4), self.free_std).exp(),
            torch.where(touched, behind[:, 0].sigmoid(), sure.to(target.dtype)),
        )

    def _contacts(self, joints: Tensor, balls: "_Balls") -> "_Contacts":
        """Of robots at joints (R, K)."""
        assert self.chain is not None
        frames = self.chain.frames(joints)
        points = self.chain.points(frames).gather(1, balls.which[..., None].expand(-1, -1, 3))
        gap, away = nearness(balls.ground, points + balls.shift[:, None])
        slopes = self.chain.slopes(frames, points, balls.which)
        return _Contacts(gap - self.chain.radius[balls.which], away, (away[..., None] * slopes).sum(-2), slopes)

    def _features(
        self, joints: Tensor, known: list[Tensor], balls: "_Balls", contacts: "_Contacts", ahead: Tensor
    ) -> Tensor:
        """What the networks know: a posture, what is told of its joints, and how near its capsules come to the ground.

        Args: known: (R, K) each; ahead (R, K): also how near where the joints go by that.
        """
        assert self.chain is not None
        index = self.chain.capsule[balls.which]
        far = joints.new_full((len(joints), self.capsules), _NEAR)
        after = contacts.after(ahead)
        least = [far.scatter_reduce(1, index, room, "amin") for room in (contacts.room, after)]
        rooms = (torch.cat(least, -1) / _NEAR).clamp(-1, 1)
        # Of the nearest: which ways lead away from the ground, in joints and in space, the louder the nearer it is.
        room, which = after.topk(_TOLD, -1, largest=False)
        near = (1 - room / _NEAR).clamp(0, 2)[..., None]
        sides = torch.cat([contacts.slope * self.steps / _NEAR, contacts.away], -1)
        sides = near * sides.gather(1, which[..., None].expand(-1, -1, sides.shape[-1]))
        told = [part / self.steps for part in known]
        return torch.cat([self.posture(joints), *told, rooms, near.flatten(1), sides.flatten(1)], -1)

    def behind(self, off: Tensor) -> Tensor:
        """(...) whether a joint is that far off its command. Args: off (..., K)."""
        return ((off.abs() > BEHIND) & self.turns).any(-1)


class _Drive(NamedTuple):
    """Of R robots, (R, K) each: where they stand, were told to, are driven to in this step, and are told to come to."""

    joints: Tensor
    told: Tensor
    target: Tensor
    command: Tensor

    @property
    def held(self) -> Tensor:
        """How far a robot stands behind what it was told."""
        return self.told - self.joints

    @property
    def beyond(self) -> Tensor:
        """How much farther than one goes in a step it is told to."""
        return self.command - self.target

    def of(self, rows: Tensor) -> "_Drive":
        return _Drive(*(value[rows] for value in self))


class _Balls(NamedTuple):
    """Those of R robots that may come to touch: which (R, B); ground of batch R or 1; shift (R, 3), see `stands`."""

    which: Tensor
    ground: HeightMap
    shift: Tensor

    def of(self, rows: Tensor) -> "_Balls":
        ground = self.ground if len(self.ground.heights) == 1 else self.ground[rows]
        return _Balls(self.which[rows], ground, self.shift[rows])


class _Contacts(NamedTuple):
    """B balls of R robots beside the ground.

    room: (R, B) metres between them. away: (R, B, 3) the way out of it. slope: (R, B, K) metres that it grows a unit of
    each joint. slopes: (R, B, 3, K) metres that the balls go.
    """

    room: Tensor
    away: Tensor
    slope: Tensor
    slopes: Tensor

    def of(self, rows: Tensor) -> "_Contacts":
        return _Contacts(*(value[rows] for value in self))

    def slackened(self, slack: Tensor) -> "_Contacts":
        """Args: slack (R, B) metres that a ball may be inside; who is deeper than can be is not pushed out at once."""
        return self._replace(room=(self.room + slack).clamp_min(-_DEEPEST))

    def after(self, move: Tensor) -> Tensor:
        """(R, B) metres of room after joints moved by (R, K)."""
        return self.room + (self.slope @ move[..., None])[..., 0]

    def balance(self, free: Tensor, motors: "_Motors", surface: "_Surface", rounds: int) -> tuple[Tensor, Tensor]:
        """How joints move that motors pull by `free`, where balls would meet the ground.

        A motor's spring, and what keeps a ball from sliding, give way as soon as they are pulled by more than they
        bear: in rounds, each with the stiffness that this leaves at the last round's place.
        Args: free (R, K).
        Returns: (R, K), and which robots touch (R,).
        """
        touched = self.after(free).amin(-1) < 0
        rows = touched.nonzero()[:, 0]
        if not len(rows):
            return free, touched
        pressed = self.of(rows)._balance(free[rows], motors.of(rows), surface.of(rows), rounds)
        return free.index_put((rows,), pressed), touched

    def _balance(self, free: Tensor, motors: "_Motors", surface: "_Surface", rounds: int) -> Tensor:
        """`balance` (R, K) of robots that all touch."""
        room, move = self.after(free), free
        held = torch.zeros_like(room, dtype=torch.bool)
        along = self.slopes - self.away[..., None] * self.slope[..., None, :]
        # What a contact's stiffness is to the joints: of all balls across the ground, then of all along it.
        across = self.slope[..., :, None] * self.slope[..., None, :]
        share = torch.cat([across, along.mT @ along], 1).flatten(2)
        sticks = surface.sticks.expand_as(room)
        for turn in range(rounds):
            # One ball more at a time, the one that is deepest: all at once would lay the whole hand flat on the ground.
            held = (held | (room <= room.amin(-1, keepdim=True))) & (room < 0)
            hit = held.to(free.dtype)
            press = surface.hardness * hit
            stiff = (torch.cat([press, sticks * hit], 1)[:, None] @ share).reshape(across.shape[0], *across.shape[2:])
            springs = motors.springs(free - move.detach())
            stiff.diagonal(dim1=-2, dim2=-1).add_(springs)
            pull = springs * free - (self.slope.mT @ (press * self.room)[..., None])[..., 0]
            found = torch.linalg.solve_ex(stiff, pull)[0]
            move = torch.lerp(move, found, _SHARE) if turn else found
            room = self.after(move)
            slid = (along.flatten(1, 2) @ move.detach()[..., None]).view(along.shape[:3]).norm(dim=-1).clamp_min(1e-5)
            most = surface.friction * surface.hardness * (-room.detach()).clamp_min(0)
            sticks = torch.minimum(most / slid, surface.sticks)
        return move


class _Motors(NamedTuple):
    """Of R robots. stiffness (R, K) at rest. bent (K,): rad (or units) behind, from which on they push their most."""

    stiffness: Tensor
    bent: Tensor

    def springs(self, behind: Tensor) -> Tensor:
        """(R, K) stiffness that is left. Args: behind (R, K): how far joints are behind where they are pulled."""
        return self.stiffness * self.bent / torch.maximum(behind.abs(), self.bent)

    def of(self, rows: Tensor) -> "_Motors":
        return self._replace(stiffness=self.stiffness[rows])


class _Surface(NamedTuple):
    """Of the ground. hardness, sticks: stiffness of a contact across and along it; friction (R, 1)."""

    hardness: Tensor
    sticks: Tensor
    friction: Tensor

    def of(self, rows: Tensor) -> "_Surface":
        return self._replace(friction=self.friction[rows])


def _within(value: Tensor, middle: Tensor, reach: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(value, middle - reach), middle + reach)


def _network(seen: int, width: int, told: int) -> nn.Sequential:
    """It tells nothing at first: zeros."""
    last = nn.Linear(width, told)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(seen, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)
