"""Where the tool is, with the spread that the network itself expects: read from a picture, or from an imagined frame.

Two networks, because they are told different things. A picture (what the camera sees now, a goal) is read pixel by
pixel, and nobody says how the joints stand in it. An imagined frame has a latent, which tells what happens to the
arm, and the action that leads to it, which tells exactly where the joints shall be.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepverse_ros import geometry
from deepverse_ros.model.codec import IN_CHANNELS, Block
from deepverse_ros.robot.embodiment import Embodiment

# A clearance beyond this is as good as free, metres.
FREE = 0.5
# Standard deviations between 1 mm and 1 m.
_LOG_STD = (-6.9, 0.0)
_HARMONICS = (1, 2)
# A tool is about so many metres from a camera.
_DISTANCE = 1.5
CAMERA_FEATURES = 13
"""See `Camera.features`."""


class Camera(NamedTuple):
    """Where the pictures of a batch are from.

    intrinsics: (3, 3) or (B, 3, 3) pixels.
    camera_to_world: (B, 4, 4) metres.
    size: height and width of a picture in pixels.
    """

    intrinsics: Tensor
    camera_to_world: Tensor
    size: tuple[int, int]

    @property
    def focal(self) -> Tensor:
        """(B, 1) focal length over the picture's height."""
        count = len(self.camera_to_world)
        return self.intrinsics.to(self.camera_to_world).expand(count, 3, 3)[:, 1, 1:2] / self.size[0]

    @property
    def features(self) -> Tensor:
        """(B, 13) for a network: place (metres) and axes of the camera, and its focal length."""
        pose = self.camera_to_world[:, :3].flatten(1)
        return torch.cat([pose, self.focal], -1).float()

    def repeat(self, times: int) -> "Camera":
        """Every entry `times` times in a row."""
        count = len(self.camera_to_world)
        matrices = self.intrinsics.expand(count, 3, 3).repeat_interleave(times, 0)
        return Camera(matrices, self.camera_to_world.repeat_interleave(times, 0), self.size)

    def place(self, pixel: Tensor, depth: Tensor) -> Tensor:
        """World points (B, 3) that appear at `pixel` (B, 2), from -1 to 1 across and down, `depth` (B,) metres away."""
        rows, columns = self.size
        k = self.intrinsics.to(pixel).expand(len(pixel), 3, 3)
        u, v = ((pixel[:, axis] + 1) / 2 * size - 0.5 for axis, size in enumerate((columns, rows)))
        x, y = (u - k[:, 0, 2]) / k[:, 0, 0], (v - k[:, 1, 2]) / k[:, 1, 1]
        points = torch.stack([x, y, torch.ones_like(x)], -1) * depth[:, None]
        return geometry.transform(self.camera_to_world.to(pixel), points[:, None])[:, 0]


