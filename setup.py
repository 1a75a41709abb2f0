"""Installs the library and the `deepverse` command for people without ROS; ROS workspaces build with CMakeLists.txt."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
SHARE = Path("share") / "deepverse_ros"


def requirements(name: str) -> list[str]:
    """The requirement lines of a file beside this one."""
    lines = (line.strip() for line in (HERE / name).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def data_files(*folders: str) -> list[tuple[str, list[str]]]:
    """Every file of the folders, as (install folder, files), where deepverse_ros/resources.py looks for them."""
    files = (p.relative_to(HERE) for folder in folders for p in sorted((HERE / folder).rglob("*")) if p.is_file())
    return [(str(SHARE / path.parent), [str(path)]) for path in files]


setup(
    name="deepverse_ros",
    version="0.2.0",
    description="A robot's imagination: predicts the RGB-D futures of its actions and judges plans by them",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["deepverse_ros", "deepverse_ros.*"]),
    data_files=data_files("config", "models", "msg"),
    install_requires=requirements("requirements.txt"),
    extras_require={"dev": requirements("requirements-dev.txt")},
    entry_points={"console_scripts": ["deepverse=deepverse_ros.cli:main"]},
)
