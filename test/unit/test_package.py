"""The package's files say the same thing: CMake, setup.py, package.xml, requirements, licence and changelog."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
CMAKE = (ROOT / "CMakeLists.txt").read_text()
MODULES = sorted((ROOT / "deepverse_ros").rglob("*.py"))
ROS_PYTHON = (
    "ament_index_python builtin_interfaces cv_bridge launch launch_ros message_filters rclpy sensor_msgs_py tf2_ros"
)
ROS_MESSAGES = (
    "action",
    "diagnostic",
    "geometry",
    "lifecycle",
    "nav",
    "rosgraph",
    "sensor",
    "std",
    "tf2",
    "trajectory",
)
ROS_MODULES = {*ROS_PYTHON.split(), *(f"{name}_msgs" for name in ROS_MESSAGES)}
ROS_MODULES |= {"control_msgs", "rcl_interfaces", "std_srvs", "visualization_msgs"}
# Import names of the libraries whose distribution is called otherwise.
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "skimage": "scikit-image", "yaml": "pyyaml"}


def cmake_list(name: str) -> list[str]:
    """The quoted entries of a set(NAME ...) in CMakeLists.txt."""
    match = re.search(rf"set\({name}\s(.*?)\)", CMAKE, re.DOTALL)
    assert match, f"CMakeLists.txt has no list {name}"
    return re.findall(r'"([^"]+)"', match[1])


def setup_metadata() -> dict[str, object]:
    """What setup.py hands to setuptools, read by running it in a process of its own."""
    code = (
        "import json, distutils.core, setuptools; d = distutils.core.run_setup('setup.py', stop_after='init'); "
        "print(json.dumps({'scripts': d.entry_points['console_scripts'], 'version': d.metadata.version, "
        "'packages': d.packages, 'requires': d.install_requires, 'data': [f for _, fs in d.data_files for f in fs]}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def imported_modules(path: Path) -> set[str]:
    """The full names of the modules that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def package_dependencies() -> set[str]:
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    return {element.text or "" for element in root if element.tag.endswith("depend")}


def test_setup_py_and_cmake_install_the_same_commands() -> None:
    assert setup_metadata()["scripts"] == cmake_list("CONSOLE_SCRIPTS")


@pytest.mark.parametrize("entry_point", cmake_list("NODE_EXECUTABLES") + cmake_list("CONSOLE_SCRIPTS"))
def test_every_command_has_its_function(entry_point: str) -> None:
    _, module, function = re.split("[=:]", entry_point)
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assigned = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    assert function in defined | assigned


def test_every_node_with_a_main_is_a_command() -> None:
    with_main = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "deepverse_ros" / "nodes").rglob("*.py")
        if any(isinstance(n, ast.FunctionDef) and n.name == "main" for n in ast.parse(path.read_text()).body)
    }
    assert with_main == {re.split("[=:]", entry)[1] for entry in cmake_list("NODE_EXECUTABLES")}


def test_one_version_everywhere() -> None:
    version = ElementTree.parse(ROOT / "package.xml").getroot().findtext("version")
    assert setup_metadata()["version"] == version
    newest = re.search(r"^(\d+\.\d+\.\d+) \(", (ROOT / "CHANGELOG.rst").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == version


def test_every_interface_is_built() -> None:
    files = {f"{folder}/{p.name}" for folder in ("msg", "srv", "action") for p in (ROOT / folder).iterdir()}
    assert set(re.findall(r"(?:msg|srv|action)/\w+\.(?:msg|srv|action)", CMAKE)) == files


def test_package_xml_names_every_ros_package_that_is_imported() -> None:
    files = [*MODULES, *(ROOT / "launch").glob("*.py")]
    used = {name.split(".")[0] for path in files for name in imported_modules(path)} & ROS_MODULES
    # cv_bridge is used where it is installed, and not needed.
    assert used - {"cv_bridge"} <= package_dependencies()


def test_requirements_name_every_library_that_is_imported() -> None:
    text = (ROOT / "requirements.txt").read_text()
    required = {re.split(r"[<>=!~ ]", line)[0].lower() for line in text.splitlines() if line and line[0] != "#"}
    used = {name.split(".")[0] for path in MODULES for name in imported_modules(path)}
    libraries = used - set(sys.stdlib_module_names) - ROS_MODULES - {"deepverse_ros", "launch_testing"}
    assert {DISTRIBUTIONS.get(name, name).lower() for name in libraries} == required


def test_every_requirement_is_pinned_for_the_pypi_environment() -> None:
    constraints = (ROOT / "tools/ros_from_pypi/constraints.txt").read_text().lower()
    pinned = set(re.findall(r"^([a-z0-9._-]+)==", constraints.replace("_", "-"), re.MULTILINE))
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
        wanted = {re.split(r"[<>=!~ ]", line)[0].lower().replace("_", "-") for line in lines}
        assert wanted <= pinned


def test_pip_installs_the_files_that_the_code_looks_for() -> None:
    data = setup_metadata()["data"]
    assert isinstance(data, list)
    on_disk = {
        str(p.relative_to(ROOT)) for f in ("config", "models", "msg") for p in (ROOT / f).rglob("*") if p.is_file()
    }
    assert set(data) == on_disk
    assert "config/embodiments/arm.yaml" in data


def test_every_python_folder_is_a_package() -> None:
    folders = {path.parent for path in MODULES}
    assert [str(f.relative_to(ROOT)) for f in sorted(folders) if not (f / "__init__.py").is_file()] == []
    installed = setup_metadata()["packages"]
    assert isinstance(installed, list)
    assert {str(f.relative_to(ROOT)).replace(os.sep, ".") for f in folders} == set(installed)


def test_the_top_module_only_joins_the_generated_one() -> None:
    statements = ast.parse((ROOT / "deepverse_ros" / "__init__.py").read_text()).body
    assert len(statements) == 1
    assert "extend_path" in ast.unparse(statements[0])


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT / "deepverse_ros")))
def test_imports_stay_in_their_house(path: Path) -> None:
    """What import-linter cannot see: generated messages, and folders that come later."""
    room = path.relative_to(ROOT / "deepverse_ros").parts[0]
    names = imported_modules(path)
    if room != "nodes":
        ours = tuple(f"deepverse_ros.{kind}" for kind in ("msg", "srv", "action"))
        assert not [n for n in names if n.split(".")[0] in ROS_MODULES or n.startswith(ours)]
    if room == "safety":
        forbidden = ("torch", "deepverse_ros.model", "deepverse_ros.planning", "deepverse_ros.training")
        assert not [n for n in names if n.startswith(forbidden)]


def test_a_robot_stands_by_name_only_where_it_is_simulated_or_imported() -> None:
    """Everywhere else it is a YAML that somebody names."""
    package = ROOT / "deepverse_ros"
    robots = {path.parent.name for path in package.glob("simulation/*/robot.py")}
    assert "arm" in robots
    named = set()
    for path in MODULES:
        place = path.relative_to(package)
        home = place.parts[:2] == ("data", "importers") or (place.parts[0] == "simulation" and len(place.parts) > 2)
        constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        if not home and constants & robots:
            named.add(place.as_posix())
    assert not named


def test_cli_loads_heavy_libraries_only_when_a_command_needs_them() -> None:
    code = "import sys, deepverse_ros.cli; print([m for m in ('torch', 'mujoco', 'cv2', 'scipy') if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "[]"


def test_licence_is_complete() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
