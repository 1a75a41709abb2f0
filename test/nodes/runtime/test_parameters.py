"""What is given to a node as a parameter is used, or it is said why not."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.lifecycle import TransitionCallbackReturn

from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameter_files import check_files
from deepverse_ros.nodes.runtime.parameters import Parameter, ParameterError

TABLE = (
    Parameter("min_clearance", -1.0, "Least clearance (m).", -1.0, 1.0, dynamic=True),
    Parameter("margins", [0.1], "Margins (m).", 0.0, 10.0, dynamic=True),
    Parameter("steps", 3, "Steps.", 1, 10, dynamic=True),
)
KIND = partial(RobotNode, "careful", TABLE)


def set_parameter(robot, name: str, value: ParameterValue):
    request = SetParameters.Request(parameters=[ParameterMsg(name=name, value=value)])
    return robot.call(SetParameters, "careful/set_parameters", request).results[0]


def test_a_parameter_that_nobody_declared_is_refused_at_configure_and_by_ros2_param_set(robot):
    node = robot.start(KIND, active=False, min_clearence=0.03)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    with pytest.raises(ParameterError, match="no parameter 'min_clearence': did you mean 'min_clearance'"):
        node.parameters.require_known()
    value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=0.03)
    result = set_parameter(robot, "min_clearence", value)
    assert not result.successful
    assert "did you mean 'min_clearance'" in result.reason


def test_the_parameters_of_ros_are_no_strangers(robot):
    own = {"use_sim_time": False, "start_type_description_service": True, "qos_overrides./tf.subscription.depth": 5}
    robot.start(KIND, **own)


def test_an_integer_is_taken_where_a_float_is_meant_and_keeps_its_range(robot):
    node = robot.start(KIND, min_clearance=1, margins=[1, 2])
    assert (node.parameters["min_clearance"], list(node.parameters["margins"])) == (1.0, [1.0, 2.0])
    assert isinstance(node.parameters["min_clearance"], float)
    integer = partial(ParameterValue, type=ParameterType.PARAMETER_INTEGER)
    assert set_parameter(robot, "min_clearance", integer(integer_value=0)).successful
    assert node.parameters["min_clearance"] == 0.0
    integers = partial(ParameterValue, type=ParameterType.PARAMETER_INTEGER_ARRAY)
    assert set_parameter(robot, "margins", integers(integer_array_value=[3])).successful
    assert list(node.parameters["margins"]) == [3.0]
    assert not set_parameter(robot, "min_clearance", integer(integer_value=7)).successful
    assert not set_parameter(robot, "margins", integers(integer_array_value=[3, 70])).successful
    double = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=2.0)
    assert not set_parameter(robot, "steps", double).successful
    truth = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=True)
    assert not set_parameter(robot, "min_clearance", truth).successful


def file_of(path: Path, *sections: str) -> str:
    file = path / "params.yaml"
    file.write_text("".join(f"{section}:\n  ros__parameters:\n    a: 1\n" for section in sections))
    return str(file)


@pytest.mark.parametrize("section", ["planner", "/planner", "/**", "/*", "/**/planner"])
def test_a_file_with_a_section_for_the_node_is_nothing_to_tell(tmp_path, section):
    file = file_of(tmp_path, section, "world_model")
    assert check_files(["planner_node", "--ros-args", "--params-file", file], "/planner") == []


@pytest.mark.parametrize("section", ["/arms/left/planner", "arms/left/planner", "/**", "/arms/*/planner", "/arms/**"])
def test_a_section_with_a_namespace_is_for_the_node_there(tmp_path, section):
    file = file_of(tmp_path, section)
    argv = ["planner_node", "--ros-args", "-r", "__ns:=/arms/left", "--params-file", file, "--"]
    assert check_files(argv, "/arms/left/planner") == []


@pytest.mark.parametrize("section", ["planer", "/other/planner", "/*/planner", "world_model"])
def test_a_file_that_is_for_other_nodes_is_told(tmp_path, section):
    file = file_of(tmp_path, section)
    (told,) = check_files(["planner_node", "--ros-args", "--params-file", file], "/planner")
    assert file in told
    assert section in told
    assert "'/planner:', or '/**:'" in told
    assert check_files(["planner_node", "--params-file", file], "/planner") == []  # not an argument for ROS


@pytest.mark.parametrize("others", [[], ["/**"], ["planner"]])
def test_a_section_with_the_name_of_the_executable_is_refused_also_beside_right_ones(tmp_path, others):
    file = file_of(tmp_path, "planner_node", *others)
    with pytest.raises(ParameterError, match=r"section 'planner_node' has the name of the executable.*'/planner:'"):
        check_files(["/opt/lib/planner_node", "--ros-args", "--params-file", file], "/planner")


def test_what_cannot_be_read_was_said_by_ros(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff: [")
    argv = ["x", "--ros-args", "--params-file", str(tmp_path / "a"), "--params-file", "none", "--params-file"]
    assert check_files(argv, "/planner") == []


def test_a_file_that_ros_cannot_read_ends_the_process_with_a_sentence(tmp_path):
    program = "import sys; from deepverse_ros.nodes.prefilter.node import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, "--ros-args", "--params-file", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 1
    assert "none.yaml" in ran.stderr
    assert "Traceback" not in ran.stderr