class PictureReadout(nn.Module):
    """The tool in a frame, at the resolution of the model.

    Features at stride 4 that know their surroundings, attended to by a few heads; what a position is read from is where
    each head looks (spatial softmax: Levine et al., "End-to-End Training of Deep Visuomotor Policies", 2016, arXiv
    1504.00702) and what it sees there.
    """

    def __init__(
        self, channels: tuple[int, int] = (24, 48), heads: int = 16, seen: int = 12, posed: bool = False
    ) -> None:
        """Untrained.

        Args:
            channels: at stride 4, and at strides 8 and 16.
            heads: that look.
            seen: numbers seen by each.
            posed: it is told the camera, and says where in the picture and how far away the tool is; else it says where
                that is in the base frame.
        """
        super().__init__()
        c0, c1 = channels
        self.heads = heads
        self.seen = seen
        self.posed = posed
        self.stem = nn.Conv2d(IN_CHANNELS, c0, 6, stride=4, padding=1)
        self.block4 = Block(c0)
        self.down8 = nn.Conv2d(c0, c1, 4, stride=2, padding=1)
        self.block8 = Block(c1)
        self.down16 = nn.Conv2d(c1, c1, 4, stride=2, padding=1)
        self.block16 = nn.Sequential(Block(c1), Block(c1))
        self.up8 = nn.Conv2d(c1, 4 * c1, 1)
        self.up4 = nn.Conv2d(c1, 4 * c0, 1)
        attention = nn.Conv2d(c0, heads + seen, 1)
        with torch.no_grad():  # heads that look everywhere at first hardly learn where to look
            attention.weight[:heads] *= 4.0
        self.look = nn.Sequential(Block(c0), nn.SiLU(), attention)
        self.place = nn.Sequential(nn.Linear(heads * (2 + seen) + posed, 128), nn.SiLU(), nn.Linear(128, 4))

    def forward(self, frames: Tensor, camera: Camera | None = None) -> tuple[Tensor, Tensor]:
        """Args: frames (B, 5, H, W); camera: needed where it is `posed`, else of no use.

        Returns: position (B, 3) metres in the base frame, std (B,) metres.
        """
        position, std, _ = self.look_at(frames, camera)
        return position, std

    def features(self, frames: Tensor) -> Tensor:
        """What it sees at each place, and around it: (B, 5, H, W) to (B, C, H/4, W/4)."""
        x4 = self.block4(self.stem(frames))
        x8 = self.block8(self.down8(F.silu(x4)))
        x16 = self.block16(self.down16(F.silu(x8)))
        x8 = x8 + F.pixel_shuffle(self.up8(F.silu(x16)), 2)
        return x4 + F.pixel_shuffle(self.up4(F.silu(x8)), 2)

    def look_at(self, frames: Tensor, camera: Camera | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, and where the first head looks: log-probabilities (B, H/4, W/4)."""
        return self.read(self.features(frames), camera)

    def read(self, x4: Tensor, camera: Camera | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """`look_at` of `features`."""
        where, what = self.look(x4).float().split([self.heads, self.seen], 1)
        log_weights = where.flatten(2).log_softmax(-1)
        rows, columns = (torch.linspace(-1, 1, n, device=x4.device) for n in x4.shape[2:])
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).flatten(1).expand(len(x4), -1, -1)
        read = log_weights.exp() @ torch.cat([grid, what.flatten(2)], 1).mT
        looks = log_weights[:, 0].unflatten(-1, x4.shape[2:])
        if not self.posed:
            return *position_and_std(self.place(read.flatten(1))), looks
        assert camera is not None
        raw, std = position_and_std(self.place(torch.cat([read.flatten(1), camera.focal.to(read)], 1)))
        return camera.place(raw[:, :2], _DISTANCE + raw[:, 2]), std, looks


class ActionFeatures(nn.Module):
    """Actions as numbers that a small network can use: scaled to [-1, 1], angles also as sines and cosines."""

    scale: Tensor
    centre: Tensor
    angles: Tensor

    def __init__(self, embodiment: Embodiment) -> None:
        super().__init__()
        span = torch.from_numpy(embodiment.upper - embodiment.lower)
        self.register_buffer("scale", 2 / span, persistent=False)
        self.register_buffer("centre", torch.from_numpy(embodiment.lower) + span / 2, persistent=False)
        units = [m.units for m in embodiment.modalities for _ in range(m.dim)]
        angles = torch.tensor([i for i, unit in enumerate(units) if unit == "rad"], dtype=torch.int64)
        self.register_buffer("angles", angles, persistent=False)
        self.dim = embodiment.action_dim + 2 * len(_HARMONICS) * len(angles)

    def forward(self, actions: Tensor) -> Tensor:
        """(..., A) physical units, NaN (absent) as the middle of the range, to (..., dim)."""
        actions = torch.where(torch.isfinite(actions), actions, self.centre)
        angles = actions[..., self.angles]
        waves = [f(k * angles) for k in _HARMONICS for f in (torch.sin, torch.cos)]
        return torch.cat([(actions - self.centre) * self.scale, *waves], -1)


class Outcome(NamedTuple):
    """What is read of imagined frames.

    tool_position: (..., 3) metres in the base frame.
    tool_std: (...) metres, of each axis.
    clearance: (...) metres to the nearest thing, at most FREE.
    clearance_std: (...) metres.
    """

    tool_position: Tensor
    tool_std: Tensor
    clearance: Tensor
    clearance_std: Tensor


class OutcomeReadout(nn.Module):
    """The tool in an imagined frame, and how near the robot is to what it might touch.

    Where the tool is, the joints of the action tell for an arm that moves freely; that it stands elsewhere, or was
    stopped by something, and what is in its way, only the latent shows.
    """

    def __init__(
        self, embodiment: Embodiment, tokens: int, token_dim: int, width: int = 160, posed: bool = False
    ) -> None:
        """Args: posed: it is told the camera."""
        super().__init__()
        self.features = ActionFeatures(embodiment)
        self.camera = nn.Linear(CAMERA_FEATURES, width, bias=False) if posed else None
        self.squeeze = nn.Linear(token_dim, 32)
        self.latent = nn.Linear(32 * tokens, width)
        self.action = nn.Linear(self.features.dim, width)
        self.body = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 6)
        )

    def forward(self, latents: Tensor, actions: Tensor, camera: Tensor | None = None) -> Outcome:
        """What is read of frames.

        Args:
            latents: (..., S, P).
            actions: (..., A) that lead to these frames, physical units.
            camera: (..., 13) see `Camera.features`; needed where it is `posed`.
        """
        seen = self.latent(F.silu(self.squeeze(latents.float())).flatten(-2))
        if self.camera is not None:
            assert camera is not None
            seen = seen + self.camera(camera)
        tool, clearance = self.body(seen + self.action(self.features(actions))).split([4, 2], -1)
        return Outcome(*position_and_std(tool), clearance[..., 0].float(), _std(clearance[..., 1]))


def position_and_std(raw: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 4) outputs of a network to position (..., 3) metres and std (...) metres."""
    return raw[..., :3].float(), _std(raw[..., 3])


def _std(raw: Tensor) -> Tensor:
    return raw.float().clamp(*_LOG_STD).exp()


def gaussian_nll(error: Tensor, std: Tensor) -> Tensor:
    """Negative log-likelihood (...) of an error (..., D) under an isotropic Gaussian of deviation std (...)."""
    return error.square().sum(-1) / (2 * std**2) + error.shape[-1] * torch.log(std)


def robust_nll(error: Tensor, std: Tensor) -> Tensor:
    """`gaussian_nll` (...), each example weighted by its detached spread (beta-NLL, arXiv 2203.09168).

    Without the weights a few sharp examples own the gradient.
    """
    return gaussian_nll(error, std) * std.detach()
