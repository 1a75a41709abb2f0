"""HDF5 files behind a checksum, and arrays read from them within bounds.

The library that reads HDF5 trusts a file: a flipped bit can make it loop or take gigabytes, and a full disk makes it
crash. So a file is made in memory and written by ourselves, and begins with 512 bytes, which HDF5 leaves to its users,
that hold the SHA-256 of all that follows. A file without them, as older ones, is read too.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from deepverse_ros import files
from deepverse_ros.errors import EpisodeError

MOST_BYTES = 1 << 30
"""Of all arrays of a file together, unpacked."""
MOST_CHUNKS = 100_000
_MOST_FILE = MOST_BYTES + (64 << 20)
_SEAL, _SEAL_BYTES = b"deepverse_ros sealed file, sha256 of what follows byte 512: ", 512
_LZF, _SHUFFLE, _FLETCHER32 = 32000, 2, 3
"""The filters that are written. Others, which a packed chunk of any length may come out of, are not read."""


def write(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Make a file with `fill`, seal it, and put it at `path`, whole or not at all.

    Raises: WriteError, such as on a full disk.
    """
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    with files.replacing(path) as temporary:
        temporary.write_bytes(_seal(hashlib.sha256(image)) + image)


def _seal(digest: "hashlib._Hash") -> bytes:
    return (_SEAL + digest.hexdigest().encode() + b"\n").ljust(_SEAL_BYTES, b" ")


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file to read, after its checksum was compared.

    Raises: EpisodeError for what is no file, too large, or not as it was written; OSError and others of h5py.
    """
    files.require_regular(path, _MOST_FILE, EpisodeError)
    with path.open("rb") as raw:
        start = raw.read(_SEAL_BYTES)
        if not start.startswith(b"\x89HDF"):
            digest = hashlib.sha256()
            while part := raw.read(1 << 20):
                digest.update(part)
            if start != _seal(digest):
                raise EpisodeError("truncated or damaged: its checksum does not match")
    with h5py.File(path, "r") as file:
        yield file


class Reader:
    """Arrays of a file, `MOST_BYTES` of them at most."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._left = MOST_BYTES

    def array(self, name: str, dtype: str) -> np.ndarray:
        """Raises: EpisodeError for a dataset that is missing, of another type, elsewhere, too large or not whole."""
        found = self._dataset(name)
        if found.dtype != dtype or found.shape is None:
            raise EpisodeError(f"{name}: expected an array of {dtype}, got {found.dtype}")
        size = math.prod(found.shape) * found.dtype.itemsize
        self._left -= size
        if self._left < 0:
            raise EpisodeError(f"{name}: shape {found.shape}: all arrays together have more than {MOST_BYTES} bytes")
        if size:
            _require_whole(name, found, size)
        return np.asarray(found[()])

    def _dataset(self, name: str) -> h5py.Dataset:
        at = self._file
        for part in name.split("/"):
            link = at.get(part, getlink=True) if isinstance(at, h5py.Group) else None
            if link is None:
                raise EpisodeError(f"{name}: is missing")
            if type(link) is not h5py.HardLink:
                raise EpisodeError(f"{name}: is a link to elsewhere, which is not followed")
            at = at[part]
        if not isinstance(at, h5py.Dataset):
            raise EpisodeError(f"{name}: expected an array")
        if at.is_virtual or at.external:
            raise EpisodeError(f"{name}: its values are in another file, which is not read")
        return at


def _require_whole(name: str, dataset: h5py.Dataset, size: int) -> None:
    """All values are stored, in chunks that come out no larger than they say."""
    stored = dataset.id.get_storage_size()
    created = dataset.id.get_create_plist()
    filters = {created.get_filter(i)[0] for i in range(created.get_nfilters())}
    if foreign := filters - {_LZF, _SHUFFLE, _FLETCHER32}:
        raise EpisodeError(f"{name}: packed by filter {min(foreign)}, which is not read")
    if dataset.chunks is None:
        if stored != size:
            raise EpisodeError(f"{name}: {stored} bytes stored of {size}")
        return
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
    count = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    if chunk > size or count > MOST_CHUNKS:
        raise EpisodeError(f"{name}: chunks of {dataset.chunks} for a shape of {dataset.shape}")
    if dataset.id.get_num_chunks() != count:
        raise EpisodeError(f"{name}: {dataset.id.get_num_chunks()} chunks stored of {count}")
    sizes: list[int] = []
    if hasattr(dataset.id, "chunk_iter"):
        dataset.id.chunk_iter(lambda info: sizes.append(info.size))
    else:  # h5py before 3.8
        sizes = [stored // count]
    if max(sizes) > chunk + 64:  # packed values are never longer than plain ones, beside a checksum
        raise EpisodeError(f"{name}: a chunk of {max(sizes)} bytes, where it has {chunk} unpacked")


def header(file: h5py.File, name: str, most: int = 1 << 20) -> str:
    """A text attribute. Raises: EpisodeError where it is none; KeyError where there is none."""
    value = file.attrs[name]
    if not isinstance(value, str) or len(value) > most:
        raise EpisodeError(f"{name}: expected a text")
    return value
