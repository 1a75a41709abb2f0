"""Checkpoints: a folder with model.safetensors (16-bit weights) and config.json. Nothing is ever unpickled.

config.json holds the SHA-256 of the weights and, from format 5 on, that of all its other fields. Shapes in the file of
weights are compared with the network's before either takes memory.
"""

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deepverse_ros import files, resources
from deepverse_ros.errors import CheckpointError, DeepverseError, ResourceError
from deepverse_ros.model import tensors
from deepverse_ros.model.config import CalibrationFields, WorldModelConfig

FORMAT_VERSION, UNSEALED_VERSION = 5, 4
"""The second one has no checksum of the config."""
WEIGHTS, CONFIG = "model.safetensors", "config.json"
SEAL = "config_sha256"
_NEW_WEIGHTS, _NEW_CONFIG = f".{WEIGHTS}.tmp", f".{CONFIG}.tmp"
_FIELDS = {"format_version", "model", "weights_sha256", "calibration", "provenance", SEAL}
_MOST_CONFIG, _MOST_WEIGHTS = 16 << 20, 64 << 30


Shapes = dict[str, tuple[int, ...]]
"""Of each tensor of a network, by name."""


def write(path: str | Path, config: WorldModelConfig, state: Mapping[str, Tensor], extra: dict[str, Any]) -> None:
    """Write weights and the config that carries their checksum. Args: extra: calibration and provenance.

    Both are on the disk before either takes its place, the weights first. A reader that finds the new weights beside
    the old config, because the writer was killed between the two, takes the new config from where it waits.
    """
    folder = Path(path)
    weights = {}
    for name, tensor in state.items():
        # The novelty detector's whitening spans more magnitudes than 16 bits hold; it is small.
        keep = name.startswith("novelty.")
        weights[name] = tensor.detach().cpu().to(torch.float32 if keep else torch.float16).contiguous()
    temporary = folder / _NEW_WEIGHTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, temporary)
        temporary.chmod(0o644)  # save_file makes it readable for its owner alone
        _sync(temporary)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise files.cannot_write(folder / WEIGHTS, error) from error
    values = {
        "model": config.model_dump(mode="json"),
        "weights_sha256": _digest(temporary),
        **extra,
    }
    if extra.get("calibration") is not None:
        _require_calibration(folder / CONFIG, extra["calibration"])
    _prepare_config(folder, values)
    os.replace(temporary, folder / WEIGHTS)
    os.replace(folder / _NEW_CONFIG, folder / CONFIG)


def write_calibration(path: str | Path, calibration: dict[str, Any]) -> None:
    """Replace the calibration in a checkpoint's config.json, atomically; the weights stay as they are."""
    folder = Path(path)
    values = _config_of(folder, _digest(folder / WEIGHTS))
    _require_calibration(folder / CONFIG, calibration)
    _replace_config(folder, values | {"calibration": calibration})


def seal(path: str | Path) -> Path:
    """Write the checksum of a config.json that has none, as older ones, or that was edited on purpose.

    Returns: the file. Raises: CheckpointError for one that describes no world model, or is not of these weights.
    """
    folder = resources.find(path)
    digest = _digest(folder / WEIGHTS)
    values = _config_of(folder, digest, edited=True)
    _require_weights(folder, values, digest)
    _replace_config(folder, values)
    return folder / CONFIG


def _replace_config(folder: Path, values: dict[str, Any]) -> None:
    _prepare_config(folder, values)
    try:
        os.replace(folder / _NEW_CONFIG, folder / CONFIG)
    except OSError as error:
        raise files.cannot_write(folder / CONFIG, error) from error


def config_checksum(values: dict[str, Any]) -> str:
    """Of all fields but the checksum itself, however they are spaced and ordered."""
    kept = {name: value for name, value in values.items() if name != SEAL}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_config(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """A checkpoint's folder, and its config.json without looking at the weights.

    Raises: CheckpointError naming file and field.
    """
    folder = _folder(path)
    return folder, _read_config(folder / CONFIG)


def _folder(path: str | Path) -> Path:
    try:
        folder = resources.find(path)
    except ResourceError as error:
        raise CheckpointError(f"checkpoint '{path}': {error}") from error
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"checkpoint '{folder}': {name} is missing; a checkpoint is a folder with both files")
    return folder


