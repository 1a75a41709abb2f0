"""The world model alone: beside a real robot, a simulated one (sim:=true), or a recording (replay:=PATH)."""

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from deepverse_ros import resources
from deepverse_ros.nodes.runtime.launching import bring_up, robot_node

ARGUMENTS = {
    "replay": ("", "DROID recording: annotation file, folder of its videos, or a name such as val/899"),
    "rate": ("1.0", "recorded seconds per second of a replay"),
    "camera": ("0", "camera of the recording, 0 to 2"),
    "loop": ("false", "begin the recording again at its end"),
    "sim": ("false", "start the simulated arm (not together with replay)"),
    "checkpoint": ("models/arm", "folder of the world model"),
    "device": ("auto", "auto, cpu or cuda"),
    "params_file": ("config/nodes/world_model.yaml", "parameters of the world model"),
    "image_topic": ("camera/image_raw", "colour images"),
    "depth_topic": ("camera/depth/image_raw", "depth images; 'none' without a depth camera"),
    "image_transport": ("raw", "raw, or compressed: image_topic/compressed is read (JPEG, PNG)"),
    "depth_transport": ("raw", "raw, compressed (PNG) or compressedDepth: depth_topic/… is read"),
    "camera_info_topic": ("camera/camera_info", "calibration of the camera"),
    "joint_states_topic": ("joint_states", "measured joints"),
    "odometry_topic": ("odom", "own motion of a robot without joints"),
    "command_topic": ("command", "plans (ActionPlan) whose future is imagined"),
    "trajectory_topic": ("joint_trajectory", "trajectories whose future is imagined"),
}


def _start(context: LaunchContext) -> list[Action]:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    replay = given["replay"]
    sim = given["sim"].lower() == "true"
    if replay and sim:
        raise RuntimeError("replay and sim were both given; the camera is either recorded or simulated")
    topics = {
        "image_topic": given["image_topic"],
        "depth_topic": "" if replay or given["depth_topic"] == "none" else given["depth_topic"],
        "image_transport": given["image_transport"],
        "depth_transport": given["depth_transport"],
        "camera_info_topic": given["camera_info_topic"],
        "joint_states_topic": given["joint_states_topic"],
        "odometry_topic": given["odometry_topic"],
        "plan_topic": given["command_topic"],
        "trajectory_topic": given["trajectory_topic"],
    }
    model = {"checkpoint": given["checkpoint"], "device": given["device"], "use_sim_time": bool(replay)}
    parameters = [str(resources.find(given["params_file"])), {**topics, **model}]
    nodes = [robot_node("world_model_node", "world_model", parameters=parameters)]
    if replay:
        # After the world model, so that nothing of the recording is missed while it loads.
        recording = {
            "recording": replay,
            "embodiment": "arm",
            "rate": float(given["rate"]),
            "camera": int(given["camera"]),
            "loop": given["loop"].lower() == "true",
        }
        nodes.append(robot_node("replay_node", "replay", parameters=[recording]))
    if sim:
        nodes.append(robot_node("sim_node", "sim", parameters=[str(resources.find("config/nodes/sim.yaml"))]))
    return bring_up(nodes)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for: the arguments, and what they start."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])
