"""What a world model knows of things: found in what was seen, carried along plans, drawn where they will be.

It stands on the robot's own body, because who touches what is a matter of where its parts go.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepverse_ros import geometry
from deepverse_ros.model import body_rendering
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.readout import Camera
from deepverse_ros.model.things.blocking import Blocking, Stance
from deepverse_ros.model.things.clustering import Found, find
from deepverse_ros.model.things.contact import Contacts
from deepverse_ros.model.things.detail import FINE, Detail
from deepverse_ros.model.things.grip import Grip
from deepverse_ros.model.things.ground import HeightMap, map_heights
from deepverse_ros.model.things.moved import Looks, MovedPictures
from deepverse_ros.model.things.plate import clean_plate, dilated
from deepverse_ros.model.things.reader import Reader, points_of
from deepverse_ros.model.things.slots import MOVED, Motion, Slots, Things
from deepverse_ros.model.things.tracker import track

# A pixel shows the robot where its depth is that of a capsule's surface, or so much behind it (capsules are wider than
# the robot); metres before and behind.
_BEFORE, _BEHIND = 0.02, 0.12
# Pixels around those that show the robot are the rim of its capsules; fewer others do not tell whether it is there.
_RIM, _TELLING = 2, 40
# A pixel that may show a thing is no ground.
_MAY_BE = -1.5


@dataclass(frozen=True)
class ThingsBelief:
    """What B beliefs know of things, and of what they stand on, at the newest frame.

    slots: the things.
    ground: what stands fast, known everywhere (see `HeightMap.filled`).
    newest, plate: (B, 5, H, W) the newest frame, and what stands behind robot and things, as the codec takes frames.
    covered: (B, H, W) bool: where the newest frame shows the robot.
    remembered: looks of the things that are not seen in the newest frame; None where there are none.
    shown: (B,) share of the pixels in which the robot has to be seen, by its joints, that show something there and not
        what lies behind it; NaN where too few of them tell.
    """

    slots: Slots
    ground: HeightMap
    newest: Tensor
    plate: Tensor
    covered: Tensor
    remembered: Looks | None
    shown: Tensor


@dataclass(frozen=True)
class ThingsFuture:
    """What N plans bring about over H steps.

    stance: where the robot comes to stand.
    tool: (N, H, 3) metres in the base frame, where that brings its tool.
    motion: what becomes of the things.
    things: how that is read.
    """

    stance: Stance
    tool: Tensor
    motion: Motion
    things: Things


class ThingsModel(nn.Module):
    """Reader of things, blocking and contact dynamics of one embodiment, in float32."""

    def __init__(self, config: WorldModelConfig) -> None:
        """Raises: ValueError for a robot whose body is not described, or that does not measure what it is told."""
        super().__init__()
        robot = config.embodiment
        if config.things is None or robot.body is None or robot.proprioception is not None:
            raise ValueError(f"things: '{robot.name}' has no described body, or does not measure its own actions")
        self.embodiment = robot
        self.reader = Reader(config.things.reader)
        self.blocking = Blocking(robot, config.things.blocking)
        self.grip = Grip(robot)
        self.contact = Contacts(config.things, robot)

    def observe(self, frames: Tensor, states: Tensor, camera: Camera, poses: Tensor, shift: Tensor) -> ThingsBelief:
        """Find the things of a window.

        Args:
            frames: (B, T, 5, H, W) as the codec takes them.
            states: (B, T, K) as measured, NaN unknown.
            camera: of the newest frames.
            poses: (B, T, 4, 4) of the camera.
            shift: (B, 3) metres that the robot stands beside its joints' word.
        """
        batch, time = frames.shape[:2]
        flat = frames.flatten(0, 1)
        cameras = Camera(camera.repeat(time).intrinsics, poses.flatten(0, 1), camera.size)
        drawn = self.drawn(states.flatten(0, 1), cameras, shift.repeat_interleave(time, 0))
        depth = self._depth(flat)
        points = points_of(depth, cameras.intrinsics, cameras.camera_to_world)
        votes = self.reader(flat, points, drawn)
        found = find(votes, depth)
        place, behind = self._place(drawn, depth)
        shown = _shown(place, behind).unflatten(0, (batch, time))[:, -1]
        robot = place & ~(behind > _BEHIND) & (found.pixels == 0)
        points, robot, maybe = (t.unflatten(0, (batch, time)) for t in (points, robot, votes.logit > _MAY_BE))
        # Of an older frame in which nobody knows where the robot is, nothing is taken.
        unknown = ~torch.isfinite(states).all(-1)
        robot[:, :-1] |= unknown[:, :-1, None, None]
        slots, older = track(found.windows(time), points, robot, camera.intrinsics, poses)
        there = found.pixels.unflatten(0, (batch, time)) > 0
        fast = ~(dilated(robot.flatten(0, 1), 2) | dilated(there.flatten(0, 1), 1)).unflatten(0, (batch, time)) & ~maybe
        hidden = dilated(robot.flatten(0, 1), 1) | dilated(there.flatten(0, 1), 1)
        return ThingsBelief(
            slots=slots,
            ground=map_heights(points, fast).filled(),
            newest=frames[:, -1],
            plate=clean_plate(frames, hidden.unflatten(0, (batch, time))),
            covered=dilated(robot[:, -1], 1),
            remembered=Looks.remembered(frames, older),
            shown=shown,
        )

    def imagine(
        self, belief: ThingsBelief, state: Tensor, plans: Tensor, shift: Tensor, detail: Detail = FINE
    ) -> ThingsFuture:
        """What plans bring about.

        Args:
            belief: of batch 1 or N.
            state: (1 or N, K) as measured at the newest frame, NaN unknown.
            plans: (N, H, A) physical units.
            shift: (1 or N, 3) metres.
        """
        stance = self.blocking.stands(state, plans, belief.ground, shift, detail)
        chain = self.blocking.chain
        assert stance is not None
        assert chain is not None
        begin = torch.where(torch.isfinite(state), state, plans[:, 0]).expand(len(plans), -1)
        shift = shift.expand(len(plans), 3)[:, None]
        parts = chain.parts(torch.cat([begin[:, None], stance.joints], 1)).shifted(shift)
        joints, parts = self.grip.close(begin, stance.joints, parts, belief.slots)
        stance = replace(stance, joints=joints)
        motion = self.contact.imagine(belief.slots, parts, belief.ground, detail)
        return ThingsFuture(stance, parts.tool[:, 1:], motion, _read(belief.slots, motion))

    def pictures(self, belief: ThingsBelief, motion: Motion, camera: Camera) -> MovedPictures:
        """The newest frame with its things where they will be, drawn when somebody looks. Args: camera: of batch B."""
        seen = self.embodiment.camera
        return MovedPictures(
            belief.newest, belief.plate, belief.slots, belief.covered, motion, camera.intrinsics,
            camera.camera_to_world, seen.near, seen.far, belief.remembered,
        )  # fmt: skip

    def find(self, frames: Tensor, states: Tensor, camera: Camera) -> Found:
        """The things in frames (M, 5, H, W), each on its own. Args: states (M, K); camera of batch M."""
        depth = self._depth(frames)
        points = points_of(depth, camera.intrinsics, camera.camera_to_world)
        return find(self.reader(frames, points, self.drawn(states, camera, states.new_zeros(len(states), 3))), depth)

    def shows(self, frames: Tensor, states: Tensor, camera: Camera, shift: Tensor) -> Tensor:
        """How much frames show of a robot that stands `shift` metres beside its joints' word.

        Args: frames (M, 5, H, W); states (M, K); camera of batch M; shift (M, 3).
        Returns: (M,), as `ThingsBelief.shown`.
        """
        return _shown(*self._place(self.drawn(states, camera, shift), self._depth(frames)))

    def drawn(self, states: Tensor, camera: Camera, shift: Tensor) -> Tensor:
        """The robot's body (M, 4, H/2, W/2) where it stands `shift` (M, 3) metres beside its joints' word."""
        # A robot that stands to the left is seen as from a camera that stands to the right.
        poses = camera.camera_to_world.clone()
        poses[:, :3, 3] -= shift
        return body_rendering.draw(self.embodiment, states, camera.intrinsics, poses, *camera.size)

    def _depth(self, frames: Tensor) -> Tensor:
        """(M, H, W) metres, NaN unknown."""
        seen = self.embodiment.camera
        depth = geometry.depth_from_sqrt_disparity(frames[:, 3].float(), seen.near, seen.far)
        return torch.where(frames[:, 4] > 0.5, depth, torch.nan)

    def _place(self, drawn: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Where the robot is seen, (M, H, W) bool, unless what is seen there lies behind it, (M, H, W) metres.

        Where nobody knows the depth, that is all that its capsules cover, and NaN.
        """
        seen = self.embodiment.camera
        size = depth.shape[-2:]
        number, code = (F.interpolate(drawn[:, i : i + 1], size, mode="nearest")[:, 0] for i in (0, 2))
        behind = depth - geometry.depth_from_sqrt_disparity(code, seen.near, seen.far)
        return (number > 0) & ~(behind < -_BEFORE), behind


def _shown(place: Tensor, behind: Tensor) -> Tensor:
    """(M,) share of the pixels (M, H, W) of the robot that show it. Args: as of `ThingsModel._place`."""
    right = place & (behind <= _BEHIND)
    return _share(right, place & (behind > _BEHIND) & ~dilated(right, _RIM))


def _share(yes: Tensor, no: Tensor) -> Tensor:
    """(M,) pixels of `yes` (M, H, W) among those of both; NaN where these are too few to tell."""
    right, wrong = (mask.flatten(1).sum(1).float() for mask in (yes, no))
    return torch.where(right + wrong >= _TELLING, right / (right + wrong).clamp_min(1), torch.nan)


def _read(slots: Slots, motion: Motion) -> Things:
    """What is read of things along a future (N, H)."""
    there = slots.there[:, None].expand(motion.touched.shape).to(motion.position.dtype)
    away = (motion.position - slots.position[:, None]).norm(dim=-1)
    # As sure as the spread of a place says, that it is farther than what counts as moved.
    moved = torch.special.ndtr((away - MOVED) / motion.std.clamp_min(1e-4))
    return Things(there, motion.position, motion.std, moved * there, motion.touched * there)
