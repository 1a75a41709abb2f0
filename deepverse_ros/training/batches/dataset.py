"""Episodes in memory, and windows drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.data.store import Episode, EpisodeStore
from deepverse_ros.errors import EmbodimentError, EpisodeError
from deepverse_ros.model.inputs import codec_frames
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.readout import Camera
from deepverse_ros.model.things.slots import MOST
from deepverse_ros.robot.embodiment import Embodiment, Modality

# The small arrays of an episode.
_ROWS = ("commanded", "measured", "states", "tool", "clearance", "intrinsics", "camera_to_world", "base")
# What is known of things, where all episodes know it; the states that say it, with their numbers per thing, and what
# stands where an episode has fewer things.
_OF_THINGS = ("segmentation", "poses", "touched")
_THING_STATES = {"poses": ("object_poses", 7, np.nan), "touched": ("object_touched", 1, 0.0)}


@dataclass(frozen=True)
class Episodes:
    """E episodes of T frames each, as arrays.

    rgb (E, T, H, W, 3) uint8; depth (E, T, H, W) uint16 mm; commanded and measured (E, T, A) float32, physical units:
    what was commanded, and where the robot was, at each frame; states (E, T, K) float32, physical units: what it
    measured of itself; tool (E, T, 3) metres; clearance (E, T) metres, NaN unknown; intrinsics (E, 3, 3) pixels;
    camera_to_world (E, T, 4, 4); base (E, 3): metres that the robot stands beside the world's origin, 0 unknown.

    Where every episode knows it, of at most 8 things: segmentation (E, T, H, W) uint8, 0 what stands fast, 1 the robot,
    2 + k thing k; poses (E, T, 8, 7), metres in the base frame and a quaternion x y z w, NaN where an episode has fewer
    things; touched (E, T, 8), 1 where the robot touched the thing since the frame before, else 0.
    """

    embodiment: Embodiment
    rgb: np.ndarray
    depth: np.ndarray
    commanded: Tensor
    measured: Tensor
    states: Tensor
    tool: Tensor
    clearance: Tensor
    intrinsics: Tensor
    camera_to_world: Tensor
    base: Tensor
    skipped: int = 0
    segmentation: np.ndarray | None = None
    poses: Tensor | None = None
    touched: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def length(self) -> int:
        return self.rgb.shape[1]

    @classmethod
    def load(cls, store: EpisodeStore, embodiment: Embodiment, size: tuple[int, int], length: int) -> "Episodes":
        """Read a whole store; damaged, shorter or differently sized episodes are skipped and counted.

        Raises: EmbodimentError if an episode is of another robot, or has not what it measures; EpisodeError if none is
        left.
        """
        paths = store.paths()
        try:
            rgb = np.empty((len(paths), length, *size, 3), np.uint8)
            depth = np.empty((len(paths), length, *size), np.uint16)
            segmentation = np.empty((len(paths), length, *size), np.uint8)  # takes no memory before it is written to
        except (MemoryError, ValueError) as error:
            raise EpisodeError(
                f"{store.directory}: {len(paths)} episodes with {length} frames of {size} pixels do not fit into memory"
            ) from error
        rows: dict[str, list[np.ndarray]] = {name: [] for name in _ROWS}
        known: dict[str, list[np.ndarray]] = {"poses": [], "touched": []}
        segmented = 0
        for episode in store:
            if episode.embodiment != embodiment.name:
                raise EmbodimentError(
                    f"{store.directory}: holds episodes of '{episode.embodiment}', the model is for '{embodiment.name}'"
                )
            _require_fit(store, episode, embodiment)
            if len(episode.rgb) < length or episode.rgb.shape[1:3] != size:
                continue
            n = len(rows["tool"])
            rgb[n], depth[n] = episode.rgb[:length], episode.depth[:length]
            rows["commanded"].append(episode.actions[:length])
            rows["measured"].append(_of_state(episode, embodiment.modalities)[:length])
            rows["states"].append(_of_state(episode, embodiment.measured)[:length])
            rows["tool"].append(episode.state["tool_position"][:length])
            unknown = np.full((len(episode), 1), np.nan)
            rows["clearance"].append(episode.state.get("clearance", unknown)[:length, 0])
            rows["intrinsics"].append(episode.intrinsics)
            rows["camera_to_world"].append(episode.camera_to_world[:length])
            rows["base"].append(episode.state.get("base_position", np.zeros((1, 3), np.float32))[0])
            for name, (state, numbers, unknown_value) in _THING_STATES.items():
                if state in episode.state:
                    known[name].append(_per_thing(episode.state[state][:length], numbers, unknown_value))
            if episode.segmentation is not None:
                segmentation[n] = episode.segmentation[:length]
                segmented += 1
        n = len(rows["tool"])
        if n == 0:
            raise EpisodeError(f"{store.directory}: no readable episode with {length} frames of {size} pixels")
        return cls(
            embodiment=embodiment,
            rgb=rgb[:n],
            depth=depth[:n],
            skipped=len(paths) - n,
            segmentation=segmentation[:n] if segmented == n else None,
            **{k: torch.from_numpy(np.stack(values)) for k, values in known.items() if len(values) == n},
            **{name: torch.from_numpy(np.stack(values).astype(np.float32)) for name, values in rows.items()},
        )

    def split(self, validation: int) -> tuple["Episodes", "Episodes"]:
        """Training episodes and the last `validation` ones."""
        if validation >= len(self):
            raise EpisodeError(
                f"data.validation: {validation} episodes are to be held out, and there are {len(self)}: none is left "
                f"to train on; use more, or set it in the training's config, such as to {max(1, len(self) // 10)}"
            )
        cut = len(self) - validation
        return self[:cut], self[cut:]

    def __getitem__(self, index: slice) -> "Episodes":
        return replace(
            self,
            rgb=self.rgb[index],
            depth=self.depth[index],
            **{name: getattr(self, name)[index] for name in _ROWS},
            **{name: known[index] for name in _OF_THINGS if (known := getattr(self, name)) is not None},
        )

    def observation(self, episode: int, start: int, count: int) -> Observation:
        """`count` frames of one episode from `start` on, as a robot's camera gives them."""
        frames = slice(start, start + count)
        depth = self.depth[episode, frames].astype(np.float32) / 1000
        return Observation.from_numpy(
            self.rgb[episode, frames],
            np.where(depth > 0, depth, np.nan),
            self.intrinsics[episode].numpy(),
            self.camera_to_world[episode, frames].numpy()[None],
        )

    def camera(self, episodes: np.ndarray, times: np.ndarray, device: torch.device) -> Camera:
        """Of the frames at (episodes, times), two index arrays (B,)."""
        return Camera(
            self.intrinsics[episodes].to(device), self.camera_to_world[episodes, times].to(device), self.rgb.shape[2:4]
        )

    def camera_to_robot(self, episodes: np.ndarray, times: np.ndarray) -> Tensor:
        """Where cameras stand for the robot, (B, 4, 4), at (episodes, times), two index arrays (B,)."""
        poses = self.camera_to_world[episodes, times].clone()
        poses[:, :3, 3] -= self.base[episodes]
        return poses

    @property
    def camera_features(self) -> Tensor:
        """(E, T, 13) of every frame; see `Camera.features`."""
        poses = self.camera_to_world.flatten(0, 1)
        camera = Camera(self.intrinsics.repeat_interleave(self.length, 0), poses, self.rgb.shape[2:4])
        return camera.features.unflatten(0, (len(self), self.length))

    def frames(self, episodes: np.ndarray, times: np.ndarray, device: torch.device) -> Tensor:
        """The codec's input (*, 5, H, W) of the frames at (episodes, times), two index arrays of one shape."""
        rgb = torch.from_numpy(self.rgb[episodes, times]).to(device).movedim(-1, -3).float() / 255
        depth = torch.from_numpy(self.depth[episodes, times].astype(np.float32)).to(device) / 1000
        return codec_frames(rgb, depth, self.embodiment)


