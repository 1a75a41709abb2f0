#!/usr/bin/env python3
"""Write the locked-*.txt: all packages that the requirement files bring, each with the hashes of its files.

torch has a list of its own: the same version comes as several builds, of which the user's package index chooses one.

Run it after a change of a requirement file or of constraints.txt, with a Python 3.11. pip resolves them without
installing anything; the package index (PIP_INDEX_URL, by default PyPI) tells the hashes of the wheels that fit Python
3.11 on Linux, or of the source where there is none. A file that is changed afterwards is refused by pip.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOCKS = {
    HERE / "locked-ros.txt": (HERE / "requirements-ros.txt",),
    HERE / "locked-libraries.txt": (ROOT / "requirements.txt", ROOT / "requirements-dev.txt"),
}
TORCH = HERE / "locked-torch.txt"
HEADER = "# Made by tools/ros_from_pypi/lock.py from {sources}: pip takes no other file than these.\n"
ELSEWHERE = {
    # The CPU build: torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl of PyTorch's own index.
    "torch==2.13.0": ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)
}
_PYTHON = re.compile(r"-(?:cp311-(?:cp311|abi3|none)|cp3[0-9]{1,2}-abi3|(?:py2\.)?py3[0-9]*-none)-([^-]+)\.whl$")
_PLATFORM = re.compile(r"(?:^|\.)(?:any|(?:many)?linux[a-z0-9_]*_(?:x86_64|aarch64))(?:\.|$)")


def normalised(name: str) -> str:
    """A distribution's name as the index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(requirements: tuple[Path, ...]) -> dict[str, str]:
    """Name to version of all that the files bring, by constraints.txt. Raises: CalledProcessError."""
    files = [argument for path in requirements for argument in ("-r", str(path))]
    command = [
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"),
        *("-c", str(HERE / "constraints.txt"), *files),
    ]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    found = (item["metadata"] for item in report["install"])
    # "+cpu" names a build; the version is the same.
    return {normalised(meta["name"]): meta["version"].partition("+")[0] for meta in found}


def fits(filename: str) -> bool:
    """Whether a wheel is for Python 3.11 on Linux."""
    match = _PYTHON.search(filename)
    return match is not None and _PLATFORM.search(match[1]) is not None


def hashes(name: str, version: str, index: str) -> list[str]:
    """sha256 of the files of one version. Raises: LookupError where the index has none, OSError."""
    request = urllib.request.Request(
        f"{index.rstrip('/')}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    of_version = re.compile(rf"[A-Za-z0-9._-]+?-{re.escape(version)}(?:-|\.tar\.gz$|\.zip$)")
    mine = [f for f in files if of_version.match(f["filename"])]
    wheels = [f for f in mine if fits(f["filename"])]
    chosen = wheels or [f for f in mine if f["filename"].endswith((".tar.gz", ".zip"))]
    if not chosen:
        raise LookupError(f"{name}=={version}: {index} has no file of it for Python 3.11 on Linux")
    return sorted(f["hashes"]["sha256"] for f in chosen)


def locked(versions: dict[str, str], index: str) -> str:
    """The lines of a requirement file with hashes. Raises: as `hashes`."""
    with ThreadPoolExecutor(8) as pool:
        asked = {name: pool.submit(hashes, name, version, index) for name, version in sorted(versions.items())}
    lines = []
    for name, answer in asked.items():
        pin = f"{name}=={versions[name]}"
        found = [*answer.result(), *ELSEWHERE.get(pin, ())]
        lines.append(" \\\n".join([pin, *(f"    --hash=sha256:{h}" for h in found)]))
    return "\n".join(lines) + "\n"


def main() -> int:
    """Resolve every list and write it; 1 where that fails."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")
    for target, sources in LOCKS.items():
        names = ", ".join(str(path.relative_to(ROOT)) for path in sources)
        try:
            versions = resolve(sources)
            torch = {name: versions.pop(name) for name in ("torch",) if name in versions}
            for path, wanted in ((target, versions), (TORCH, torch)):
                if wanted:
                    path.write_text(HEADER.format(sources=names) + locked(wanted, index))
                    print(f"{path.relative_to(ROOT)}: {len(wanted)} packages")
        except (LookupError, OSError, subprocess.CalledProcessError) as error:
            print(f"error: {target.name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
