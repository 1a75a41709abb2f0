"""The simulated arm behind a world model that judges a stream of set-points and the prefilter that enforces it."""

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from deepverse_ros import resources
from deepverse_ros.nodes.runtime.launching import bring_up, robot_node

SIM = {"randomise": False, "obstacles": 0, "trajectory_topic": "prefilter/command_out", "velocity_topic": ""}
WORLD_MODEL = {
    "device": "cpu",
    "torch_threads": 1,
    "plan_topic": "",
    "trajectory_topic": "",
    "verdict_topic": "",
    "verdict_valid_for": 1.5,
    "verdict_deadline": 2.0,
}


def generate_launch_description() -> LaunchDescription:
    zones = str(resources.find("config/safety/arm_zones.yaml"))
    nodes = [
        robot_node("sim_node", "sim", parameters=[SIM]),
        robot_node("world_model_node", "world_model", parameters=[WORLD_MODEL, {"zones": zones}]),
    ]
    prefilter = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(resources.find("launch/prefilter.launch.py"))),
        launch_arguments={"mode": "enforce", "params": "config/nodes/arm_prefilter.yaml"}.items(),
    )
    return LaunchDescription([*bring_up(nodes), prefilter])
