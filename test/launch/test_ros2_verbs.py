"""The `ros2` command as a user has it after `source install/setup.bash`: real processes, real nodes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODE = "/verbs_node"


def ros2(*arguments: str, ok: bool = True, timeout: float = 60.0) -> str:
    """Run `ros2 ...`; returns what it printed on both streams."""
    done = subprocess.run(["ros2", *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert (done.returncode == 0) == ok, f"ros2 {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def node() -> Iterator[None]:
    """One lifecycle node that all verbs may look at."""
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("verbs_node.py"))])
    try:
        wait_for(lambda: "unconfigured" in ros2("lifecycle", "get", NODE), 30, "the node's first answer")
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def test_help_lists_every_verb() -> None:
    text = ros2("--help")
    for verb in ("action", "interface", "launch", "lifecycle", "node", "param", "pkg", "run", "service", "topic"):
        assert re.search(rf"^ +{verb} +\S", text, re.MULTILINE), verb


def test_package_and_its_executables_are_found() -> None:
    prefix = Path(ros2("pkg", "prefix", "deepverse_ros").strip())
    assert (prefix / "share" / "deepverse_ros" / "package.xml").is_file()
    listed = ros2("pkg", "executables", "deepverse_ros").split()[1::2]
    assert {"sim_node", "world_model_node", "planner_node"} <= set(listed)


def test_interfaces_are_shown_with_their_comments() -> None:
    assert "MISSES_GOAL=1" in ros2("interface", "show", "deepverse_ros/msg/PlanVerdict")
    assert "deepverse_ros/action/PlanToGoal" in ros2("interface", "package", "deepverse_ros").split()
    assert "Nothing" in ros2("interface", "show", "deepverse_ros/msg/Nothing", ok=False)


def test_deepverse_is_on_the_path() -> None:
    done = subprocess.run(["deepverse", "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "collect" in done.stdout


def test_lifecycle_walks_through_the_states(node: None) -> None:
    assert NODE in ros2("lifecycle", "nodes").split()
    assert "configure [1]" in ros2("lifecycle", "list", NODE)
    assert "no transition 'activate'" in ros2("lifecycle", "set", NODE, "activate", ok=False)
    assert "successful" in ros2("lifecycle", "set", NODE, "configure")
    assert "successful" in ros2("lifecycle", "set", NODE, "activate")
    assert ros2("lifecycle", "get", NODE).startswith("active [3]")
    assert "is not there" in ros2("lifecycle", "get", "/nobody", ok=False)


def test_topics_parameters_and_services(node: None) -> None:
    assert f"{NODE}/words" in ros2("topic", "list", "--no-daemon", "--spin-time", "2").split()
    assert "successful" in ros2("param", "set", NODE, "word", "verbs")
    assert "verbs" in ros2("param", "get", NODE, "word")
    assert "data: verbs" in ros2("topic", "echo", "--once", f"{NODE}/words", "std_msgs/msg/String")
    assert "triggered" in ros2("service", "call", f"{NODE}/trigger", "std_srvs/srv/Trigger")


def test_action_goal_with_feedback(node: None) -> None:
    action = f"{NODE}/plan_to_goal"
    assert f"{action} [deepverse_ros/action/PlanToGoal]" in ros2("action", "list", "-t")
    text = ros2("action", "send_goal", "-f", action, "deepverse_ros/action/PlanToGoal", "{goal_tolerance: 0.25}")
    assert "best_score: 0.5" in text
    assert "final_distance: 0.25" in text
    assert "SUCCEEDED" in text


# ---- ros2 launch -----------------------------------------------------------------------------------------------------

PROCESS = """
import os, pathlib, signal, sys, time
folder, polite = pathlib.Path(sys.argv[1]), sys.argv[2] == "polite"
def end(number, frame):
    (folder / f"ended_{os.getpid()}").write_text(signal.Signals(number).name)
    sys.exit(0)
signal.signal(signal.SIGINT, end if polite else signal.SIG_IGN)
signal.signal(signal.SIGTERM, end if polite else signal.SIG_IGN)
(folder / f"pid_{os.getpid()}").touch()
time.sleep(600)
"""

LAUNCH = """
import sys
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

