"""The prefilter alone, in front of any robot: commands come out only as far as the world model clears them."""

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from deepverse_ros import resources
from deepverse_ros.nodes.messages.command_formats import FORMATS
from deepverse_ros.nodes.runtime.launching import bring_up, robot_node

PARAMETERS: dict[str, tuple[str, list[str] | None]] = {
    "mode": ("monitor: judge and report only; enforce: what is not clear does not pass", ["monitor", "enforce"]),
    "embodiment": ("the robot, of config/embodiments or a file", None),
    "command_type": ("message of a command", list(FORMATS)),
    "command_values": ("what a command says: the embodiment's values, or their rates", ["targets", "rates"]),
    "verdict_topic": ("the world model's verdicts", None),
    "heartbeat_topic": ("the world model's sign of life", None),
    "joint_states_topic": ("measured joints", None),
    "command_output": ("trajectories go to command_out, or to an action", ["topic", "follow_joint_trajectory"]),
    "controller_action": ("name of that action", None),
    "gripper_output": (
        "the gripper is a joint of the trajectories, or has a controller of its own",
        ["in_trajectory", "trajectory_topic", "gripper_command"],
    ),
    "gripper_topic": ("that controller's topic", None),
    "gripper_action": ("or its action", None),
}
"""Of the node; where one isn't given here, it is what `params` says."""
ARGUMENTS: dict[str, tuple[str, str, list[str] | None]] = {
    **{
        name: ("", f"{text} (empty: as the file of params says)", choices and [*choices, ""])
        for name, (text, choices) in PARAMETERS.items()
    },
    "command_in": ("prefilter/command_in", "where commands come from", None),
    "command_out": ("prefilter/command_out", "where the robot takes them", None),
    "params": ("config/nodes/prefilter.yaml", "parameters of the prefilter", None),
    "use_sim_time": ("false", "follow /clock", ["true", "false"]),
    "log_level": ("info", "of the node", ["debug", "info", "warn", "error"]),
}


def _start(context: LaunchContext) -> list[Action]:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    parameters = {name: given[name] for name in PARAMETERS if given[name]}
    node = robot_node(
        "prefilter_node",
        "prefilter",
        parameters=[
            str(resources.find(given["params"])),
            parameters,
            {"use_sim_time": given["use_sim_time"] == "true"},
        ],
        remappings=[("~/command_in", given["command_in"]), ("~/command_out", given["command_out"])],
        ros_arguments=["--log-level", given["log_level"]],
    )
    return bring_up([node])


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for: the arguments, and what they start."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, (default, text, choices) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])
