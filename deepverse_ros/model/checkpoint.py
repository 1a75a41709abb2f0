"""Checkpoints: a folder with model.safetensors (16-bit weights) and config.json. Nothing is ever unpickled."""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepverse_ros import resources
from deepverse_ros.errors import CheckpointError, ResourceError
from deepverse_ros.model.config import WorldModelConfig

if TYPE_CHECKING:
    from deepverse_ros.model.world_model import WorldModel

FORMAT_VERSION = 4
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_NEW_WEIGHTS, _NEW_CONFIG = f".{WEIGHTS}.tmp", f".{CONFIG}.tmp"


def write(path: str | Path, model: "WorldModel", extra: dict[str, Any]) -> None:
    """Write weights and the config that carries their checksum.

    Both are on the disk before either takes its place, the weights first. A reader that finds the new weights beside
    the old config, because the writer was killed between the two, takes the new config from where it waits.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for name, tensor in model.state_dict().items():
        # The novelty detector's whitening spans more magnitudes than 16 bits hold; it is small.
        keep = name.startswith("novelty.")
        weights[name] = tensor.detach().cpu().to(torch.float32 if keep else torch.float16).contiguous()
    temporary = folder / _NEW_WEIGHTS
    save_file(weights, temporary)
    temporary.chmod(0o644)  # save_file makes it readable for its owner alone
    values = {
        "format_version": FORMAT_VERSION,
        "model": model.config.model_dump(mode="json"),
        "weights_sha256": _digest(temporary),
        **extra,
    }
    _sync(temporary)
    _prepare_config(folder, values)
    os.replace(temporary, folder / WEIGHTS)
    os.replace(folder / _NEW_CONFIG, folder / CONFIG)


def write_calibration(path: str | Path, calibration: dict[str, Any]) -> None:
    """Replace the calibration in a checkpoint's config.json, atomically; the weights stay as they are."""
    folder = Path(path)
    values = _config_of(folder, _digest(folder / WEIGHTS))
    _prepare_config(folder, values | {"calibration": calibration})
    os.replace(folder / _NEW_CONFIG, folder / CONFIG)


def _config_of(folder: Path, digest: str) -> Any:
    """What config.json says, or the one that was about to replace it, where only that one is of these weights.

    Raises: CheckpointError for one that is not JSON.
    """
    try:
        values = json.loads((folder / CONFIG).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: not valid JSON: {error}") from error
    if isinstance(values, dict) and values.get("weights_sha256") != digest:
        with contextlib.suppress(OSError, ValueError):
            waiting = json.loads((folder / _NEW_CONFIG).read_text())
            if isinstance(waiting, dict) and waiting.get("weights_sha256") == digest:
                return waiting
    return values


def _prepare_config(folder: Path, values: dict[str, Any]) -> None:
    temporary = folder / _NEW_CONFIG
    # Every list of numbers on a line of its own, however many they are. Only between values are there line breaks.
    text = re.sub(
        r"\[\n\s+([^][{}\"]*?)\n\s*\]", lambda found: f"[{' '.join(found[1].split())}]", json.dumps(values, indent=2)
    )
    temporary.write_text(text + "\n")
    _sync(temporary)


def _sync(path: Path) -> None:
    """Whatever happens to the machine now, the file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read(path: str | Path) -> tuple[WorldModelConfig, dict[str, Tensor], dict[str, Any]]:
    """Returns: the model's shape, its weights in float32, and what else config.json holds.

    Raises: CheckpointError naming the file and what is wrong with it.
    """
    try:
        folder = resources.find(path)
    except ResourceError as error:
        raise CheckpointError(f"checkpoint '{path}': {error}") from error
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"checkpoint '{folder}': {name} is missing; a checkpoint is a folder with both files")
    digest = _digest(folder / WEIGHTS)
    values = _config_of(folder, digest)
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder / CONFIG}: format_version is {version}, this package reads {FORMAT_VERSION}; "
            "train the model again or install the package version that wrote it"
        )
    try:
        config = WorldModelConfig.model_validate(values["model"])
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"{folder / CONFIG}: field 'model' does not describe a world model: {error}") from error
    if digest != values.get("weights_sha256"):
        raise CheckpointError(
            f"{folder / WEIGHTS}: its SHA-256 is not the one in {CONFIG}: the file is truncated, was changed, or "
            "belongs to another config; copy the checkpoint again"
        )
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: not a readable safetensors file: {error}") from error
    return config, {k: v.float() for k, v in weights.items()}, values


def assign(model: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Raises: CheckpointError naming the first tensors that do not fit."""
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [k for k in expected.keys() & weights.keys() if expected[k].shape != weights[k].shape]
    if wrong:
        raise CheckpointError(f"checkpoint '{path}': {len(wrong)} tensors do not fit the config, such as {wrong[:3]}")
    model.load_state_dict(weights)


def require_embodiment(model: "WorldModel", name: str) -> None:
    """Raises: CheckpointError if the model was trained for another robot than `name`."""
    if model.embodiment.name != name:
        raise CheckpointError(
            f"the checkpoint is for embodiment '{model.embodiment.name}', but '{name}' was asked for; "
            f"give a checkpoint that was trained with config/embodiments/{name}.yaml"
        )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