def generate_launch_description():
    command = [sys.executable, {process!r}, {folder!r}, LaunchConfiguration("manners")]
    quick = {{"sigterm_timeout": "1", "sigkill_timeout": "1"}}
    return LaunchDescription([
        DeclareLaunchArgument("manners", default_value="polite", description="how a process takes its end"),
        ExecuteProcess(cmd=command, **quick),
        ExecuteProcess(cmd=command, **quick),
    ])
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def start(folder: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Launch two processes; returns the `ros2 launch` process and their ids once both run."""
    script, launch_file = folder / "process.py", folder / "two.launch.py"
    script.write_text(PROCESS)
    launch_file.write_text(LAUNCH.format(process=str(script), folder=str(folder)))
    launch = subprocess.Popen(["ros2", "launch", str(launch_file), *arguments], start_new_session=True)
    wait_for(lambda: len(list(folder.glob("pid_*"))) == 2, 60, "both processes")
    return launch, [int(path.name.removeprefix("pid_")) for path in folder.glob("pid_*")]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_launch_ends_everything_when_it_is_asked_to(tmp_path: Path, signum: signal.Signals) -> None:
    launch, pids = start(tmp_path)
    launch.send_signal(signum)
    assert launch.wait(30) == 0
    assert not [pid for pid in pids if alive(pid)]
    # Once each, and with the signal that nodes end cleanly on.
    assert sorted(path.read_text() for path in tmp_path.glob("ended_*")) == ["SIGINT", "SIGINT"]


def test_launch_ends_everything_on_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    launch, pids = start(tmp_path)
    os.killpg(launch.pid, signal.SIGINT)  # a terminal signals the whole foreground group
    assert launch.wait(30) == 0
    assert not [pid for pid in pids if alive(pid)]
    assert sorted(path.read_text() for path in tmp_path.glob("ended_*")) == ["SIGINT", "SIGINT"]


def test_launch_leaves_nothing_when_it_is_killed(tmp_path: Path) -> None:
    launch, pids = start(tmp_path)
    launch.kill()
    launch.wait(10)
    wait_for(lambda: not any(alive(pid) for pid in pids), 30, "the end of both processes")


def test_launch_kills_what_does_not_listen(tmp_path: Path) -> None:
    launch, pids = start(tmp_path, "manners:=stubborn")
    launch.send_signal(signal.SIGTERM)
    launch.wait(40)
    assert not [pid for pid in pids if alive(pid)]


def test_launch_ends_in_order_when_its_nodes_have_ended(tmp_path: Path) -> None:
    short = tmp_path / "short.launch.py"
    short.write_text(
        "from launch import LaunchDescription\nfrom launch.actions import ExecuteProcess\n"
        "def generate_launch_description():\n    return LaunchDescription([ExecuteProcess(cmd=['true'])])\n"
    )
    assert "Fatal" not in ros2("launch", str(short))


def test_launch_reports_a_file_that_fails(tmp_path: Path) -> None:
    broken = tmp_path / "broken.launch.py"
    broken.write_text("def generate_launch_description():\n    raise RuntimeError('the reason')\n")
    assert "the reason" in ros2("launch", str(broken), ok=False)


def test_launch_names_what_is_wrong_with_a_call() -> None:
    assert "nopackage" in ros2("launch", "nopackage", "some.launch.py", ok=False)
    assert "0 files named 'no.launch.py'" in ros2("launch", "deepverse_ros", "no.launch.py", ok=False)
    assert "NAME:=VALUE" in ros2("launch", "deepverse_ros", "imagine.launch.py", "sim=true", ok=False)


def test_launch_shows_the_arguments_of_an_installed_file() -> None:
    assert "'checkpoint'" in ros2("launch", "deepverse_ros", "imagine.launch.py", "--show-args")


def test_loopback_profile_can_be_left_out() -> None:
    setup = ROOT / ".ros" / "venv" / "local_setup.bash"
    if "DEEPVERSE_ENVIRONMENT" not in os.environ:
        assert "FASTRTPS" not in setup.read_text()  # on an installed ROS its own settings stay
        return
    print_profile = f'. "{setup}" && echo "profile=${{FASTRTPS_DEFAULT_PROFILES_FILE:-}}"'
    for network, expected in (("", "fastdds.xml"), ("robot", "profile=")):
        env = {**os.environ, "DEEPVERSE_NETWORK": network}
        done = subprocess.run(["bash", "-c", print_profile], capture_output=True, text=True, check=True, env=env)
        assert done.stdout.strip().endswith(expected)
