"""The package of these verbs, which bootstrap.py installs beside a ros2cli that lacks them."""

from setuptools import setup

setup(
    name="ros2-verbs",
    version="0.1.0",
    description="`ros2 launch`, `lifecycle`, `action` and `interface` for a ros2cli that comes without them",
    license="Apache-2.0",
    packages=["ros2_verbs"],
    python_requires=">=3.11",
    entry_points={
        "ros2cli.command": [
            "action = ros2_verbs.action:ActionCommand",
            "interface = ros2_verbs.interface:InterfaceCommand",
            "launch = ros2_verbs.launch:LaunchCommand",
            "lifecycle = ros2_verbs.lifecycle:LifecycleCommand",
        ]
    },
)
