"""What the machine itself must bring: Python 3.11, a compiler, CMake, and a library to render with."""

import ctypes.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from steps import BootstrapError, Steps

RENDER_PACKAGES = ("libegl1", "libegl-mesa0", "libgl1-mesa-dri")


def installed_version(python: Path, distribution: str) -> str | None:
    """The version of a distribution that this interpreter sees; None where it has none."""
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def can_build(python: str) -> bool:
    """True for a Python 3.11 that can make virtual environments and has the headers that message modules need.

    A virtual environment's Python does not count: it may be the one that is about to be made anew.
    """
    code = (
        "import ensurepip, venv, sys, sysconfig, pathlib; "
        "headers = (pathlib.Path(sysconfig.get_path('include')) / 'Python.h').is_file(); "
        "own = sys.prefix == sys.base_prefix; "
        "sys.exit(0 if headers and own and sys.version_info[:2] == (3, 11) else 1)"
    )
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def find_python() -> str | None:
    """A usable Python 3.11: $PYTHON, then every python3.11 and python3 on PATH."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    candidates = [os.environ.get("PYTHON", "")]
    candidates += [str(Path(folder) / name) for name in ("python3.11", "python3") for folder in folders if folder]
    return next((c for c in candidates if c and shutil.which(c) and can_build(c)), None)


def has_renderer() -> bool:
    """True where MuJoCo can render without a display: EGL with a driver, or OSMesa."""
    drivers = ("EGL_mesa", "EGL_nvidia")
    egl = ctypes.util.find_library("EGL") and any(ctypes.util.find_library(driver) for driver in drivers)
    return bool(egl or ctypes.util.find_library("OSMesa"))


def can_make_environments() -> bool:
    """True where the system's python3 can make virtual environments: Debian and Ubuntu ship that part by itself."""
    command = ["python3", "-c", "import ensurepip, venv"]
    return bool(shutil.which("python3")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def missing_packages(need_python: bool) -> dict[str, tuple[str, ...]]:
    """What is missing, in words, with the Debian/Ubuntu packages that bring it."""
    checks: list[tuple[str, Callable[[], object], tuple[str, ...]]] = [
        ("cmake", lambda: shutil.which("cmake"), ("cmake",)),
        ("make", lambda: shutil.which("make"), ("make",)),
        ("a C++ compiler (g++)", lambda: shutil.which("c++") or shutil.which("g++"), ("g++",)),
        ("a library for rendering without a display (EGL or OSMesa)", has_renderer, RENDER_PACKAGES),
    ]
    if need_python:
        python = ("python3.11", "python3.11-dev", "python3.11-venv")
        checks.append(("Python 3.11 with venv and headers", find_python, python))
    else:
        checks.append(("venv of the Python that ROS uses", can_make_environments, ("python3-venv",)))
    return {name: packages for name, present, packages in checks if not present()}


def prepare(steps: Steps, build_python: str | None, apt: bool) -> str:
    """See that everything is there, install it where that is allowed.

    Args: build_python: the interpreter to build on; None: find a Python 3.11. apt: install what is missing, as root.
    Returns: the interpreter to build on.
    Raises: BootstrapError naming what is missing and the packages that bring it.
    """
    missing = missing_packages(need_python=build_python is None)
    packages = [package for group in missing.values() for package in group]
    if missing and apt and os.geteuid() == 0 and shutil.which("apt-get"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        steps.run("apt-get update", ["apt-get", "update"], env=env)
        steps.run(
            f"apt-get install {' '.join(packages)}",
            ["apt-get", "install", "-y", "--no-install-recommends", *packages],
            env=env,
        )
        missing = missing_packages(need_python=build_python is None)
    if missing:
        raise BootstrapError(
            f"this machine lacks {', '.join(missing)}. On Debian or Ubuntu:\n"
            f"  sudo apt-get install {' '.join(packages)}\n"
            "Python 3.11 from elsewhere is named with PYTHON=/path/to/python3.11."
        )
    return build_python or find_python() or ""
