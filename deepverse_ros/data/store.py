"""Episodes on disk: one checksummed HDF5 file each, written whole or not at all."""

import json
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deepverse_ros import files
from deepverse_ros.data import sealed_hdf5
from deepverse_ros.errors import EpisodeError, ResourceError

FORMAT = "deepverse_ros/episode"
VERSION = 1
_MOST_STATES = 100
_NAME = re.compile(r"episode_(\d{6,})\.h5")
_ARRAYS = {
    "rgb": ("uint8", "colour 0..255, (T, H, W, 3)"),
    "depth": ("uint16", "millimetres along the optical axis, 0 unknown, (T, H, W)"),
    "actions": ("float32", "units of the embodiment, (T, A); row t leads from frame t to t+1"),
    "intrinsics": ("float32", "pixels, (3, 3); a pixel's centre has whole coordinates"),
    "camera_to_world": ("float32", "metres, (T, 4, 4); optical frame x right, y down, z forward"),
}
_SEGMENTATION = {"segmentation": ("uint8", "0 what stands fast, 1 the robot, 2 + k thing k, (T, H, W)")}
_TYPES = _ARRAYS | _SEGMENTATION
_STATE_UNITS = {
    "tool_position": "m, world frame",
    "clearance": "m, smallest distance to table, obstacles and objects; 0 or less in contact",
    "object_positions": "m, world frame, x y z of each object in turn",
    "object_poses": "m, world frame, of each object in turn x y z and the quaternion x y z w",
    "object_touched": "1 where the robot touched the object since the frame before, else 0",
    "base_position": "m, world frame",
}


