"""The simulated arm, driven by velocities, behind a world model that judges them and the prefilter that enforces it."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from deepverse_ros import resources
from deepverse_ros.nodes.runtime.launching import bring_up, robot_node

SIM = {"rate": 30.0, "randomise": False, "obstacles": 0}
WORLD_MODEL = {
    "device": "cpu",
    "torch_threads": 1,
    # A moving arm needs the next verdict before the future of the last one is over. On two busy cores that is long.
    "horizon": 16,
    "plan_topic": "",
    "trajectory_topic": "",
    "verdict_topic": "",
    "watched_command_type": "float64_multi_array",
    "watched_command_values": "rates",
    "passed_command_topic": "velocity_command",
    "verdict_valid_for": 5.0,
    "verdict_deadline": 5.0,
    "stale_timeout": 2.0,
}
PREFILTER = {
    "mode": "enforce",
    "command_type": "float64_multi_array",
    "command_values": "rates",
    "command_out": "velocity_command",
}


def generate_launch_description() -> LaunchDescription:
    zones = str(resources.find("config/safety/arm_zones.yaml"))
    nodes = [
        robot_node("sim_node", "sim", parameters=[SIM]),
        robot_node("world_model_node", "world_model", parameters=[WORLD_MODEL, {"zones": zones}]),
    ]
    prefilter = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(resources.find("launch/prefilter.launch.py"))),
        launch_arguments={**PREFILTER, "params": LaunchConfiguration("params")}.items(),
    )
    return LaunchDescription([DeclareLaunchArgument("params"), *bring_up(nodes), prefilter])