def _require_fit(store: EpisodeStore, episode: Episode, embodiment: Embodiment) -> None:
    """Raises: EmbodimentError naming what does not fit."""
    wanted = {m.name: m.dim for m in (*embodiment.modalities, *embodiment.measured)} | {"tool_position": 3}
    found = {name: array.shape[1] for name, array in episode.state.items()}
    if "clearance" in found:
        wanted["clearance"] = 1
    for name, dim in wanted.items():
        if found.get(name) != dim:
            raise EmbodimentError(
                f"{store.directory}: an episode of seed {episode.seed} has {found.get(name, 'no')} values of '{name}', "
                f"'{embodiment.name}' has {dim}"
            )
    if episode.actions.shape[1] != embodiment.action_dim or abs(episode.dt - embodiment.dt) > 1e-6:
        raise EmbodimentError(
            f"{store.directory}: an episode of seed {episode.seed} has {episode.actions.shape[1]} values an action, "
            f"{episode.dt:g} s apart; '{embodiment.name}' has {embodiment.action_dim}, {embodiment.dt:g} s apart"
        )


def _per_thing(values: np.ndarray, numbers: int, unknown: float) -> np.ndarray:
    """(T, K * numbers) of each thing in turn to (T, 8, numbers), or (T, 8) for one number, float32."""
    things = values.reshape(len(values), values.shape[1] // numbers, numbers)[:, :MOST]
    out = np.full((len(values), MOST, numbers), unknown, np.float32)
    out[:, : things.shape[1]] = things
    return out if numbers > 1 else out[..., 0]


def _of_state(episode: Episode, modalities: Sequence[Modality]) -> np.ndarray:
    """(T, n) what was measured, in the order of `modalities`."""
    return np.concatenate([episode.state[m.name] for m in modalities], -1)


def window_actions(episodes: Episodes, index: np.ndarray, start: np.ndarray, length: int, context: int) -> Tensor:
    """(B, length-1, A): the action between every two frames of windows.

    Before the newest context frame it is what the robot measurably did (all that a node knows for sure about the
    past), after it what was commanded.
    """
    steps = start[:, None] + np.arange(length - 1)
    known = episodes.measured[index[:, None], steps + 1]
    planned = episodes.commanded[index[:, None], steps]
    past = (torch.arange(length - 1) < context - 1)[None, :, None]
    return torch.where(past, known, planned)
