"""What the world model imagines: futures of plans, decoded when somebody looks."""

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError
from deepverse_ros.model.codec import Decoded, Source
from deepverse_ros.model.things.moved import MovedPictures
from deepverse_ros.model.things.slots import Things
from deepverse_ros.model.volume import SpacetimeVolume


class FutureDecoder(Protocol):
    """What a future needs of its model, to be decoded when somebody looks."""

    def decode(self, latents: Tensor, source: Source, drawn: Tensor | None, moved: Tensor | None = None) -> Decoded: ...

    def draw(
        self, states: Tensor, intrinsics: Tensor | None, poses: Tensor | None, shift: Tensor | None = None
    ) -> Tensor | None: ...

    def to_depth(self, disparity: Tensor) -> Tensor: ...

    def pool(self, latents: Tensor) -> Tensor: ...


class Future:
    """Imagined frames of N plans, H steps each; pictures are decoded when they are first asked for.

    latents (N, H, S, P); uncertainty (N, H) metres: the standard deviation that the readout gives the tool position;
    readout["tool_position"] (N, H, 3) metres in the base frame; readout["clearance"] (N, H) metres between the robot
    and the nearest thing, readout["clearance_std"] its standard deviation; states (N, H, K): what the robot will
    measure of itself, physical units; camera_to_world (N, H, 4, 4) or None where the observation told no pose; dt:
    seconds of a step; things (N, H, 8): what becomes of things, each in its slot, None where the model knows none.
    """

    def __init__(
        self,
        decoder: FutureDecoder,
        source: Source,
        latents: Tensor,
        states: Tensor,
        readout: dict[str, Tensor],
        uncertainty: Tensor,
        intrinsics: Tensor | None,
        camera_to_world: Tensor | None,
        dt: float,
        moved: MovedPictures | None = None,
        things: Things | None = None,
        displaced: Tensor | None = None,
    ) -> None:
        """What is not said above.

        Args:
            moved: the things of the newest frame, to be drawn where they will be when somebody looks.
            displaced: (N or 1, 3) metres that the robot stands beside its joints' word.
        """
        self._decoder = decoder
        self._source = source
        self.latents = latents
        self.states = states
        self.readout = readout
        self.uncertainty = uncertainty
        self.intrinsics = intrinsics
        self.camera_to_world = camera_to_world
        self.dt = dt
        self._moved = moved
        self._displaced = displaced
        self.things = things

    def __len__(self) -> int:
        return self.latents.shape[0]

    @property
    def horizon(self) -> int:
        return self.latents.shape[1]

    def select(self, plans: list[int] | Tensor) -> "Future":
        """The futures of some plans only."""
        index = torch.as_tensor(plans, device=self.latents.device)
        source = self._source if self._source.frames.shape[0] == 1 else self._source[index]
        return Future(
            self._decoder, source, self.latents[index], self.states[index],
            {name: value[index] for name, value in self.readout.items()}, self.uncertainty[index], self.intrinsics,
            None if self.camera_to_world is None else self.camera_to_world[index], self.dt,
            None if self._moved is None else self._moved.select(index),
            None if self.things is None else self.things[index],
            self._displaced if self._displaced is None or len(self._displaced) == 1 else self._displaced[index],
        )  # fmt: skip

    @cached_property
    def embedding(self) -> Tensor:
        """(N, H, E) of the coarse level."""
        return self._decoder.pool(self.latents)

    @cached_property
    def _decoded(self) -> Decoded:
        poses = None if self.camera_to_world is None else self.camera_to_world.flatten(0, 1)
        shift = self._displaced
        if shift is not None:
            shift = shift.expand(len(self), 3).repeat_interleave(self.horizon, 0)
        drawn = self._decoder.draw(self.states.flatten(0, 1), self.intrinsics, poses, shift)
        moved = None if self._moved is None else self._moved.draw()
        return self._decoder.decode(self.latents.flatten(0, 1), self._source.repeat(self._repeats), drawn, moved)

    @property
    def _repeats(self) -> int:
        return self.latents.shape[0] * self.horizon // self._source.frames.shape[0]

    @property
    def rgb(self) -> Tensor:
        """(N, H, 3, h, w) in [0, 1]."""
        return self._decoded.rgb.unflatten(0, self.latents.shape[:2])

    @cached_property
    def depth(self) -> Tensor:
        """(N, H, h, w) metres."""
        return self._decoder.to_depth(self._decoded.disparity).unflatten(0, self.latents.shape[:2])

    @cached_property
    def depth_scale(self) -> Tensor:
        """(N, H, h, w) metres: the scale of the depth's Laplace distribution."""
        # dz = ds * |dz/ds|, with z the depth at sqrt-disparity s.
        s, b = self._decoded.disparity, self._decoded.log_scale.exp()
        scale = (self._decoder.to_depth(s - b / 2) - self._decoder.to_depth(s + b / 2)).abs()
        return scale.unflatten(0, self.latents.shape[:2])

    def volume(
        self,
        plan: int = 0,
        *,
        lower: tuple[float, float, float],
        upper: tuple[float, float, float],
        voxel: float,
    ) -> SpacetimeVolume:
        """The imagined colours of one plan as a field over space and time; t = 0 is the newest observed frame.

        Args: lower, upper: corners (x, y, z) of the part of the world that is kept, metres; voxel: its side, metres.
        Raises: ShapeError where the observation told neither intrinsics nor camera pose.
        """
        if self.intrinsics is None or self.camera_to_world is None:
            raise ShapeError(
                "volume: the observation needs intrinsics and camera_to_world to place pixels in the world"
            )
        depth = self.depth[plan].float()
        camera = geometry.Intrinsics.from_matrix(self.intrinsics, depth.shape[-1], depth.shape[-2])
        return SpacetimeVolume.fuse(
            self.rgb[plan].float(), depth, camera, self.camera_to_world[plan].to(depth),
            lower=lower, upper=upper, voxel=voxel, dt=self.dt, start=self.dt,
        )  # fmt: skip
