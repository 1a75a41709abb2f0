"""The `deepverse` command as it stands on PATH after `source install/setup.bash`."""

import subprocess
from pathlib import Path

from deepverse_ros.data.store import EpisodeStore


def test_the_installed_command_collects_with_several_processes(tmp_path: Path) -> None:
    # A worker process imports the command's file again; it must not run the command again.
    arguments = ["--episodes", "4", "--frames", "3", "--size", "64", "--workers", "2", "--out", str(tmp_path)]
    done = subprocess.run(
        ["deepverse", "collect", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(EpisodeStore(tmp_path)) == 4
