"""The whole arm: a simulated robot (or yours), the world model, and the planner that moves it to goal images."""

import os
import re
import shutil
from pathlib import Path

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import PushRosNamespace, SetRemap

from deepverse_ros import resources
from deepverse_ros.nodes.runtime.launching import bring_up, robot_node

HAS_DISPLAY = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

ARGUMENTS = {
    "sim": ("true", "true: a simulated arm; false: your robot's topics", ["true", "false"]),
    "device": ("auto", "where the models compute", ["auto", "cpu", "cuda"]),
    "checkpoint": ("models/arm", "folder of the world model", None),
    "rviz": (
        "true" if HAS_DISPLAY and shutil.which("rviz2") else "false",
        "show camera, imagination, plan and verdict; by default where there is a display and RViz",
        ["true", "false"],
    ),
    "seed": ("0", "scene of the simulated arm", None),
    "max_rate": ("2.5", "imagined futures of the running command per second at most (Hz)", None),
    "torch_threads": (
        str(max(1, (os.cpu_count() or 1) // 2)),
        "CPU threads of each of the two models; by default they part the cores between them",
        None,
    ),
    "image_topic": ("camera/image_raw", "colour images", None),
    "depth_topic": ("camera/depth/image_raw", "depth images; 'none' without a depth camera", None),
    "image_transport": ("raw", "compressed: image_topic/compressed is read (JPEG, PNG)", ["raw", "compressed"]),
    "depth_transport": (
        "raw",
        "compressed or compressedDepth: depth_topic/compressed (PNG) or depth_topic/compressedDepth is read",
        ["raw", "compressed", "compressedDepth"],
    ),
    "camera_info_topic": ("camera/camera_info", "calibration of the camera", None),
    "joint_states_topic": ("joint_states", "measured joints", None),
    "trajectory_topic": ("joint_trajectory", "where the robot takes its commands (JointTrajectory)", None),
    "command_output": (
        "topic",
        "how the robot takes its commands: on trajectory_topic, or as goals of a controller's action, which tells what "
        "became of them",
        ["topic", "follow_joint_trajectory"],
    ),
    "controller_action": (
        "arm_controller/follow_joint_trajectory",
        "name of that action (control_msgs/FollowJointTrajectory); the simulated arm serves it then",
        None,
    ),
    "gripper_output": (
        "in_trajectory",
        "how the gripper is moved: as a joint of the arm's controller, or by a controller of its own, on a topic or by "
        "an action (control_msgs/GripperCommand)",
        ["in_trajectory", "trajectory_topic", "gripper_command"],
    ),
    "gripper_topic": ("gripper_controller/joint_trajectory", "for trajectory_topic", None),
    "gripper_action": ("gripper_controller/gripper_cmd", "for gripper_command", None),
    "namespace": ("", "of all nodes, topics, actions and tf: one for each of several robots; empty: none", None),
    "sim_params": ("config/nodes/sim.yaml", "parameters of the simulated arm", None),
    "world_model_params": ("config/nodes/world_model.yaml", "parameters of the world model", None),
    "prefilter": (
        "enforce",
        "between planner and robot, a process that lets a command through only on a verdict of its own; monitor: it "
        "only says what it would do; off: the planner's commands go to the robot",
        ["off", "monitor", "enforce"],
    ),
    "zones": ("config/safety/arm_zones.yaml", "what the prefilter keeps the imagined future clear of", None),
    "prefilter_params": ("config/nodes/arm_prefilter.yaml", "parameters of the prefilter", None),
    "planner_params": ("config/nodes/planner.yaml", "parameters of the planner", None),
    "use_sim_time": ("false", "follow /clock; the simulated arm then publishes it", ["true", "false"]),
    "log_level": ("info", "of all nodes", ["debug", "info", "warn", "error"]),
}


CONTROLLER = ("command_output", "controller_action", "gripper_output", "gripper_topic", "gripper_action")


def _start(context: LaunchContext) -> list[Action]:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    use_sim_time = given["use_sim_time"] == "true"
    common = {"ros_arguments": ["--log-level", given["log_level"]]}
    taken = ("image_topic", "image_transport", "depth_transport", "camera_info_topic", "joint_states_topic")
    inputs = {name: given[name] for name in taken}
    inputs["depth_topic"] = "" if given["depth_topic"] == "none" else given["depth_topic"]
    model = {
        **inputs,
        "checkpoint": given["checkpoint"],
        "device": given["device"],
        "torch_threads": int(given["torch_threads"]),
        "use_sim_time": use_sim_time,
    }
    imagine = {
        "max_rate": float(given["max_rate"]),
        # What the planner sends is what the world model imagines; its border shows the planner's verdict.
        "plan_topic": "planner/plan",
        "trajectory_topic": "",
        "verdict_topic": "planner/verdict",
    }
    controller = {name: given[name] for name in CONTROLLER}
    by_topic, one = given["command_output"] == "topic", given["gripper_output"] == "in_trajectory"
    # What passes is on the robot's own topic only where all of it goes there.
    passed_topic = given["trajectory_topic"] if by_topic and one else "prefilter/passed_command"
    if given["prefilter"] != "off":
        imagine |= {
            "zones": _file(given["zones"]),
            "watched_command_topic": "prefilter/command_in",
            "passed_command_topic": passed_topic,
            "verdict_valid_for": 3.0,
            "verdict_deadline": 2.0,
        }
    # Two models share the cores: threads that wait for work must not burn what the other one needs.
    sharing = {"additional_env": {"OMP_WAIT_POLICY": "PASSIVE"}}
    nodes = []
    if given["sim"] == "true":
        scene = {
            "seed": int(given["seed"]),
            "publish_clock": use_sim_time,
            "trajectory_topic": given["trajectory_topic"] if by_topic else "",
            "controller_action": "" if by_topic else given["controller_action"],
            "gripper_topic": given["gripper_topic"] if given["gripper_output"] == "trajectory_topic" else "",
            "gripper_action": given["gripper_action"] if given["gripper_output"] == "gripper_command" else "",
        }
        if given["prefilter"] != "off":
            scene["velocity_topic"] = ""  # nothing moves the arm past the prefilter, which may enforce at any time
        remapped = [
            (default, given[name])
            for name in ("image_topic", "camera_info_topic", "joint_states_topic", "depth_topic")
            if given[name] not in ((default := ARGUMENTS[name][0]), "none")
        ]
        nodes.append(
            robot_node("sim_node", "sim", parameters=[_file(given["sim_params"]), scene], remappings=remapped, **common)
        )
    nodes.append(
        robot_node(
            "world_model_node",
            "world_model",
            parameters=[_file(given["world_model_params"]), {**model, **imagine}],
            **common,
            **sharing,
        )
    )
    planner_sends_to = given["trajectory_topic"]
    sending = controller
    between = []
    if given["prefilter"] != "off":
        planner_sends_to = "prefilter/command_in"
        sending = {
            "passed_command_topic": passed_topic,
            "prefilter_status_topic": "prefilter/status",
            "controller_status_topic": "prefilter/controller_status",
        }
        between = [_prefilter(given)]
    nodes.append(
        robot_node(
            "planner_node",
            "planner",
            parameters=[_file(given["planner_params"]), {**model, **sending}],
            remappings=[("command", planner_sends_to)],
            **common,
            **sharing,
        )
    )
    actions = [*between, *bring_up(nodes), *(_rviz(given["namespace"]) if given["rviz"] == "true" else [])]
    if not given["namespace"]:
        return actions
    # As Nav2 does: frames keep their names, and each robot has its tf.
    apart = [SetRemap("/tf", "tf"), SetRemap("/tf_static", "tf_static")]
    return [GroupAction([PushRosNamespace(given["namespace"]), *apart, *actions])]


def _prefilter(given: dict[str, str]) -> IncludeLaunchDescription:
    same = ("joint_states_topic", "use_sim_time", "log_level")
    arguments = {
        **{name: given[name] for name in same},
        **{name: given[name] for name in CONTROLLER},
        "mode": given["prefilter"],
        "command_out": given["trajectory_topic"],
        "params": given["prefilter_params"],
    }
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(_file("launch/prefilter.launch.py")), launch_arguments=arguments.items()
    )


def _file(name: str) -> str:
    return str(resources.find(name))


def _rviz(namespace: str) -> list[Action]:
    rviz = shutil.which("rviz2")
    if rviz is None:
        return [LogInfo(msg="rviz:=true, but there is no rviz2 here (apt: ros-$ROS_DISTRO-rviz2); going on without it")]
    config = Path(_file("config/rviz/arm.rviz"))
    apart: list[str] = []
    if namespace:
        shown = {"/tf", "/tf_static", *re.findall(r"Value: (/\S+)", config.read_text())}
        apart = ["--ros-args", *(word for name in sorted(shown) for word in ("-r", f"{name}:=/{namespace}{name}"))]
    return [ExecuteProcess(cmd=[rviz, "-d", str(config), *apart], name="rviz2", output="log")]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for: the arguments, and what they start."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, (default, text, choices) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])
