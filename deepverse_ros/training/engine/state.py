"""What a stage can be resumed from, and its log: files that a kill at any moment leaves whole."""

import csv
import json
import math
import re
import zlib
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepverse_ros import files
from deepverse_ros.errors import CheckpointError
from deepverse_ros.model import tensors

_CHECKSUM = "crc32"
_MOST_BYTES, _MOST_LOG = 64 << 30, 256 << 20


def save_state(path: Path, state: dict[str, Tensor]) -> None:
    """Replace the file at once; a reader, or a run that is killed, never sees half of it.

    Raises: WriteError, such as on a full disk; the last state stays.
    """
    kept = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    with files.replacing(path) as temporary:
        try:
            save_file(kept, temporary, {_CHECKSUM: _checksum(kept)})
        except SafetensorError as error:
            raise files.cannot_write(path, error) from error


def _checksum(state: dict[str, Tensor]) -> str:
    """Of names, shapes and values; quick, as it is against damage and not against somebody."""
    crc = 0
    for name in sorted(state):
        tensor = state[name].contiguous()
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def load_state(path: Path, shapes: dict[str, torch.Size]) -> dict[str, Tensor] | None:
    """Args: shapes: of the tensors that must be there, beside the optimiser's. Returns: None if there is no state.

    Raises: CheckpointError naming the file where it is damaged or belongs to another network.
    """
    if not path.is_symlink() and not path.exists():
        return None
    found = tensors.read_header(path, _MOST_BYTES)
    wrong = [k for k, shape in shapes.items() if found.get(k) != tuple(shape)]
    if wrong:
        raise CheckpointError(f"{path}: belongs to another network ({wrong[0]}); remove the run folder")
    optimizer = {k for k in found if re.fullmatch(r"optimizer\.\d{1,6}\.(step|exp_avg|exp_avg_sq)", k)}
    allowed = {math.prod(shape) for shape in shapes.values()} | {1}
    for name in found.keys() - shapes.keys() - {"skipped"}:
        if name not in optimizer or math.prod(found[name]) not in allowed:
            raise CheckpointError(f"{path}: {files.shown(name)}: is of no training state")
    try:
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get(_CHECKSUM)
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error
    if told is not None and told != _checksum(state):
        raise CheckpointError(f"{path}: damaged: its checksum does not match; remove it to do this stage again")
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name}: holds a value that is not finite")
    return state


class CsvLog:
    """Long-format log (step, name, value), so that columns may come later. Rows after a resumed step are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows = []
        if path.exists() and step > 0:
            rows = [[str(at), name, json.dumps(value)] for at, name, value in read_log(path) if at <= step]
        with files.replacing(path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([["step", "name", "value"], *rows])

    def write(self, step: int, values: dict[str, float]) -> None:
        """Raises: WriteError, such as on a full disk."""
        try:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerows([step, k, json.dumps(v)] for k, v in values.items())
        except OSError as error:
            raise files.cannot_write(self.path, error) from error


def read_log(path: Path) -> list[tuple[int, str, float]]:
    """(step, name, value) of every row that is one; a kill may have left half of the last.

    Raises: CheckpointError for what is no text.
    """
    rows = []
    for line in files.read_text(path, _MOST_LOG, CheckpointError).splitlines():
        step, _, rest = line.partition(",")
        name, _, value = rest.partition(",")
        with suppress(ValueError):
            rows.append((int(step), name, float(value)))
    return rows
