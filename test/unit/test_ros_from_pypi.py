"""The environment's bootstrap: what it makes again and when, what it says when something is missing."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "ros_from_pypi"


@pytest.fixture(scope="module")
def tools() -> Iterator[SimpleNamespace]:
    """The bootstrap's modules, which lie outside the package."""
    sys.path.insert(0, str(FOLDER))
    try:
        import bootstrap
        import lock
        import ros_wheels
        import steps
        import system_tools

        yield SimpleNamespace(
            bootstrap=bootstrap, lock=lock, ros_wheels=ros_wheels, steps=steps, system_tools=system_tools
        )
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A shell in which nothing was sourced."""
    for name in ("ROS_DISTRO", "AMENT_PREFIX_PATH", "DEEPVERSE_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def ros_installation(folder: Path) -> Path:
    """A folder that looks like a ROS 2 installation, as far as a sourced shell shows it."""
    (folder / "share" / "rclpy").mkdir(parents=True)
    (folder / "share" / "rclpy" / "package.xml").touch()
    return folder


def test_a_finished_environment_costs_nothing(tools: SimpleNamespace, tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    record = venv / "deepverse_environment.json"
    record.write_text(json.dumps({**tools.bootstrap.wanted_parts(venv, None), "underlay": ""}))
    bare.setenv("PATH", "")  # any step would fail
    done = subprocess.run(
        [sys.executable, str(FOLDER / "bootstrap.py"), "--venv", str(venv)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_parts_depend_on_what_they_are_made_of(tools: SimpleNamespace, tmp_path: Path) -> None:
    here, ros = (tools.bootstrap.wanted_parts(tmp_path, underlay) for underlay in (None, "humble /opt/ros/humble"))
    assert here["base"] != ros["base"]
    assert here["libraries"] == ros["libraries"]
    file = tmp_path / "requirements.txt"
    file.write_text("one\n")
    before = tools.bootstrap.digest([file])
    file.write_text("two\n")
    assert tools.bootstrap.digest([file]) != before


def test_a_sourced_ros_is_used_and_remembered(tools: SimpleNamespace, tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    ros = ros_installation(tmp_path / "opt ros")
    assert tools.bootstrap.sourced_ros() is None
    bare.setenv("ROS_DISTRO", "humble")
    bare.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'overlay'}{os.pathsep}{ros}")
    assert tools.bootstrap.sourced_ros() == f"humble {ros}"
    assert tools.bootstrap.remembered_ros({"underlay": f"humble {ros}"}) == f"humble {ros}"
    assert tools.bootstrap.remembered_ros({"underlay": f"humble {tmp_path / 'gone'}"}) is None
    assert tools.bootstrap.remembered_ros({}) is None


def test_the_own_environment_is_no_sourced_ros(
    tools: SimpleNamespace, tmp_path: Path, bare: pytest.MonkeyPatch
) -> None:
    bare.setenv("ROS_DISTRO", "jazzy")
    bare.setenv("AMENT_PREFIX_PATH", str(ros_installation(tmp_path)))
    bare.setenv("DEEPVERSE_ENVIRONMENT", str(tmp_path))
    assert tools.bootstrap.sourced_ros() is None


def test_missing_tools_are_named_with_their_packages(
    tools: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PYTHON", raising=False)
    with pytest.raises(tools.steps.BootstrapError) as caught:
        tools.system_tools.prepare(tools.steps.Steps(tmp_path / "log"), build_python=None, apt=False)
    for package in ("cmake", "make", "g++", "python3.11-dev", "python3.11-venv"):
        assert package in str(caught.value).split("apt-get install")[1].split()


def test_on_an_installed_ros_its_python_must_make_environments(
    tools: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images and servers with ROS 2 often lack Ubuntu's python3-venv; ROS's own Python is taken, never a 3.11."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tools.steps.BootstrapError) as caught:
        tools.system_tools.prepare(tools.steps.Steps(tmp_path / "log"), build_python="python3", apt=False)
    packages = str(caught.value).split("apt-get install")[1].split()
    assert "python3-venv" in packages
    assert "python3.11-venv" not in packages


@pytest.mark.parametrize("sourced", [False, True])
def test_the_environment_sources_the_installed_ros_where_the_shell_has_not(
    tools: SimpleNamespace, tmp_path: Path, sourced: bool
) -> None:
    """ROS_DISTRO alone says nothing: a container of ROS has it in shells that sourced nothing."""
    ros, venv = ros_installation(tmp_path / "opt ros"), tmp_path / "venv"
    (ros / "setup.sh").write_text(f'echo sourced; export AMENT_PREFIX_PATH="{ros}"\n')
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "activate").write_text("")
    tools.bootstrap.write_sourced_setup(venv, str(ros))
    env = {"PATH": os.environ["PATH"], "ROS_DISTRO": "jazzy"} | ({"AMENT_PREFIX_PATH": str(ros)} if sourced else {})
    script = f'. "{venv}/local_setup.sh"; echo "$AMENT_PREFIX_PATH"'
    done = subprocess.run(["sh", "-uc", script], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.splitlines() == [*(() if sourced else ("sourced",)), f"{venv}:{ros}"]


def test_a_failing_step_shows_the_end_of_its_output(
    tools: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = tools.steps.Steps(tmp_path)
    steps.run("a good step", ["true"])
    with pytest.raises(tools.steps.BootstrapError, match="the reason"):
        steps.run("a bad step", ["bash", "-c", "echo the reason; exit 3"])
    assert "a good step: 0." in capsys.readouterr().out


@pytest.mark.parametrize("network", ["", "robot"])
def test_setup_can_be_sourced_twice(tools: SimpleNamespace, tmp_path: Path, network: str) -> None:
    """Also under `sh -u`, as scripts of users do; the second time changes nothing."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").write_text("")
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    tools.ros_wheels._write_setup(tmp_path)
    show = 'echo "$AMENT_PREFIX_PATH|$LD_LIBRARY_PATH|${FASTRTPS_DEFAULT_PROFILES_FILE:-none}|$DEEPVERSE_ENVIRONMENT"'
    script = f'. "{tmp_path}/local_setup.sh"; {show}; . "{tmp_path}/local_setup.sh"; {show}'
    env = {"PATH": os.environ["PATH"], "DEEPVERSE_NETWORK": network, "AMENT_PREFIX_PATH": "/other"}
    done = subprocess.run(["sh", "-uc", script], capture_output=True, text=True, env=env, check=True)
    first, second = done.stdout.splitlines()
    assert first == second
    prefix, libraries, profile, environment = first.split("|")
    assert prefix == f"{tmp_path}:/other"
    assert libraries.startswith(f"{tmp_path}/lib")
    assert profile == ("none" if network else f"{tmp_path}/fastdds.xml")
    assert environment == str(tmp_path)


