"""The commands of README.md, as they stand there."""

import re
import shlex
import subprocess
from pathlib import Path

from arm_launch import ROOT


def part(title: str) -> str:
    """The text of README.md below a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", (ROOT / "README.md").read_text(), re.M | re.S)
    assert found, f"README.md has no part '{title}'"
    return found[1]


def commands(title: str) -> list[str]:
    """All shell commands of a part, one string each, without comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", part(title), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.join(shlex.split(line, comments=True)) if "&&" not in line else line for line in lines if line]


def only(found: list[str], *beginning: str) -> str:
    """The one command that begins with these words."""
    matching = [command for command in found if shlex.split(command)[: len(beginning)] == [*beginning]]
    assert len(matching) == 1, f"README.md: {len(matching)} commands begin with '{' '.join(beginning)}', not one"
    return matching[0]


def run(command: str, timeout: float) -> str:
    """What a command says; it must end well."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def said(log: Path) -> str:
    return log.read_text() if log.exists() else ""
