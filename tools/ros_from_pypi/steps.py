"""Running the bootstrap's steps: one progress line each, output kept in a log, the log's end shown on failure."""

import os
import re
import subprocess
import threading
import time
from pathlib import Path

# Settings of another sourced workspace or virtual environment, which must not leak into this one.
_FOREIGN = (
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "ROS_DISTRO",
)
_ALWAYS_FOREIGN = ("PYTHONHOME", "VIRTUAL_ENV", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")


class BootstrapError(Exception):
    """A step cannot go on; the message says what to do."""


def clean_environment(keep_ros: bool) -> None:
    """Drop what another sourced environment left in this process's variables; keep_ros: but not a ROS installation."""
    for name in _ALWAYS_FOREIGN if keep_ros else (*_ALWAYS_FOREIGN, *_FOREIGN):
        os.environ.pop(name, None)


class Steps:
    """Runs commands one step at a time (also from several threads) and prints a line with the elapsed seconds."""

    def __init__(self, logs: Path):
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        with self._lock:
            print(f"[{time.monotonic() - self._start:5.1f} s] {text}", flush=True)

    def run(self, title: str, command: list[str], env: dict[str, str] | None = None) -> None:
        """Run `command`; output goes to a log file of the step's name.

        Raises: BootstrapError with the log's last lines when it fails.
        """
        self.say(f"{title} ...")
        began = time.monotonic()
        log = self._logs / (re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_") + ".log")
        with log.open("w") as out:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, check=False
            ).returncode
        if code != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            raise BootstrapError(f"step '{title}' ended with code {code}. The end of {log}:\n{tail}")
        self.say(f"{title}: {time.monotonic() - began:.1f} s")

    def pip(self, venv: Path, title: str, *arguments: str) -> None:
        """Install packages into the environment, with pip."""
        pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        self.run(title, [*pip, "install", "--no-compile", *arguments])