@dataclass(frozen=True)
class Episode:
    """One recording of T frames, `dt` seconds apart.

    rgb (T, H, W, 3) uint8. depth (T, H, W) uint16 millimetres, 0 unknown. actions (T, A) float32: row t leads from
    frame t to t+1, the last one is what was commanded after the last frame. state: arrays (T, n) float32 of what was
    measured, such as tool_position (m, world) and clearance (m). intrinsics (3, 3) and
    camera_to_world (T, 4, 4) float32. kind: what was done, such as random, reach, push or collide. units: of the states
    that the embodiment has, for whoever reads the file. segmentation (T, H, W) uint8: 0 what stands fast, 1 the robot,
    2 + k thing k, in the order of the states object_*; None where nobody knows.
    """

    embodiment: str
    dt: float
    seed: int
    kind: str
    rgb: np.ndarray
    depth: np.ndarray
    actions: np.ndarray
    state: dict[str, np.ndarray]
    intrinsics: np.ndarray
    camera_to_world: np.ndarray
    units: Mapping[str, str] = field(default_factory=dict)
    segmentation: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raises: EpisodeError when an array has another shape or type than documented."""
        frames, height, width = self.rgb.shape[:3] if self.rgb.ndim == 4 else (0, 0, 0)
        shapes = {
            "rgb": (frames, height, width, 3),
            "depth": (frames, height, width),
            "actions": (frames, self.actions.shape[-1]),
            "intrinsics": (3, 3),
            "camera_to_world": (frames, 4, 4),
            **({} if self.segmentation is None else {"segmentation": (frames, height, width)}),
        }
        if min(frames, height, width) < 1:
            raise EpisodeError(f"rgb: expected (T, H, W, 3) with at least one frame, got {self.rgb.shape}")
        for name, shape in shapes.items():
            array, (dtype, _) = getattr(self, name), _TYPES[name]
            if array.shape != shape or array.dtype != dtype:
                raise EpisodeError(f"{name}: expected {shape} {dtype}, got {array.shape} {array.dtype}")
        if not (isinstance(self.dt, float) and 1e-3 <= self.dt <= 60):
            raise EpisodeError(f"dt: expected 0.001 to 60 seconds, got {files.shown(self.dt)}")
        if type(self.seed) is not int or not (isinstance(self.embodiment, str) and isinstance(self.kind, str)):
            raise EpisodeError("embodiment and kind must be text, seed a whole number")
        for name in ("actions", "intrinsics"):
            if not np.isfinite(getattr(self, name)).all():
                raise EpisodeError(f"{name}: holds a value that is not finite")
        for name, array in self.state.items():
            if array.ndim != 2 or len(array) != frames or array.dtype != np.float32:
                raise EpisodeError(f"state '{name}': expected ({frames}, n) float32, got {array.shape} {array.dtype}")

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.rgb)


class EpisodeStore:
    """A directory of episodes, `episode_000000.h5` and so on.

    Iterating yields the episodes in order; a damaged file is named in a warning, listed in `skipped` and left out.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.skipped: list[Path] = []

    def path(self, index: int) -> Path:
        """Where episode `index` lies or will lie."""
        return self.directory / f"episode_{index:06d}.h5"

    def paths(self) -> list[Path]:
        """The episode files, by index."""
        if not self.directory.is_dir():
            return []
        return sorted(p for p in self.directory.iterdir() if _NAME.fullmatch(p.name))

    def __len__(self) -> int:
        """Number of episode files, damaged ones included."""
        return len(self.paths())

    def __iter__(self) -> Iterator[Episode]:
        self.skipped = []
        for path in self.paths():
            try:
                episode = self.read(path)
            except EpisodeError as error:
                warnings.warn(f"skipped: {error}", stacklevel=2)
                self.skipped.append(path)
            else:
                yield episode

    def write(self, index: int, episode: Episode) -> Path:
        """Write an episode. The file appears under its name only when it is complete and on the disk.

        Raises: WriteError, such as on a full disk.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.path(index)
        sealed_hdf5.write(path, lambda file: _fill(file, episode))
        return path

    def read(self, which: str | Path | int) -> Episode:
        """Read an episode by index or path, checking that it is complete and undamaged.

        Raises: EpisodeError naming the file and what is wrong with it.
        """
        path = self.path(which) if isinstance(which, int) else Path(which)
        try:
            with sealed_hdf5.opened(path) as file:
                return _parse(file)
        except ResourceError as error:
            raise EpisodeError(f"{path}: no such episode") from error
        except EpisodeError as error:
            raise EpisodeError(str(error) if str(error).startswith(f"{path}: ") else f"{path}: {error}") from error
        except (OSError, LookupError, ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise EpisodeError(f"{path}: truncated or damaged: {error}") from error

    def clean(self) -> int:
        """Remove what an interrupted `write` left behind. Returns: the number of files removed."""
        leftovers = list(self.directory.glob(".episode_*.tmp")) if self.directory.is_dir() else []
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)


def _fill(file: h5py.File, episode: Episode) -> None:
    header = {
        "format": FORMAT,
        "version": VERSION,
        "embodiment": episode.embodiment,
        "dt": episode.dt,
        "seed": episode.seed,
        "kind": episode.kind,
        "frames": len(episode),
        "state": sorted(episode.state),
    }
    if episode.segmentation is not None:  # an episode without one is the same file as ever
        header["segmentation"] = True
    text = json.dumps(header, sort_keys=True)
    file.attrs["header"], file.attrs["header_crc32"] = text, zlib.crc32(text.encode())
    for name, (_, units) in (_ARRAYS if episode.segmentation is None else _TYPES).items():
        _dataset(file, name, getattr(episode, name), units)
    for name, array in episode.state.items():
        _dataset(file, f"state/{name}", array, _STATE_UNITS.get(name) or episode.units.get(name, ""))


def _dataset(file: h5py.File, name: str, array: np.ndarray, units: str) -> None:
    """One checksummed array; pictures are stored frame by frame, so that a few can be read without the rest."""
    options: dict[str, Any] = {}
    if name in ("rgb", "depth", "segmentation"):
        options = {"chunks": (1, *array.shape[1:]), "compression": "lzf", "shuffle": array.dtype.itemsize > 1}
    elif array.size:
        options = {"chunks": array.shape}
    if array.size:  # HDF5 cannot checksum nothing
        options["fletcher32"] = True
    dataset = file.create_dataset(name, data=array, **options)
    dataset.attrs["units"] = units


def _parse(file: h5py.File) -> Episode:
    text = sealed_hdf5.header(file, "header")
    if zlib.crc32(text.encode()) != file.attrs["header_crc32"]:
        raise EpisodeError("the header's checksum does not match")
    header = json.loads(text)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise EpisodeError("not an episode: its header names another format")
    if header["version"] != VERSION:
        raise EpisodeError(f"episode format version {files.shown(header['version'])}; this package reads {VERSION}")
    names = header["state"]
    if not isinstance(names, list) or len(names) > _MOST_STATES or not all(_is_name(name) for name in names):
        raise EpisodeError(f"header: state: expected names, got {files.shown(names)}")
    segmented = header.get("segmentation", False)
    if not isinstance(segmented, bool):
        raise EpisodeError(f"header: segmentation: expected true or false, got {files.shown(segmented)}")
    reader = sealed_hdf5.Reader(file)
    stored = _TYPES if segmented else _ARRAYS
    arrays: dict[str, Any] = {name: reader.array(name, dtype) for name, (dtype, _) in stored.items()}
    episode = Episode(
        embodiment=header["embodiment"],
        dt=header["dt"],
        seed=header["seed"],
        kind=header["kind"],
        state={name: reader.array(f"state/{name}", "float32") for name in names},
        **arrays,
    )
    if len(episode) != header["frames"]:
        raise EpisodeError(f"the header names {header['frames']} frames, the file holds {len(episode)}")
    return episode


def _is_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"\w[\w .-]{0,99}", name) is not None