def _read_config(file: Path, edited: bool = False) -> dict[str, Any]:
    """Args: edited: it may differ from its checksum. Raises: CheckpointError."""
    # A bound may be infinite, where there were too few plans for one.
    values = files.read_json(file, _MOST_CONFIG, CheckpointError, finite=False)
    version = values.get("format_version")
    if version not in (FORMAT_VERSION, UNSEALED_VERSION) or not isinstance(version, int):
        raise CheckpointError(
            f"{file}: format_version is {files.shown(version)}, this package reads {UNSEALED_VERSION} and "
            f"{FORMAT_VERSION}; train the model again or install the package version that wrote it"
        )
    command = f"`deepverse checksum {file.parent}`"
    if not edited:
        if SEAL in values or version == FORMAT_VERSION:
            if values.get(SEAL) != config_checksum(values):
                raise CheckpointError(
                    f"{file}: {SEAL}: the SHA-256 of its fields is another: it is damaged or was edited; copy the "
                    f"checkpoint again or, if it was edited on purpose, {command} checks it and takes it as it is"
                )
        else:
            warnings.warn(f"{file}: has no checksum, so damage to it goes unseen; {command} adds it", stacklevel=4)
    if unknown := values.keys() - _FIELDS:
        raise CheckpointError(f"{file}: unknown field {files.shown(min(unknown))}")
    try:
        WorldModelConfig.model_validate(values["model"])
    except KeyError as error:
        raise CheckpointError(f"{file}: field 'model' is missing") from error
    except ValidationError as error:
        raise CheckpointError(
            f"{file}: field 'model' does not describe a world model: {files.fields(error)}"
        ) from error
    _require_calibration(file, values.get("calibration"))
    if not isinstance(values.get("provenance", {}), dict):
        raise CheckpointError(f"{file}: provenance: expected a mapping, got {files.shown(values['provenance'])}")
    return values


def _require_calibration(file: Path, calibration: Any) -> None:
    if calibration is None:
        return
    try:
        CalibrationFields.model_validate(calibration)
    except ValidationError as error:
        raise CheckpointError(f"{file}: calibration: {files.fields(error)}") from error


def _config_of(folder: Path, digest: str, edited: bool = False) -> dict[str, Any]:
    """What config.json says, or the one that was about to replace it, where only that one is of these weights.

    Raises: CheckpointError for one that is damaged.
    """
    values = _read_config(folder / CONFIG, edited)
    if values.get("weights_sha256") != digest:
        with contextlib.suppress(DeepverseError):
            waiting = _read_config(folder / _NEW_CONFIG)
            if waiting.get("weights_sha256") == digest:
                return waiting
    return values


def _prepare_config(folder: Path, values: dict[str, Any]) -> None:
    values = values | {"format_version": FORMAT_VERSION}
    values = json.loads(json.dumps(values))  # as a reader finds it
    values[SEAL] = config_checksum(values)
    # Every list of numbers on a line of its own, however many they are. Only between values are there line breaks.
    text = re.sub(
        r"\[\n\s+([^][{}\"]*?)\n\s*\]", lambda found: f"[{' '.join(found[1].split())}]", json.dumps(values, indent=2)
    )
    temporary = folder / _NEW_CONFIG
    try:
        temporary.write_text(text + "\n")
        _sync(temporary)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise files.cannot_write(folder / CONFIG, error) from error


def _sync(path: Path) -> None:
    """Whatever happens to the machine now, the file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read(
    path: str | Path, shapes: Callable[[WorldModelConfig], Shapes]
) -> tuple[WorldModelConfig, dict[str, Tensor], dict[str, Any]]:
    """Read weights that fit their config.

    Args: shapes: of the network that a config describes.
    Returns: the model's config, its weights in float32, and what else config.json holds.
    Raises: CheckpointError naming the file and what is wrong with it.
    """
    folder = _folder(path)
    header = tensors.read_header(folder / WEIGHTS, _MOST_WEIGHTS)
    digest = _digest(folder / WEIGHTS)
    values = _config_of(folder, digest)
    config = WorldModelConfig.model_validate(values["model"])
    _require_weights(folder, values, digest)
    _require_fit(shapes(config), header, folder)
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / WEIGHTS}: not a readable safetensors file: {error}") from error
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{folder / WEIGHTS}: {name} holds a value that is not finite")
    return config, {k: v.float() for k, v in weights.items()}, values


def _require_weights(folder: Path, values: dict[str, Any], digest: str) -> None:
    if digest != values.get("weights_sha256"):
        raise CheckpointError(
            f"{folder / WEIGHTS}: its SHA-256 is not the one in {CONFIG}: the file is truncated, was changed, or "
            "belongs to another config; copy the checkpoint again"
        )


def _require_fit(expected: Shapes, found: Shapes, path: str | Path) -> None:
    wrong = sorted(expected.keys() ^ found.keys())
    wrong += [k for k in expected.keys() & found.keys() if expected[k] != found[k]]
    if wrong:
        raise CheckpointError(f"checkpoint '{path}': {len(wrong)} tensors do not fit the config, such as {wrong[:3]}")


def assign(model: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Raises: CheckpointError naming the first tensors that do not fit."""
    expected, found = ({k: tuple(t.shape) for k, t in state.items()} for state in (model.state_dict(), weights))
    _require_fit(expected, found, path)
    model.load_state_dict(weights)


def require_embodiment(trained_for: str, name: str) -> None:
    """Raises: CheckpointError if a model was trained for another robot than `name`."""
    if trained_for != name:
        raise CheckpointError(
            f"the checkpoint is for embodiment '{trained_for}', but '{name}' was asked for; "
            f"give a checkpoint that was trained with config/embodiments/{name}.yaml"
        )


def _digest(path: Path) -> str:
    """In parts: it may be larger than what fits into memory."""
    files.require_regular(path, _MOST_WEIGHTS, CheckpointError)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
