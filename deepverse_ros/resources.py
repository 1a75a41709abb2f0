"""Where the package's files (config, models) lie: source tree, ROS install or pip install."""

import os
import sysconfig
from pathlib import Path

from deepverse_ros.errors import ResourceError

_PACKAGE = "deepverse_ros"


def _roots() -> list[Path]:
    """Candidate share directories, the most explicit first."""
    roots = []
    if override := os.environ.get("DEEPVERSE_SHARE"):
        roots.append(Path(override))
    # A checkout, also through a symlinked install: config/ lies beside the Python module.
    roots.append(Path(__file__).resolve().parent.parent)
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    roots += [Path(p) / "share" / _PACKAGE for p in prefixes if p]
    roots.append(Path(sysconfig.get_path("data")) / "share" / _PACKAGE)
    return [r for r in roots if (r / "config" / "embodiments").is_dir()]


def find(relative: str | Path) -> Path:
    """Resolve `relative` against the working directory, then against the package's share directories.

    Args: relative: such as "models/arm" or "config/training/arm.yaml"; absolute paths are returned as they are.
    Raises: ResourceError naming every place that was looked at.
    """
    path = Path(relative).expanduser()
    candidates = (
        [path] if path.is_absolute() else list(dict.fromkeys([Path.cwd() / path, *(r / path for r in _roots())]))
    )
    for candidate in candidates:
        if candidate.exists():
            return candidate
    looked = ", ".join(str(c) for c in candidates)
    raise ResourceError(f"{relative}: not found; looked at {looked}. Set DEEPVERSE_SHARE to the folder that holds it.")
