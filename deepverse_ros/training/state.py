"""What a stage can be resumed from, and its log: files that a kill at any moment leaves whole."""

import csv
import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepverse_ros.errors import CheckpointError


def save_state(path: Path, tensors: dict[str, Tensor]) -> None:
    """Replace the file at once; a reader, or a run that is killed, never sees half of it."""
    temporary = path.with_suffix(".tmp")
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_state(path: Path, shapes: dict[str, torch.Size]) -> dict[str, Tensor] | None:
    """Args: shapes: of tensors that must be there. Returns: None if there is no state.

    Raises: CheckpointError if it belongs to another network.
    """
    if not path.exists():
        return None
    tensors = load_file(path)
    wrong = [k for k, shape in shapes.items() if k not in tensors or tensors[k].shape != shape]
    if wrong:
        raise CheckpointError(f"{path}: belongs to another network ({wrong[0]}); remove the run folder")
    return tensors


class CsvLog:
    """Long-format log (step, name, value), so that columns may come later. Rows after a resumed step are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows = []
        if path.exists() and step > 0:
            with path.open() as file:
                rows = [r for r in csv.reader(file) if len(r) == 3 and r[0].isdigit() and int(r[0]) <= step]
        temporary = path.with_suffix(".csv.tmp")
        with temporary.open("w", newline="") as file:
            csv.writer(file).writerows([["step", "name", "value"], *rows])
        os.replace(temporary, path)

    def write(self, step: int, values: dict[str, float]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows([step, k, json.dumps(v)] for k, v in values.items())