def test_only_the_wanted_files_come_out_of_the_tools_wheel(tools: SimpleNamespace, tmp_path: Path) -> None:
    wheel, root = tmp_path / "tools.whl", tools.ros_wheels.TOOLS_ROOT
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (
            "rclpy/launch/__init__.py",
            "rclpy/launch-3.4.11-py3.12.egg-info/entry_points.txt",
            "rclpy/nav2_common/__init__.py",
            "rclpy/ros2cli/native.so",
            "share/tf2_msgs/msg/TFMessage.msg",
            "share/tf2_msgs/msg/TFMessage.idl",
            "share/tf2_msgs/package.xml",
        ):
            archive.writestr(root + name, name)
    tools.ros_wheels._extract_tools(wheel, tmp_path / "out")
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {
        "python/launch/__init__.py",
        "python/launch-3.4.11-py3.12.egg-info/entry_points.txt",
        "interfaces/tf2_msgs/msg/TFMessage.msg",
        "interfaces/tf2_msgs/package.xml",
    }


def test_no_file_of_the_tools_wheel_lies_outside_its_folder(tools: SimpleNamespace, tmp_path: Path) -> None:
    wheel = tmp_path / "tools.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(tools.ros_wheels.TOOLS_ROOT + "rclpy/launch/../../../../out.py", "somewhere else")
    with pytest.raises(tools.steps.BootstrapError, match="leads out of its folder"):
        tools.ros_wheels._extract_tools(wheel, tmp_path / "a" / "b")
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"tools.whl"}


def versions(path: Path) -> dict[str, str]:
    """Name to version of the lines of a requirement file that pin one."""
    found = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;#\\]+)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_all_that_is_installed_has_a_hash_and_the_version_that_was_tested(tools: SimpleNamespace) -> None:
    pinned = versions(FOLDER / "constraints.txt")
    for name, sources in (
        ("ros", ["requirements-ros.txt"]),
        ("libraries", ["requirements.txt", "requirements-dev.txt"]),
    ):
        text = (FOLDER / f"locked-{name}.txt").read_text()
        listed = versions(FOLDER / f"locked-{name}.txt")
        assert {n: v for n, v in listed.items() if pinned.get(n) != v} == {}
        for pin in re.split(r"\n(?=[a-z0-9])", text.partition("\n")[2]):
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", pin), pin
        root = FOLDER.parents[1] if name == "libraries" else FOLDER
        for source in sources:
            asked = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", (root / source).read_text(), re.MULTILINE)
            missing = {tools.lock.normalised(n) for n in asked} - {*listed, "torch"}
            assert not missing, f"run tools/ros_from_pypi/lock.py: {missing}"
    assert versions(FOLDER / "locked-torch.txt")["torch"] == pinned["torch"]


def test_a_build_of_torch_that_nobody_knows_is_refused(tools: SimpleNamespace, tmp_path: Path) -> None:
    """A pip that downloads something else: the file is not installed, and the sentence says what to do."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '*" download "*) mkdir downloads && echo other > downloads/torch-2.13.0.whl;;\n'
        "*) touch installed;;\n"
        "esac\n"
    )
    python.chmod(0o755)
    steps = tools.steps.Steps(tmp_path / "log")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        with pytest.raises(tools.steps.BootstrapError, match="--no-hashes"):
            tools.bootstrap.install_torch(steps, tmp_path)
    finally:
        os.chdir(before)
    assert not (tmp_path / "installed").exists()


def test_wheels_for_this_python_are_told_from_others(tools: SimpleNamespace) -> None:
    for name in (
        "numpy-2.2.6-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "typer-0.29.2-py3-none-any.whl",
        "safetensors-0.8.0-cp38-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        "six-1.16.0-py2.py3-none-any.whl",
    ):
        assert tools.lock.fits(name), name
    for name in (
        "numpy-2.2.6-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "numpy-2.2.6-cp311-cp311-musllinux_1_2_x86_64.whl",
        "numpy-2.2.6-cp311-cp311-win_amd64.whl",
        "numpy-2.2.6-cp311-cp311-macosx_11_0_arm64.whl",
        "numpy-2.2.6.tar.gz",
    ):
        assert not tools.lock.fits(name), name
