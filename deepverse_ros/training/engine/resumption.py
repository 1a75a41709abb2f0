"""Whether a run that goes on is still the same training."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deepverse_ros import files
from deepverse_ros.errors import ConfigError
from deepverse_ros.model.config import REMOVED
from deepverse_ros.training.config import TrainingConfig

CONFIG = "training.json"
_FREE = {"save_every", "calibration_plans", "level", "workers", "accumulate", "validate_every"}
"""Fields, wherever they stand, that change nothing of what has been trained."""
_SHOWN = 8


def require_unchanged(config: TrainingConfig, begun: Path) -> None:
    """Compare with the config that a run began with, as its folder holds it; nothing where it holds none.

    Raises: ConfigError naming each field with what it was and what it is, and how to go on.
    """
    if not begun.exists():
        return
    before = files.read_json(begun, files.MOST_TEXT, ConfigError)
    now = config.model_dump(mode="json")
    changed = [line for field, line in _changes(before, now) if field.rpartition(".")[2] not in _FREE]
    if changed:
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise ConfigError(
            f"{begun}: the run began with another config: {'; '.join(changed[:_SHOWN])}{more}. To go on as it began, "
            f"give {begun} as the config; to go on with the new one, add --accept-changes; to begin anew, give another "
            "--out"
        )


def _changes(before: Any, now: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(field, sentence) of every value that differs; what the run did not know when it began is by default as then."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name, value in before.items():
            if name not in now and (name, value) in REMOVED.items():
                continue
            yield from _changes(value, now.get(name), f"{field}.{name}".lstrip("."))
    elif before != now:
        yield field, f"{field}: {files.shown(before)} -> {files.shown(now)}"
