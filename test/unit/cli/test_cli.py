"""The `deepverse` command as a user meets it: help, work, and one clear line when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from deepverse_ros.cli import app, main
from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment

ROOT = Path(__file__).parents[3]
COMMANDS = ("collect", "train", "calibrate", "evaluate", "benchmark", "imagine", "info", "card", "prefilter-metrics")


def run(*arguments, cwd=None, timeout=120):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "deepverse_ros.cli", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=timeout, cwd=cwd, env=environment(),
    )  # fmt: skip


def environment():
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "COLUMNS": "160",
    }


def alive(group):
    """Whether a process of the group still runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def run_here(monkeypatch, capsys, *arguments):
    """The command in this process. Returns: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["deepverse", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as stop:
        main()
    out = capsys.readouterr()
    return stop.value.code or 0, out.out, out.err


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with an untrained checkpoint and three collected episodes."""
    folder = tmp_path_factory.mktemp("work")
    WorldModel(WorldModelConfig.small_test(Embodiment.load("arm"))).save(folder / "model")
    done = run("collect", "--episodes", 3, "--seed", 5, "--size", 64, "--frames", 13, "--out", folder / "episodes")
    assert done.returncode == 0, done.stderr
    return folder


def test_help_lists_the_commands_quickly_and_without_torch():
    code = (
        "import sys, deepverse_ros.cli as cli\n"
        "try:\n    cli.app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'mujoco', 'numpy', 'h5py'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment(), timeout=60
    )
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command):
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "160"})
    assert done.exit_code == 0
    assert f"Example: deepverse {command}" in done.stdout


def test_collect_writes_what_was_asked_for_and_resumes(work):
    store = EpisodeStore(work / "episodes")
    assert len(store) == 3
    assert store.read(0).rgb.shape == (13, 64, 64, 3)
    before = [path.stat().st_mtime_ns for path in store.paths()]
    again = run("collect", "--episodes", 3, "--seed", 5, "--size", 64, "--frames", 13, "--out", work / "episodes")
    assert again.returncode == 0
    assert [path.stat().st_mtime_ns for path in store.paths()] == before


def test_evaluate_then_card_then_info(work, monkeypatch, capsys):
    figures_path, model = work / "figures.json", work / "model"
    code, out, _ = run_here(
        monkeypatch, capsys, "evaluate", model, "--data", work / "episodes", "--json", figures_path, "--device", "cpu"
    )
    assert code == 0
    assert "PSNR model [dB]" in out
    figures = json.loads(figures_path.read_text())
    assert 0 < figures["n_windows"] <= 3
    assert figures["collection_seed"] is None
    assert set(figures["psnr"]) == {"model", "persistence", "shuffled", "codec"}
    assert all(len(values) == 8 for values in figures["psnr"].values())

    code, out, _ = run_here(monkeypatch, capsys, "card", model, "--json", figures_path)
    assert code == 0
    assert f"{figures['psnr']['model'][0]:.2f}" in (model / "README.md").read_text()
    code, out, _ = run_here(monkeypatch, capsys, "info", model)
    assert code == 0
    assert "joint_positions" in out
    assert "PSNR model [dB]" in out  # the card is shown too

    figures["model_sha256"] = "0" * 64
    figures_path.write_text(json.dumps(figures))
    code, _, err = run_here(monkeypatch, capsys, "card", model, "--json", figures_path)
    assert code == 2
    assert "measured on other weights" in err


def test_evaluate_on_fresh_episodes(work, monkeypatch, capsys):
    path = work / "fresh.json"
    code, _, _ = run_here(monkeypatch, capsys, "evaluate", work / "model", "--simulate", 2, "--seed", 7, "--json", path)
    assert code == 0
    figures = json.loads(path.read_text())
    assert figures["collection_seed"] == 10_000_007
    assert figures["n_episodes"] == 2


def test_imagine_draws_a_picture(work, monkeypatch, capsys):
    episode = EpisodeStore(work / "episodes").path(0)
    code, out, _ = run_here(monkeypatch, capsys, "imagine", work / "model", episode, "--out", work / "imagined.png")
    assert code == 0
    assert "imagined above, real below" in out.replace("\n", " ")
    with Image.open(work / "imagined.png") as picture:
        assert picture.width > 8 * 64
        assert picture.height > 2 * 64
    code, _, _ = run_here(monkeypatch, capsys, "imagine", work / "model", episode, "--out", work / "deep" / "film.gif")
    assert code == 0
    with Image.open(work / "deep" / "film.gif") as picture:
        assert picture.n_frames == 8
    code, _, err = run_here(
        monkeypatch, capsys, "imagine", work / "model", episode, "--start", 2, "--out", work / "imagined.png"
    )
    assert code == 2
    assert "13 frames, 14 are needed to start at frame 2" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "models/absent"], "models/absent: not found"),
        (["evaluate", "models/absent"], "models/absent"),
        (["benchmark", "--model", "models/absent"], "models/absent"),
        (["collect", "--embodiment", "submarine", "--out", "x"], "unknown embodiment 'submarine'"),
        (["train", "absent.yaml"], "absent.yaml: not found"),
        (["evaluate", "MODEL", "--data", "absent"], "absent: no such folder of episodes"),
        (["evaluate", "MODEL", "--reader", "models/absent"], "models/absent: not found"),
        (["evaluate", "MODEL", "--device", "toaster"], "device: 'toaster' is unknown"),
        (["imagine", "MODEL", "absent.h5", "--out", "x.png"], "absent.h5: no such episode"),
        (["imagine", "MODEL", "absent.h5", "--out", "x.bmp"], "x.bmp: pictures are written as .png or .gif"),
        (["collect", "--episodes", "1", "--out", "MODEL/config.json"], "config.json"),
    ],
)
def test_errors_are_one_line_with_exit_code_2(work, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(work)
    arguments = [a.replace("MODEL", str(work / "model")) for a in arguments]
    code, _, err = run_here(monkeypatch, capsys, *arguments)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in err


def test_a_damaged_checkpoint_is_refused(work, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text("{}")
    code, _, err = run_here(monkeypatch, capsys, "info", tmp_path)
    assert code == 2
    assert "model.safetensors is missing" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["collect"], "--out"), (["collect", "--out", "x", "--seed", "1000000"], "--seed"), (["fly"], "fly")],
)
def test_wrong_usage_is_named(arguments, message):
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert done.exit_code == 2
    assert message in done.output


def test_ctrl_c_ends_cleanly_and_leaves_no_worker(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "deepverse_ros.cli", "collect", "--episodes", "5000", "--out", str(tmp_path / "many")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("many/episode_*.h5")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole process group
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Traceback" not in err
        deadline = time.monotonic() + 10
        while alive(process.pid):
            assert time.monotonic() < deadline, "a worker outlived the command"
            time.sleep(0.1)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert not list(tmp_path.glob("many/.episode_*"))
