"""Where the package's files (config, models) lie: source tree, ROS install or pip install."""

import os
import sysconfig
import warnings
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
    """The file or folder that is meant.

    A path is taken as it is: an absolute one, or one that begins with ./, ../ or ~. Any other, such as "models/arm" or
    "config/training/arm.yaml", is a name: what the package has of that name is taken, whatever lies in the working
    directory, and only what the package does not have is looked for there, such as "runs/arm/checkpoint". Where both
    have it, a warning says which was taken. (A `pathlib.Path` forgets a ./ at its beginning.)

    Raises: ResourceError naming every place that was looked at.
    """
    path = Path(relative).expanduser()
    here = Path.cwd() / path
    shipped = [] if _is_path(str(relative)) else [root / path for root in _roots()]
    candidates = list(dict.fromkeys([*shipped, here]))
    for candidate in candidates:
        if _exists(candidate):
            if candidate != here and _exists(here) and not candidate.samefile(here):
                warnings.warn(
                    f"{relative}: {candidate} of the package is taken; for the one in this folder write ./{relative}",
                    stacklevel=2,
                )
            return candidate
    looked = ", ".join(str(c) for c in candidates)
    raise ResourceError(
        f"{relative}: not found; looked at {looked}. A path of your own begins with / or ./; set DEEPVERSE_SHARE to "
        "the folder that holds the package's config and models, if that is elsewhere"
    )


def _is_path(given: str) -> bool:
    return given.startswith(("/", "./", "../", "~")) or given in ("", ".", "..")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no system takes such a name
        return False
