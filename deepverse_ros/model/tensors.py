"""Files of tensors: what a safetensors file says that it holds is compared with its size before any of it is read."""

import json
import math
import struct
from pathlib import Path

from deepverse_ros import files
from deepverse_ros.errors import CheckpointError

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_MOST_HEADER = 16 << 20


def read_header(path: Path, most_bytes: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors, by name. Raises: CheckpointError naming the file and what its header and size tell."""
    size = files.require_regular(path, most_bytes, CheckpointError)
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, _MOST_HEADER):
            raise CheckpointError(f"{path}: not a safetensors file, or truncated: {size} bytes, a header of {length}")
        text = file.read(length)
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        for name, shape in shapes.items():
            begin, end = entries[name]["data_offsets"]
            width = _BYTES[entries[name]["dtype"]]
            if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
                raise ValueError(f"{name}: no shape")
            if end - begin != width * math.prod(shape):
                raise ValueError(f"{name}: {end - begin} bytes for a shape of {shape}")
        told = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors header: {files.shown(str(error))}") from error
    if told != size - 8 - length:
        raise CheckpointError(f"{path}: truncated or damaged: {told} bytes of tensors told, {size - 8 - length} there")
    return shapes
